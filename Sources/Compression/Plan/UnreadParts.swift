import ModelGraph

/// What a plan leaves without a reader, and so takes out of the model: stored tensors, and, where layers are replaced,
/// nodes that computed something from them (the transposition of a weight that is now factors).
///
/// Invariant: nothing that was unread before is listed, nor anything that subgraphs or the graph's outputs read.
package struct UnreadParts: Sendable {
  /// Stored tensors: initializers, and outputs of Constant nodes.
  package private(set) var values: Set<ValueID> = []
  package private(set) var nodes: Set<NodeID> = []
  private let held: Set<ValueID>
  private var released: Set<Use> = []

  package init(_ graph: Graph, _ plan: CompressionPlan) {
    held = Set(graph.outputs).union(graph.nodes.lazy.flatMap(\.captures))
    var uses: [Use] = []
    for edit in plan.edits {
      switch edit {
      case .setInput(let node, let input, _), .readConstant(let node, let input, _):
        uses.append(Use(node: node, input: input))
      case .becomeGather(let node, _, _):
        uses += graph[node].inputs.indices.dropFirst().map { Use(node: node, input: $0) }
      case .setAttribute, .removeAttribute, .adjustInput, .gatherInput: break
      }
    }
    release(uses, graph, followsNodes: false)
    uses = []
    for replacement in plan.replacements {
      let kept = replacement.keptInputs
      uses += graph[replacement.node].inputs.indices.filter { !kept.contains($0) }.map {
        Use(node: replacement.node, input: $0)
      }
    }
    release(uses, graph, followsNodes: true)
  }

  private mutating func release(_ uses: [Use], _ graph: Graph, followsNodes: Bool) {
    released.formUnion(uses)
    var open = uses
    while let use = open.popLast() {
      guard let value = graph[use.node].input(use.input), isUnread(value, graph) else { continue }
      if graph[value].isStored {
        values.insert(value)
      } else if followsNodes, let producer = graph[value].producer, !nodes.contains(producer),
        graph[producer].outputs.allSatisfy({ $0.map { isUnread($0, graph) } ?? true })
      {
        nodes.insert(producer)
        let inputs = graph[producer].inputs.indices.map { Use(node: producer, input: $0) }
        released.formUnion(inputs)
        open += inputs
      }
    }
  }

  private func isUnread(_ value: ValueID, _ graph: Graph) -> Bool {
    !held.contains(value) && graph.uses(of: value).allSatisfy(released.contains)
  }
}
