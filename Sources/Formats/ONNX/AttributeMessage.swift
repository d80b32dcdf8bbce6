import ModelGraph

/// An AttributeProto: its name, which kind of value it holds, and where.
struct AttributeMessage {
  let name: ByteSpan
  /// nil where the file gives a type that ONNX does not have.
  let type: ONNXSchema.AttributeType?
  /// Of a function's attribute that this one stands for; empty outside functions.
  let referenceName: ByteSpan
  let span: ByteSpan

  init(_ span: ByteSpan) throws(Failure) {
    typealias Field = ONNXSchema.Attribute
    var name = span[0..<0]
    var reference = span[0..<0]
    var code: Int?
    var present: Int?
    var reader = WireReader(span, "AttributeProto")
    while let field = try reader.next() {
      switch field.number {
      case Field.name: name = try field.bytes()
      case Field.referenceName: reference = try field.bytes()
      case Field.type: code = try field.int()
      default: if Field.values.contains(field.number) { present = field.number }
      }
    }
    guard !name.isEmpty else { throw .malformed("an attribute has no name", at: span.offset) }
    (self.name, self.referenceName, self.span) = (name, reference, span)
    // Files of IR version 1 give no type; the field that is there says it.
    if let code, code != 0 {
      type = ONNXSchema.AttributeType(rawValue: code)
    } else {
      type = present.flatMap(Self.type)
    }
  }

  /// The payload of each `number` field, in order.
  func payloads(_ number: Int) throws(Failure) -> [ByteSpan] {
    var payloads: [ByteSpan] = []
    var reader = WireReader(span, "AttributeProto")
    while let field = try reader.next() {
      if field.number == number { payloads.append(try field.bytes()) }
    }
    return payloads
  }

  /// The one message in field `number`; nil where it is left out.
  func message(_ number: Int) throws(Failure) -> ByteSpan? {
    let found = try payloads(number)
    guard found.count <= 1 else {
      throw .malformed("attribute '\(name.displayText)' has two values", at: span.offset)
    }
    return found.first
  }

  /// The GraphProtos of a graph or graphs attribute.
  func graphs() throws(Failure) -> [ByteSpan] {
    switch type {
    case .graph: try message(ONNXSchema.Attribute.graph).map { [$0] } ?? []
    case .graphs: try payloads(ONNXSchema.Attribute.graphs)
    default: []
    }
  }

  /// The TensorProtos among the attribute's values, sparse tensors' parts included.
  func tensors() throws(Failure) -> [ByteSpan] {
    typealias Field = ONNXSchema.Attribute
    var found: [ByteSpan] = []
    var reader = WireReader(span, "AttributeProto")
    while let field = try reader.next() {
      switch field.number {
      case Field.tensor, Field.tensors: found.append(try field.bytes())
      case Field.sparseTensor, Field.sparseTensors: found += try Self.sparseParts(field.bytes())
      default: break
      }
    }
    return found
  }

  /// `tensors`, where looking for external data among them is worthwhile.
  func externalCandidates() throws(Failure) -> [ByteSpan] {
    switch type {
    case .tensor, .tensors, .sparseTensor, .sparseTensors: try tensors()
    default: []
    }
  }

  /// The TensorProtos of a SparseTensorProto.
  static func sparseParts(_ span: ByteSpan) throws(Failure) -> [ByteSpan] {
    var parts: [ByteSpan] = []
    var reader = WireReader(span, "SparseTensorProto")
    while let field = try reader.next() {
      if field.number == ONNXSchema.SparseTensor.values || field.number == ONNXSchema.SparseTensor.indices {
        parts.append(try field.bytes())
      }
    }
    return parts
  }

  private static func type(of field: Int) -> ONNXSchema.AttributeType? {
    typealias Field = ONNXSchema.Attribute
    return switch field {
    case Field.float: .float
    case Field.int: .int
    case Field.string: .string
    case Field.tensor: .tensor
    case Field.graph: .graph
    case Field.floats: .floats
    case Field.ints: .ints
    case Field.strings: .strings
    case Field.tensors: .tensors
    case Field.graphs: .graphs
    case Field.sparseTensor: .sparseTensor
    case Field.sparseTensors: .sparseTensors
    case Field.typeProto: .typeProto
    case Field.typeProtos: .typeProtos
    default: nil
    }
  }
}

extension AttributeMessage {
  /// The attribute as the graph knows it.
  /// - Parameter owner: keeps the message's bytes alive.
  func attribute(owner: AnyObject, external: ExternalFiles) throws(Failure) -> Attribute {
    typealias Field = ONNXSchema.Attribute
    switch type {
    case .float: return .float(try float())
    case .int: return .int(try int())
    case .floats: return .floats(try floats())
    case .ints: return .ints(try ints())
    case .string:
      // Strings are bytes in the file; operators' settings are all ASCII.
      guard let bytes = try payloads(Field.string).last else { return .string("") }
      return bytes.text.map { .string($0) } ?? .other(encoded(owner))
    case .strings:
      var texts: [String] = []
      for bytes in try payloads(Field.strings) {
        guard let text = bytes.text else { return .other(encoded(owner)) }
        texts.append(text)
      }
      return .strings(texts)
    case .tensor:
      guard let message = try message(Field.tensor) else {
        throw .malformed("attribute '\(name.displayText)' has no value", at: span.offset)
      }
      let tensor = try TensorMessage(message, "the tensor of attribute '\(name.displayText)'")
      return .tensor(try tensor.tensor(owner: owner, external: external))
    case .graph: return .graph(encoded(owner), nil)
    default: return .other(encoded(owner))
    }
  }

  private func encoded(_ owner: AnyObject) -> TensorBytes {
    TensorBytes(base: span.base, count: span.count, owner: owner)
  }

  private func float() throws(Failure) -> Float {
    var value: Float = 0
    var reader = WireReader(span, "AttributeProto")
    while let field = try reader.next() {
      if field.number == ONNXSchema.Attribute.float { value = try field.float() }
    }
    return value
  }

  private func int() throws(Failure) -> Int {
    var value = 0
    var reader = WireReader(span, "AttributeProto")
    while let field = try reader.next() {
      if field.number == ONNXSchema.Attribute.int { value = try field.int() }
    }
    return value
  }

  private func ints() throws(Failure) -> [Int] {
    var values: [Int] = []
    var reader = WireReader(span, "AttributeProto")
    while let field = try reader.next() {
      if field.number == ONNXSchema.Attribute.ints { try field.forEachInt { values.append($0) } }
    }
    return values
  }

  private func floats() throws(Failure) -> [Float] {
    var values: [Float] = []
    var reader = WireReader(span, "AttributeProto")
    while let field = try reader.next() {
      guard field.number == ONNXSchema.Attribute.floats else { continue }
      let elements = try field.fixedElements(width: 4).buffer
      for offset in stride(from: 0, to: elements.count, by: 4) {
        let bits = UInt32(littleEndian: elements.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        values.append(Float(bitPattern: bits))
      }
    }
    return values
  }
}
