import ModelGraph

/// A ModelProto, split into fields: what the importer reads and the surgeon writes again.
///
/// Invariant: `fields` and `graphFields` are the file's own, in its order and with its bytes; a save emits them as they
/// are, except for those it replaces.
struct ModelMessage: Sendable {
  var irVersion = 0
  var producer: String?
  /// Version by domain; the standard operators' domain is "".
  var opsets: [String: Int] = [:]
  /// Of the ModelProto, the graph among them.
  var fields: [WireField] = []
  /// Of the GraphProto.
  var graphFields: [WireField] = []
  /// Whether `graphFields` are no longer those of the file's graph field, as functions were put in their place.
  var hasOwnGraph = false
  /// FunctionProtos.
  var functions: [ByteSpan] = []

  init(_ span: ByteSpan) throws(Failure) {
    typealias Field = ONNXSchema.Model
    var graph: ByteSpan?
    var name: String?
    var version: String?
    var reader = WireReader(span, "ModelProto")
    while let field = try reader.next() {
      guard fields.count < ONNXLimits.graphFields else { throw Self.tooLarge("entries", ONNXLimits.graphFields) }
      fields.append(field)
      switch field.number {
      case Field.irVersion: irVersion = try field.int()
      case Field.producerName: name = try field.bytes().displayText
      case Field.producerVersion: version = try field.bytes().displayText
      case Field.opsetImport:
        let (domain, version) = try Self.operatorSet(field.bytes())
        opsets[domain] = version
      case Field.functions: functions.append(try field.bytes())
      case Field.graph:
        guard graph == nil else { throw .malformed("the model has two graphs", at: field.whole.offset) }
        graph = try field.bytes()
      default: break
      }
    }
    guard let graph else { throw .malformed("the model has no graph", at: span.offset + span.count) }
    producer = [name, version].compactMap { $0?.isEmpty == false ? $0 : nil }.joined(separator: " ")
    if producer?.isEmpty == true { producer = nil }
    graphFields = try Self.split(graph)
    let known = ONNXLimits.oldestOpset...ONNXLimits.newestOpset
    if let opset = opsets[""], !known.contains(opset) {
      throw Failure(
        .modelUnsupportedOperator,
        "the model uses operator set \(opset); convert it to one from \(known.lowerBound) to \(known.upperBound) with "
          + "onnx.version_converter", details: ["opset": .int(opset)])
    }
  }

  /// The fields of a GraphProto.
  static func split(_ graph: ByteSpan) throws(Failure) -> [WireField] {
    var fields: [WireField] = []
    var reader = WireReader(graph, "GraphProto")
    while let field = try reader.next() {
      guard fields.count < ONNXLimits.graphFields else { throw tooLarge("entries", ONNXLimits.graphFields) }
      fields.append(field)
    }
    return fields
  }

  /// An OperatorSetIdProto. "ai.onnx" is the standard domain's other name.
  static func operatorSet(_ span: ByteSpan) throws(Failure) -> (domain: String, version: Int) {
    var domain = ""
    var version = 0
    var reader = WireReader(span, "OperatorSetIdProto")
    while let field = try reader.next() {
      switch field.number {
      case ONNXSchema.OperatorSet.domain: domain = try field.bytes().normalizedDomain()
      case ONNXSchema.OperatorSet.version: version = try field.int()
      default: break
      }
    }
    guard version > 0 else {
      throw .malformed("the operator set '\(domain)' has version \(version)", at: span.offset)
    }
    return (domain, version)
  }

  static func tooLarge(_ what: String, _ limit: Int) -> Failure {
    Failure(.resourceLimit, "the model has more than \(limit) \(what)", details: ["limit": .int(limit)])
  }
}

extension ByteSpan {
  /// The domain the bytes name, with the standard operators' two names made one.
  func normalizedDomain() throws(Failure) -> String {
    if isEmpty || equals("ai.onnx") { return "" }
    return try name()
  }

  /// The bytes as a name. Names are compared as bytes, so those that are not UTF-8 are refused rather than repaired,
  /// which could make two of them one.
  func name() throws(Failure) -> String {
    guard let text else { throw .malformed("a name is not UTF-8", at: offset) }
    return text
  }
}
