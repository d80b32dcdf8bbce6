import ModelGraph

/// The order in which layers are fitted: those of one stage read nothing of each other, and all that they read is settled
/// by the stages before.
struct RefitStages {
  let stages: [[RefitLayer]]
  private let graph: Graph
  /// By value: how many stages have to be done before it is what it will be.
  private let depths: [Int]
  private let isConstant: [Bool]

  init(_ layers: [RefitLayer], in graph: Graph) {
    let byNode = Dictionary(layers.map { ($0.node, $0) }) { first, _ in first }
    var depths = [Int](repeating: 0, count: graph.values.count)
    var stages: [[RefitLayer]] = []
    for id in graph.nodeIDs {
      let node = graph[id]
      var depth = (node.inputs.compactMap { $0 } + node.captures).reduce(0) { max($0, depths[$1.index]) }
      if var layer = byNode[id] {
        // A value that bypasses the layer and is settled later than what it reads waits for nobody but this layer; one
        // that the layer itself leads to cannot be waited for.
        if let shortcut = layer.shortcut {
          if graph.precedes(shortcut.value, id) {
            depth = max(depth, depths[shortcut.value.index])
          } else {
            layer = layer.withoutShortcut
          }
        }
        while stages.count <= depth { stages.append([]) }
        stages[depth].append(layer)
        depth += 1
      }
      for case let output? in node.outputs { depths[output.index] = depth }
    }
    (self.stages, self.graph, self.depths) = (stages, graph, depths)
    isConstant = graph.constantValues()
  }

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

  private func depth(_ value: ValueID) -> Int { value.index < depths.count ? depths[value.index] : 0 }
  private func isConstant(_ value: ValueID) -> Bool { value.index < isConstant.count && isConstant[value.index] }
}

extension RefitLayer {
  var withoutShortcut: RefitLayer {
    RefitLayer(
      node: node, name: name, form: form, weight: weight, weightOrder: weightOrder, weightScale: weightScale,
      outputCount: outputCount, length: length, intercept: intercept, input: input, output: output,
      keptOutputs: keptOutputs, shortcut: nil, gains: gains)
  }
}

extension Graph {
  /// Whether a value is there before `node` has run, in node order.
  fileprivate func precedes(_ value: ValueID, _ node: NodeID) -> Bool { self[value].producer.map { $0 < node } ?? true }
}
