import Compression
import ModelGraph
import TestSupport
import Testing

// What must hold of every selection, over random groups and options: blocks and linked groups in step, limits kept, and
// the recommendation replayable by hand.

/// A random model: ordinary, tied, whole-block and linked groups, with fixed cells, partial members, ties and weights.
private struct RandomModel {
  var groups: [SelectionGroup] = []
  var options = PruningOptions()
  var ratio: Double

  init(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
    options.policy = PruningOptions.Policy.allCases.randomElement(using: &random)!
    options.layerNorm = PruningOptions.LayerNorm.allCases.randomElement(using: &random)!
    options.groupPolicy = PruningOptions.GroupPolicy.allCases.randomElement(using: &random)!
    options.stepOp = PruningOptions.StepOp.allCases.randomElement(using: &random)!
    options.scope = PruningOptions.Scope.allCases.randomElement(using: &random)!
    options.allocation = PruningOptions.Allocation.allCases.randomElement(using: &random)!
    options.stepSize = [1, 2, 3, 8, 1000].randomElement(using: &random)!
    options.minNumOfValue = [0, 1, 4, 8, 30].randomElement(using: &random)!
    options.maxLayerRatio = [1, 1, 0.5, 0.29, 0].randomElement(using: &random)!
    options.reverse = chance(25)
    ratio = Double.random(in: 0.01...0.99, using: &random)
    let ties = chance(30)
    for index in 0..<Int.random(in: 1...6, using: &random) {
      let previous = groups.last
      let linked = index > 0 && chance(30)
      let whole = chance(15)
      let blocks = chance(50) ? 1 : Int.random(in: 1...5, using: &random)
      let width = Int.random(in: 1...40, using: &random)
      let units = linked ? previous!.unitCount : whole ? blocks : width
      let (b, w) = whole ? (units, width) : (blocks, units)
      let members = (0..<Int.random(in: 0...3, using: &random)).map { _ in
        let scale = Double.random(in: 0.1...100, using: &random)
        let scores = (0..<b * w).map { _ in
          ties ? Double(Int.random(in: 0...3, using: &random)) : scale * Double.random(in: 0...1, using: &random)
        }
        return MemberScores(scores, covers: chance(20) ? scores.map { _ in chance(70) } : nil)
      }
      var group = SelectionGroup(blocks: b, width: w, members: members, removesWholeBlocks: whole)
      if chance(25) { group.removable = (0..<b * w).map { _ in chance(80) } }
      if chance(25) { group.weights = (0..<b * w).map { _ in Int.random(in: 1...3, using: &random) } }
      if linked {
        let link = previous!.link ?? 100 + index
        groups[index - 1].link = link
        group.link = link
      }
      groups.append(group)
    }
  }
}

@Suite struct RecommendationProperties {
  static let seeds = Array<UInt64>(0..<3000)

  private func checked(_ body: (RandomModel, RankedGroups, Selection, UInt64) throws -> Void) throws {
    for seed in Self.seeds {
      let model = RandomModel(seed: seed)
      let ranked = try RankedGroups(model.groups, options: RankingOptions(model.options))
      try body(model, ranked, try ranked.recommending(ratio: model.ratio, options: model.options), seed)
    }
  }

  @Test func everySelectionIsLegal() throws {
    try checked { model, _, selection, seed in
      let options = model.options
      #expect(selection.groups.count == model.groups.count)
      var removedChannels = 0
      for (group, found) in zip(model.groups, selection.groups) {
        let n = group.unitCount
        let perBlock = group.removesWholeBlocks ? group.width : 1
        #expect(found.removed == found.removed.sorted() && Set(found.removed).count == found.removed.count)
        #expect(found.count < n, "a group is never emptied, seed \(seed)")
        #expect(Double(found.count) <= options.maxLayerRatio * Double(n) + 1e-9)
        for cell in found.removed {
          #expect(group.removable?[cell] ?? true, "fixed cells stay, seed \(seed)")
          #expect(group.members.contains { $0.covers?[cell] ?? true }, "nobody voted on it, seed \(seed)")
        }
        if group.removesWholeBlocks {
          #expect(found.removed.count == found.count * perBlock)
          #expect(Set(found.removed.map { $0 / group.width }).count == found.count)
        } else {
          for block in 0..<group.blocks {
            #expect(found.removed.count { $0 / group.width == block } == found.count, "seed \(seed)")
          }
          if options.groupPolicy == .sum || options.groupPolicy == .average {
            #expect(Set(found.removed.map { $0 % group.width }).count == found.count, "seed \(seed)")
          }
        }
        if found.count > 0 {
          let kept = n - found.count
          // Narrow blocks keep half, or their layers would keep everything.
          let mates = group.link.map { link in model.groups.filter { $0.link == link } } ?? [group]
          let inBlocks = mates.contains { $0.blocks > 1 && !$0.removesWholeBlocks }
          #expect(kept >= min(options.minNumOfValue, inBlocks ? (n + 1) / 2 : n), "seed \(seed)")
          if options.stepOp != .none { #expect(kept % options.stepSize == 0, "seed \(seed)") }
        }
        removedChannels += found.removed.reduce(0) { $0 + (group.weights?[$1] ?? 1) }
      }
      #expect(selection.removedChannels == removedChannels)
      #expect(selection.totalChannels == model.groups.reduce(0) { $0 + ($1.weights?.reduce(0, +) ?? $1.cellCount) })
      for (group, found) in zip(model.groups, selection.groups) where group.link != nil {
        for (other, peer) in zip(model.groups, selection.groups) where other.link == group.link {
          #expect(found.count == peer.count, "linked groups lose alike, seed \(seed)")
        }
      }
    }
  }

  @Test func theRecommendedRatiosGiveTheSameSelectionByHand() throws {
    try checked { model, ranked, selection, seed in
      let byHand = try ranked.selecting(ratios: selection.groups.map(\.ratio), options: model.options)
      #expect(byHand.groups.map(\.removed) == selection.groups.map(\.removed), "seed \(seed)")
      #expect(byHand.groups.map(\.count) == selection.groups.map(\.count))
      #expect(byHand.groups.map(\.ratio) == selection.groups.map(\.ratio))
      for (group, found) in zip(model.groups, selection.groups) {
        let quotient = Double(found.count) / Double(group.unitCount)
        #expect(found.ratio == quotient || (model.options.groupPolicy == .count && found.ratio > quotient))
      }
    }
  }

  @Test func withoutConstraintsTheBudgetIsNeverExceeded() throws {
    for seed in Self.seeds {
      var model = RandomModel(seed: seed)
      (model.options.stepOp, model.options.minNumOfValue, model.options.scope) = (.none, 1, .global)
      // Under `count` the cells that are marked need not be those that go: the same budget if they weigh alike.
      if model.options.groupPolicy == .count {
        for index in model.groups.indices { model.groups[index].weights = nil }
      }
      let found = try recommended(model.groups, ratio: model.ratio, model.options)
      #expect(Double(found.removedChannels) <= model.ratio * Double(found.totalChannels) + 1e-9, "seed \(seed)")
    }
  }

  @Test func rescalingALayerChangesNothingUnderLAMP() throws {
    for seed in Self.seeds {
      var model = RandomModel(seed: seed)
      (model.options.allocation, model.options.layerNorm) = (.lamp, .none)
      for index in model.groups.indices { model.groups[index].members = Array(model.groups[index].members.prefix(1)) }
      let before = try recommended(model.groups, ratio: model.ratio, model.options)
      for index in model.groups.indices where !model.groups[index].members.isEmpty {
        let factor = Double(sign: .plus, exponent: Int(seed % 60) - 30 + 7 * index, significand: 1)
        model.groups[index].members[0].scores = model.groups[index].members[0].scores.map { $0 * factor }
      }
      #expect(try recommended(model.groups, ratio: model.ratio, model.options) == before, "seed \(seed)")
    }
  }

  @Test func moreRatioNeverRemovesLessUnderLAMPWithoutConstraints() throws {
    for seed in Self.seeds.prefix(300) {
      var model = RandomModel(seed: seed)
      (model.options.stepOp, model.options.minNumOfValue) = (.none, 1)
      for index in model.groups.indices { model.groups[index].weights = nil }
      let ranked = try RankedGroups(model.groups, options: RankingOptions(model.options))
      var last = 0
      for percent in stride(from: 5, to: 100, by: 5) where model.groups.allSatisfy({ $0.blocks == 1 }) {
        let found = try ranked.recommending(ratio: Double(percent) / 100, options: model.options)
        let linked = model.groups.contains { $0.link != nil }
        #expect(found.removedChannels >= last || linked, "seed \(seed)")
        last = found.removedChannels
      }
    }
  }
}
