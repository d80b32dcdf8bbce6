import ModelGraph

// Everything about a choice of channels that does not depend on how many go: scores normalized, combined and sorted,
// within each group and, for SLAMP, across all of them. Preparing it costs the sorts; asking it for another ratio costs
// one scan. Immutable, so one value serves any number of requests.
//
//     raw scores per member ─ normalization ─ policy ─ group policy ─▶ R ─▶ which units go      (`rows`)
//                                └ positive ─ policy ─ group policy ─▶ m ─▶ how many, by LAMP   (`ladder`)
//
// Invariant: the count of a set of linked groups is decided once, for all of them; which units fill it is decided by R
// alone, so any way to arrive at the same count gives the same choice.

/// The options that ranking depends on: the key under which a `RankedGroups` may be kept.
package struct RankingOptions: Sendable, Hashable {
  package var policy: PruningOptions.Policy
  package var normalization: PruningOptions.LayerNorm
  package var groupPolicy: PruningOptions.GroupPolicy
  package var allocation: PruningOptions.Allocation
  package var reverse: Bool

  package init(_ options: PruningOptions) {
    (policy, normalization, groupPolicy) = (options.policy, options.layerNorm, options.groupPolicy)
    (allocation, reverse) = (options.allocation, options.reverse)
  }
}

package struct RankedGroups: Sendable {
  package let options: RankingOptions
  let groups: [RankedGroup]
  /// Groups that lose the same number per block, as indices into `groups`, by their first; most have one.
  let sets: [[Int]]
  let ladder: SLAMPLadder
  /// Channels of all groups.
  let totalChannels: Int

  /// Fewer are sorted before another thread has begun.
  private static let fewCells = 2000

  /// - Parameter groups: in topological order, which decides ties between them.
  package init(_ groups: [SelectionGroup], options: RankingOptions, work: Work = Work()) throws(Failure) {
    self.options = options
    let cells = groups.reduce(0) { $0 + $1.cellCount }
    // Whoever listens for progress is told of larger things.
    let silent = Work(cancellation: work.cancellation, threads: cells < Self.fewCells ? 1 : work.threads)
    let ranked = try silent.concurrentMap(groups, cost: { Double($0.cellCount) }, naming: { _ in "" }) { group, _ in
      RankedGroup(group, options: options)
    }
    var sets: [[Int]] = []
    var setOfLink: [Int: Int] = [:]
    for (index, group) in groups.enumerated() {
      if let link = group.link, let set = setOfLink[link] {
        precondition(groups[sets[set][0]].unitCount == group.unitCount, "linked groups are equally wide")
        sets[set].append(index)
      } else {
        if let link = group.link { setOfLink[link] = sets.count }
        sets.append([index])
      }
    }
    (self.groups, self.sets) = (ranked, sets)
    ladder = SLAMPLadder(ranked, sets: sets, options: options)
    totalChannels = ranked.reduce(0) { $0 + $1.totalChannels }
  }

  /// Bytes held, for whoever keeps it.
  package var byteCount: Int {
    let words = groups.reduce(0) { $0 + $1.table.cost.count * 2 + $1.rows.reduce(0) { $0 + $1.count } }
    return words * MemoryLayout<Int>.stride + ladder.byteCount
  }

  /// The selection that removes `counts[s]` units per block from the groups of set s.
  func selection(counts: [Int], requested: [Int]) -> Selection {
    var selected = [Selection.Group](
      repeating: Selection.Group(removed: [], count: 0, requestedCount: 0, ratio: 0), count: groups.count)
    var removedChannels = 0
    for (set, members) in sets.enumerated() {
      for member in members {
        let (group, count) = (groups[member], counts[set])
        let (removed, channels) = group.removal(count: count)
        removedChannels += channels
        selected[member] = Selection.Group(
          removed: removed, count: count, requestedCount: requested[set], ratio: group.ratio(count: count))
      }
    }
    return Selection(groups: selected, removedChannels: removedChannels, totalChannels: totalChannels)
  }

  /// The most units per block that every group of a set can lose.
  func limit(ofSet set: Int) -> Int { sets[set].map { groups[$0].limit }.min() ?? 0 }

  func width(ofSet set: Int) -> Int { groups[sets[set][0]].table.width }

  /// Whether units of the set are taken from several blocks at once.
  func hasBlocks(_ set: Int) -> Bool { sets[set].contains { groups[$0].hasBlocks } }
}

/// One group, ranked.
struct RankedGroup: Sendable {
  let table: UnitTable
  /// Per row of the table, its removable units in the order they go, by the ranking score R.
  let rows: [[Int]]
  /// What LAMP, or the allocation by score, compares across groups: a magnitude m or R itself, per unit.
  let magnitudes: [Double]
  let limit: Int
  let totalChannels: Int
  let hasBlocks: Bool
  private let marks: CountMarks?
  private let blocks: Int
  private let blockWidth: Int

  init(_ group: SelectionGroup, options: RankingOptions) {
    let table = UnitTable(group, policy: options.groupPolicy)
    func unitScores(_ normalization: PruningOptions.LayerNorm) -> [Double] {
      let cells = options.policy.combined(group.members, normalization: normalization)
      return table.scores(
        ofCells: cells.isEmpty ? [Double](repeating: 0, count: group.cellCount) : cells, policy: options.groupPolicy)
    }
    let ranking = unitScores(options.normalization)
    let compared = options.allocation == .score ? options.normalization : options.normalization.positive
    magnitudes = compared == options.normalization ? ranking : unitScores(compared)
    rows = (0..<table.rows).map { row in
      removalOrder(
        of: table.units(inRow: row).lazy.filter { table.removable[$0] }, by: ranking, reversed: options.reverse)
    }
    let marked = table.removable.indices.lazy.filter { table.removable[$0] }
    marks =
      table.rows > 1 && options.groupPolicy == .count
      ? CountMarks(table, order: removalOrder(of: marked, by: ranking)) : nil
    (self.table, limit, totalChannels) = (table, table.limit, table.cost.reduce(0, +))
    (blocks, blockWidth) = (group.blocks, group.width)
    hasBlocks = group.blocks > 1 && !group.removesWholeBlocks
  }

  /// Units per block that a manual ratio calls for.
  func count(ratio: Double) -> Int { marks?.count(ratio: ratio) ?? table.width.share(ratio) }

  /// What a setting's share calls for: what it says is marked, as long as that still is what takes this share away.
  func ratio(removing share: Double, marked: Double?) -> Double {
    guard let marked, Double(count(ratio: marked)) / Double(table.width) == share else { return share }
    return marked
  }

  /// The ratio that calls for so many units per block.
  func ratio(count: Int) -> Double { marks?.ratio(count: count) ?? Double(count) / Double(table.width) }

  /// The cells that go when every block loses `count` units, ascending, and the channels they stand for.
  func removal(count: Int) -> (cells: [Int], channels: Int) {
    guard count > 0 else { return ([], 0) }
    var isRemoved = [Bool](repeating: false, count: blocks * blockWidth)
    var (cells, channels) = (0, 0)
    for row in rows {
      for unit in row.prefix(count) {
        channels += table.cost[unit]
        table.forEachCell(ofUnit: unit, blocks: blocks, blockWidth: blockWidth) {
          isRemoved[$0] = true
          cells += 1
        }
      }
    }
    var removed: [Int] = []
    removed.reserveCapacity(cells)
    for cell in isRemoved.indices where isRemoved[cell] { removed.append(cell) }
    return (removed, channels)
  }
}
