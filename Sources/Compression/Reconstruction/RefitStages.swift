import ModelGraph

/// The order in which layers are fitted: those of one stage read nothing of each other, and all that they read is
/// settled by the stages before. It follows from what reads what, not from the order in which a file lists its nodes.
struct RefitStages {
  let stages: [[RefitLayer]]
  let order: StageOrder

  init(_ layers: [RefitLayer], in graph: Graph) {
    var layers = layers
    let plain = Self.depths(
      layers.map { layer in
        var alone = layer
        alone.shortcut = nil
        return alone
      }, in: graph)
    for k in layers.indices {
      // What is fitted for several places cannot make up for what bypasses each.
      if !layers[k].others.isEmpty {
        layers[k].shortcut = nil
        for other in layers[k].others.indices { layers[k].others[other].shortcut = nil }
      }
      guard let shortcut = layers[k].shortcut else { continue }
      // Of two layers that join in a sum, the one that is settled later makes up for the other; of equals the second.
      // One that its own shortcut hangs on cannot wait for it.
      let (own, other) = (plain[layers[k].output.index], plain[shortcut.value.index])
      let waits = other < own || (other == own && graph.precedes(shortcut.value, layers[k].node))
      if !waits { layers[k].shortcut = nil }
    }
    let depths = Self.depths(layers, in: graph)
    var stages = [[RefitLayer]](repeating: [], count: depths.max() ?? 0)
    for layer in layers { stages[depths[layer.output.index] - 1].append(layer) }
    (self.stages, order) = (stages, StageOrder(graph, depths: depths))
  }

  /// By value, the layers on the longest way to it; nobody waits for himself, so that this comes to an end.
  private static func depths(_ layers: [RefitLayer], in graph: Graph) -> [Int] {
    var byNode: [NodeID: Int] = [:]
    for (k, layer) in layers.enumerated() { for place in layer.places { byNode[place.node] = k } }
    var depths = [Int](repeating: 0, count: graph.values.count)
    var ready = [Int](repeating: 0, count: layers.count)
    var isChanging = true
    while isChanging {
      isChanging = false
      for id in graph.nodeIDs {
        let node = graph[id]
        var depth = (node.inputs.compactMap { $0 } + node.captures).reduce(0) { max($0, depths[$1.index]) }
        if let k = byNode[id] {
          if let shortcut = layers[k].shortcut { depth = max(depth, depths[shortcut.value.index]) }
          ready[k] = max(ready[k], depth)
          depth = ready[k] + 1
        }
        for case let output? in node.outputs where depths[output.index] < depth {
          depths[output.index] = depth
          isChanging = true
        }
      }
    }
    return depths
  }
}

extension Graph {
  /// Whether a value is there before `node` has run, in node order.
  fileprivate func precedes(_ value: ValueID, _ node: NodeID) -> Bool { self[value].producer.map { $0 < node } ?? true }
}
