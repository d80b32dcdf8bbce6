import ModelGraph

// SLAMP: structured layer-adaptive magnitude pruning. One ratio for the whole model becomes a count per group.
//
// LAMP (Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021, section 3) scores a weight by
// its square over the sum of its own and all larger squares of its layer: the relative distortion of removing it once
// everything smaller is gone. Here the same is said of units. It does not change when a layer is rescaled, and a
// layer's last unit scores 1, so no layer is emptied before the others.
//
//     slamp(i) = m_i^2 / sum of m_j^2 over all j that go no earlier than i,    0 / 0 = 0
//
// Invariant: counts only; which units fill a count is the ranking score's business (RankedGroups). The budget is never
// exceeded by the walk; alignment afterwards may move the counts to either side, and the selection reports both.

/// LAMP scores of magnitudes that stand in removal order. Units that stay for good belong at the end: they are in every
/// sum.
package func slampScores(_ magnitudes: [Double]) -> [Double] {
  // Scores are free of scale: relative to the largest magnitude no square overflows. Sums of members and blocks may
  // have, which everything else compares but only this divides.
  var scores = magnitudes.map { min($0, .greatestFiniteMagnitude) }
  guard let peak = scores.max(), peak > 0 else { return scores.map { _ in 0 } }
  var remaining = 0.0
  for index in scores.indices.reversed() {
    let energy = (scores[index] / peak) * (scores[index] / peak)
    remaining += energy
    scores[index] = remaining == 0 ? 0 : energy / remaining
  }
  return scores
}

/// The units of all groups in the order in which a global budget takes them.
///
/// A step takes one unit from every block of every group of a set, so that blocks and linked groups stay in step: step
/// p takes the p-th weakest of each. Blocks that choose on their own enter with the mean magnitude of their p-th
/// weakest; linked groups, whose magnitudes may have different scales, with the mean of their scores. Under group
/// policy `count` a step marks a single cell instead, and the block with fewest marks decides for its set.
///
/// A step of many blocks has the score of one unit among few, and so comes late: wide layers are cut to the width of a
/// block before the first step. Allocation `lamp_per_channel` divides its score by the channels that go with it.
struct SLAMPLadder: Sendable {
  private struct Step: Sendable {
    let cost: Int
    let counter: Int32
  }

  private let steps: [Step]
  /// Per set, the counters its steps advance: one, or under `count` one per block.
  private let counters: [Range<Int>]
  private let cheapest: Int

  init(_ groups: [RankedGroup], sets: [[Int]], options: RankingOptions) {
    var entries: [Entry] = []
    var counters: [Range<Int>] = []
    for set in sets {
      let first = counters.last?.upperBound ?? 0
      let rows = set.reduce(0) { $0 + groups[$1].table.rows }
      if options.groupPolicy == .count, rows > 1 {
        var counter = first
        for group in set {
          entries += Self.marks(groups[group], group: group, firstCounter: counter, allocation: options.allocation)
          counter += groups[group].table.rows
        }
        counters.append(first..<counter)
      } else {
        entries += Self.levels(set, groups, counter: first, allocation: options.allocation)
        counters.append(first..<first + 1)
      }
    }
    entries.sort {
      $0.score != $1.score ? $0.score < $1.score : ($0.group, $0.index) < ($1.group, $1.index)
    }
    self.counters = counters
    steps = entries.map { Step(cost: $0.cost, counter: Int32($0.counter)) }
    cheapest = steps.lazy.map(\.cost).min() ?? 0
  }

  var byteCount: Int { steps.count * MemoryLayout<Step>.stride }

  /// Per set, the units per block that a budget of `channels` buys, walking all steps from the lowest score.
  ///
  /// - Parameter cap: per set, the most units per block it may lose; what cannot go at all is not on the ladder.
  func counts(channels: Int, cap: (Int) -> Int) -> [Int] {
    var open = [Int](repeating: 0, count: counters.last?.upperBound ?? 0)
    for (set, range) in counters.enumerated() { for counter in range { open[counter] = cap(set) } }
    var taken = [Int](repeating: 0, count: open.count)
    var budget = channels
    for step in steps {
      if budget < cheapest { break }
      let counter = Int(step.counter)
      guard taken[counter] < open[counter] else { continue }
      if step.cost <= budget {
        budget -= step.cost
        taken[counter] += 1
      } else {
        // Counts are prefixes of a removal order: past a unit that does not fit, the set is done.
        open[counter] = taken[counter]
      }
    }
    return counters.map { range in range.lazy.map { taken[$0] }.min() ?? 0 }
  }

  /// A step before sorting. Ties go by group, then by index within it.
  private struct Entry {
    let score: Double
    let group: Int
    let index: Int
    let cost: Int
    let counter: Int
  }

  private static func levels(
    _ set: [Int], _ groups: [RankedGroup], counter: Int, allocation: PruningOptions.Allocation
  ) -> [Entry] {
    let limit = set.map { groups[$0].limit }.min() ?? 0
    var scores = [Double](repeating: 0, count: limit)
    var costs = [Int](repeating: 0, count: limit)
    for group in set {
      let table = groups[group].table
      let magnitudes = groups[group].magnitudes
      var means = [Double](repeating: 0, count: table.width)
      for row in 0..<table.rows {
        // Magnitudes put units in about the order that ranking did, and what is nearly sorted is sorted soon.
        let order = orderFixedLast(
          table.units(inRow: row), removable: groups[group].rows[row], table, magnitudes)
        for (level, unit) in order.enumerated() { means[level] += magnitudes[unit] }
        // A step pays for the unit that will go, which the ranking score names.
        for level in 0..<limit { costs[level] += table.cost[groups[group].rows[row][level]] }
      }
      for level in means.indices { means[level] /= Double(table.rows) }
      let groupScores = allocation == .score ? means : slampScores(means)
      for level in 0..<limit { scores[level] += groupScores[level] }
    }
    if set.count > 1 { for level in scores.indices { scores[level] /= Double(set.count) } }
    if allocation == .lampPerChannel {
      // No step comes before an earlier one of its set, however costs differ.
      var last = 0.0
      for level in scores.indices {
        last = max(last, scores[level] / Double(max(1, costs[level])))
        scores[level] = last
      }
    }
    return (0..<limit).map {
      Entry(score: scores[$0], group: set[0], index: $0, cost: costs[$0], counter: counter)
    }
  }

  private static func marks(
    _ ranked: RankedGroup, group: Int, firstCounter: Int, allocation: PruningOptions.Allocation
  ) -> [Entry] {
    let table = ranked.table
    let units = table.removable.indices
    let order = orderFixedLast(
      units, removable: units.filter { table.removable[$0] }, table, ranked.magnitudes)
    let magnitudes = order.map { ranked.magnitudes[$0] }
    let scores = allocation == .score ? magnitudes : slampScores(magnitudes)
    // One cell always stays; so do the fixed ones, which stand last.
    let count = min(order.count - 1, table.removable.count { $0 })
    return (0..<count).map { level in
      let unit = order[level]
      return Entry(
        score: scores[level], group: group, index: unit, cost: table.cost[unit],
        counter: firstCounter + unit / table.width)
    }
  }

  /// Removable units by ascending magnitude, then those that stay.
  /// - Parameter removable: those of `units`, in any order.
  private static func orderFixedLast(
    _ units: Range<Int>, removable: [Int], _ table: UnitTable, _ magnitudes: [Double]
  ) -> [Int] {
    removalOrder(of: removable, by: magnitudes)
      + removalOrder(of: units.lazy.filter { !table.removable[$0] }, by: magnitudes)
  }
}

extension RankedGroups {
  /// Recommends how many units every group loses so that `ratio` of all channels go (scope global) or of each group's
  /// (scope layer), and which.
  ///
  /// Global: floor(ratio * channels) are the budget of one walk over all units by LAMP score; then every group is
  /// aligned. What the minimum withholds from a layer is not given to another; blocks that cannot shrink any further
  /// leave the walk, and the budget goes to the others. (Not under group policy `count`, which wants fewer marks to
  /// mean fewer channels.)
  ///
  /// - Throws: `invalidParams` unless 0 < ratio < 1, and for alignment options out of range.
  package func recommending(ratio: Double, options: PruningOptions) throws(Failure) -> Selection {
    guard ratio > 0, ratio < 1 else {
      throw Failure(
        .invalidParams, "recommendation_ratio is \(ratio), expected a number between 0 and 1, both excluded",
        details: ["path": .string("/recommendation_ratio")])
    }
    if options.scope == .layer {
      return try selecting(ratios: [Double?](repeating: ratio, count: groups.count), options: options)
    }
    precondition(RankingOptions(options) == self.options, "ranked under other options")
    return try aligned(counts(channels: totalChannels.share(ratio), ChannelAlignment(options)), options: options)
  }

  /// Per set, the units that a budget of channels calls for, before alignment.
  func counts(channels: Int, _ alignment: ChannelAlignment) -> [Int] {
    ladder.counts(channels: channels) { set in
      let width = width(ofSet: set)
      return hasBlocks(set) && self.options.groupPolicy != .count
        ? aligned(width, ofSet: set, alignment) : alignment.maximumRemoved(of: width)
    }
  }
}
