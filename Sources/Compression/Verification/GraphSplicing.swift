import ModelGraph

/// A graph on its way to become another: nodes are copied from it, changed, or put between. Values of the original keep
/// their ids and names; new ones have no name until somebody writes the graph down.
struct GraphSplicing {
  private let original: Graph
  private var values: [Value]
  private var nodes: [Node] = []
  private let opset: Int

  init(_ graph: Graph) {
    (original, values) = (graph, graph.values)
    // Whatever else a model uses, these operators mean the same in all versions from 13 on and in all before, but for
    // what `hasWhere` tells apart.
    opset = graph.definitions.opsets[""] ?? graph.nodes.first { $0.domain.isEmpty }?.opset ?? 17
  }

  /// Whether the operator set has what chooses between two tensors. The sets before it pad by attributes.
  var hasWhere: Bool { opset >= 9 }

  mutating func append(_ node: Node) { nodes.append(node) }

  mutating func changeLast(_ change: (Node) -> Node) {
    if let last = nodes.popLast() { nodes.append(change(last)) }
  }

  mutating func constant(_ tensor: Tensor) -> ValueID { add(Value(name: "", tensor: tensor)) }

  mutating func value(dtype: DType?) -> ValueID { add(Value(name: "", dtype: dtype)) }

  /// A new node of a standard operator.
  /// - Parameter output: what it computes; nil for a new value.
  mutating func callAsFunction(
    _ op: String, _ inputs: [ValueID], _ attributes: [String: Attribute] = [:], output: ValueID? = nil
  ) -> ValueID {
    let result = output ?? add(Value(name: ""))
    nodes.append(Node(name: "", op: op, opset: opset, inputs: inputs, outputs: [result], attributes: attributes))
    return result
  }

  mutating func reshape(_ value: ValueID, to shape: [Int], output: ValueID? = nil) -> ValueID {
    self("Reshape", [value, constant(Tensor(int64: shape.map(Int64.init)))], output: output)
  }

  private mutating func add(_ value: Value) -> ValueID {
    values.append(value)
    return ValueID(values.count - 1)
  }

  func finished() -> Graph {
    return Graph(
      values: values, nodes: nodes, inputs: original.inputs, outputs: original.outputs,
      definitions: original.definitions)
  }
}

extension Node {
  /// The node with other inputs or outputs.
  func with(inputs: [ValueID?]? = nil, outputs: [ValueID?]? = nil) -> Node {
    Node(
      name: name, op: op, domain: domain, opset: opset, inputs: inputs ?? self.inputs, outputs: outputs ?? self.outputs,
      attributes: attributes, captures: captures)
  }
}
