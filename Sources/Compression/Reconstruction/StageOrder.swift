import ModelGraph

/// How far along a network each value is, in stages of which each changes something of the network.
struct StageOrder {
  private let graph: Graph
  /// By value: how many stages have to be done before it is what it will be.
  private let depths: [Int]
  private let isConstant: [Bool]

  init(_ graph: Graph, depths: [Int]) {
    (self.graph, self.depths) = (graph, depths)
    isConstant = graph.constantValues()
  }

  func depth(_ value: ValueID) -> Int { value.index < depths.count ? depths[value.index] : 0 }

  /// What has to be known of a network to compute all that depends on stage `depth` or a later one.
  /// - Parameter other: the graph whose values are wanted; those of the two have the same ids.
  func frontier(_ depth: Int, of other: Graph) -> [ValueID] {
    var wanted: Set<ValueID> = []
    for node in other.nodes {
      guard node.outputs.contains(where: { $0.map { self.depth($0) > depth } ?? false }) else { continue }
      for case let input? in node.inputs + node.captures where self.depth(input) <= depth {
        if other[input].tensor == nil, !isConstant(input) { wanted.insert(input) }
      }
    }
    return wanted.sorted()
  }

  private func isConstant(_ value: ValueID) -> Bool { value.index < isConstant.count && isConstant[value.index] }
}
