import Compression
import ModelGraph
import Testing

// Examples small enough to check by hand, and the requests that are refused.

@Suite struct RecommendationExamples {
  /// Two layers, [1, 2, 2] and [10, 10, 10, 10]. Squares over tails: 1/9, 4/8, 1 and 1/4, 1/3, 1/2, 1. Three of seven
  /// channels: 1/9, 1/4, 1/3.
  @Test func aBudgetGoesWhereRelativeDistortionIsLeast() throws {
    let groups = plainGroups([[2, 1, 2], [10, 10, 10, 10]])
    let found = try recommended(groups, ratio: 0.5, plainOptions())
    #expect(found.groups.map(\.removed) == [[1], [0, 1]])
    #expect(found.groups.map(\.ratio) == [1.0 / 3, 0.5])
    #expect(found.achievedRatio == 3.0 / 7)
  }

  /// At the tie of 4/8 and 1/2 the earlier group gives.
  @Test func tiesGoByGroupThenIndex() throws {
    let groups = plainGroups([[2, 1, 2], [10, 10, 10, 10]])
    let found = try recommended(groups, ratio: 0.58, plainOptions())
    #expect(found.groups.map(\.removed) == [[0, 1], [0, 1]])
  }

  @Test func everyGroupKeepsOneUnitWhateverIsAsked() throws {
    let groups = plainGroups([[0, 0, 0], [5], [1, 2]])
    let found = try recommended(groups, ratio: 0.99, plainOptions())
    #expect(found.groups.map(\.removed) == [[0, 1], [], [0]])
    let byHand = try selected(groups, ratios: [1, 1, 1], plainOptions())
    #expect(byHand.groups.map(\.removed) == [[0, 1], [], [0]])
    #expect(byHand.groups.map(\.requestedCount) == [3, 1, 2])
  }

  @Test func reverseRemovesTheHighestAndTheLowerIndexOfEquals() throws {
    let groups = plainGroups([[3, 1, 3, 2]])
    let options = plainOptions { $0.reverse = true }
    #expect(try selected(groups, ratios: [0.25], options).groups[0].removed == [0])
    #expect(try selected(groups, ratios: [0.5], options).groups[0].removed == [0, 2])
    #expect(try selected(groups, ratios: [0.75], options).groups[0].removed == [0, 2, 3])
  }

  @Test func reverseLeavesCountsAlone() throws {
    let groups = plainGroups([[2, 1, 2], [10, 10, 10, 10], [0, 7, 0.1, 3]])
    for percent in 1...99 {
      let ratio = Double(percent) / 100
      let counts = try recommended(groups, ratio: ratio, plainOptions()).groups.map(\.count)
      let reversed = try recommended(groups, ratio: ratio, plainOptions { $0.reverse = true })
      #expect(reversed.groups.map(\.count) == counts)
    }
  }

  /// The epsilon of the quotient: 0.29 * 100 is 28.999999999999996.
  @Test func ratiosAreReadAsWritten() throws {
    let group = plainGroups([(0..<100).map(Double.init)])
    #expect(try selected(group, ratios: [0.29], plainOptions()).groups[0].count == 29)
    #expect(try selected(group, ratios: [0.2999], plainOptions()).groups[0].count == 29)
    #expect(try selected(group, ratios: [.nan], plainOptions()).groups[0].count == 0)
  }

  /// Blocks [1, 9] and [8, 2]: together 9 and 11, alone the first of one and the second of the other.
  @Test func blocksChooseTogetherOrAlone() throws {
    let group = SelectionGroup(blocks: 2, width: 2, members: [MemberScores([1, 9, 8, 2])])
    func removed(_ policy: PruningOptions.GroupPolicy) throws -> [Int] {
      try selected([group], ratios: [0.5], plainOptions { $0.groupPolicy = policy }).groups[0].removed
    }
    #expect(try removed(.sum) == [0, 2])
    #expect(try removed(.average) == [0, 2])
    #expect(try removed(.none) == [0, 3])
    #expect(try removed(.count) == [0, 3])
  }

  /// Marks 1, 2, 3 fall on the first block only until 4: the recommended ratio says how many marks it takes.
  @Test func countSaysWhichRatioReproducesIt() throws {
    let group = SelectionGroup(blocks: 2, width: 4, members: [MemberScores([1, 2, 3, 7, 4, 5, 6, 8])])
    let options = plainOptions { $0.groupPolicy = .count }
    #expect(try selected([group], ratios: [0.4], options).groups[0].count == 0)
    let found = try selected([group], ratios: [0.5], options).groups[0]
    #expect(found.removed == [0, 4] && found.ratio == 0.5)
    #expect(try selected([group], ratios: [0.6], options).groups[0].ratio == 0.5)
  }

  /// The last cell of a group is not marked, so that its share of the budget is left to others.
  @Test func countMarksNoGroupEmpty() throws {
    let tied = SelectionGroup(blocks: 2, width: 1, members: [MemberScores([0, 0])])
    let found = try recommended(
      [tied] + plainGroups([[5, 5, 5, 5]]), ratio: 0.34, plainOptions { $0.groupPolicy = .count })
    #expect(found.groups.map(\.removed) == [[], [0]])
  }

  /// A head is scored by the mean of its dimensions and goes whole.
  @Test func wholeBlocks() throws {
    let group = SelectionGroup(
      blocks: 3, width: 2, members: [MemberScores([9, 1, 3, 3, 8, 0])], removesWholeBlocks: true)
    let found = try selected([group], ratios: [0.7], plainOptions()).groups[0]
    #expect(found.removed == [2, 3, 4, 5] && found.count == 2 && found.ratio == 2.0 / 3)
  }

  @Test func linkedGroupsFollowTheSmallestRatioAndEachOther() throws {
    let groups = [3, 3, nil].map { SelectionGroup(width: 4, members: [MemberScores([4, 3, 2, 1])], link: $0) }
    let found = try selected(groups, ratios: [0.75, 0.5, 0.25], plainOptions())
    #expect(found.groups.map(\.count) == [2, 2, 1])
    #expect(try selected(groups, ratios: [nil, 0.5, nil], plainOptions()).groups.map(\.count) == [2, 2, 0])
  }

  /// A linked pair moves as one: its step costs two channels, and neither goes when only one fits.
  @Test func aLinkedStepIsPaidForWhole() throws {
    let pair = [1, 1].map { SelectionGroup(width: 3, members: [MemberScores([1, 1, 1])], link: $0) }
    #expect(try recommended(pair, ratio: 0.2, plainOptions()).removedChannels == 0)
    #expect(try recommended(pair, ratio: 0.4, plainOptions()).groups.map(\.removed) == [[0], [0]])
  }

  /// Equal magnitudes: a step of four blocks of two scores 1/2 and 1, eight channels 1/8 and up. Per channel the step
  /// is at 1/8 too, and comes first, its group being the earlier one.
  @Test func stepsOfManyBlocksMayCompeteByChannel() throws {
    let groups =
      [SelectionGroup(blocks: 4, width: 2, members: [MemberScores([Double](repeating: 1, count: 8))])]
      + plainGroups([[Double](repeating: 1, count: 8)])
    let found = try recommended(groups, ratio: 0.4, plainOptions())
    #expect(found.groups.map(\.count) == [0, 6])
    let perChannel = try recommended(groups, ratio: 0.4, plainOptions { $0.allocation = .lampPerChannel })
    #expect(perChannel.groups.map(\.count) == [1, 2])
  }

  @Test func fixedCellsStayAndCountAsKept() throws {
    let group = SelectionGroup(
      width: 4, members: [MemberScores([1, 2, 3, 4])], removable: [false, true, false, true])
    #expect(try selected([group], ratios: [0.9], plainOptions()).groups[0].removed == [1, 3])
    // Rounding down to 2 kept would take three; only two may go.
    let down = plainOptions { ($0.stepSize, $0.stepOp) = (3, .roundDown) }
    #expect(try selected([group], ratios: [0.5], down).groups[0].removed == [1])
  }

  /// Standard scores within a member, so a layer with large weights does not outvote the other.
  @Test func membersAreNormalizedBeforeTheyAreCombined() throws {
    let group = SelectionGroup(width: 3, members: [MemberScores([1, 2, 3]), MemberScores([300, 200, 250])])
    let options = plainOptions { $0.layerNorm = .standardScore }
    #expect(try selected([group], ratios: [0.34], options).groups[0].removed == [1])
    #expect(try selected([group], ratios: [0.34], plainOptions()).groups[0].removed == [1])
    let large = SelectionGroup(width: 3, members: [MemberScores([1, 2, 3]), MemberScores([300, 210, 200])])
    #expect(try selected([large], ratios: [0.34], options).groups[0].removed == [1])
    #expect(try selected([large], ratios: [0.34], plainOptions()).groups[0].removed == [2])
  }

  /// Two producers of a Concat vote on their own halves only.
  @Test func aCellIsJudgedByThoseWhoProduceIt() throws {
    let half = [true, true, false, false]
    let group = SelectionGroup(
      width: 4,
      members: [
        MemberScores([2, 8, 0, 0], covers: half), MemberScores([0, 0, 9, 1], covers: half.map { !$0 }),
        MemberScores([5, 5, 5, 5]),
      ])
    #expect(try selected([group], ratios: [0.5], plainOptions()).groups[0].removed == [0, 3])
    let unvoted = SelectionGroup(width: 4, members: [MemberScores([2, 8, 0, 0], covers: half)])
    #expect(try selected([unvoted], ratios: [0.9], plainOptions()).groups[0].removed == [0, 1])
  }

  @Test func noGroupLosesMoreThanTheLargestRatio() throws {
    let groups = plainGroups([(1...10).map { Double($0) * 1e-3 }, [1, 1, 1, 1]])
    let found = try recommended(groups, ratio: 0.5, plainOptions { $0.maxLayerRatio = 0.45 })
    #expect(found.groups.map(\.count) == [4, 1])
  }

  @Test func extremeScoresStayComparable() throws {
    #expect(slampScores([0, .infinity, .infinity]) == [0, 0.5, 1])
    let largest = Double.greatestFiniteMagnitude
    for norm in PruningOptions.LayerNorm.allCases {
      for allocation in PruningOptions.Allocation.allCases {
        let groups = [
          SelectionGroup(
            width: 3, members: [MemberScores([largest, 0, largest / 2]), MemberScores([largest, 0, largest])]),
          SelectionGroup(blocks: 2, width: 2, members: [MemberScores([largest, .leastNonzeroMagnitude, largest, 0])]),
        ]
        for policy in PruningOptions.GroupPolicy.allCases {
          let options = plainOptions {
            ($0.layerNorm, $0.allocation, $0.policy, $0.groupPolicy) = (norm, allocation, .sum, policy)
          }
          let ranked = try RankedGroups(groups, options: RankingOptions(options))
          let found = try ranked.recommending(ratio: 0.15, options: options)
          #expect(found.groups.map(\.removed) == [[1], []], "\(norm) \(allocation) \(policy)")
          #expect(try ranked.selecting(ratios: [0.4, nil], options: options).groups[0].removed == [1])
        }
        #expect(norm.normalized([largest, 0, largest / 2]).allSatisfy { $0.isFinite })
      }
    }
  }

  @Test func noGroupsAtAll() throws {
    let found = try recommended([], ratio: 0.5, PruningOptions())
    #expect(found.groups.isEmpty && found.totalChannels == 0)
    #expect(found.achievedRatio == 0)
  }

  @Test(arguments: [0, 1, -0.1, 1.5, .nan, .infinity])
  func ratiosOutOfRange(ratio: Double) {
    #expect { try recommended(plainGroups([[1, 2]]), ratio: ratio, PruningOptions()) } throws: {
      ($0 as? Failure)?.details["path"] == .string("/recommendation_ratio")
    }
  }

  @Test func optionsOutOfRange() {
    let cases: [(String, (inout PruningOptions) -> Void)] = [
      ("step_size", { $0.stepSize = 0 }), ("step_size", { $0.stepSize = -8 }),
      ("min_num_of_value", { $0.minNumOfValue = -1 }), ("max_layer_ratio", { $0.maxLayerRatio = 1.1 }),
      ("max_layer_ratio", { $0.maxLayerRatio = .nan }),
    ]
    for (name, change) in cases {
      let options = plainOptions(change)
      #expect { try recommended(plainGroups([[1, 2]]), ratio: 0.5, options) } throws: {
        ($0 as? Failure)?.kind == .invalidParams && ($0 as? Failure)?.details["path"] == .string("/options/\(name)")
      }
    }
  }

  @Test func enormousOptionsDoNotOverflow() throws {
    let options = plainOptions { ($0.stepSize, $0.stepOp, $0.minNumOfValue) = (.max, .roundUp, .max) }
    for op in PruningOptions.StepOp.allCases {
      var options = options
      options.stepOp = op
      #expect(try selected(plainGroups([[1, 2, 3]]), ratios: [0.7], options).groups[0].removed == [])
    }
  }
}
