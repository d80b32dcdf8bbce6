import Compression
import ModelGraph
import TestSupport
import Testing

/// What a plan does where removed channels meet a node that cannot be rewritten.
@Suite("Places that stay whole") struct WithheldPlaceTests {
  /// How many channels `w` makes is what the model tells. A second branch has nothing to do with it.
  private func graph() -> Graph {
    let g = GraphBuilder()
    let x = g.conv(g.input("x", [1, 3, 4, 4]), 3, 16, "w")
    g.output(g.conv(x, 16, 5, "u"), g("Shape", x, name: "lengths"))
    g.output(g.conv(g.conv(g.input("z", [1, 3, 4, 4]), 3, 8, "free"), 8, 5, "t"))
    return g.build()
  }

  private var options: PruningOptions {
    var options = PruningOptions()
    (options.stepSize, options.minNumOfValue) = (1, 1)
    return options
  }

  private func plan(_ choice: CompressionRequest.Choice, _ method: CompressionMethod = .l2) throws -> PlannedCompression
  {
    let model = try CompressibleModel(graph: graph(), sizeBytes: 0)
    return try model.plan(CompressionRequest(method: method, choice: choice, options: options), work: Work())
  }

  @Test("A recommendation leaves them whole, says so, and prunes the rest")
  func recommended() throws {
    let planned = try plan(.recommended(.slamp, .ratio(0.4)))
    #expect(planned.warnings.count == 1)
    #expect(planned.warnings.first?.contains("Shape 'lengths'") == true)
    #expect(planned.removed.map(\.parameter) == ["free", "t"])
    #expect(planned.skipped.contains { $0.name == "conv_w" && $0.reason.contains("Shape 'lengths'") })
  }

  @Test(
    "A recommendation handed back goes the same way",
    arguments: [RecommendationGoal.ratio(0.4), .size(.macs, share: 0.96)])
  func handedBack(_ goal: RecommendationGoal) throws {
    let recommendation = try CompressibleModel(graph: graph(), sizeBytes: 0).recommend(
      RecommendationRequest(method: .l2, recommendation: .slamp, goal: goal, options: options), work: Work())
    let (direct, back) = (try plan(.recommended(.slamp, goal)), try plan(.layers(recommendation.availableLayers)))
    #expect(direct.plan.slices == back.plan.slices)
    #expect(!direct.plan.slices.isEmpty)
    #expect(direct.warnings == back.warnings || back.warnings.isEmpty)
    if case .size(_, let share) = goal {
      // A size is recommended only where the proof has been made.
      #expect(direct.compressed == recommendation.compressed)
      #expect(Double(direct.compressed.macs) <= share * Double(direct.original.macs))
      #expect(back.warnings.isEmpty)
    } else {
      #expect(back.skipped.contains { $0.name == "conv_w" })
    }
  }

  @Test("What a user names channel by channel is refused instead")
  func named() throws {
    let setting = LayerSetting(name: "conv_w", channels: [16], values: .indices([1, 2, 4]), use: true)
    let failure = #expect(throws: Failure.self) { _ = try plan(.layers([setting]), .indices) }
    #expect(failure?.kind == .modelUnsupportedOperator)
    #expect(failure?.message.contains("Shape 'lengths'") == true)
  }
}
