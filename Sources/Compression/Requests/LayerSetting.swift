// What is said of single layers, by a request or by the reply to one.

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
