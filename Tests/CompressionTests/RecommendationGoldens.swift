import Compression
import Foundation
import ModelGraph
import Testing

// Reference answers for the choice of channels, in Golden/: computed by direct textbook formulas in double precision
// from the inputs that the same files hold. Scores agree to 1e-9 relative, counts and indices exactly.

/// Reads one of the files in Golden/ as `Contents`.
func golden<Contents: Decodable>(_ name: String, as type: Contents.Type = Contents.self) throws -> Contents {
  let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Golden")
  return try JSONDecoder().decode(type, from: Data(contentsOf: folder.appendingPathComponent(name)))
}

func isClose(_ found: [Double], _ expected: [Double], relative tolerance: Double = 1e-9) -> Bool {
  found.count == expected.count
    && zip(found, expected).allSatisfy { abs($0 - $1) <= tolerance * max(abs($1), 1e-12) || $0 == $1 }
}

/// Options under which nothing but the ratio decides.
func plainOptions(
  _ change: (inout PruningOptions) -> Void = { _ in }
) -> PruningOptions {
  var options = PruningOptions()
  (options.layerNorm, options.stepSize, options.stepOp, options.minNumOfValue) = (.none, 1, .none, 1)
  change(&options)
  return options
}

/// Ordinary groups of one member each.
func plainGroups(_ scores: [[Double]]) -> [SelectionGroup] {
  scores.map { SelectionGroup(width: $0.count, members: [MemberScores($0)]) }
}

func recommended(_ groups: [SelectionGroup], ratio: Double, _ options: PruningOptions) throws -> Selection {
  try RankedGroups(groups, options: RankingOptions(options)).recommending(ratio: ratio, options: options)
}

func selected(_ groups: [SelectionGroup], ratios: [Double?], _ options: PruningOptions) throws -> Selection {
  try RankedGroups(groups, options: RankingOptions(options)).selecting(ratios: ratios, options: options)
}

@Suite struct RecommendationGoldens {
  @Test func layerNorm() throws {
    struct Contents: Decodable {
      struct Case: Decodable { let name: String, input: [Double], expected: [String: [Double]] }
      let cases: [Case]
    }
    for entry in try golden("layer_norm.json", as: Contents.self).cases {
      for (name, expected) in entry.expected {
        let norm = try #require(PruningOptions.LayerNorm(rawValue: name))
        // A standard score may be a difference of nearly equal numbers; 1e-12 is far below any score that counts.
        let found = norm.normalized(entry.input)
        #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 1e-9 * abs($1) + 1e-12 }, "\(entry.name) \(name)")
        #expect(found.count == expected.count)
      }
      #expect(entry.expected.count == PruningOptions.LayerNorm.allCases.count)
    }
  }

  @Test func policyOfAPublishedResidualBlock() throws {
    struct Contents: Decodable {
      struct Figure: Decodable {
        struct Inputs: Decodable { let x: [Double], g: [Double], f: [Double], join_for_backward: [Double] }
        struct Expected: Decodable {
          let coupled: [Double], inner: [Double], remove_40pct_of_coupled: [Int], global_50pct: [String: [Int]]
        }
        let inputs: Inputs, expected: [String: Expected]
      }
      let documented_figure: Figure
    }
    let figure = try golden("policy.json", as: Contents.self).documented_figure
    let (x, f) = (MemberScores(figure.inputs.x), MemberScores(figure.inputs.f))
    for policy in PruningOptions.Policy.allCases {
      // Under `backward` the joined map speaks for both.
      let members = policy == .backward ? [MemberScores(figure.inputs.join_for_backward)] : [x, f]
      let groups = [
        SelectionGroup(width: 5, members: members),
        SelectionGroup(width: 5, members: [MemberScores(figure.inputs.g)]),
      ]
      let expected = try #require(figure.expected[policy.rawValue])
      #expect(isClose(policy.combined(members, normalization: .tssNorm), expected.coupled))
      #expect(isClose(PruningOptions.LayerNorm.tssNorm.normalized(figure.inputs.g), expected.inner))
      let options = plainOptions { ($0.layerNorm, $0.policy, $0.allocation) = (.tssNorm, policy, .score) }
      let manual = try selected(groups, ratios: [0.4, nil], options)
      #expect(manual.groups.map(\.removed) == [expected.remove_40pct_of_coupled, []])
      let global = try recommended(groups, ratio: 0.5, options)
      #expect(global.groups[0].removed == expected.global_50pct["coupled"])
      #expect(global.groups[1].removed == expected.global_50pct["inner"])
    }
  }

  @Test func policyOfAResidualPair() throws {
    struct Contents: Decodable {
      struct Pair: Decodable {
        struct Expected: Decodable { let score: [Double], order: [Int] }
        let l2_a: [Double], l2_b: [Double], expected: [String: Expected]
      }
      let residual_pair: Pair
    }
    let pair = try golden("policy.json", as: Contents.self).residual_pair
    let members = [MemberScores(pair.l2_a), MemberScores(pair.l2_b)]
    for norm in PruningOptions.LayerNorm.allCases {
      for policy in [PruningOptions.Policy.sum, .average] {
        let expected = try #require(pair.expected["\(norm.rawValue)/\(policy.rawValue)"])
        let scores = policy.combined(members, normalization: norm)
        #expect(isClose(scores, expected.score), "\(norm) \(policy)")
        let options = plainOptions { ($0.layerNorm, $0.policy) = (norm, policy) }
        let group = SelectionGroup(width: 6, members: members)
        for count in 1...5 {
          let selection = try selected([group], ratios: [Double(count) / 6], options)
          #expect(selection.groups[0].removed == expected.order.prefix(count).sorted(), "\(norm) \(policy) \(count)")
        }
      }
    }
  }

  @Test func groupPolicyOfAGroupedConvolution() throws {
    struct Contents: Decodable {
      struct Grouped: Decodable {
        struct Expected: Decodable {
          let ratio: Double, group_policy: String, per_group: Int, local_indices: [[Int]], removed_channels: [Int]
        }
        let groups: Int, l2: [[Double]], expected: [Expected]
      }
      let grouped_conv: Grouped
    }
    let grouped = try golden("group_policy.json", as: Contents.self).grouped_conv
    let group = SelectionGroup(blocks: 3, width: 4, members: [MemberScores(grouped.l2.flatMap { $0 })])
    #expect(grouped.expected.count == 12)
    for expected in grouped.expected {
      let policy = try #require(PruningOptions.GroupPolicy(rawValue: expected.group_policy))
      let options = plainOptions { $0.groupPolicy = policy }
      let found = try selected([group], ratios: [expected.ratio], options).groups[0]
      #expect(found.count == expected.per_group, "\(policy) at \(expected.ratio)")
      #expect(found.removed == expected.removed_channels, "\(policy) at \(expected.ratio)")
    }
  }

  @Test func groupPolicyOfASplitAxis() throws {
    struct Contents: Decodable {
      struct Split: Decodable {
        struct Expected: Decodable {
          let reshape_channel_axis: Int, group_policy: String, ratio: Double, removed_channels: [Int]
          let new_factors: [Int]
        }
        let factors: [Int], scores: [Double], expected: [Expected]
      }
      let reshape: Split
    }
    let split = try golden("group_policy.json", as: Contents.self).reshape
    #expect(split.expected.count == 16)
    for expected in split.expected {
      let policy = try #require(PruningOptions.GroupPolicy(rawValue: expected.group_policy))
      let axis = try #require(PruningOptions.ReshapeChannelAxis(rawValue: expected.reshape_channel_axis))
      let group = SelectionGroup(
        blocks: split.factors[0], width: split.factors[1], members: [MemberScores(split.scores)],
        removesWholeBlocks: axis.prunesBlocks)
      let options = plainOptions { $0.groupPolicy = policy }
      let found = try selected([group], ratios: [expected.ratio], options).groups[0]
      #expect(found.removed == expected.removed_channels, "\(policy) on axis \(axis)")
      #expect(expected.new_factors[axis.prunesBlocks ? 0 : 1] == group.unitCount - found.count)
    }
  }

  @Test func alignment() throws {
    struct Row: Decodable {
      let (channels, ratio, stepSize, stepOp): (Int, Double, Int, String)
      let (minimum, removed, kept): (Int, Int, Int)
      init(from decoder: any Decoder) throws {
        var row = try decoder.unkeyedContainer()
        (channels, ratio) = (try row.decode(Int.self), try row.decode(Double.self))
        (stepSize, stepOp) = (try row.decode(Int.self), try row.decode(String.self))
        (minimum, removed) = (try row.decode(Int.self), try row.decode(Int.self))
        kept = try row.decode(Int.self)
      }
    }
    struct Contents: Decodable { let rows: [Row] }
    let rows = try golden("channel_alignment.json", as: Contents.self).rows
    #expect(rows.count == 768)
    for row in rows {
      let options = plainOptions {
        ($0.stepSize, $0.minNumOfValue) = (row.stepSize, row.minimum)
        $0.stepOp = PruningOptions.StepOp(rawValue: row.stepOp) ?? .none
      }
      #expect(options.stepOp.rawValue == row.stepOp)
      let group = SelectionGroup(width: row.channels, members: [MemberScores((0..<row.channels).map(Double.init))])
      let found = try selected([group], ratios: [row.ratio], options).groups[0]
      #expect(row.channels - found.count == row.kept, "\(row)")
      #expect(min(found.requestedCount, row.channels - 1) == row.removed, "\(row)")
    }
  }
}

@Suite struct SLAMPGoldens {
  struct Contents: Decodable {
    struct Layer: Decodable { let l2: [Double], lamp_l2: [Double], gm: [Double], lamp_gm: [Double] }
    struct Choice: Decodable {
      let criterion: String, scope: String, ratio: Double, total: Int, removed_total: Int
      let removed: [[Int]]?, values: [Double]?
      let step_size: Int?, step_op: String?, min_num_of_value: Int?, keep: [Int]?
    }
    struct Coupled: Decodable {
      let magnitude_coupled: [Double], magnitude_inner: [Double], lamp_coupled: [Double], lamp_inner: [Double]
      let ratio: Double, removed: [String: [Int]]
      let weight_a: [[[[Double]]]], weight_b: [[[[Double]]]], weight_inner: [[[[Double]]]]
    }
    struct Tied: Decodable {
      struct Expected: Decodable {
        let per_block: Int, local_indices: [[Int]], plain_removed: [Int], budget_left: Int
      }
      let block_magnitudes: [[Double]], plain_magnitudes: [Double], ratio: Double, budget: Int
      let expected: [String: Expected]
    }
    struct Edge: Decodable { let magnitude: [Double], expected: [Double] }
    let layers: [Layer], selections: [Choice], coupled: Coupled, tied_blocks: Tied, lamp_edge_cases: [Edge]
  }

  let contents: Contents
  init() throws { contents = try golden("slamp.json") }

  /// LAMP scores by index instead of by removal order.
  func lamp(_ magnitudes: [Double]) -> [Double] {
    let order = magnitudes.indices.sorted { (magnitudes[$0], $0) < (magnitudes[$1], $1) }
    var scores = magnitudes
    for (unit, score) in zip(order, slampScores(order.map { magnitudes[$0] })) { scores[unit] = score }
    return scores
  }

  @Test func scores() {
    for layer in contents.layers {
      #expect(isClose(lamp(layer.l2), layer.lamp_l2))
      #expect(isClose(lamp(layer.gm), layer.lamp_gm))
    }
    for edge in contents.lamp_edge_cases { #expect(isClose(lamp(edge.magnitude), edge.expected), "\(edge)") }
  }

  @Test func selections() throws {
    #expect(contents.selections.count == 29)
    for choice in contents.selections {
      let groups = plainGroups(contents.layers.map { choice.criterion == "gm" ? $0.gm : $0.l2 })
      let options = plainOptions {
        $0.scope = choice.scope == "layer" ? .layer : .global
        $0.stepSize = choice.step_size ?? 1
        $0.stepOp = choice.step_op.flatMap(PruningOptions.StepOp.init) ?? .none
        $0.minNumOfValue = choice.min_num_of_value ?? 1
      }
      let found = try recommended(groups, ratio: choice.ratio, options)
      #expect(found.totalChannels == choice.total)
      #expect(found.removedChannels == choice.removed_total, "\(choice)")
      if let removed = choice.removed { #expect(found.groups.map(\.removed) == removed, "\(choice)") }
      if let values = choice.values { #expect(isClose(found.groups.map(\.ratio), values), "\(choice)") }
      if let keep = choice.keep {
        #expect(zip(groups, found.groups).map { $0.width - $1.count } == keep, "\(choice)")
      }
    }
  }

  /// A residual group counts once: five units, whatever the number of layers that hold them.
  @Test func coupled() throws {
    let coupled = contents.coupled
    func norms(_ weight: [[[[Double]]]]) -> [Double] {
      weight.map { filter in filter.joined().joined().reduce(0) { $0 + $1 * $1 }.squareRoot() }
    }
    let members = [MemberScores(norms(coupled.weight_a)), MemberScores(norms(coupled.weight_b))]
    let inner = norms(coupled.weight_inner)
    let magnitude = PruningOptions.Policy.average.combined(members, normalization: .tssNorm)
    #expect(isClose(magnitude, coupled.magnitude_coupled))
    #expect(isClose(lamp(magnitude), coupled.lamp_coupled))
    #expect(isClose(lamp(inner), coupled.lamp_inner))
    let groups = [SelectionGroup(width: magnitude.count, members: members)] + plainGroups([inner])
    let options = plainOptions { $0.layerNorm = .tssNorm }
    let found = try recommended(groups, ratio: coupled.ratio, options)
    #expect(found.groups.map(\.removed) == [coupled.removed["coupled"], coupled.removed["inner"]])
  }

  @Test(arguments: PruningOptions.GroupPolicy.allCases)
  func tiedBlocks(policy: PruningOptions.GroupPolicy) throws {
    let tied = contents.tied_blocks
    let expected = try #require(tied.expected[policy.rawValue])
    let groups =
      [SelectionGroup(blocks: 3, width: 4, members: [MemberScores(tied.block_magnitudes.flatMap { $0 })])]
      + plainGroups([tied.plain_magnitudes])
    let found = try recommended(groups, ratio: tied.ratio, plainOptions { $0.groupPolicy = policy })
    #expect(found.groups[0].count == expected.per_block)
    #expect(found.groups[0].removed == expected.local_indices.enumerated().flatMap { q, row in row.map { q * 4 + $0 } })
    #expect(found.groups[1].removed == expected.plain_removed)
    #expect(tied.budget - found.removedChannels == expected.budget_left)
  }
}
