import ModelGraph

extension ValueInfoMessage {
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
