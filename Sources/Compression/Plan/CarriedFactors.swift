import ModelGraph

// Some files cannot state a number that a plan keeps: whoever runs them works it out from a length, and the length
// changes. What it divides is then as much larger or smaller already, by a factor of stored tensors.

extension CompressionPlan {
  /// By stored tensor, what all that the plan leaves of it is multiplied with in a file of `graph`'s own format.
  package func carriedFactors(in graph: Graph) -> [ValueID: Double] {
    let derived = graph.constraints.derivedRoots
    guard !derived.isEmpty else { return [:] }
    var factors: [ValueID: Double] = [:]
    for case .setInput(let node, let input, let tensor) in edits {
      guard let root = graph[node].input(input).flatMap({ derived[$0] }), let kept = tensor.realNumbers?.first,
        let length = lengths.first(where: { $0.value == root.length.value && $0.axis == root.length.axis })?.length
      else { continue }
      for carrier in root.carriers { factors[carrier] = Double(length).squareRoot() / kept }
    }
    return factors
  }

  /// The same where `compressed`, which was read from a file, is of that format, too; none where it is of one that
  /// states the numbers.
  func carriedFactors(of graph: Graph, in compressed: Graph) -> [ValueID: Double] {
    compressed.constraints.derivedRoots.isEmpty ? [:] : carriedFactors(in: graph)
  }
}

extension Tensor {
  /// The tensor times a number, rounded to its own type.
  /// - Precondition: a floating-point type.
  package func multiplied(by factor: Double) -> Tensor {
    .rounding((realNumbers ?? []).map { $0 * factor }, shape: shape, to: dtype)
  }
}
