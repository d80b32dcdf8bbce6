import ModelGraph

// From a ratio the caller states per group to the cells that go.
//
// Invariant: never more than asked, except where rounding down to a step asks for it. A ratio of 1 keeps what the
// minimum and the step want, and one unit at the least.

extension RankedGroups {
  /// Removes the share `ratios[g]` of the units of group g: floor(ratio * n) per block, or under group policy `count`
  /// the fewest marks any block gets when floor(ratio * G * n) cells are marked; then alignment and minimum.
  ///
  /// - Parameter ratios: per group, 0...1; nil where nothing is said, which removes nothing unless a linked group says
  ///   otherwise. Linked groups lose the smallest number any of their ratios calls for.
  /// - Throws: `invalidParams` for alignment options out of range.
  package func selecting(ratios: [Double?], options: PruningOptions) throws(Failure) -> Selection {
    precondition(ratios.count == groups.count, "one ratio per group")
    precondition(RankingOptions(options) == self.options, "ranked under other options")
    let requested = sets.map { set in
      set.compactMap { group in ratios[group].map(groups[group].count(ratio:)) }.min() ?? 0
    }
    return try aligned(requested, options: options)
  }

  /// The selection of so many units per block of every set, after alignment.
  func aligned(_ requested: [Int], options: PruningOptions) throws(Failure) -> Selection {
    let alignment = try ChannelAlignment(options)
    return selection(
      counts: requested.indices.map { aligned(requested[$0], ofSet: $0, alignment) }, requested: requested)
  }

  func aligned(_ requested: Int, ofSet set: Int, _ alignment: ChannelAlignment) -> Int {
    alignment.removed(
      of: width(ofSet: set), requested: requested, limit: limit(ofSet: set), isBlock: hasBlocks(set))
  }
}
