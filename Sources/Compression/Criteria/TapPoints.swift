import ModelGraph

// Where a layer's feature maps are looked at: behind the element-wise operators and normalizations that follow it and
// it alone, so that what consumers read is measured and not what a normalization rescales or an activation cuts off.
//
// An activation may be several nodes (x * sigmoid(x)): the walk goes on wherever all that was computed from the layer
// comes together in one value again.

package enum TapPoints {
  /// Nodes that one step of the walk may span; written-out activations have up to ten.
  private static let longestActivation = 16

  /// The value behind what follows `node` alone.
  package static func afterActivation(of node: NodeID, in graph: Graph) -> ValueID? {
    guard var tap = graph[node].output(0) else { return nil }
    while let next = joinedAgain(after: tap, in: graph) { tap = next }
    return tap
  }

  /// The first value through which everything computed from `value` goes, if element-wise operators lead there that see
  /// nothing else but stored tensors.
  private static func joinedAgain(after value: ValueID, in graph: Graph) -> ValueID? {
    guard !graph.outputs.contains(value) else { return nil }
    // What is open: values of the region that nodes outside it read.
    var region: Set<ValueID> = [value]
    var open: [ValueID: Set<NodeID>] = [value: Set(graph.uses(of: value).map(\.node))]
    for _ in 0..<longestActivation {
      // The earliest node that reads an open value: nodes are in topological order.
      guard let node = open.values.joined().min(), isElementwise(graph[node]),
        graph[node].inputs.allSatisfy({ $0.map { region.contains($0) || graph[$0].isStored } ?? true }),
        let output = graph[node].output(0), !graph.uses(of: output).isEmpty || graph.outputs.contains(output)
      else { return nil }
      for (id, readers) in open where readers.contains(node) {
        open[id] = readers.subtracting([node])
        if open[id]?.isEmpty == true { open[id] = nil }
      }
      if open.isEmpty { return output }
      guard !graph.outputs.contains(output) else { return nil }
      region.insert(output)
      open[output] = Set(graph.uses(of: output).map(\.node))
    }
    return nil
  }

  /// Operators that work on every channel by itself, position by position or by its own statistics.
  private static func isElementwise(_ node: Node) -> Bool {
    node.captures.isEmpty
      && (elementwiseRules[node.qualifiedOperator] != nil || normalizations.contains(node.qualifiedOperator))
  }

  private static let normalizations: Set = ["BatchNormalization", "InstanceNormalization", "GroupNormalization"]
}
