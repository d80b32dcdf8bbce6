import ModelGraph

// What a compression comes to, before and after it is carried out.

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
