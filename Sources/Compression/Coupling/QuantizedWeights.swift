import ModelGraph

// What a stored integer weight means: scale * (integer - zero point), with the scales and zero points of the operator
// that reads it. Criteria score these numbers.

extension Graph {
  /// The stored tensor `id` as real numbers: itself, or dequantized as its first reader does it. Integers that are read
  /// without a scale (it is applied to the product) count as they are.
  /// - Returns: nil for a tensor that holds no weight.
  func realWeight(_ id: ValueID) -> Tensor? {
    guard let tensor = self[id].tensor else { return nil }
    if tensor.dtype.isFloat { return tensor }
    guard let reading = uses(of: id).lazy.compactMap({ QuantizedReading($0, in: self) }).first else { return nil }
    switch tensor.dtype {
    case .int8: return dequantized(tensor, Int8.self, reading)
    case .uint8: return dequantized(tensor, UInt8.self, reading)
    case .int32: return dequantized(tensor, Int32.self, reading)
    default: return nil
    }
  }

  private func dequantized<Stored: FixedWidthInteger & BitwiseCopyable>(
    _ tensor: Tensor, _ type: Stored.Type, _ reading: QuantizedReading
  ) -> Tensor? {
    let shape = tensor.shape
    let axis = reading.axis < 0 ? reading.axis + shape.count : reading.axis
    let length = shape.indices.contains(axis) ? shape[axis] : 1
    guard let scales = numbers(reading.scale, length), let zeros = numbers(reading.zeroPoint, length) else {
      return nil
    }
    let inner = shape.indices.contains(axis) ? shape[(axis + 1)...].reduce(1, *) : 1
    let size = MemoryLayout<Stored>.size
    return Tensor(
      dtype: .float32, shape: shape,
      bytes: TensorBytes(count: tensor.elementCount * 4) { bytes in
        let target = bytes.bindMemory(to: Float.self)
        for element in target.indices {
          let entry = element / inner % length
          let stored = tensor.bytes.base.loadUnaligned(fromByteOffset: element * size, as: type)
          target[element] =
            (Float(stored) - (zeros.map { $0[entry % $0.count] } ?? 0))
            * (scales.map { $0[entry % $0.count] } ?? 1)
        }
      })
  }

  /// The elements of a stored vector or scalar, `.some(nil)` if it is absent; nil if they are not known or do not fit.
  private func numbers(_ id: ValueID?, _ length: Int) -> [Float]?? {
    guard let id else { return .some(nil) }
    guard let tensor = self[id].tensor, tensor.elementCount == 1 || tensor.elementCount == length else { return nil }
    func load<Element: BitwiseCopyable>(_ type: Element.Type, _ convert: (Element) -> Float) -> [Float] {
      (0..<tensor.elementCount).map {
        convert(tensor.bytes.base.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.size, as: type))
      }
    }
    switch tensor.dtype {
    case .float32: return load(Float.self) { $0 }
    case .float64: return load(Double.self) { Float($0) }
    case .float16: return load(UInt16.self) { Float(Float16(bitPattern: $0)) }
    case .bfloat16: return load(UInt16.self) { Float(bitPattern: UInt32($0) << 16) }
    case .int8: return load(Int8.self) { Float($0) }
    case .uint8: return load(UInt8.self) { Float($0) }
    case .int32: return load(Int32.self) { Float($0) }
    default: return nil
    }
  }
}

/// How an operator reads an integer tensor.
private struct QuantizedReading {
  /// Absent where products are scaled later.
  var scale: ValueID?
  var zeroPoint: ValueID?
  /// Along which scale and zero point run if they are no scalars.
  var axis: Int

  init?(_ use: Use, in graph: Graph) {
    let node = graph[use.node]
    func reading(_ scale: Int?, _ zeroPoint: Int, axis: Int) -> Self {
      Self(scale: scale.flatMap { node.input($0) }, zeroPoint: node.input(zeroPoint), axis: axis)
    }
    switch (node.qualifiedOperator, use.input) {
    case ("DequantizeLinear", 0), ("com.microsoft.DequantizeLinear", 0):
      guard node.int("block_size", default: 0) == 0 else { return nil }
      self = reading(1, 2, axis: node.int("axis", default: 1))
    case ("QLinearConv", 3): self = reading(4, 5, axis: 0)
    case ("QLinearMatMul", 3): self = reading(4, 5, axis: -1)
    case ("com.microsoft.QGemm", 3): self = reading(4, 5, axis: node.int("transB", default: 0) != 0 ? 0 : 1)
    case ("ConvInteger", 1): self = reading(nil, 3, axis: 0)
    case ("MatMulInteger", 1): self = reading(nil, 3, axis: -1)
    case ("com.microsoft.DynamicQuantizeMatMul", 1): self = reading(2, 3, axis: -1)
    case ("com.microsoft.MatMulIntegerToFloat", 1): self = reading(3, 5, axis: -1)
    default: return nil
    }
  }

  private init(scale: ValueID?, zeroPoint: ValueID?, axis: Int) {
    (self.scale, self.zeroPoint, self.axis) = (scale, zeroPoint, axis)
  }
}
