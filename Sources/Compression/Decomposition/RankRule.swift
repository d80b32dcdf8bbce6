import ModelGraph

/// Which ranks a recommendation may give: the options `min_num_of_value`, `step_size` and `step_op`, and what a kernel can
/// fill.
///
/// Invariant: an admitted rank, admitted again, is itself.
struct RankRule: Sendable, Equatable {
  private let minimum: Int
  private let step: Int
  private let stepOp: PruningOptions.StepOp

  init(_ options: DecompositionOptions) {
    step = options.stepOp == .none ? 1 : max(1, options.stepSize)
    stepOp = options.stepOp
    minimum = (max(1, options.minNumOfValue) + step - 1) / step * step
  }

  /// The nearest rank that may be given to a mode of full rank `full`.
  func admitted(_ rank: Int, full: Int) -> Int {
    var rank = max(0, rank)
    if step > 1, rank < full {
      let steps =
        switch stepOp {
        case .roundDown: rank / step
        case .roundUp: (rank + step - 1) / step
        // Half a step keeps more.
        case .round: (2 * rank + step) / (2 * step)
        case .none: rank
        }
      rank = steps * step
    }
    return min(max(rank, smallest(full: full)), full)
  }

  func smallest(full: Int) -> Int { min(minimum, full) }

  /// The next larger rank that may be given; nil above the full one.
  func next(after rank: Int, full: Int) -> Int? {
    rank >= full ? nil : min(full, (rank / step + 1) * step)
  }

  /// Ranks that may be given, ascending.
  func all(full: Int) -> [Int] {
    var ranks = [smallest(full: full)]
    while let next = next(after: ranks[ranks.count - 1], full: full) { ranks.append(next) }
    return ranks
  }
}
