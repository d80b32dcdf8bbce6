// What the methods see of a coupled group: numbers only. Coupling analysis makes these, ranking reads them; neither
// knows the other.
//
// Invariant: all arrays of a group that run over its cells have `blocks * width` elements, block-major: cell (q, j)
// is element `q * width + j`.

/// A coupled group as blocks of cells; a cell is what can be removed, together with everything coupled to it.
package struct SelectionGroup: Sendable {
  /// Blocks that must all lose the same number of cells: groups of a convolution, heads. 1 for an ordinary group.
  package var blocks: Int
  /// Cells per block.
  package var width: Int
  /// The layers that vote on its cells, in topological order.
  package var members: [MemberScores]
  /// Per cell, false = must stay; nil = all may go. Cells that no member votes for stay as well.
  package var removable: [Bool]?
  /// Groups with the same link lose the same number per block; they have equally many units per block.
  package var link: Int?
  /// Per cell, how many channels it stands for when budgets are counted; nil = 1 each.
  package var weights: [Int]?
  /// The units are whole blocks instead of cells (`reshape_channel_axis` -2 or 0: heads, not their dimensions).
  package var removesWholeBlocks: Bool

  package init(
    blocks: Int = 1, width: Int, members: [MemberScores], removable: [Bool]? = nil, link: Int? = nil,
    weights: [Int]? = nil, removesWholeBlocks: Bool = false
  ) {
    let cells = blocks * width
    precondition(blocks >= 1 && width >= 1, "a group has at least one cell")
    precondition(members.allSatisfy { $0.scores.count == cells }, "a member scores every cell")
    precondition(removable.map { $0.count == cells } ?? true, "removable is per cell")
    precondition(weights.map { $0.count == cells && $0.allSatisfy { $0 >= 0 } } ?? true, "weights are per cell")
    (self.blocks, self.width, self.members) = (blocks, width, members)
    (self.removable, self.link, self.weights) = (removable, link, weights)
    self.removesWholeBlocks = removesWholeBlocks
  }

  package var cellCount: Int { blocks * width }
  /// What a ratio is a share of: units per block, or blocks where whole blocks go.
  package var unitCount: Int { removesWholeBlocks ? blocks : width }
}

/// The raw criterion scores one layer gives the cells of a group.
package struct MemberScores: Sendable {
  /// Per cell, finite.
  package var scores: [Double]
  /// Per cell, whether this layer produces it (a Concat lets a layer produce a part only); nil = all. Scores of other
  /// cells are ignored.
  package var covers: [Bool]?

  package init(_ scores: [Double], covers: [Bool]? = nil) {
    precondition(covers.map { $0.count == scores.count } ?? true, "covers is per cell")
    precondition(scores.allSatisfy(\.isFinite), "criteria report non-finite weights instead of scoring them")
    (self.scores, self.covers) = (scores, covers)
  }
}

/// The cells to remove from every group.
package struct Selection: Sendable, Equatable {
  package struct Group: Sendable, Equatable {
    /// Ascending cell indices, block-major.
    package var removed: [Int]
    /// Units removed per block, after alignment and limits.
    package var count: Int
    /// Units per block that were called for before alignment, the minimum and the limits.
    package var requestedCount: Int
    /// The ratio that, applied manually under the same options, gives the same selection: `count` over the group's
    /// units. Only under group policy `count`, where a ratio is a share of marks of which the scarcest block decides,
    /// it is the smallest share that gives `count`, and may be larger.
    package var ratio: Double

    package init(removed: [Int], count: Int, requestedCount: Int, ratio: Double) {
      (self.removed, self.count, self.requestedCount, self.ratio) = (removed, count, requestedCount, ratio)
    }
  }

  /// In the order of the groups.
  package var groups: [Group]
  /// Channels removed, by the cells' weights.
  package var removedChannels: Int
  /// Channels of all groups, removable or not.
  package var totalChannels: Int

  package init(groups: [Group], removedChannels: Int, totalChannels: Int) {
    (self.groups, self.removedChannels, self.totalChannels) = (groups, removedChannels, totalChannels)
  }

  package var achievedRatio: Double { totalChannels == 0 ? 0 : Double(removedChannels) / Double(totalChannels) }
}
