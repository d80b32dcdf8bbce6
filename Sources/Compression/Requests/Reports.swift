import ModelGraph

// The plain values that inspect, recommend and compress take and give. Nothing here knows of JSON or of a client; the
// server writes these field by field to the wire under their snake_case names.

/// Parameters, multiply-adds (FLOPs are twice that) and bytes on disk.
package struct ModelSize: Sendable, Equatable {
  package var parameters: Int
  package var macs: Int
  package var sizeBytes: Int
  package init(parameters: Int, macs: Int, sizeBytes: Int) {
    (self.parameters, self.macs, self.sizeBytes) = (parameters, macs, sizeBytes)
  }
}

/// A graph input or output as the file declares it.
package struct Port: Sendable, Equatable {
  package var name: String
  package var dtype: DType?
  package var shape: [Dimension]?
  package init(name: String, dtype: DType?, shape: [Dimension]?) {
    (self.name, self.dtype, self.shape) = (name, dtype, shape)
  }
}

package struct Inspection: Sendable {
  package var inputs: [Port]
  package var outputs: [Port]
  package var size: ModelSize
  /// Lengths assumed for symbolic dimensions while counting multiply-adds.
  package var assumedLengths: [(symbol: String, length: Int)]
  package var layers: [LayerReport]
  package var groups: [GroupReport]
}

/// A node with parameters that a user would prune or decompose.
package struct LayerReport: Sendable {
  package var name: String
  package var op: String
  /// Its weight, by the file's name.
  package var parameter: String
  /// `[in, out]`.
  package var channels: [Int]
  /// Spatial kernel, for convolutions.
  package var kernel: [Int]?
  package var groups: Int?
  package var parameters: Int
  package var macs: Int
  package var methods: [CompressionMethod]
  /// Which ranks the layer has, by method; nil if none takes it.
  package var decomposition: [RankLimits]?
  /// The coupled group of its output channels, by `GroupReport.id`.
  package var group: Int?
  /// Where its output channels are of several groups: the others.
  package var otherGroups: [Int]
  /// Why its output channels cannot be pruned, in one sentence naming the operator that decides; nil if they can.
  package var reason: String?
  /// The other layers whose output channels go with its own.
  package var coupledWith: [String]
  /// What can be removed and what goes with it, or why nothing can: one sentence.
  package var explanation: String
}

/// The ranks between which decomposing a layer loses something and gains something, as `values` has them.
package struct RankLimits: Sendable, Equatable {
  package var method: CompressionMethod
  /// At which nothing is lost.
  package var full: [Int]
  /// The largest at which multiply-adds and parameters both fall; nil if they never do.
  package var breakEven: [Int]?
}

/// Channels that can only be removed together, and the layers they run through.
package struct GroupReport: Sendable {
  package var id: Int
  /// The name under which `available_layers` lists the group.
  package var name: String
  /// Removable units.
  package var size: Int
  /// Channels of its first layer that the units stand for, and those that cannot be removed beside them.
  package var channels: Int
  package var prunable: Bool
  package var layers: [String]
  package var balance: BalanceReport?
  package var reason: String?
}

/// Channels that come in blocks which must lose equally many.
package struct BalanceReport: Sendable, Equatable {
  package var blocks: Int
  /// Units per block.
  package var width: Int
  /// Groups that must lose the same number per block.
  package var linkedWith: [Int]
}

/// What a setting says of one layer: of the recommended ones (`available_layers`), or of a request's `layers`.
package struct LayerSetting: Sendable, Equatable {
  package enum Values: Sendable, Equatable {
    /// Fraction of the channels removed.
    case ratio(Double)
    /// Channels removed.
    case indices([Int])
    /// `[rank]`, or `[in_rank, out_rank]`.
    case ranks([Int])
    /// Left untouched.
    case empty
  }
  package var name: String
  package var channels: [Int]
  package var values: Values
  package var use: Bool
  /// The share to mark, where blocks choose by marks (group policy `count`) and that is not the share removed.
  package var marked: Double?
  /// The share that the recommendation called for before alignment, minimum and limits had their say.
  package var requested: Double?
  /// Of decompositions.
  package var ranks: RankReport?
  /// Where there are data: of what the layers that read its channels compute, after the best refit of their weights; of
  /// decompositions of what the layer itself computes. Relative.
  package var predictedError: Double?
  /// Where methods go layer by layer: which, and why.
  package var choice: MethodChoice?
  package init(
    name: String, channels: [Int], values: Values, use: Bool, marked: Double? = nil, requested: Double? = nil,
    ranks: RankReport? = nil, predictedError: Double? = nil
  ) {
    (self.name, self.channels, self.values, self.use) = (name, channels, values, use)
    (self.marked, self.requested, self.ranks, self.predictedError) = (marked, requested, ranks, predictedError)
  }
}

extension LayerSetting {
  /// Without what a recommendation wanted.
  var asStated: LayerSetting {
    LayerSetting(name: name, channels: channels, values: values, use: use, marked: marked)
  }
}

/// What is done to a layer where there are several methods.
package struct MethodChoice: Sendable, Equatable {
  package var method: CompressionMethod
  /// nil where nobody chose, but was told.
  package var grounds: Grounds?
  package init(method: CompressionMethod, grounds: Grounds? = nil) { (self.method, self.grounds) = (method, grounds) }

  package struct Grounds: Sendable, Equatable {
    /// What the budget is about, and how much of it is saved.
    package var measure: ModelSize.Measure
    package var saved: Int
    package var reason: String
  }
}

/// The ranks of a layer, `[rank]` or `[in_rank, out_rank]` each, and what they lose.
package struct RankReport: Sendable, Equatable {
  /// At which nothing is lost.
  package var full: [Int]
  /// VBMF's: how many singular values stand out of noise; nil for CP.
  package var estimated: [Int]?
  /// The same after calibration, minimum and step; nil where ranks were chosen otherwise.
  package var calibrated: [Int]?
  /// nil where the layer stays.
  package var kept: [Int]?
  /// `|W - W'| / |W|` (Frobenius): measured once the factors exist, before that a bound which for one rank is exact.
  package var relativeError: Double?
  /// Of what the layer computes on the dataset, the root mean square error over the root mean square; nil without data.
  package var outputError: Double?
}

package struct SkippedLayer: Sendable, Equatable {
  package var name: String
  package var reason: String
  package init(name: String, reason: String) { (self.name, self.reason) = (name, reason) }
}

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

extension ModelSize {
  package enum Measure: String, Sendable, CaseIterable {
    case parameters, macs
    case sizeBytes = "size_bytes"
  }

  package subscript(measure: Measure) -> Int {
    switch measure {
    case .parameters: parameters
    case .macs: macs
    case .sizeBytes: sizeBytes
    }
  }
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

/// A compression decided on. Nothing of it may be published before its certificate has passed.
package struct PlannedCompression: Sendable {
  package var plan: CompressionPlan
  package var original: ModelSize
  /// `sizeBytes` is an estimate until the file is written.
  package var compressed: ModelSize
  package var layers: [LayerSetting]
  /// What of `compressed.sizeBytes` the file has beside its tensors; nil where these alone are counted.
  var fileOverhead: Int?
  /// What was to be reached, and the share of all prunable channels that go; nil where the request named layers.
  package var goal: RecommendationGoal?
  package var achievedRatio: Double?
  package var removed: [RemovedSlices]
  package var copied: [CopiedVector]
  package var replaced: [ReplacedLayer] = []
  package var adjusted: [AdjustedParameter] = []
  /// What fitting weights anew came to; nil where that was not asked for.
  package var reconstruction: ReconstructionReport?
  package var skipped: [SkippedLayer]
  package var warnings: [String]
  /// Where the result can only be approximate; empty if it equals the original with the removed channels silenced.
  package var approximations: [Approximation]
  /// What the certificate compared: how many values agreed. None before it has passed.
  package var certificate = CertificateReport(valuesChecked: 0, labelsCompared: 0)
  /// What was tried where methods were chosen: with which, and the measured error of the outputs.
  package var trials: [Trial] = []
  package struct Trial: Sendable, Equatable {
    package var methods: [CompressionMethod]
    package var error: Double
  }
  /// What it does to the model, for whoever proves the result by running it.
  package var change: Change

  package enum Change: Sendable {
    case removal(Removal)
    case decomposition([LayerDecomposition])
    /// Of layers of what the removal leaves, at their places in the model.
    case both(Removal, [LayerDecomposition])

    var removal: Removal? {
      switch self {
      case .removal(let removal), .both(let removal, _): removal
      case .decomposition: nil
      }
    }

    package var decompositions: [LayerDecomposition] {
      switch self {
      case .decomposition(let decompositions), .both(_, let decompositions): decompositions
      case .removal: []
      }
    }
  }
}

/// A parameter whose numbers were changed on purpose.
package struct AdjustedParameter: Sendable {
  package var layer: String
  package var parameter: String
  /// Whose place it takes; nil where there was none.
  package var original: String?
  package var reason: String
  /// With what the file has all that is left of it multiplied, where that is the change.
  package var factor: Double?
}

/// A layer whose place others take.
package struct ReplacedLayer: Sendable {
  package struct Part: Sendable {
    package var name: String
    package var op: String
    package var parameter: String
    package var shape: [Int]
  }
  package var layer: String
  package var parameter: String
  package var method: DecompositionMethod
  /// As `values` has them.
  package var ranks: [Int]
  /// In execution order.
  package var by: [Part]
  /// `|W - W'| / |W|` (Frobenius), with the factors as they are stored.
  package var relativeError: Double
  package var outputError: Double?
}

/// An operator because of which the result is not equal: it takes statistics across channels of which some were
/// removed, or its weight is now a product.
package struct Approximation: Sendable, Equatable {
  package var node: NodeID
  package var name: String
  package var op: String
  /// One sentence that names the operator.
  package var reason: String
}

package struct CertificateReport: Sendable, Equatable {
  package var valuesChecked: Int
  package var labelsCompared: Int
}

/// A use of a vector that several nodes share, which loses entries that others keep and so reads a copy without
/// `indices` (original numbering). The vector itself stays.
package struct CopiedVector: Sendable, Equatable {
  package var parameter: String
  package var node: String
  package var input: Int
  package var axis: Int
  package var indices: [Int]
  package init(parameter: String, node: String, input: Int, axis: Int, indices: [Int]) {
    (self.parameter, self.node, self.input, self.axis, self.indices) = (parameter, node, input, axis, indices)
  }
}

/// Slices taken from one stored tensor along one axis, in the original numbering.
package struct RemovedSlices: Sendable, Equatable {
  package var parameter: String
  package var axis: Int
  package var indices: Indices
  package enum Indices: Sendable, Equatable {
    case all([Int])
    case perGroup([[Int]])
  }
  package init(parameter: String, axis: Int, indices: Indices) {
    (self.parameter, self.axis, self.indices) = (parameter, axis, indices)
  }
}
