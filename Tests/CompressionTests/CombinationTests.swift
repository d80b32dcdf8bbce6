import Compression
import ModelGraph
import TestSupport
import Testing

// Every criterion with every combination of options, on a residual network with group convolutions and on a
// transformer: it runs, gives the same twice, keeps blocks balanced, steps and minima kept, nothing empty; and sizes
// are met.

private struct Setting: Sendable, CustomTestStringConvertible {
  let method: CompressionMethod
  let policy: PruningOptions.Policy
  let axis: PruningOptions.ReshapeChannelAxis
  var testDescription: String { "\(method.rawValue) \(policy.rawValue) \(axis.rawValue)" }
}

private let settings: [Setting] = CompressionMethod.allCases.filter(\.isCriterion).flatMap { method in
  PruningOptions.Policy.allCases.flatMap { policy in
    PruningOptions.ReshapeChannelAxis.allCases.map { Setting(method: method, policy: policy, axis: $0) }
  }
}

/// Per group of the coupling, its cells that a plan removes.
private func removedCells(_ planned: PlannedCompression, _ coupling: ChannelCoupling, _ graph: Graph) -> [[Int]] {
  var classes: Set<Int32> = []
  for origin in coupling.analysis.stored.origins {
    for slice in planned.plan.slices where slice.value == origin.value {
      guard let axis = slice.axes.first(where: { $0.axis == origin.axis }),
        let length = graph[origin.value].tensor?.shape[origin.axis],
        case .indices(let kept) = axis.kept, origin.range.count == length
      else { continue }
      let stays = Set(kept)
      for index in 0..<length where !stays.contains(index) {
        classes.insert(coupling.classOf[Int(origin.range.lowerBound) + index])
      }
    }
  }
  return coupling.groups.map { group in group.cells.indices.filter { classes.contains(group.cells[$0]) } }
}

@Suite("Combinations") struct CombinationTests {
  @Test("Every combination runs, is deterministic and keeps its constraints", arguments: settings)
  private func everyCombination(setting: Setting) throws {
    for graph in [residualNetwork(), transformer()] {
      let (model, other) = (
        try CompressibleModel(graph: graph, sizeBytes: 100_000), try CompressibleModel(graph: graph, sizeBytes: 100_000)
      )
      for norm in PruningOptions.LayerNorm.allCases {
        for groupPolicy in PruningOptions.GroupPolicy.allCases {
          var options = PruningOptions()
          (options.policy, options.layerNorm, options.groupPolicy) = (setting.policy, norm, groupPolicy)
          options.reshapeChannelAxis = setting.axis
          try check(model, other, setting.method, options, "\(norm.rawValue) \(groupPolicy.rawValue)")
        }
      }
    }
  }

  private func check(
    _ model: CompressibleModel, _ other: CompressibleModel, _ method: CompressionMethod, _ options: PruningOptions,
    _ comment: Comment
  ) throws {
    let maps = SyntheticMaps(model)
    func request(_ choice: CompressionRequest.Choice) -> CompressionRequest {
      CompressionRequest(method: method, choice: choice, options: options, maps: maps)
    }
    let recommended = try model.recommend(
      RecommendationRequest(
        method: method, recommendation: .slamp, goal: .ratio(0.5), options: options, maps: maps), work: Work())
    let planned = try model.plan(request(.recommended(.slamp, .ratio(0.5))), work: Work())
    let again = try other.plan(request(.recommended(.slamp, .ratio(0.5))), work: Work())
    let byHand = try model.plan(request(.layers(recommended.availableLayers)), work: Work())
    #expect(planned.plan.slices == again.plan.slices && planned.plan.slices == byHand.plan.slices, comment)
    #expect(planned.layers == recommended.availableLayers, comment)
    #expect(planned.compressed == recommended.compressed && planned.compressed.parameters < planned.original.parameters)
    // What rounding to steps adds is less than half a step per block of a group.
    let achieved = try #require(recommended.achievedRatio)
    #expect(achieved > 0 && achieved < 0.6, comment)

    let coupling = try model.coupling(CouplingOptions(prunesBlocks: options.reshapeChannelAxis.prunesBlocks), Work())
    for (group, removed) in zip(coupling.groups, removedCells(planned, coupling, model.graph)) where !removed.isEmpty {
      let counts = (0..<group.blocks).map { block in removed.count { $0 / group.width == block } }
      #expect(Set(counts).count == 1, "\(group.name): blocks lose equally many, \(counts)")
      let kept = group.width - counts[0]
      #expect(kept >= min(options.minNumOfValue, group.blocks > 1 ? (group.width + 1) / 2 : group.width))
      #expect(kept > 0 && kept % options.stepSize == 0, "\(group.name) keeps \(kept)")
      if options.groupPolicy == .sum || options.groupPolicy == .average {
        #expect(Set(removed.map { $0 % group.width }).count == counts[0], "\(group.name): the same in all blocks")
      }
    }
  }

  @Test("PR_ID with a recommendation is refused") func refused() throws {
    let model = try CompressibleModel(graph: residualNetwork(), sizeBytes: 100_000)
    for goal in [RecommendationGoal.ratio(0.5), .size(.macs, share: 0.5)] {
      let failure = try #require(throws: Failure.self) {
        try model.recommend(
          RecommendationRequest(method: .indices, recommendation: .slamp, goal: goal, options: PruningOptions()),
          work: Work())
      }
      #expect(failure.kind == .invalidCombination)
    }
  }
}

@Suite("Sizes to reach") struct SizeTargetTests {
  private func recommend(
    _ model: CompressibleModel, _ measure: ModelSize.Measure, _ share: Double, _ options: PruningOptions
  ) throws -> Recommendation {
    try model.recommend(
      RecommendationRequest(
        method: .l2, recommendation: .slamp, goal: .size(measure, share: share), options: options), work: Work())
  }

  /// Layers wide enough that a percent is more than a channel.
  private func wideNetwork() throws -> CompressibleModel {
    let g = GraphBuilder()
    var x = g("Relu", g.conv(g.input("x", [1, 3, 8, 8]), 3, 64, "stem"))
    for (k, width) in [128, 192, 96, 256].enumerated() {
      let inner = g("Relu", g.conv(x, 64, width, "a\(k)"))
      x = g("Relu", g("Add", x, g.conv(inner, width, 64, "b\(k)")))
    }
    g.output(g.conv(x, 64, 5, "head"))
    return try CompressibleModel(graph: g.build(), sizeBytes: 4 * 100_000)
  }

  @Test("Met within a percent from below", arguments: ModelSize.Measure.allCases, PruningOptions.Scope.allCases)
  func met(measure: ModelSize.Measure, scope: PruningOptions.Scope) throws {
    let model = try wideNetwork()
    var options = PruningOptions()
    (options.scope, options.minNumOfValue) = (scope, 2)
    for percent in stride(from: 20, through: 95, by: 5) where measure != .sizeBytes || percent >= 55 {
      let share = Double(percent) / 100
      let found = try recommend(model, measure, share, options)
      let achieved = Double(found.compressed[measure]) / Double(found.original[measure])
      #expect(achieved <= share && achieved >= 0.99 * share, "\(measure.rawValue) \(share): \(achieved)")
      for layer in found.availableLayers {
        guard case .ratio(let ratio) = layer.values else { continue }
        let kept = Double(layer.channels[0]) * (1 - ratio)
        #expect(abs(kept / 2 - (kept / 2).rounded()) < 1e-9, "\(layer)")
      }
      let planned = try model.plan(
        CompressionRequest(
          method: .l2, choice: .recommended(.slamp, .size(measure, share: share)), options: options), work: Work())
      #expect(planned.compressed == found.compressed && planned.layers == found.availableLayers)
    }
  }

  @Test("Met, or the closest that can be reached is named and can be asked for", arguments: ModelSize.Measure.allCases)
  func closest(measure: ModelSize.Measure) throws {
    for graph in [residualNetwork(), transformer()] {
      let model = try CompressibleModel(graph: graph, sizeBytes: 100_000)
      for percent in stride(from: 5, through: 95, by: 5) {
        let share = Double(percent) / 100
        do {
          let found = try recommend(model, measure, share, PruningOptions())
          let achieved = Double(found.compressed[measure]) / Double(found.original[measure])
          #expect(achieved <= share && achieved >= 0.99 * share)
        } catch let failure as Failure {
          #expect(failure.kind == .targetUnreachable)
          guard case .double(let closest) = failure.details["closest"] else {
            Issue.record("no closest share")
            continue
          }
          #expect(closest > share || closest < 0.99 * share)
          // Nothing smaller can be had: that much can.
          if closest > share, closest < 1 { _ = try recommend(model, measure, closest, PruningOptions()) }
        }
      }
    }
  }

  @Test("Shares that are none", arguments: [0, 1, -0.5, 1.5, .nan]) func range(share: Double) throws {
    let failure = try #require(throws: Failure.self) {
      try recommend(try wideNetwork(), .macs, share, PruningOptions())
    }
    #expect(failure.kind == .invalidParams && failure.details["path"] == .string("/target/macs"))
  }

  @Test("A cancelled search stops") func cancelled() throws {
    let model = try wideNetwork()
    _ = try recommend(model, .macs, 0.5, PruningOptions())
    let flag = CancellationFlag()
    flag.set()
    #expect {
      try model.recommend(
        RecommendationRequest(
          method: .l2, recommendation: .slamp, goal: .size(.macs, share: 0.5), options: PruningOptions()),
        work: Work(cancellation: flag))
    } throws: {
      ($0 as? Failure)?.kind == .cancelled
    }
  }
}
