import Glibc

// Normalization of the scores of one layer (the option `layer_norm`), which makes layers comparable before they are
// combined in a group or ranked against each other.
//
// Invariant: order-preserving (never swaps two scores), finite for finite scores. Formulas and option names:
// NetsPresso's documentation of its pruning options.

extension PruningOptions.LayerNorm {
  /// The scores x of one layer, normalized:
  /// - none: x
  /// - standard score: (x - mean) / deviation, the population's (divided by n); no deviation: all 0
  /// - total-sum scaling: x / sum; no sum: all 1/n
  /// - linear scaling: (x - min) / (max - min); no range: all 0.5
  /// - softmax: exp(x) / sum of exp
  package func normalized(_ scores: [Double]) -> [Double] {
    guard let peak = scores.lazy.map(abs).max(), self != .none else { return scores }
    if self == .softmaxNorm { return softmax(scores) }
    // The other three do not depend on the scale; a power of two keeps their sums and squares in range.
    let x =
      peak > Self.largestUnscaled
      ? scores.map { $0 * Double(sign: .plus, exponent: -peak.exponent, significand: 1) } : scores
    let n = Double(x.count)
    let negligible = Self.relativeTolerance * max(Self.smallestPeak, x.lazy.map(abs).max() ?? 0)
    switch self {
    case .standardScore:
      let mean = x.reduce(0, +) / n
      let deviation = (x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / n).squareRoot()
      return deviation <= negligible ? x.map { _ in 0 } : x.map { ($0 - mean) / deviation }
    case .tssNorm:
      let sum = x.reduce(0, +)
      return sum <= 0 ? x.map { _ in 1 / n } : x.map { $0 / sum }
    case .linearScaling:
      let (low, high) = (x.min() ?? 0, x.max() ?? 0)
      return high - low <= negligible ? x.map { _ in 0.5 } : x.map { ($0 - low) / (high - low) }
    case .none, .softmaxNorm:
      return x
    }
  }

  /// This normalization where ratios between scores count, as in LAMP: a standard score is negative for half the layer
  /// and linear scaling starts every layer at 0, so both give way to total-sum scaling.
  package var positive: Self {
    switch self {
    case .standardScore, .linearScaling: .tssNorm
    case .none, .tssNorm, .softmaxNorm: self
    }
  }

  /// Below this share of the largest score, spread is rounding.
  private static let relativeTolerance = 1e-12
  private static let smallestPeak = 1e-300
  /// Its square, times more filters than a layer has, is finite.
  private static let largestUnscaled = 0x1p480

  /// The maximum is subtracted first, so that no exponential overflows; far smaller scores become 0.
  private func softmax(_ scores: [Double]) -> [Double] {
    let peak = scores.max() ?? 0
    let exponentials = scores.map { exp($0 - peak) }
    let sum = exponentials.reduce(0, +)
    return exponentials.map { $0 / sum }
  }
}
