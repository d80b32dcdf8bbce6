import ModelGraph

/// The models that a compressed one is compared with.
package enum Counterpart: Sendable {
  /// What the result is measured against: the original, with the removed channels silenced.
  case original
  /// What it must equal where it does not equal the original: that with statistics of what stays, or with the products
  /// of its factors as weights.
  case twin
  /// The twin with every product off by what rounding its factors may come to: how far this is from the twin tells how
  /// much the network makes of rounding. The twin itself where nothing is decomposed.
  case roundedTwin
}

extension PlannedCompression {
  /// - Parameter shapes: of the original under the lengths with which it will be run.
  /// - Throws: `verifyImpossible` naming the node where there is none.
  package func graph(of counterpart: Counterpart, original: Graph, shapes: ShapeTable, work: Work) throws(Failure)
    -> Graph
  {
    switch (change, counterpart) {
    // Where weights are new, no silence makes the original equal; how far it is from what was asked for, it tells
    // itself.
    case (.removal, .original) where !plan.contents.isEmpty: return original
    case (.removal(let removal), _):
      return try MaskedOriginal(removal, plan, shapes: shapes).graph(
        restrictingStatistics: counterpart != .original, work: work)
    case (.decomposition, .original), (.both, .original): return original
    case (.both(let removal, let decompositions), _):
      return try MaskedOriginal(
        removal, plan, decompositions: decompositions, isRounded: counterpart == .roundedTwin, shapes: shapes
      ).graph(restrictingStatistics: true, work: work)
    case (.decomposition(let decompositions), _):
      return try ReconstructedOriginal(decompositions, plan, of: original).graph(
        isRounded: counterpart == .roundedTwin, work: work)
    }
  }

  /// Whether a comparison means something only in float32: products of factors stored in half precision are not stored
  /// in it.
  package var comparesWidened: Bool {
    change.decompositions.contains(where: \.isNarrow)
  }

  /// The twin in words.
  package var twinDescription: String {
    switch change {
    case .removal where !plan.contents.isEmpty:
      "the original with the new weights in which the removed channels are silenced and the normalizations see only what stays"
    case .removal:
      "the original in which the removed channels are silenced and the normalizations see only what stays"
    case .decomposition: "the original with the products of the factors as weights"
    case .both:
      "the original with the products of the factors as weights, in which the removed channels are silenced and the normalizations see only what stays"
    }
  }

  /// Why the result is only approximate, one sentence for all places; nil if it is not.
  package var approximationSummary: String? {
    guard let first = approximations.first else { return nil }
    let others = approximations.count > 1 ? " (and \(approximations.count - 1) more)" : ""
    return switch change {
    case .removal where !plan.contents.isEmpty:
      "the weights of \(first.op) '\(first.name)'\(others) were fitted anew; the outputs equal those of the original with these weights where the removed channels are silenced"
    case .removal:
      "\(first.op) '\(first.name)'\(others) takes statistics across channels of which some were removed; where it sees only what stays, the outputs are equal"
    case .both:
      "channels are gone and the weights of \(first.op) '\(first.name)'\(others) were fitted anew or are now products of lower rank; the outputs equal those of the original with these weights in which the removed channels are silenced"
    case .decomposition where !plan.contents.isEmpty:
      "the weights of \(first.op) '\(first.name)'\(others) were fitted anew or are now products of lower rank; the outputs equal those of the original with these weights"
    case .decomposition:
      "the weight of \(first.op) '\(first.name)'\(others) is now a product of lower rank; the outputs equal those of the original with these products as weights"
    }
  }
}
