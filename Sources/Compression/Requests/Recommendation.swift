// What a recommendation is asked for, and what it says.

/// What a recommendation is to reach.
package enum RecommendationGoal: Sendable, Equatable {
  /// The share of all prunable channels to remove, 0 < ratio < 1.
  case ratio(Double)
  /// The share of the original size that is to be left, 0 < share < 1.
  case size(ModelSize.Measure, share: Double)
  /// VBMF's ranks, moved toward the full ones (1) or toward nothing (-1); -1 ≤ ratio ≤ 1.
  case calibration(Double)
  /// The share of every decomposed weight's squared norm (with data, of its output's) that stays, 0 < share < 1.
  case energy(Double)
}

package struct RecommendationRequest: Sendable {
  package var method: CompressionMethod
  package var recommendation: RecommendationMethod
  package var goal: RecommendationGoal
  package var options: PruningOptions
  /// For the methods that measure feature maps.
  package var maps: (any FeatureMapSource)?
  /// On which errors are predicted.
  package var data: (any FeatureMapSource)?
  package init(
    method: CompressionMethod, recommendation: RecommendationMethod, goal: RecommendationGoal, options: PruningOptions,
    maps: (any FeatureMapSource)? = nil, data: (any FeatureMapSource)? = nil
  ) {
    (self.method, self.recommendation, self.goal) = (method, recommendation, goal)
    (self.options, self.maps, self.data) = (options, maps, data)
  }
}

package struct Recommendation: Sendable {
  /// Of the layers' predicted errors the root of the sum of squares, as if they were independent; nil where none is
  /// known.
  package var predictedError: Double? {
    let errors = availableLayers.compactMap(\.predictedError)
    return errors.isEmpty ? nil : errors.reduce(0) { $0 + $1 * $1 }.squareRoot()
  }
  package var availableLayers: [LayerSetting]
  package var skipped: [SkippedLayer]
  package var goal: RecommendationGoal
  /// The share of all prunable channels that go; nil for decompositions.
  package var achievedRatio: Double?
  package var original: ModelSize
  package var compressed: ModelSize
  package var warnings: [String] = []
  package var trials: [PlannedCompression.Trial] = []
}

extension Recommendation {
  /// What a plan would do.
  package init(_ planned: PlannedCompression) {
    self.init(
      availableLayers: planned.layers, skipped: planned.skipped, goal: planned.goal ?? .ratio(0),
      achievedRatio: planned.achievedRatio, original: planned.original, compressed: planned.compressed,
      warnings: planned.warnings, trials: planned.trials)
  }
}
