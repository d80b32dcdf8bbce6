import Compression
import ModelGraph
import TestSupport
import Testing

// What a request's own layers mean, what include and exclude let through, and that a recommendation handed back as
// layers is the same plan.

@Suite("Choices of a request") struct ChoiceTests {
  private func model() throws -> CompressibleModel {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 8, 8])
    let a = g("Relu", g.conv(x, 3, 32, "a", name: "stem/a"))
    let b = g("Relu", g.conv(a, 32, 32, "b", name: "body/b"))
    let sum = g("Add", a, g.conv(b, 32, 32, "c", name: "body/c"), name: "sum")
    let k = g.conv(sum, 32, 32, "k", groups: 4, name: "body/k")
    g.output(g.conv(k, 32, 5, "v", name: "head"))
    return try CompressibleModel(graph: g.build(), sizeBytes: 1000)
  }

  private func plan(
    _ method: CompressionMethod, _ layers: [LayerSetting], _ options: PruningOptions = PruningOptions()
  ) throws -> PlannedCompression {
    try model().plan(CompressionRequest(method: method, choice: .layers(layers), options: options), work: Work())
  }

  private func indices(_ name: String, _ numbers: [Int], use: Bool = true) -> LayerSetting {
    LayerSetting(name: name, channels: [32], values: .indices(numbers), use: use)
  }

  private func ratio(_ name: String, _ ratio: Double, use: Bool = true) -> LayerSetting {
    LayerSetting(name: name, channels: [32], values: .ratio(ratio), use: use)
  }

  /// Blocks of eight channels may shrink to two.
  private var keepingTwo: PruningOptions {
    var options = PruningOptions()
    options.minNumOfValue = 2
    return options
  }

  private func refusal(
    _ method: CompressionMethod, _ layers: [LayerSetting], _ options: PruningOptions = PruningOptions()
  ) throws -> Failure {
    try #require(throws: Failure.self) { try plan(method, layers, options) }
  }

  // MARK: PR_ID

  @Test("Listed channels go, and what is coupled to them")
  func listed() throws {
    let planned = try plan(.indices, [indices("body/b", [0, 31])])
    #expect(
      planned.removed.map { "\($0.parameter).\($0.axis) \($0.indices)" } == ["b.0 all([0, 31])", "c.1 all([0, 31])"])
    #expect(planned.compressed.parameters == planned.original.parameters - 2 * 32 - 2 * 32)
  }

  @Test("Channels counted from 1")
  func indexBase() throws {
    var options = PruningOptions()
    options.indexBase = 1
    let planned = try plan(.indices, [indices("body/b", [1, 32])], options)
    #expect(planned.removed.first?.indices == .all([0, 31]))
    let failure = try refusal(.indices, [indices("body/b", [0])], options)
    #expect(failure.kind == .invalidParams && failure.message.contains("1...32"))
  }

  @Test("Lists that name no channel, one twice, or all", arguments: [[32], [-1], [3, 3], Array(0..<32)])
  func badLists(_ numbers: [Int]) throws {
    let failure = try refusal(.indices, [indices("body/b", numbers)])
    #expect(failure.kind == .invalidParams)
    #expect(failure.details["path"] != nil)
  }

  @Test("Blocks that would lose unequally many")
  func unbalanced() throws {
    let failure = try refusal(.indices, [indices("stem/a", [0, 1])])
    #expect(failure.kind == .invalidParams && failure.message.contains("4 blocks"))
    #expect(try plan(.indices, [indices("stem/a", [0, 9, 17, 31])]).removed.count == 4)
  }

  @Test("Names that are none, and layers whose channels stay")
  func names() throws {
    #expect(try refusal(.indices, [indices("nobody", [0])]).kind == .layerUnknown)
    #expect(try refusal(.l2, [ratio("nobody", 0.5)]).kind == .layerUnknown)
    for failure in [try refusal(.indices, [indices("head", [0])]), try refusal(.l2, [ratio("head", 0.5)])] {
      #expect(failure.kind == .layerUnavailable)
      #expect(failure.message.contains("model output"))
    }
  }

  @Test("Entries that are not used, or empty, remove nothing")
  func nothing() throws {
    #expect(try refusal(.indices, [indices("body/b", [0], use: false)]).kind == .nothingToCompress)
    #expect(try refusal(.indices, [indices("body/b", [])]).kind == .nothingToCompress)
    #expect(try refusal(.l2, [ratio("body/b", 0)]).kind == .nothingToCompress)
    #expect(try refusal(.l2, [ratio("body/b", 0.5, use: false)]).kind == .nothingToCompress)
  }

  @Test("PR_ID cannot be recommended")
  func recommendedIndices() throws {
    let request = CompressionRequest(
      method: .indices, choice: .recommended(.slamp, .ratio(0.5)), options: PruningOptions())
    let failure = try #require(throws: Failure.self) { try model().plan(request, work: Work()) }
    #expect(failure.kind == .invalidCombination)
  }

  // MARK: Ratios

  @Test("A group answers to its own name and to each of its layers'")
  func groupNames() throws {
    let options = keepingTwo
    let byGroup = try plan(.l2, [ratio("sum", 0.25)], options)
    for name in ["stem/a", "body/c"] { #expect(try plan(.l2, [ratio(name, 0.25)], options).removed == byGroup.removed) }
    #expect(byGroup.layers.map(\.name) == ["sum"])
  }

  @Test("Two entries of one group agree or are refused")
  func contradiction() throws {
    let options = keepingTwo
    #expect(try plan(.l2, [ratio("stem/a", 0.25), ratio("body/c", 0.25)], options).removed.isEmpty == false)
    let failure = try refusal(.l2, [ratio("stem/a", 0.25), ratio("body/c", 0.5)], options)
    #expect(failure.kind == .invalidCombination && failure.message.contains("'sum'"))
  }

  @Test("A ratio of 1 keeps the minimum, with a warning")
  func all() throws {
    let planned = try plan(.l2, [ratio("body/b", 1)])
    #expect(planned.warnings.count == 1)
    #expect(planned.removed.first == planned.removed.first { $0.parameter == "b" })
    if case .all(let gone) = planned.removed.first?.indices { #expect(gone.count == 24) } else { Issue.record() }
  }

  // MARK: include, exclude

  @Test(
    "Patterns",
    arguments: [
      ("layer1.conv", "layer1.conv", true), ("layer1.conv", "layer*", true), ("layer1.conv", "*conv", true),
      ("layer1.conv", "l*1*v", true), ("layer1.conv", "layer?.conv", true), ("layer1.conv", "layer??conv", true),
      ("layer1.conv", "layer1", false), ("layer1.conv", "conv", false), ("layer1.conv", "?", false),
      ("", "*", true), ("", "", true), ("a", "", false), ("", "?", false), ("aaab", "*a*b", true),
      ("ab", "a*b*c", false),
      ("a[b].c", "a[b].c", true), ("x", "**", true), ("größe", "gr??e", true),
    ])
  func patterns(_ name: String, _ pattern: String, _ fits: Bool) {
    #expect(LayerFilter.matches(name, pattern) == fits)
  }

  @Test("Only what is included and not excluded takes part")
  func filters() throws {
    func names(_ include: [String]?, _ exclude: [String]) throws -> [String] {
      var options = PruningOptions()
      (options.include, options.exclude) = (include, exclude)
      return try model().recommend(
        RecommendationRequest(method: .l2, recommendation: .slamp, goal: .ratio(0.5), options: options), work: Work()
      ).availableLayers.map(\.name)
    }
    #expect(try names(nil, []) == ["sum", "body/b", "body/k"])
    #expect(try names(["body/*"], []) == ["sum", "body/b", "body/k"])
    #expect(try names(["body/?"], ["body/b"]) == ["sum", "body/k"])
    #expect(try names(["stem/a"], []) == ["sum"])
    #expect(try #require(throws: Failure.self) { try names(["boddy/*"], []) }.kind == .layerUnknown)
    #expect(try #require(throws: Failure.self) { try names(nil, ["nobody"]) }.kind == .layerUnknown)
    #expect(try #require(throws: Failure.self) { try names(nil, ["*"]) }.kind == .nothingToCompress)
  }

  // MARK: A recommendation handed back

  @Test("The recommendation as layers is the recommended plan", arguments: PruningOptions.GroupPolicy.allCases)
  func replay(_ policy: PruningOptions.GroupPolicy) throws {
    var options = keepingTwo
    options.groupPolicy = policy
    let model = try model()
    for ratio in [0.1, 0.3, 0.5, 0.8] {
      let recommendation = try model.recommend(
        RecommendationRequest(method: .l2, recommendation: .slamp, goal: .ratio(ratio), options: options), work: Work())
      func plan(_ choice: CompressionRequest.Choice, of model: CompressibleModel) throws -> PlannedCompression {
        try model.plan(CompressionRequest(method: .l2, choice: choice, options: options), work: Work())
      }
      let direct = try plan(.recommended(.slamp, .ratio(ratio)), of: model)
      // A model that was never asked before gives the same.
      let replayed = try plan(.layers(recommendation.availableLayers), of: self.model())
      #expect(direct.plan.slices == replayed.plan.slices)
      #expect(
        direct.plan.edits.map { PlanReading.words($0, model.graph) }
          == replayed.plan.edits.map {
            PlanReading.words($0, model.graph)
          })
      #expect(direct.compressed == replayed.compressed)
      #expect(direct.compressed == recommendation.compressed)
      #expect(direct.layers.map(\.asWritten) == recommendation.availableLayers.map(\.asWritten))
      for setting in direct.layers where setting.use {
        let parameter = try #require(["sum": "a", "body/b": "b", "body/k": "k"][setting.name])
        let gone = try #require(direct.removed.first { $0.parameter == parameter && $0.axis == 0 })
        let count = if case .all(let indices) = gone.indices { indices.count } else { 0 }
        #expect(setting.values == .ratio(Double(count) / Double(setting.channels[0])), "the share really removed")
      }
    }
  }
}

extension LayerSetting {
  fileprivate var asWritten: String { "\(name) \(channels) \(values) \(use) \(marked ?? -1) \(requested ?? -1)" }
}
