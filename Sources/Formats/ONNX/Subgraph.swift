import ModelGraph

/// What a graph inside a node (a branch of If, a body of Loop or Scan) has to do with the graph around it: the values
/// it reads from there, the names it takes, and the tensors it keeps in other files.
struct Subgraph {
  /// Names read here or further inside and bound in neither, in order of first use.
  private(set) var captured: [ByteSpan] = []
  /// Names of all values that this graph and those inside it define.
  private(set) var bound = NameSet()
  private(set) var externalTensors: [TensorMessage] = []
  private var capturedSet = NameSet()

  /// - Parameter depth: how many graphs are around this one.
  init(_ span: ByteSpan, depth: Int) throws(Failure) {
    guard depth < ONNXLimits.depth else {
      throw .malformed("subgraphs are nested more than \(ONNXLimits.depth) deep", at: span.offset)
    }
    typealias Field = ONNXSchema.Graph
    var reads: [ByteSpan] = []
    var local = NameSet()
    for field in try ModelMessage.split(span) {
      switch field.number {
      case Field.input: local.insert(try ValueInfoMessage.name(of: field.bytes()))
      case Field.output: reads.append(try ValueInfoMessage.name(of: field.bytes()))
      case Field.initializer:
        let tensor = try TensorMessage(field.bytes())
        note(tensor)
        if let name = tensor.name { local.insert(name) }
      case Field.sparseInitializer:
        for part in try AttributeMessage.sparseParts(field.bytes()) {
          let tensor = try TensorMessage(part)
          note(tensor)
          if let name = tensor.name { local.insert(name) }
        }
      case Field.node:
        let node = try NodeMessage(field.bytes())
        reads += node.inputs
        local.formUnion(node.outputs)
        reads += try readAttributes(of: node, depth: depth)
      default: break
      }
    }
    bound.formUnion(local)
    for name in reads where !name.isEmpty && !local.contains(name) && capturedSet.insert(name) {
      captured.append(name)
    }
  }

  /// The nodes of a FunctionProto: a graph with no values of its own around it.
  init(functionNodes nodes: [ByteSpan]) throws(Failure) {
    for span in nodes { _ = try readAttributes(of: NodeMessage(span), depth: 0) }
  }

  /// Notes what is inside the node's attributes.
  /// - Returns: the names that the graphs there read from this one or from further out.
  private mutating func readAttributes(of node: NodeMessage, depth: Int) throws(Failure) -> [ByteSpan] {
    var reads: [ByteSpan] = []
    for span in node.attributes {
      let attribute = try AttributeMessage(span)
      for tensor in try attribute.tensors() { note(try TensorMessage(tensor)) }
      for graph in try attribute.graphs() {
        let inner = try Subgraph(graph, depth: depth + 1)
        reads += inner.captured
        bound.formUnion(inner.bound)
        externalTensors += inner.externalTensors
      }
    }
    return reads
  }

  private mutating func note(_ tensor: TensorMessage) {
    if case .external = tensor.storage { externalTensors.append(tensor) }
  }
}
