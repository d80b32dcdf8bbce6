/// Bytes that somebody keeps alive: a region of a mapped file or a heap allocation. Copying the struct shares the bytes.
///
/// Invariant: `base ..< base + count` stays readable for as long as `owner` lives. The bytes are little-endian and
/// need not be aligned; read elements with `loadUnaligned`.
package struct TensorBytes: @unchecked Sendable {
  package let base: UnsafeRawPointer
  package let count: Int
  private let owner: AnyObject

  /// A view of memory that `owner` keeps alive and nobody writes to.
  package init(base: UnsafeRawPointer, count: Int, owner: AnyObject) {
    (self.base, self.count, self.owner) = (base, count, owner)
  }

  /// A fresh, 64-byte aligned allocation that `fill` initializes completely.
  package init<E: Error>(count: Int, fill: (UnsafeMutableRawBufferPointer) throws(E) -> Void) throws(E) {
    let allocation = Allocation(count: count)
    try fill(UnsafeMutableRawBufferPointer(start: allocation.base, count: count))
    self.init(base: UnsafeRawPointer(allocation.base), count: count, owner: allocation)
  }

  package init<Element: BitwiseCopyable>(copying elements: [Element]) {
    self.init(count: elements.count * MemoryLayout<Element>.stride) { target in
      elements.withUnsafeBytes { target.copyMemory(from: $0) }
    }
  }

  package var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  private final class Allocation {
    let base: UnsafeMutableRawPointer
    init(count: Int) { base = .allocate(byteCount: max(count, 1), alignment: 64) }
    deinit { base.deallocate() }
  }
}

/// A stored tensor: element type, shape and the bytes, row-major and little-endian.
package struct Tensor: Sendable {
  package let dtype: DType
  package let shape: [Int]
  /// For strings, whose contents no method reads, the encoded TensorProto; empty where a node's attribute has them.
  package let bytes: TensorBytes

  /// - Precondition: for types with a byte width, `bytes.count == shape.product * byteWidth`.
  package init(dtype: DType, shape: [Int], bytes: TensorBytes) {
    if let width = dtype.byteWidth {
      precondition(bytes.count == shape.reduce(width, *), "tensor bytes do not fill its shape")
    }
    (self.dtype, self.shape, self.bytes) = (dtype, shape, bytes)
  }

  package var elementCount: Int { shape.reduce(1, *) }
}

extension Tensor {
  package init(int64 elements: [Int64], shape: [Int]? = nil) {
    self.init(dtype: .int64, shape: shape ?? [elements.count], bytes: TensorBytes(copying: elements))
  }

  package init(float32 elements: [Float], shape: [Int]? = nil) {
    self.init(dtype: .float32, shape: shape ?? [elements.count], bytes: TensorBytes(copying: elements))
  }
}
