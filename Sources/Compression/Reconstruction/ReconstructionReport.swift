/// What is done to a compressed model's weights so that it computes what the original does, without training.
package enum ReconstructionMode: String, Sendable, CaseIterable {
  case none
  /// Biases take up what removed channels and lost ranks contribute on average, by the statistics that normalizations
  /// store. Needs no data.
  case bias
  /// Every weight is fitted anew on samples.
  case leastSquares = "least_squares"
}

/// What fitting weights anew came to.
package struct ReconstructionReport: Sendable {
  package var mode: ReconstructionMode
  /// Samples in all, and how many of them nothing was fitted to.
  package var sampleCount: Int
  package var heldOutCount: Int
  /// Of the model's outputs on samples held out: root mean square of the distance to the original's over that of these;
  /// nil where nothing was fitted.
  package var errorBefore: Double?
  package var errorAfter: Double?
  /// Whether the new weights are in the model; if not, they came no nearer to the original.
  package var isKept: Bool
  /// In node order.
  package var layers: [Layer]
  /// How many batch normalizations store new statistics, in the model if `isKept` says so.
  package var normalizations = 0
  /// Weighted layers that keep their weights.
  package var skipped: [SkippedLayer]

  package struct Layer: Sendable {
    package var name: String
    /// Positions that the weight was fitted to.
    package var positions: Int
    /// Share of the inputs' mean variance with which the old weight was held on to; nil where it stays.
    package var ridge: Double?
    /// Of what the layer computes, on samples that its weight was not fitted to at first (`RefitSolution`).
    package var errorBefore: Double
    package var errorAfter: Double
  }
}
