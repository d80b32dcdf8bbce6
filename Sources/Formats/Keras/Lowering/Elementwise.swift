import ModelGraph

// Operators that take their operands element by element, broadcast as Keras does it.

extension KerasLowering {
  mutating func binary(
    _ op: String, _ x: KerasTensor, _ y: KerasTensor, as suffix: String = "", dtype: DType? = nil
  ) throws(Failure) -> KerasTensor {
    try combined(op, [x, y], as: suffix, dtype: dtype)
  }

  mutating func binary(
    _ op: String, _ x: KerasTensor, _ number: Double, as suffix: String = "", dtype: DType? = nil
  ) throws(Failure) -> KerasTensor {
    let source = primary(x)
    let number = try scalar(number, self.dtype(source.value), as: suffix.isEmpty ? "value" : "\(suffix)_value")
    return tensor(try node(op, [source.value, number], as: suffix, dtype: dtype), source.axes)
  }

  /// `op` on operands of one type.
  mutating func combined(
    _ op: String, _ tensors: [KerasTensor], as suffix: String = "", dtype: DType? = nil
  ) throws(Failure) -> KerasTensor {
    let (values, axes) = try aligned(tensors)
    return tensor(try node(op, values, as: suffix, dtype: dtype), axes)
  }

  /// Operands as tensors of one type, numbers among them; as Keras promotes them.
  mutating func promoted(_ operands: [LoweredOperand], toReal: Bool = false) throws(Failure) -> [KerasTensor] {
    let tensors = operands.compactMap(\.tensor)
    var type = tensors.map { dtype($0) }.reduce(nil) { Self.promoted($0, $1) } ?? .int32
    if !type.isFloat, toReal || operands.contains(where: \.isReal) { type = .float32 }
    if type == .bool, tensors.count < operands.count { type = .int32 }
    var result: [KerasTensor] = []
    for operand in operands {
      if let tensor = operand.tensor {
        result.append(try cast(tensor, to: type))
      } else if let number = operand.number {
        result.append(self.tensor(try scalar(number, type)))
      } else {
        result.append(self.tensor(try constant(operand, type)))
      }
    }
    return result
  }

  /// The type that holds what both do.
  private static func promoted(_ a: DType?, _ b: DType) -> DType {
    guard let a, a != b else { return b }
    if a.isFloat != b.isFloat { return a.isFloat ? a : b }
    let order: [DType] = [.bool, .uint8, .int8, .int16, .int32, .int64, .bfloat16, .float16, .float32, .float64]
    return (order.firstIndex(of: a) ?? 0) > (order.firstIndex(of: b) ?? 0) ? a : b
  }

  /// Numbers in lists, however deep, as a stored tensor.
  mutating func constant(_ operand: LoweredOperand, _ type: DType) throws(Failure) -> ValueID {
    var numbers: [Double] = []
    let shape = try collect(operand, &numbers)
    if !type.isFloat {
      let id = integers(numbers.map { Int($0) }, shape: shape, as: "value")
      return try cast(id, to: type)
    }
    let stored = Tensor(float32: numbers.map(Float.init), shape: shape)
    let id = assembler.constant("\(base).value", stored)
    if numbers.count > 1 { fixed[id] = "'\(base)' has its numbers in the configuration, one for each index" }
    return try cast(id, to: type)
  }

  private func collect(_ operand: LoweredOperand, _ numbers: inout [Double]) throws(Failure) -> [Int] {
    if let number = operand.number {
      guard abs(number) < 9e15 || number.isInfinite else { throw unsupported("the number \(number) is too large") }
      numbers.append(number)
      return []
    }
    guard case .list(let elements) = operand else { throw unsupported("it is given \(operand.kind)") }
    var inner: [Int]?
    for element in elements {
      let shape = try collect(element, &numbers)
      guard inner == nil || inner == shape else { throw malformed("its numbers make no array") }
      inner = shape
    }
    return [elements.count] + (inner ?? [])
  }
}
