import ModelGraph

/// A weight as a node reads it: a stored tensor, seen through the transpositions and reshapes between the two, which
/// move no bytes.
struct StoredWeight: Sendable {
  /// The stored tensor.
  let source: ValueID
  let tensor: Tensor
  /// What the node reads its elements as.
  let dtype: DType
  /// As the node sees it, with the distance in elements between neighbours along each axis.
  let shape: [Int]
  let strides: [Int]

  /// - Returns: nil where `value` is not stored, or something is computed from it on the way.
  init?(behind value: ValueID, in graph: Graph, shapes: ShapeTable) {
    if let tensor = graph[value].tensor {
      self.init(
        source: value, tensor: tensor, dtype: tensor.dtype, shape: tensor.shape, strides: Self.rowMajor(tensor.shape))
      return
    }
    guard let producer = graph[value].producer, let input = graph[producer].input(0),
      graph[producer].domain.isEmpty, let before = StoredWeight(behind: input, in: graph, shapes: shapes)
    else { return nil }
    let node = graph[producer]
    switch node.op {
    case "Identity": self = before
    case "Cast":
      // Numbers that a wider type holds as well.
      guard let target = node.int("to").flatMap(DType.init(rawValue:)), [.float32, .float64].contains(target),
        [.float16, .bfloat16, .float32].contains(before.dtype)
      else { return nil }
      self.init(
        source: before.source, tensor: before.tensor, dtype: target, shape: before.shape, strides: before.strides)
    case "Transpose":
      let axes = node.ints("perm") ?? Array(before.shape.indices.reversed())
      guard axes.sorted() == Array(before.shape.indices) else { return nil }
      self = before.with(shape: axes.map { before.shape[$0] }, strides: axes.map { before.strides[$0] })
    case "Reshape", "Squeeze", "Unsqueeze", "Flatten":
      guard let shape = shapes[value], before.strides == Self.rowMajor(before.shape),
        shape.reduce(1, *) == before.tensor.elementCount
      else { return nil }
      self = before.with(shape: shape, strides: Self.rowMajor(shape))
    default: return nil
    }
  }

  private init(source: ValueID, tensor: Tensor, dtype: DType, shape: [Int], strides: [Int]) {
    (self.source, self.tensor, self.dtype, self.shape, self.strides) = (source, tensor, dtype, shape, strides)
  }

  private func with(shape: [Int], strides: [Int]) -> StoredWeight {
    StoredWeight(source: source, tensor: tensor, dtype: dtype, shape: shape, strides: strides)
  }

  static func rowMajor(_ shape: [Int]) -> [Int] {
    var (strides, stride) = ([Int](repeating: 1, count: shape.count), 1)
    for axis in shape.indices.reversed() {
      strides[axis] = stride
      stride *= shape[axis]
    }
    return strides
  }

  /// The elements in row-major order of the axes `order`.
  func elements(order: [Int]) -> [Double] {
    switch tensor.dtype {
    case .float32: elements(order, Float.self) { Double($0) }
    case .float64: elements(order, Double.self) { $0 }
    case .float16: elements(order, UInt16.self) { Double(Float(Float16(bitPattern: $0))) }
    case .bfloat16: elements(order, UInt16.self) { Double(Float(bitPattern: UInt32($0) << 16)) }
    default: []
    }
  }

  private func elements<Stored: BitwiseCopyable>(
    _ order: [Int], _ type: Stored.Type, _ convert: (Stored) -> Double
  ) -> [Double] {
    let (lengths, strides) = (order.map { shape[$0] }, order.map { self.strides[$0] })
    let count = lengths.reduce(1, *)
    guard count > 0 else { return [] }
    let (rowLength, rowStride) = (lengths.last ?? 1, strides.last ?? 1)
    let width = MemoryLayout<Stored>.size
    return [Double](unsafeUninitializedCapacity: count) { target, initialized in
      var index = [Int](repeating: 0, count: max(0, lengths.count - 1))
      var (offset, position) = (0, 0)
      while position < count {
        let base = tensor.bytes.base + offset * width
        for k in 0..<rowLength {
          target.initializeElement(
            at: position + k, to: convert(base.loadUnaligned(fromByteOffset: k * rowStride * width, as: type)))
        }
        position += rowLength
        for axis in index.indices.reversed() {
          index[axis] += 1
          offset += strides[axis]
          if index[axis] < lengths[axis] { break }
          offset -= strides[axis] * lengths[axis]
          index[axis] = 0
        }
      }
      initialized = count
    }
  }
}

extension StoredWeight {
  /// The stored tensor with other elements, given in row-major order of the axes `order`, rounded to nearest.
  /// - Parameter dtype: nil for its own.
  func storing(_ elements: [Double], order: [Int], as dtype: DType? = nil) -> Tensor {
    let (lengths, strides) = (order.map { shape[$0] }, order.map { self.strides[$0] })
    var stored = [Double](repeating: 0, count: elements.count)
    var index = [Int](repeating: 0, count: order.count)
    var offset = 0
    for element in elements {
      stored[offset] = element
      for axis in index.indices.reversed() {
        index[axis] += 1
        offset += strides[axis]
        if index[axis] < lengths[axis] { break }
        offset -= strides[axis] * lengths[axis]
        index[axis] = 0
      }
    }
    return .rounding(stored, shape: tensor.shape, to: dtype ?? tensor.dtype)
  }
}

extension Tensor {
  /// A tensor of `dtype` from row-major numbers, rounded to nearest.
  /// - Precondition: a floating-point type.
  static func rounding(_ elements: [Double], shape: [Int], to dtype: DType) -> Tensor {
    let bytes =
      switch dtype {
      case .float64: TensorBytes(copying: elements)
      case .float16: TensorBytes(copying: elements.map { Float16($0).bitPattern })
      case .bfloat16: TensorBytes(copying: elements.map { Float($0).bfloat16Bits })
      default: TensorBytes(copying: elements.map { Float($0) })
      }
    return Tensor(dtype: dtype.byteWidth == 4 ? .float32 : dtype, shape: shape, bytes: bytes)
  }
}
