import ModelGraph

extension Reason {
  /// One sentence a user understands, naming the operator that decides.
  package func sentence(in graph: Graph) -> String {
    let place = node.map { "\(graph[$0].op) '\(graph.displayName($0))'" } ?? ""
    switch kind {
    case .graphInput: return "its channels meet those of a model input, which must keep its shape"
    case .modelOutput: return "its channels are those of a model output, which must keep its shape"
    case .spatial: return "\(place) mixes neighbours along this axis, so their number and order matter"
    case .kernel: return "\(place) uses this axis as kernel positions"
    case .settings: return "\(place) reads it as a setting, not as data"
    case .mixed: return "\(place) mixes all indices of this axis"
    case .noRule: return "\(place) has no channel rule, so what reaches it stays as it is"
    case .outputOfBarrier: return "it meets the output of \(place), which has no channel rule"
    case .unknownShape: return "the shape at \(place) is not known well enough to follow channels through it"
    case .formWithoutRule: return "\(place) is used in a form that has no channel rule"
    case .subgraphCapture: return "the body of \(place) reads it"
    case .onlyIndexTaken: return "\(place) takes this index alone"
    case .onePerBlock: return "\(place) needs one entry for every block"
    case .axesMerged: return "\(place) merges several labelled axes into one"
    case .arrayTooLarge: return "following it through \(place) would take too much memory"
    case .fixedPart:
      return place.isEmpty
        ? "it meets a constant whose entries are no channels" : "it meets a part without channels at \(place)"
    case .expanded: return "\(place) repeats one entry along this axis"
    case .indexedByData: return "\(place) picks its entries by data"
    case .balancedWithFrozen: return "at \(place) it must keep pace with channels that cannot be removed"
    case .normalized: return "\(place) takes statistics across these channels"
    case .reduced: return "\(place) sums or compares across these channels"
    case .shapeDependent: return "\(place) makes a tensor of this length"
    case .fixedByFormat(let id): return graph.constraints.fixed[id] ?? ""
    case .axisFixedByFormat(let axis): return graph.constraints.fixedAxes[axis] ?? ""
    }
  }
}
