import ModelGraph

/// A wish for a size, and nothing about how: channels are removed and layers decomposed wherever either costs least.
package struct AutomaticRequest: Sendable {
  package var measure: ModelSize.Measure
  /// What is to be left, 0 < share < 1.
  package var share: Double
  /// About channels; criterion, policy and normalization are this method's own.
  package var pruning: PruningOptions
  /// About ranks.
  package var decomposition: DecompositionOptions
  /// What the model computes on samples, and somebody who runs what is made of it on the same; without, losses are judged
  /// by weights alone.
  package var data: Data?
  /// Whether the weights that stay will be fitted anew: then damage is measured after the best fit.
  package var refits: Bool

  package struct Data: Sendable {
    let maps: any FeatureMapSource
    let runner: any NetworkRunner
    package init(maps: any FeatureMapSource, runner: any NetworkRunner) { (self.maps, self.runner) = (maps, runner) }
  }

  package init(
    measure: ModelSize.Measure, share: Double, pruning: PruningOptions, decomposition: DecompositionOptions,
    data: Data? = nil, refits: Bool = false
  ) {
    (self.measure, self.share, self.pruning, self.decomposition) = (measure, share, pruning, decomposition)
    (self.data, self.refits) = (data, refits)
  }
}

extension AutomaticRequest {
  /// The criterion that ranks channels.
  var criterion: CompressionMethod { data == nil ? .groupL2 : .damage }

  func request(
    _ method: DecompositionMethod, maps: (any FeatureMapSource)?
  ) -> DecompositionRequest {
    DecompositionRequest(
      method: method, choice: .recommended(.size(measure, share: share)), options: decomposition, maps: maps)
  }

}

extension WeightCost {
  func size(_ measure: ModelSize.Measure, of candidate: WeightCandidate) -> Int {
    switch measure {
    case .macs: macs
    case .parameters: parameters
    case .sizeBytes: parameters * (candidate.layer.weight.dtype.byteWidth ?? 4)
    }
  }
}
