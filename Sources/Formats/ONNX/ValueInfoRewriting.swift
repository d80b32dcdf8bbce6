import ModelGraph

extension ValueInfoMessage {
  /// A new ValueInfoProto of a dense tensor; of a name alone where the type is not known, which outputs may be.
  static func encode(_ name: String, dtype: DType?, shape: [Dimension]?) -> WireMessage {
    typealias Field = ONNXSchema.ValueInfo
    var message = WireMessage()
    message.string(Field.name, name)
    guard let dtype else { return message }
    var tensor = WireMessage()
    tensor.int(ONNXSchema.TensorType.elementType, dtype.rawValue)
    if let shape {
      var shapeMessage = WireMessage()
      for dimension in shape {
        var entry = WireMessage()
        switch dimension {
        case .fixed(let length): entry.int(ONNXSchema.ShapeDimension.value, length)
        case .symbol(let name): entry.string(ONNXSchema.ShapeDimension.parameter, name)
        case .unknown: break
        }
        shapeMessage.message(ONNXSchema.Shape.dimension, entry)
      }
      tensor.message(ONNXSchema.TensorType.shape, shapeMessage)
    }
    var type = WireMessage()
    type.message(ONNXSchema.TypeProto.tensorType, tensor)
    message.message(Field.type, type)
    return message
  }

  /// The ValueInfoProto `span` with other lengths on some axes; nil if it declares none of them or has them already.
  /// Axes declared by a symbol or not at all stay as they are.
  static func rewritten(_ span: ByteSpan, lengths: [Int: Int]) throws(Failure) -> WireMessage? {
    try WireMessage.rewriting(span, "ValueInfoProto") { number, type throws(Failure) in
      guard number == ONNXSchema.ValueInfo.type else { return nil }
      return try WireMessage.rewriting(type, "TypeProto") { number, tensor throws(Failure) in
        guard number == ONNXSchema.TypeProto.tensorType else { return nil }
        return try WireMessage.rewriting(tensor, "TypeProto.Tensor") { number, shape throws(Failure) in
          number == ONNXSchema.TensorType.shape ? try rewritten(shape: shape, lengths: lengths) : nil
        }
      }
    }
  }

  private static func rewritten(shape span: ByteSpan, lengths: [Int: Int]) throws(Failure) -> WireMessage? {
    var axis = -1
    return try WireMessage.rewriting(span, "TensorShapeProto") { number, dimension throws(Failure) in
      guard number == ONNXSchema.Shape.dimension else { return nil }
      axis += 1
      guard let length = lengths[axis] else { return nil }
      return try rewritten(dimension: dimension, length: length)
    }
  }

  private static func rewritten(dimension span: ByteSpan, length: Int) throws(Failure) -> WireMessage? {
    var result = WireMessage()
    var isChanged = false
    var reader = WireReader(span, "TensorShapeProto.Dimension")
    while let field = try reader.next() {
      if field.number == ONNXSchema.ShapeDimension.value, try field.int() != length {
        result.int(field.number, length)
        isChanged = true
      } else {
        result.copy(field)
      }
    }
    return isChanged ? result : nil
  }
}
