/// Moves an estimated rank towards full rank (ratios above 0) or away from it (below): of the rank that would be
/// removed, the share |ratio| is kept, or removed once more.
///
/// new = estimate + trunc((full - estimate) * ratio), within minimum...full.
package struct RankCalibration: Sendable, Equatable {
  /// -1...1.
  package let ratio: Double
  /// No rank falls below it, unless the layer has fewer.
  package let minimum: Int

  package init(ratio: Double, minimum: Int = 1) {
    precondition((-1...1).contains(ratio), "a calibration ratio is from -1 to 1")
    (self.ratio, self.minimum) = (ratio, minimum)
  }

  /// - Parameters:
  ///   - estimate: 0...full.
  ///   - full: of the matrix, at least 1.
  package func rank(estimate: Int, full: Int) -> Int {
    let change = Double(full - estimate) * ratio
    // 29 % of 100 are 29 although the product in double is below it.
    let step = Int((change + (change < 0 ? -1e-9 : 1e-9)).rounded(.towardZero))
    return max(1, min(minimum, full), min(estimate + step, full))
  }
}
