import ModelGraph

/// Stored vectors that several nodes read, as biases, norm parameters or slopes.
///
/// Exporters store equal vectors once: the biases of a network that was never trained are all zeros, and a whole
/// network would hang together by one of them. So every use of such a vector has labels of its own, and where the uses
/// end up keeping different entries a plan writes copies. Weights of convolutions and matrix products stay tied:
/// sharing these is what the model means.
struct SharedVectors: Sendable {
  /// The vector behind a value, for the vectors and the Identity nodes' outputs that hand them on.
  private let sources: [ValueID: ValueID]
  /// Per vector, the places that read it, in node order; Identity nodes between are looked through.
  let uses: [ValueID: [Use]]

  init(graph: Graph) {
    var sources: [ValueID: ValueID] = [:]
    var allUses: [ValueID: [Use]] = [:]
    let fixed = Set(graph.outputs).union(graph.nodes.lazy.flatMap(\.captures))
    for id in graph.valueIDs where !graph.constraints.tiesVectors {
      guard let tensor = graph[id].tensor, StoredLabels.carriesLabels(tensor.dtype),
        tensor.shape.filter({ $0 > 1 }).count == 1, !graph.uses(of: id).isEmpty
      else { continue }
      var (holders, uses) = ([id], [Use]())
      var next = 0
      while next < holders.count {
        for use in graph.uses(of: holders[next]) {
          let node = graph[use.node]
          if node.op == "Identity", node.domain.isEmpty, let output = node.output(0) {
            holders.append(output)
          } else {
            uses.append(use)
          }
        }
        next += 1
      }
      guard uses.count > 1, !holders.contains(where: fixed.contains),
        !uses.contains(where: { Self.isWeight($0, graph) || Self.isDivided($0, graph) })
      else { continue }
      for holder in holders { sources[holder] = id }
      allUses[id] = uses.sorted { ($0.node, $0.input) < ($1.node, $1.input) }
    }
    (self.sources, self.uses) = (sources, allUses)
  }

  /// The shared vector that `value` is or hands on.
  func source(of value: ValueID) -> ValueID? { sources[value] }

  /// Parts of one vector for several uses: what each takes is told by one set of labels, as for a packed weight.
  private static func isDivided(_ use: Use, _ graph: Graph) -> Bool {
    ["Slice", "Split", "Gather", "Pad", "ScatterND", "ScatterElements"].contains(graph[use.node].op)
  }

  private static func isWeight(_ use: Use, _ graph: Graph) -> Bool {
    switch graph[use.node].op {
    case "Conv", "ConvTranspose": use.input == 1
    case "Gemm", "MatMul": use.input < 2
    default: false
    }
  }
}
