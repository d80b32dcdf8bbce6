import ModelGraph

/// A FunctionProto: a body of nodes that stands for an operator of its own.
struct FunctionMessage {
  /// What a call names. "ai.onnx" and "" are one domain.
  struct Key: Hashable {
    let domain: String
    let name: String
    let overload: String
  }

  let key: Key
  var inputs: [ByteSpan] = []
  var outputs: [ByteSpan] = []
  var nodes: [ByteSpan] = []
  /// AttributeProtos of the attributes that a call may leave out, by name.
  var defaults = NameTable<ByteSpan>()
  var opsets: [String: Int] = [:]
  /// Names of all values the body defines, in subgraphs too, other than its inputs.
  private(set) var bound: [ByteSpan] = []
  /// Operators that the body applies, in subgraphs too.
  private(set) var applied: Set<Key> = []

  init(_ span: ByteSpan) throws(Failure) {
    typealias Field = ONNXSchema.Function
    var name = span[0..<0]
    var domain = ""
    var overload = span[0..<0]
    var reader = WireReader(span, "FunctionProto")
    while let field = try reader.next() {
      switch field.number {
      case Field.name: name = try field.bytes()
      case Field.domain: domain = try field.bytes().normalizedDomain()
      case Field.overload: overload = try field.bytes()
      case Field.input: inputs.append(try field.bytes())
      case Field.output: outputs.append(try field.bytes())
      case Field.node: nodes.append(try field.bytes())
      case Field.attributeDefault:
        let attribute = try field.bytes()
        defaults[try AttributeMessage(attribute).name] = attribute
      case Field.opsetImport:
        let (domain, version) = try ModelMessage.operatorSet(field.bytes())
        opsets[domain] = version
      default: break
      }
    }
    key = Key(domain: domain, name: try name.name(), overload: try overload.name())
    for node in nodes { try note(NodeMessage(node), depth: 0) }
    let formal = NameSet(inputs)
    var seen = NameSet()
    bound = bound.filter { !formal.contains($0) && seen.insert($0) }
  }

  private mutating func note(_ node: NodeMessage, depth: Int) throws(Failure) {
    guard depth < ONNXLimits.depth else {
      throw .malformed("subgraphs are nested more than \(ONNXLimits.depth) deep", at: node.span.offset)
    }
    applied.insert(try Key(node))
    bound += node.outputs.lazy.filter { !$0.isEmpty }
    for span in node.attributes {
      for graph in try AttributeMessage(span).graphs() {
        for field in try ModelMessage.split(graph) {
          switch field.number {
          case ONNXSchema.Graph.node: try note(NodeMessage(field.bytes()), depth: depth + 1)
          case ONNXSchema.Graph.input: bound.append(try ValueInfoMessage.name(of: field.bytes()))
          case ONNXSchema.Graph.initializer:
            if let name = try TensorMessage(field.bytes()).name { bound.append(name) }
          default: break
          }
        }
      }
    }
  }
}

extension FunctionMessage.Key {
  /// The function that `node` calls, if there is one of this name.
  init(_ node: NodeMessage) throws(Failure) {
    self.init(
      domain: try node.domain.normalizedDomain(), name: try node.op.name(), overload: try node.overload.name())
  }
}
