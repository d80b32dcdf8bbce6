/// The options of decompositions that are about ranks.
package struct DecompositionOptions: Sendable, Hashable {
  /// What becomes of a layer in which VBMF finds nothing but noise.
  package enum ZeroRank: String, Sendable, CaseIterable {
    /// It stays as it is.
    case skip
    /// It is decomposed at the smallest rank the other options admit.
    case clamp
  }

  package var zeroRank = ZeroRank.skip
  /// No rank is recommended below it, as far as the layer has so many.
  package var minNumOfValue = 8
  /// Recommended ranks become multiples of it; at least 1.
  package var stepSize = 1
  package var stepOp = PruningOptions.StepOp.round
  /// Layer names or globs (`*`, `?`); nil = all.
  package var include: [String]?
  package var exclude: [String] = []

  package init() {}
}
