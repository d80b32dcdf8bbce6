import ModelGraph

/// The order in which layers are fitted: those of one stage read nothing of each other, and all that they read is settled
/// by the stages before. It follows from what reads what, not from the order in which a file lists its nodes.
struct RefitStages {
  let stages: [[RefitLayer]]
  private let graph: Graph
  /// By value: how many stages have to be done before it is what it will be.
  private let depths: [Int]
  private let isConstant: [Bool]

  init(_ layers: [RefitLayer], in graph: Graph) {
    let plain = Self.depths(layers.map(\.withoutShortcut), in: graph)
    let layers = layers.map { layer -> RefitLayer in
      guard let shortcut = layer.shortcut else { return layer }
      // Of two layers that join in a sum, the one that is settled later makes up for the other; of equals the second. One
      // that its own shortcut hangs on cannot wait for it.
      let (own, other) = (plain[layer.output.index], plain[shortcut.value.index])
      let waits = other < own || (other == own && graph.precedes(shortcut.value, layer.node))
      return waits ? layer : layer.withoutShortcut
    }
    let depths = Self.depths(layers, in: graph)
    var stages = [[RefitLayer]](repeating: [], count: depths.max() ?? 0)
    for layer in layers { stages[depths[layer.output.index] - 1].append(layer) }
    (self.stages, self.graph, self.depths) = (stages, graph, depths)
    isConstant = graph.constantValues()
  }

  /// By value, the layers on the longest way to it; nobody waits for himself, so that this comes to an end.
  private static func depths(_ layers: [RefitLayer], in graph: Graph) -> [Int] {
    let byNode = Dictionary(layers.map { ($0.node, $0) }) { first, _ in first }
    var depths = [Int](repeating: 0, count: graph.values.count)
    var isChanging = true
    while isChanging {
      isChanging = false
      for id in graph.nodeIDs {
        let node = graph[id]
        var depth = (node.inputs.compactMap { $0 } + node.captures).reduce(0) { max($0, depths[$1.index]) }
        if let layer = byNode[id] {
          if let shortcut = layer.shortcut { depth = max(depth, depths[shortcut.value.index]) }
          depth += 1
        }
        for case let output? in node.outputs where depths[output.index] < depth {
          depths[output.index] = depth
          isChanging = true
        }
      }
    }
    return depths
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
