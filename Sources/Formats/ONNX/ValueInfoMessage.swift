import ModelGraph

/// A ValueInfoProto: the name of a value and what the file declares of it.
struct ValueInfoMessage {
  let name: ByteSpan
  /// nil for values that are no dense tensors (sequences, maps, optionals) and for unknown types.
  let dtype: DType?
  let shape: [Dimension]?

  init(_ span: ByteSpan) throws(Failure) {
    var name = span[0..<0]
    var tensorType: ByteSpan?
    var reader = WireReader(span, "ValueInfoProto")
    while let field = try reader.next() {
      switch field.number {
      case ONNXSchema.ValueInfo.name: name = try field.bytes()
      case ONNXSchema.ValueInfo.type: tensorType = try Self.last(ONNXSchema.TypeProto.tensorType, in: field.bytes())
      default: break
      }
    }
    self.name = name
    var dtype: DType?
    var shape: [Dimension]?
    if let tensorType {
      var reader = WireReader(tensorType, "TypeProto.Tensor")
      while let field = try reader.next() {
        switch field.number {
        case ONNXSchema.TensorType.elementType: dtype = DType(rawValue: try field.int())
        case ONNXSchema.TensorType.shape: shape = try Self.dimensions(field.bytes())
        default: break
        }
      }
    }
    if let shape {
      let lengths = shape.compactMap { if case .fixed(let length) = $0 { length } else { nil } }
      guard TensorMessage.isSound(lengths) else {
        throw .malformed(
          "value '\(name.displayText)' is declared with the impossible shape \(lengths)", at: span.offset)
      }
    }
    (self.dtype, self.shape) = (dtype, shape)
  }

  /// The name alone.
  static func name(of span: ByteSpan) throws(Failure) -> ByteSpan {
    try last(ONNXSchema.ValueInfo.name, in: span) ?? span[0..<0]
  }

  private static func last(_ number: Int, in span: ByteSpan) throws(Failure) -> ByteSpan? {
    var found: ByteSpan?
    var reader = WireReader(span, "TypeProto")
    while let field = try reader.next() {
      if field.number == number { found = try field.bytes() }
    }
    return found
  }

  private static func dimensions(_ span: ByteSpan) throws(Failure) -> [Dimension] {
    var dimensions: [Dimension] = []
    var reader = WireReader(span, "TensorShapeProto")
    while let field = try reader.next() {
      guard field.number == ONNXSchema.Shape.dimension else { continue }
      guard dimensions.count < ONNXLimits.rank else {
        throw .malformed("a value has more than \(ONNXLimits.rank) axes", at: span.offset)
      }
      dimensions.append(try dimension(field.bytes()))
    }
    return dimensions
  }

  private static func dimension(_ span: ByteSpan) throws(Failure) -> Dimension {
    var result = Dimension.unknown
    var reader = WireReader(span, "TensorShapeProto.Dimension")
    while let field = try reader.next() {
      switch field.number {
      case ONNXSchema.ShapeDimension.value:
        // Some exporters write -1 for a length they do not know; ONNX Runtime reads it so.
        let length = try field.int()
        result = length < 0 ? .unknown : .fixed(length)
      case ONNXSchema.ShapeDimension.parameter:
        let symbol = try field.bytes().name()
        result = symbol.isEmpty ? .unknown : .symbol(symbol)
      default: break
      }
    }
    return result
  }
}
