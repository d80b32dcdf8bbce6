/// The element type of values for which a file declares none: what a node computes has, but for a few operators, the
/// type of its first input.
extension Graph {
  /// nil where nothing behind the value says it.
  package func elementType(of id: ValueID) -> DType? {
    if case .type(let dtype) = typeGiving(id) { dtype } else { nil }
  }

  /// What says a value's type: itself, or a value that has it.
  private enum TypeGiving {
    case type(DType)
    case value(ValueID)
    case nobody
  }

  /// The type of a value, or the input of the graph that gives it.
  private func typeGiving(_ id: ValueID) -> TypeGiving {
    var id = id
    // Nodes are in topological order, so the walk ends; it needs no memory of where it was.
    while true {
      if let dtype = self[id].dtype { return .type(dtype) }
      guard let producer = self[id].producer else { return .value(id) }
      let node = self[producer]
      let position = node.outputs.firstIndex(of: id) ?? 0
      if let fixed = node.fixedResultType(position) { return .type(fixed) }
      if ControlFlowShapes.takes(node) {
        let found = typeGiving(node, position)
        guard case .value(let source) = found else { return found }
        id = source
        continue
      }
      guard let source = node.input(node.typeGivingInput) else {
        return node.op == "QuantizeLinear" ? .type(.uint8) : .nobody
      }
      id = source
    }
  }

  /// Of a result of a node with graphs inside.
  private func typeGiving(_ node: Node, _ position: Int) -> TypeGiving {
    let (attribute, begin, given): (String, Int, Int)
    switch node.op {
    case "If": (attribute, begin, given) = ("then_branch", 0, 0)
    case "Loop": (attribute, begin, given) = ("body", 1, node.inputs.count - 2)
    default: (attribute, begin, given) = ("body", 0, node.inputs.count - node.int("num_scan_inputs", default: 0))
    }
    // States have one type throughout.
    let first = node.op == "Loop" ? 2 : 0
    if position < given { return node.input(first + position).map { .value($0) } ?? .nobody }
    guard let body = node.body(attribute), begin + position < body.graph.outputs.count else { return .nobody }
    switch body.graph.typeGiving(body.graph.outputs[begin + position]) {
    case .value(let inner):
      if let own = body.ownInputs.firstIndex(of: inner) { return node.input(own).map { .value($0) } ?? .nobody }
      return node.captures.first { self[$0].name == body.graph[inner].name }.map { .value($0) } ?? .nobody
    case let known: return known
    }
  }
}

extension Node {
  /// The type of a result of the node where its inputs' types do not matter.
  func fixedResultType(_ position: Int) -> DType? {
    // Where what they give stood, or what they left out.
    if position > 0, ["TopK", "MaxPool", "Unique"].contains(op) { return .int64 }
    if position > 0, op == "Dropout" { return .bool }
    switch op {
    case "Cast": return int("to").flatMap(DType.init(rawValue:))
    case "Shape", "Size", "ArgMax", "ArgMin", "NonZero": return .int64
    case "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf":
      return .bool
    case "ConstantOfShape":
      if case .tensor(let value) = attributes["value"] { return value.dtype }
      return .float32
    default: return nil
    }
  }

  /// The input whose type the results have otherwise.
  var typeGivingInput: Int {
    switch op {
    case "Where", "CastLike", "DequantizeLinear": 1
    case "QuantizeLinear", "OneHot", "EmbedLayerNormalization": 2
    default: 0
    }
  }
}
