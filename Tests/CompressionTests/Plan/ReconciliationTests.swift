import Compression
import ModelGraph
import TestSupport
import Testing

// Every setting that encodes a length, after channels 1 and 6 of eight are gone: exactly what is rewritten, and that
// nothing else is.

/// A body between two convolutions, and the edits that losing channels of `w` calls for.
struct SettingCase: Sendable, CustomStringConvertible {
  let description: String
  let removed: [Int]
  let edits: [String]
  let build: @Sendable () -> Graph

  init(
    _ description: String, _ edits: [String], removing: [Int] = [1, 6], opset: Int = 17, channels: Int = 8,
    batch: Dimension = 1, _ body: @escaping @Sendable (GraphBuilder, ValueID) -> ValueID
  ) {
    (self.description, self.edits, removed) = (description, edits, removing)
    build = { betweenConvolutions(opset: opset, channels: channels, batch: batch, body) }
  }

  init(_ description: String, _ edits: [String], removing: [Int] = [1, 6], graph: @escaping @Sendable () -> Graph) {
    (self.description, self.edits, removed, build) = (description, edits, removing, graph)
  }
}

/// Adds the halves that a Split or two Slices make, each after a layer of its own.
private func joinHalves(_ g: GraphBuilder, _ a: ValueID, _ b: ValueID, _ widths: (Int, Int) = (4, 4)) -> ValueID {
  g("Add", g.conv(a, widths.0, 8, "p"), g.conv(b, widths.1, 8, "q"))
}

private let reshapes: [SettingCase] = [
  SettingCase("literal target", ["r input 1 = [1, 6, 16]", "back input 1 = [1, 6, 4, 4]"]) { g, x in
    g("Reshape", g("Reshape", x, g.ints([1, 8, 16]), name: "r"), g.ints([1, 8, 4, 4]), name: "back")
  },
  SettingCase("0 follows", []) { g, x in g("Reshape", x, g.ints([0, 0, 2, -1])) },
  SettingCase("0 elsewhere still means its own axis", ["r input 1 = [0, 6, -1, 2]"]) { g, x in
    g("Reshape", x, g.ints([0, 8, -1, 2]), name: "r")
  },
  SettingCase("-1 in the place of the channels follows", []) { g, x in g("Reshape", x, g.ints([1, -1, 2, 8])) },
  SettingCase("-1 beside the channels would take their part", ["r input 1 = [1, 6, -1, 2]"]) { g, x in
    g("Reshape", x, g.ints([1, 8, -1, 2]), name: "r")
  },
  SettingCase("flattened channels", ["r input 1 = [1, 96]"]) {
    let g = GraphBuilder()
    let h = g("Reshape", g.conv(g.input("x", [1, 3, 4, 4]), 3, 8, "w"), g.ints([1, 128]), name: "r")
    g.output(g("Gemm", h, g.weight([128, 5], name: "v")))
    return g.build()
  },
  SettingCase("a constant of its own inside a Concat", ["target input 1 = [6]"], batch: "N") { g, x in
    let batch = g("Gather", g("Shape", x), g.ints([0]))
    let target = g("Concat", batch, g.ints([8]), g.ints([2, 8]), with: ["axis": 0], name: "target")
    return g("Reshape", x, target)
  },
  SettingCase("lengths read off the value itself follow", [], batch: "N") { g, x in
    let shape = g("Shape", x)
    let target = g(
      "Concat", g("Gather", shape, g.ints([0])), g("Gather", shape, g.ints([1])), g.ints([-1, 2]), with: ["axis": 0])
    return g("Reshape", x, target)
  },
  SettingCase(
    "a computed number beside a dynamic one",
    [
      "r input 1 * [1, 0, 1] / [1, 1, 1] + [0, 6, 0]",
      "back input 1 = [-1, 6, 4, 4]",
    ], batch: "N"
  ) { g, x in
    let target = g(
      "Concat", g("Gather", g("Shape", x), g.ints([0])), g("Mul", g.ints([4]), g.ints([2])), g.ints([16]),
      with: ["axis": 0])
    return g("Reshape", g("Reshape", x, target, name: "r"), g.ints([-1, 8, 4, 4]), name: "back")
  },
  SettingCase(
    "batch and channels in one dynamic number",
    ["r input 1 * [3, 1] / [4, 1] + [0, 0]", "back input 1 = [-1, 6, 4, 4]"],
    batch: "N"
  ) { g, x in
    let rows = g("Mul", g("Gather", g("Shape", x), g.ints([0])), g.ints([8]))
    let target = g("Concat", rows, g.ints([16]), with: ["axis": 0])
    return g("Reshape", g("Reshape", x, target, name: "r"), g.ints([-1, 8, 4, 4]), name: "back")
  },
  SettingCase(
    "one constant of two Reshapes: only the pruned one gets a copy",
    ["r input 1 = [1, 6, 16]", "back input 1 = [1, 6, 4, 4]"]
  ) {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 4, 4])
    let target = g.ints([1, 8, 16])
    let h = g("Reshape", g.conv(x, 3, 8, "w"), target, name: "r")
    g.output(g.conv(g("Reshape", h, g.ints([1, 8, 4, 4]), name: "back"), 8, 5, "v"))
    g.output(g("Reshape", g.conv(x, 3, 8, "u"), target, name: "untouched"))
    return g.build()
  },
]

private let joins: [SettingCase] = [
  SettingCase("Expand to literal lengths", ["e input 1 = [1, 6, 4, 4]"]) { g, x in
    g("Expand", g("GlobalAveragePool", x), g.ints([1, 8, 4, 4]), name: "e")
  },
  SettingCase("Expand by 1 follows", []) { g, x in g("Expand", g("GlobalAveragePool", x), g.ints([1, 1, 4, 4])) },
  SettingCase("Expand of fewer axes follows", []) { g, x in g("Expand", g("GlobalAveragePool", x), g.ints([4, 4])) },
  SettingCase(
    "Pad's width is what is left of the padding", ["pad input 1 = [0, 0, 0, 0, 0, 2, 0, 0]"], removing: [8, 9]
  ) {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 4, 4])
    let padded = g("Pad", g.conv(x, 3, 8, "u"), g.ints([0, 0, 0, 0, 0, 4, 0, 0]), name: "pad")
    g.output(g.conv(g("Add", padded, g.conv(x, 3, 12, "w")), 12, 5, "v"))
    return g.build()
  },
  SettingCase("Pad as attribute", ["pad pads = [0, 1, 0, 0, 0, 1, 0, 0]"], removing: [0, 11]) {
    let g = GraphBuilder(opset: 9)
    let x = g.input("x", [1, 3, 4, 4])
    let padded = g("Pad", g.conv(x, 3, 8, "u"), with: ["pads": [0, 2, 0, 0, 0, 2, 0, 0]], name: "pad")
    g.output(g.conv(g("Add", padded, g.conv(x, 3, 12, "w")), 12, 5, "v"))
    return g.build()
  },
  SettingCase("Pad of space stays", []) { g, x in g("Pad", x, g.ints([0, 0, 1, 1, 0, 0, 1, 1])) },
  SettingCase("Pad of channels whose own channels go stays", []) {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 4, 4])
    let padded = g("Pad", g.conv(x, 3, 8, "w"), g.ints([0, 0, 0, 0, 0, 4, 0, 0]), name: "pad")
    g.output(g.conv(g("Add", padded, g.conv(x, 3, 12, "b")), 12, 5, "v"))
    return g.build()
  },
  SettingCase("Resize to literal sizes", ["up input 3 = [1, 6, 8, 8]"]) { g, x in
    g("Resize", x, nil, nil, g.ints([1, 8, 8, 8]), name: "up")
  },
  SettingCase("Resize by scales stays", []) { g, x in g("Resize", x, nil, g.floats([1, 1, 2, 2])) },
  SettingCase("group attribute of a depthwise convolution", ["conv_k group = 6"]) { g, x in
    g.conv(x, 8, 8, "k", groups: 8)
  },
  SettingCase("group convolution whose groups shrink keeps its number", [], removing: [0, 2, 5, 7]) { g, x in
    g.conv(x, 8, 8, "k", groups: 4)
  },
]

private let divisions: [SettingCase] = [
  SettingCase("Split attribute", ["s split = [3, 3]"], opset: 11) { g, x in
    let halves = g.node("Split", [x], ["axis": 1, "split": [4, 4]], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase("Split attribute, unevenly", ["s split = [2, 4]"], removing: [1, 2], opset: 11) { g, x in
    let halves = g.node("Split", [x], ["axis": -3, "split": [4, 4]], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase("Split input", ["s input 1 = [2, 4]"], removing: [1, 2]) { g, x in
    let halves = g.node("Split", [x, g.ints([4, 4])], ["axis": 1], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase("even Split that stays even", []) { g, x in
    let halves = g.node("Split", [x], ["axis": 1], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase("even Split before sizes were inputs", ["s split = [2, 4]"], removing: [1, 2], opset: 11) { g, x in
    let halves = g.node("Split", [x], ["axis": 1], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase("even Split becomes uneven", ["s input 1 = [2, 4]"], removing: [1, 2]) { g, x in
    let halves = g.node("Split", [x], ["axis": 1], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase(
    "num_outputs gives way to sizes", ["s without num_outputs", "s input 1 = [2, 4]"], removing: [1, 2], opset: 18
  ) {
    g, x in
    let halves = g.node("Split", [x], ["axis": 1, "num_outputs": 2], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase("num_outputs allows a shorter last part", [], removing: [6], opset: 18) { g, x in
    let halves = g.node("Split", [x], ["axis": 1, "num_outputs": 2], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase(
    "num_outputs allows no shorter first part", ["s without num_outputs", "s input 1 = [3, 4]"], removing: [1],
    opset: 18
  ) {
    g, x in
    let halves = g.node("Split", [x], ["axis": 1, "num_outputs": 2], outputs: 2, name: "s")
    return joinHalves(g, halves[0], halves[1])
  },
  SettingCase("Slice bounds move", ["a input 2 = [3]", "b input 1 = [3]", "b input 2 = [6]"]) { g, x in
    joinHalves(
      g, g("Slice", x, g.ints([0]), g.ints([4]), g.ints([1]), name: "a"),
      g("Slice", x, g.ints([4]), g.ints([8]), g.ints([1]), name: "b"))
  },
  SettingCase("Slice to the end still hits", ["a input 2 = [3]", "b input 1 = [3]", "b input 2 = [7]"], removing: [1]) {
    g, x in
    joinHalves(
      g, g("Slice", x, g.ints([0]), g.ints([4]), g.ints([1]), name: "a"),
      g("Slice", x, g.ints([4]), g.ints([Int64.max]), g.ints([1]), name: "b"))
  },
  SettingCase("Slice bounds that still hit stay", [], removing: [6]) { g, x in
    joinHalves(
      g, g("Slice", x, g.ints([0]), g.ints([4]), g.ints([1]), name: "a"),
      g("Slice", x, g.ints([4]), g.ints([Int64.max]), g.ints([1]), name: "b"))
  },
  SettingCase("Slice from the end still hits", ["a input 2 = [3]"], removing: [1]) { g, x in
    joinHalves(
      g, g("Slice", x, g.ints([0]), g.ints([4]), g.ints([1]), name: "a"),
      g("Slice", x, g.ints([-4]), g.ints([Int64.max]), g.ints([1]), name: "b"))
  },
  SettingCase("Slice as attributes", ["a ends = [3]", "b starts = [3]", "b ends = [6]"], opset: 9) { g, x in
    joinHalves(
      g, g("Slice", x, with: ["axes": [1], "starts": [0], "ends": [4]], name: "a"),
      g("Slice", x, with: ["axes": [1], "starts": [4], "ends": [8]], name: "b"))
  },
  SettingCase(
    "Slice with a step that stays regular",
    ["a input 1 = [1]", "a input 2 = [6]", "b input 1 = [0]", "b input 2 = [7]"], removing: [0]
  ) { g, x in
    // 2, 4, 6 of 1...7 are at 1, 3, 5; 1, 3, 5, 7 at 0, 2, 4, 6.
    joinHalves(
      g, g("Slice", x, g.ints([0]), g.ints([8]), g.ints([1]), g.ints([2]), name: "a"),
      g("Slice", x, g.ints([1]), g.ints([8]), g.ints([1]), g.ints([2]), name: "b"))
  },
  SettingCase(
    "Slice with a step that becomes irregular", ["a → Gather axis 1 [0, 3, 5]", "b → Gather axis 1 [1, 2, 4, 6]"],
    removing: [2]
  ) { g, x in
    joinHalves(
      g, g("Slice", x, g.ints([0]), g.ints([8]), g.ints([1]), g.ints([2]), name: "a"),
      g("Slice", x, g.ints([1]), g.ints([8]), g.ints([1]), g.ints([2]), name: "b"))
  },
  SettingCase("Slice of space stays", []) { g, x in g("Slice", x, g.ints([1]), g.ints([3]), g.ints([2])) },
  SettingCase("Gather's list is renumbered", ["a input 1 = [0, 3]", "b input 1 = [1, 2, 4, 5]"], removing: [2, 6]) {
    g, x in
    joinHalves(
      g, g("Gather", x, g.ints([0, 2, 4, 6]), with: ["axis": 1], name: "a"),
      g("Gather", x, g.ints([1, 3, 5, -1]), with: ["axis": 1], name: "b"))
  },
]

private let numbers: [SettingCase] = [
  SettingCase("a scale computed from the channel count keeps its value", ["div input 1 = 8.0"]) { g, x in
    let count = g("Cast", g("Gather", g("Shape", x), g.ints([1], shape: [])), with: ["to": 1])
    return g("Div", x, count, name: "div")
  },
  SettingCase("a scale computed from the width is left alone", []) { g, x in
    let count = g("Cast", g("Gather", g("Shape", x), g.ints([3], shape: [])), with: ["to": 1])
    return g("Div", x, count, name: "div")
  },
  SettingCase(
    "two channels pooled and squeezed to one: the axes are written out", ["s input 1 = [0, 2, 3]"], removing: [1]
  ) {
    let g = GraphBuilder()
    let h = g("GlobalAveragePool", g.conv(g.input("x", [1, 3, 4, 4]), 3, 2, "w"))
    g.output(g("MatMul", g("Squeeze", h, name: "s"), g.weight([2, 5], name: "v")))
    return g.build()
  },
  SettingCase("the same as an attribute", ["s axes = [0, 2, 3]"], removing: [1]) {
    let g = GraphBuilder(opset: 11)
    let h = g("GlobalAveragePool", g.conv(g.input("x", [1, 3, 4, 4]), 3, 2, "w"))
    g.output(g("MatMul", g("Squeeze", h, name: "s"), g.weight([2, 5], name: "v")))
    return g.build()
  },
]

@Suite("Reconciliation of settings") struct ReconciliationTests {
  @Test("Edits", arguments: reshapes + joins + divisions + numbers)
  func edits(_ subject: SettingCase) throws {
    let reading = try PlanReading(subject.build(), removing: ["conv_w": subject.removed])
    #expect(reading.edits == subject.edits)
    let kept = try #require(reading.slices.first { $0.hasPrefix("w.0 ") })
    #expect(!kept.isEmpty && reading.planned.certificate.valuesChecked > 0)
  }

  @Test("Inputs that differ per group of a convolution are listed per group")
  func perGroup() throws {
    let graph = betweenConvolutions { g, x in g.conv(x, 8, 8, "k", groups: 4) }
    let same = try PlanReading(graph, removing: ["conv_w": [0, 2, 4, 6]])
    #expect(same.slices == ["w.0 [1, 3, 5, 7]", "k.1 [1]"])
    let own = try PlanReading(graph, removing: ["conv_w": [0, 3, 4, 7]])
    #expect(own.slices == ["w.0 [1, 2, 5, 6]", "k.1 [[1], [0], [1], [0]]"])
    #expect(own.planned.removed.contains { $0.indices == .perGroup([[0], [1], [0], [1]]) && $0.parameter == "k" })
  }

  @Test("All filters of a depthwise channel go with it")
  func multiplier() throws {
    let graph = betweenConvolutions(channels: 24) { g, x in g.conv(x, 8, 24, "k", groups: 8) }
    let plan = try PlanReading(graph, removing: ["conv_w": [1, 2, 3, 4, 5, 6]])
    #expect(plan.slices == ["w.0 [0, 7]", "k.0 [0, 1, 2, 21, 22, 23]", "v.1 [0, 1, 2, 21, 22, 23]"])
    #expect(plan.edits == ["conv_k group = 2"])
  }

  @Test("A number that is both dynamic and computed from removed channels is refused")
  func dynamicNumber() throws {
    let graph = betweenConvolutions(batch: "N") { g, x in
      g("Div", x, g("Cast", g("Size", x), with: ["to": 1]), name: "div")
    }
    let failure = try #require(throws: Failure.self) { try PlanReading(graph, removing: ["conv_w": [1]]) }
    #expect(failure.kind == .modelUnsupportedOperator)
    #expect(failure.message.contains("div"))
  }

  @Test("A model output that tells the channel count is refused")
  func outputOfCount() throws {
    let g = GraphBuilder()
    let h = g.conv(g.input("x", [1, 3, 4, 4]), 3, 8, "w")
    g.output(g.conv(h, 8, 5, "v"), g("Shape", h))
    let failure = try #require(throws: Failure.self) { try PlanReading(g.build(), removing: ["conv_w": [1]]) }
    #expect(failure.kind == .modelUnsupportedOperator)
  }

  @Test("What would leave nothing of a value is refused, and never recommended")
  func vanishing() throws {
    // The first two channels go another way and come back: all eight are one group, yet one of the two must stay.
    let graph = betweenConvolutions { g, x in
      let parts = g.node("Split", [x, g.ints([2, 6])], ["axis": 1], outputs: 2, name: "s")
      return g("Concat", g("Relu", parts[0]), parts[1], with: ["axis": 1])
    }
    #expect(try CouplingReading(graph).groups == ["8: w.0 v.1"])
    let failure = try #require(throws: Failure.self) { try PlanReading(graph, removing: ["conv_w": [0, 1]]) }
    #expect(failure.kind == .layerUnavailable)
    #expect(failure.message.contains("'s_out'"))
    var options = PruningOptions()
    (options.stepOp, options.minNumOfValue) = (.none, 1)
    let model = try CompressibleModel(graph: graph, sizeBytes: 0)
    for ratio in [0.25, 0.5, 0.75, 0.99] {
      let planned = try model.plan(
        CompressionRequest(method: .l2, choice: .recommended(.slamp, .ratio(ratio)), options: options), work: Work())
      #expect(planned.certificate.valuesChecked > 0)
    }
  }
}
