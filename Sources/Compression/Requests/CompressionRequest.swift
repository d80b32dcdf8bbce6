// What a compression by one method is asked for.

package struct CompressionRequest: Sendable {
  package enum Choice: Sendable {
    case recommended(RecommendationMethod, RecommendationGoal)
    case layers([LayerSetting])
  }
  package var method: CompressionMethod
  package var choice: Choice
  package var options: PruningOptions
  /// For the methods that measure feature maps.
  package var maps: (any FeatureMapSource)?
  package init(
    method: CompressionMethod, choice: Choice, options: PruningOptions, maps: (any FeatureMapSource)? = nil
  ) {
    (self.method, self.choice, self.options, self.maps) = (method, choice, options, maps)
  }
}

/// A recommendation of ranks, or a decomposition.
package struct DecompositionRequest: Sendable {
  package enum Choice: Sendable {
    case recommended(RecommendationGoal)
    case layers([LayerSetting])
  }
  package var method: DecompositionMethod
  package var choice: Choice
  package var options: DecompositionOptions
  /// What the layers read on a user's samples: then errors are weighed by it.
  package var maps: (any FeatureMapSource)?
  package init(
    method: DecompositionMethod, choice: Choice, options: DecompositionOptions, maps: (any FeatureMapSource)? = nil
  ) {
    (self.method, self.choice, self.options, self.maps) = (method, choice, options, maps)
  }
}
