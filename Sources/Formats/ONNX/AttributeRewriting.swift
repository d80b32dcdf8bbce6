import ModelGraph

/// Writing attributes.
extension AttributeMessage {
  /// A new AttributeProto.
  static func encode(_ name: String, _ value: Attribute) throws(Failure) -> WireMessage {
    var message = WireMessage()
    switch value {
    case .graph(let encoded, _), .other(let encoded):
      message.append(WireMessage.Piece(content: .tensor(encoded), count: encoded.count))
      return message
    default: break
    }
    message.string(ONNXSchema.Attribute.name, name)
    try append(value, named: name, to: &message)
    message.int(ONNXSchema.Attribute.type, try type(of: value, named: name).rawValue)
    return message
  }

  /// The AttributeProto with another value.
  func rewritten(_ value: Attribute) throws(Failure) -> WireMessage {
    typealias Field = ONNXSchema.Attribute
    let name = name.displayName
    var message = WireMessage()
    var isAppended = false
    var isTyped = false
    var reader = WireReader(span, "AttributeProto")
    while let field = try reader.next() {
      if field.number == Field.type {
        isTyped = true
        message.int(Field.type, try Self.type(of: value, named: name).rawValue)
      } else if !Field.values.contains(field.number) {
        message.copy(field)
      } else if !isAppended {
        isAppended = true
        try Self.append(value, named: name, to: &message)
      }
    }
    // Numbers that are 0 and empty lists may have been left out.
    if !isAppended { try Self.append(value, named: name, to: &message) }
    if !isTyped { message.int(Field.type, try Self.type(of: value, named: name).rawValue) }
    return message
  }

  /// The AttributeProto of a Constant node with what `cut` leaves of the tensor it holds.
  /// - Parameter tensor: the elements as they are now.
  func rewritten(
    constant tensor: Tensor, _ cut: TensorCut, placement: ExternalPlacement?
  ) throws(Failure) -> WireMessage? {
    switch type {
    case .tensor:
      return try WireMessage.rewriting(span, "AttributeProto") { number, payload throws(Failure) in
        guard number == ONNXSchema.Attribute.tensor else { return nil }
        return try TensorMessage(payload).rewritten(tensor, cut, placement: placement)
      }
    case .floats, .ints, .float, .int: return try rewritten(Self.value(cut.applied(to: tensor), as: type))
    default: return nil
    }
  }

  private static func value(_ tensor: Tensor, as type: ONNXSchema.AttributeType?) -> Attribute {
    let bytes = tensor.bytes.buffer
    if tensor.dtype == .float32 {
      let floats = (0..<tensor.elementCount).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
      return type == .float && floats.count == 1 ? .float(floats[0]) : .floats(floats)
    }
    let ints = (0..<tensor.elementCount).map { Int(bytes.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self)) }
    return type == .int && ints.count == 1 ? .int(ints[0]) : .ints(ints)
  }

  private static func append(_ value: Attribute, named name: String, to message: inout WireMessage) throws(Failure) {
    typealias Field = ONNXSchema.Attribute
    switch value {
    case .int(let value): message.int(Field.int, value)
    case .ints(let values): values.forEach { message.int(Field.ints, $0) }
    case .float(let value): message.float(Field.float, value)
    case .floats(let values): values.forEach { message.float(Field.floats, $0) }
    case .string(let text): message.string(Field.string, text)
    case .strings(let texts): texts.forEach { message.string(Field.strings, $0) }
    case .tensor(let tensor): message.message(Field.tensor, TensorMessage.encode(tensor, name: nil))
    case .graph, .other: throw unwritable(name)
    }
  }

  private static func type(of value: Attribute, named name: String) throws(Failure) -> ONNXSchema.AttributeType {
    switch value {
    case .int: .int
    case .ints: .ints
    case .float: .float
    case .floats: .floats
    case .string: .string
    case .strings: .strings
    case .tensor: .tensor
    case .graph, .other: throw unwritable(name)
    }
  }

  private static func unwritable(_ name: String) -> Failure {
    Failure(.certificateFailed, "the plan sets attribute '\(name)' to a value that only a file can hold")
  }
}

extension TensorCut {
  /// What is left of `tensor`, copied; for small tensors.
  fileprivate func applied(to tensor: Tensor) -> Tensor {
    let source = elements(of: tensor).bytes
    let bytes = TensorBytes(count: gather.outputBytes) {
      if let base = $0.baseAddress { gather.copyRows(0..<gather.rowCount, from: source.base, to: base) }
    }
    return Tensor(dtype: tensor.dtype, shape: gather.outputShape, bytes: bytes)
  }
}
