import ModelGraph

/// A wish for a size, and nothing about how: channels are removed and layers decomposed wherever either costs least.
package struct AutomaticRequest: Sendable {
  package var measure: ModelSize.Measure
  /// What is to be left, 0 < share < 1.
  package var share: Double
  package var means: JointMeans

  package init(measure: ModelSize.Measure, share: Double, means: JointMeans) {
    (self.measure, self.share, self.means) = (measure, share, means)
  }
}

/// What a plan for both channels and ranks is made with.
package struct JointMeans: Sendable {
  /// Ranks channels.
  package var criterion: CompressionMethod
  /// About channels.
  package var pruning: PruningOptions
  /// About ranks.
  package var decomposition: DecompositionOptions
  /// What the model computes on samples, and somebody who runs what is made of it on the same; without, losses are
  /// judged by weights alone.
  package var data: Data?
  /// Whether the weights that stay will be fitted anew: then damage is measured after the best fit.
  package var refits: Bool

  package struct Data: Sendable {
    let maps: any FeatureMapSource
    let runner: any NetworkRunner
    package init(maps: any FeatureMapSource, runner: any NetworkRunner) { (self.maps, self.runner) = (maps, runner) }
  }

  package init(
    criterion: CompressionMethod, pruning: PruningOptions, decomposition: DecompositionOptions, data: Data? = nil,
    refits: Bool = false
  ) {
    (self.criterion, self.pruning, self.decomposition) = (criterion, pruning, decomposition)
    (self.data, self.refits) = (data, refits)
  }

  /// The criterion that ranks channels where nobody names one.
  package static func criterion(hasData: Bool) -> CompressionMethod { hasData ? .damage : .groupL2 }
}

extension JointMeans {
  /// - Parameter maps: of the graph that is decomposed.
  func request(_ method: DecompositionMethod, maps: (any FeatureMapSource)?) -> DecompositionRequest {
    // What is chosen is chosen elsewhere.
    DecompositionRequest(method: method, choice: .layers([]), options: decomposition, maps: maps)
  }

  /// Weights that either decomposition takes: pointwise ones SVD, spatial ones Tucker.
  func ranks(
    of model: CompressibleModel, maps: (any FeatureMapSource)?, work: Work
  ) throws(Failure) -> RankModel {
    RankModel(
      try model.rankModel(request(.svd, maps: maps), work.part(0...0.5)),
      try model.rankModel(request(.tucker, maps: maps), work.part(0.5...1)))
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
