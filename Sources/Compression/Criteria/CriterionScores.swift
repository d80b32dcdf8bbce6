/// What a criterion finds in one weight.
package enum CriterionScores: Sendable, Equatable {
  /// Per cell, finite and at least 0; the least important is lowest.
  case scores([Double])
  /// The weight holds NaN or infinity, first in this filter: its layer cannot be ranked.
  case nonFinite(filter: Int)
}
