import ModelGraph

/// Makes row-major tensors of what a file stores with any strides, as PyTorch's tensors are: views of storages.
///
/// Invariant: a view is read only if all its elements lie inside its storage, and no more memory is spent on putting
/// elements into order than the file has bytes, plus a little: many views of one storage, or one that repeats its elements,
/// claim more than a file can pay for.
struct StoredViews {
  private var remaining: Int
  private var ordered: [TorchParameter.StorageView: Tensor] = [:]

  /// What views may take beyond the size of the file.
  static let allowance = 32 << 20

  init(fileBytes: Int) { remaining = fileBytes + Self.allowance }

  /// - Parameter name: of the tensor, for messages.
  /// - Throws: `Failure` of kind modelMalformed if the view leaves its storage, modelUnsupportedFormat for element types
  ///   that are not read, resourceLimit.
  mutating func tensor(
    _ view: TorchParameter.StorageView, of storage: TensorBytes, dtype: DType, name: String
  ) throws(Failure) -> Tensor {
    guard let width = dtype.byteWidth else {
      throw Failure(
        .modelUnsupportedFormat, "tensor '\(name)' has elements of type \(dtype), which are not read",
        details: ["tensor": .string(name)])
    }
    guard let extent = view.extent(width: width), extent.end <= storage.count / width, view.offset >= 0 else {
      throw Failure(
        .modelMalformed,
        "tensor '\(name)' (shape \(view.shape), strides \(view.strides), offset \(view.offset)) does not lie inside its "
          + "storage of \(storage.count) bytes; the file is damaged",
        details: ["tensor": .string(name)])
    }
    if view.isRowMajor {
      let bytes = TensorBytes(base: storage.base + view.offset * width, count: extent.bytes, owner: Owner(storage))
      return Tensor(dtype: dtype, shape: view.shape, bytes: bytes)
    }
    if let known = ordered[view], known.dtype == dtype { return known }
    guard extent.bytes <= remaining else {
      throw Failure(
        .resourceLimit,
        "tensor '\(name)' of shape \(view.shape) takes \(extent.bytes) bytes once its elements are in order, more than "
          + "the file has; save the model with contiguous tensors",
        details: ["tensor": .string(name)])
    }
    remaining -= extent.bytes
    let tensor = Tensor(dtype: dtype, shape: view.shape, bytes: view.ordered(storage, width: width))
    ordered[view] = tensor
    return tensor
  }

  /// Keeps the storage that a view was cut from.
  private final class Owner: Sendable {
    let storage: TensorBytes
    init(_ storage: TensorBytes) { self.storage = storage }
  }
}

extension TorchParameter.StorageView {
  var isEmpty: Bool { shape.contains(0) }

  /// Bytes of all elements, and one more than the highest element of the storage that is read; nil if shape and strides
  /// fit no storage.
  fileprivate func extent(width: Int) -> (bytes: Int, end: Int)? {
    guard shape.count == strides.count, shape.allSatisfy({ $0 >= 0 }), strides.allSatisfy({ $0 >= 0 }), offset >= 0
    else { return nil }
    var (bytes, last) = (width, offset)
    for (length, stride) in zip(shape, strides) {
      let (product, overflow) = bytes.multipliedReportingOverflow(by: length)
      guard !overflow, product <= 1 << 46 else { return nil }
      bytes = product
      let (distance, tooFar) = max(0, length - 1).multipliedReportingOverflow(by: stride)
      let (sum, carry) = last.addingReportingOverflow(distance)
      guard !tooFar, !carry else { return nil }
      last = sum
    }
    return last < .max ? (bytes, isEmpty ? 0 : last + 1) : nil
  }

  /// Whether the elements lie as those of a row-major tensor do; strides of axes of one index do not matter.
  var isRowMajor: Bool {
    if isEmpty { return true }
    var expected = 1
    for (length, stride) in zip(shape, strides).reversed() where length != 1 {
      guard stride == expected else { return false }
      expected *= length
    }
    return true
  }

  /// Row-major strides of `shape`.
  static func rowMajorStrides(_ shape: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in shape.indices.dropLast().reversed() { strides[axis] = strides[axis + 1] * max(1, shape[axis + 1]) }
    return strides
  }

  /// The elements one after another in row-major order.
  /// - Precondition: all lie inside `storage`.
  func ordered(_ storage: TensorBytes, width: Int) -> TensorBytes {
    TensorBytes(count: shape.reduce(width, *)) { copyElements(of: storage, width: width, to: $0) }
  }

  private func copyElements(of storage: TensorBytes, width: Int, to target: UnsafeMutableRawBufferPointer) {
    guard !isEmpty, var to = target.baseAddress else { return }
    var position = [Int](repeating: 0, count: shape.count)
    var from = storage.base + offset * width
    let inner = shape.last ?? 1
    let innerStride = (strides.last ?? 1) * width
    let rows = shape.dropLast().reduce(1, *)
    for _ in 0..<rows {
      var element = from
      for _ in 0..<inner {
        to.copyMemory(from: element, byteCount: width)
        to += width
        element += innerStride
      }
      for axis in shape.indices.dropLast().reversed() {
        position[axis] += 1
        from += strides[axis] * width
        if position[axis] < shape[axis] { break }
        from -= strides[axis] * width * shape[axis]
        position[axis] = 0
      }
    }
  }
}
