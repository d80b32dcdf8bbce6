import Synchronization

/// Bytes that somebody keeps alive: a region of a mapped file, a heap allocation, or what is yet to be made of such.
/// Copying the struct shares the bytes.
///
/// Invariant: `base ..< base + count` stays readable for as long as `owner` lives. The bytes are little-endian and
/// need not be aligned; read elements with `loadUnaligned`.
package struct TensorBytes: @unchecked Sendable {
  package let count: Int
  /// nil where the bytes are prepared when they are first asked for.
  private let address: UnsafeRawPointer?
  private let owner: AnyObject
  private let preparation: Preparation?

  /// A view of memory that `owner` keeps alive and nobody writes to.
  package init(base: UnsafeRawPointer, count: Int, owner: AnyObject) {
    (address, self.count, self.owner, preparation) = (base, count, owner, nil)
  }

  /// A fresh, 64-byte aligned allocation that `fill` initializes completely.
  package init<E: Error>(count: Int, fill: (UnsafeMutableRawBufferPointer) throws(E) -> Void) throws(E) {
    let allocation = Allocation(count: count)
    try fill(UnsafeMutableRawBufferPointer(start: allocation.base, count: count))
    self.init(base: UnsafeRawPointer(allocation.base), count: count, owner: allocation)
  }

  /// Bytes that `fill` makes, completely, when they are first asked for: once, whoever asks.
  package init(prepared count: Int, fill: @escaping @Sendable (UnsafeMutableRawBufferPointer) -> Void) {
    let preparation = Preparation(count: count, fill: fill)
    (address, self.count, owner, self.preparation) = (nil, count, preparation, preparation)
  }

  package init<Element: BitwiseCopyable>(copying elements: [Element]) {
    self.init(count: elements.count * MemoryLayout<Element>.stride) { target in
      elements.withUnsafeBytes { target.copyMemory(from: $0) }
    }
  }

  package var base: UnsafeRawPointer {
    if let address { return address }
    // One of the two is there: the initializers see to it.
    guard let preparation else { preconditionFailure("bytes without a place") }
    return preparation.base
  }

  package var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

  /// The private memory that has come to be held because bytes were asked for.
  package var preparedCount: Int { preparation.map { $0.isPrepared ? count : 0 } ?? 0 }
  /// Whether asking for the bytes makes them.
  package var isPreparedOnDemand: Bool { preparation != nil }

  private final class Allocation {
    let base: UnsafeMutableRawPointer
    init(count: Int) { base = .allocate(byteCount: max(count, 1), alignment: 64) }
    deinit { base.deallocate() }
  }

  private final class Preparation: Sendable {
    private let count: Int
    private let fill: @Sendable (UnsafeMutableRawBufferPointer) -> Void
    /// The address as a number, 0 before there is one.
    private let address = Atomic<UInt>(0)
    private let filling = Mutex(())

    init(count: Int, fill: @escaping @Sendable (UnsafeMutableRawBufferPointer) -> Void) {
      (self.count, self.fill) = (count, fill)
    }

    var isPrepared: Bool { address.load(ordering: .acquiring) != 0 }

    var base: UnsafeRawPointer {
      if let ready = UnsafeRawPointer(bitPattern: address.load(ordering: .acquiring)) { return ready }
      return filling.withLock { _ in
        if let ready = UnsafeRawPointer(bitPattern: address.load(ordering: .acquiring)) { return ready }
        let made = UnsafeMutableRawPointer.allocate(byteCount: max(count, 1), alignment: 64)
        fill(UnsafeMutableRawBufferPointer(start: made, count: count))
        address.store(UInt(bitPattern: made), ordering: .releasing)
        return UnsafeRawPointer(made)
      }
    }

    deinit { UnsafeMutableRawPointer(bitPattern: address.load(ordering: .acquiring))?.deallocate() }
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

extension Tensor {
  /// One number, with no axes.
  /// - Returns: nil for types whose numbers are not written, and for what no integer holds.
  package init?(scalar value: Double, _ dtype: DType) {
    // What a 64-bit integer holds, and more than any other does.
    guard dtype.isFloat || abs(value) < 9.2e18 else { return nil }
    let bytes: TensorBytes
    switch dtype {
    case .float64: bytes = TensorBytes(copying: [value])
    case .float32: bytes = TensorBytes(copying: [Float(value)])
    case .float16: bytes = TensorBytes(copying: [Float16(value).bitPattern])
    case .bfloat16: bytes = TensorBytes(copying: [Self.bfloat16(Float(value))])
    case .int64: bytes = TensorBytes(copying: [Int64(clamping: Int(value))])
    case .int32: bytes = TensorBytes(copying: [Int32(clamping: Int(value))])
    case .int16: bytes = TensorBytes(copying: [Int16(clamping: Int(value))])
    case .int8: bytes = TensorBytes(copying: [Int8(clamping: Int(value))])
    case .uint8: bytes = TensorBytes(copying: [UInt8(clamping: Int(value))])
    case .bool: bytes = TensorBytes(copying: [UInt8(value == 0 ? 0 : 1)])
    default: return nil
    }
    self.init(dtype: dtype, shape: [], bytes: bytes)
  }

  /// Rounded to the nearest, ties to even.
  private static func bfloat16(_ value: Float) -> UInt16 {
    guard !value.isNaN else { return 0x7FC0 }
    let bits = value.bitPattern
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
  }
}
