import Compression
import ModelGraph
import TestSupport
import Testing

// Patterns of real networks, each as the smallest graph that shows it: what is coupled, what is balanced, what stays
// and which operator is to blame.

/// A graph and the groups that must come out.
struct Pattern: Sendable, CustomStringConvertible {
  let description: String
  let expected: [String]
  let pruningBlocks: Bool
  let build: @Sendable (GraphBuilder) -> Void

  init(
    _ description: String, _ expected: [String], pruningBlocks: Bool = false,
    _ build: @escaping @Sendable (GraphBuilder) -> Void
  ) {
    (self.description, self.expected, self.pruningBlocks, self.build) = (description, expected, pruningBlocks, build)
  }

  func graph() -> Graph {
    let g = GraphBuilder()
    build(g)
    return g.build()
  }
}

private func image(_ g: GraphBuilder, _ channels: Dimension = 3, name: String = "x") -> ValueID {
  g.input(name, [1, channels, 4, 4])
}

/// x (1,6,8) → q, k, v of 2 heads of 4 dims → attention → out.
private func attention(_ g: GraphBuilder, scale: ((GraphBuilder, ValueID) -> ValueID)? = nil) {
  let x = g.input("x", [1, 6, 8])
  func heads(_ name: String, _ order: [Int]) -> ValueID {
    let flat = g("MatMul", x, g.weight([8, 8], name: name))
    return g("Transpose", g("Reshape", flat, g.ints([1, 6, 2, 4])), with: ["perm": .ints(order)])
  }
  var q = heads("q", [0, 2, 1, 3])
  if let scale { q = scale(g, q) }
  let scores = g("Softmax", g("MatMul", q, heads("k", [0, 2, 3, 1])), with: ["axis": -1])
  let mixed = g("Transpose", g("MatMul", scores, heads("v", [0, 2, 1, 3])), with: ["perm": [0, 2, 1, 3]])
  g.output(g("MatMul", g("Reshape", mixed, g.ints([1, 6, 8])), g.weight([8, 8], name: "o")))
}

/// (-x1, x0, -x3, x2, ...) of heads (1,2,6,4).
private func turned(_ g: GraphBuilder, _ q: ValueID) -> ValueID {
  func everySecond(_ start: Int64) -> ValueID {
    g("Unsqueeze", g("Slice", q, g.ints([start]), g.ints([99]), g.ints([3]), g.ints([2])), g.ints([4]))
  }
  let pairs = g("Concat", g("Neg", everySecond(1)), everySecond(0), with: ["axis": 4])
  return g("Reshape", pairs, g.ints([1, 2, 6, 4]))
}

private let couplings: [Pattern] = [
  Pattern("an embedding makes channels like a layer", ["8: t.1 s.0 v.0"]) { g in
    let x = g("Gather", g.weight([20, 8], name: "t"), g.input("ids", [1, 6], dtype: .int64))
    g.output(g("MatMul", g("LayerNormalization", x, g.weight([8], name: "s")), g.weight([8, 5], name: "v")))
  },
  Pattern("what only running statistics depend on is no channel", ["8: w.0 copy.0 s.0 b.0 v.1"]) { g in
    // A weight standardized by a normalization in training mode, whose running statistics come from a copy of it.
    let w = g("Reshape", g.weight([8, 3, 1, 1], name: "w"), g.ints([1, 8, -1]))
    let copy = g("ReduceMean", g.weight([8, 3], name: "copy"), with: ["axes": [1], "keepdims": 0])
    let standard = g.node(
      "BatchNormalization", [w, g.weight([8], name: "s"), g.weight([8], name: "b"), copy, copy],
      ["training_mode": 1], outputs: 3)[0]
    let kernel = g("Reshape", standard, g.ints([8, 3, 1, 1]))
    g.output(g.conv(g("Conv", g.input("x", [1, 3, 4, 4]), kernel), 8, 5, "v"))
  },
  Pattern("a residual sum couples what it adds", ["8: a.0 b.0 c.1 v.1"]) { g in
    let x = image(g)
    let a = g.conv(x, 3, 8, "a")
    let c = g("Relu", g("Add", a, g.conv(x, 3, 8, "b")))
    g.output(g("Add", g.conv(c, 8, 5, "c"), g.conv(a, 8, 5, "v")))
  },
  Pattern("windows and kernels of one place leave an axis free", ["8: w.1 v.0"]) { g in
    let w = g("MatMul", g.input("x", [1, 6, 5]), g.weight([5, 8], name: "w"))
    let mixed = g("Conv", w, g.weight([6, 6, 1], name: "k"))
    let pooled = g(
      "AveragePool", g("Unsqueeze", mixed, g.ints([1])), with: ["kernel_shape": [2, 1], "strides": [2, 1]])
    g.output(g("MatMul", pooled, g.weight([8, 5], name: "v")))
  },
  Pattern("a part of nothing adds nothing", ["8: a.0 v.1"]) { g in
    let parts = g.node("Split", [g.conv(image(g), 3, 8, "a"), g.ints([5, 0, 3])], ["axis": 1], outputs: 3)
    g.output(g.conv(g("Concat", parts[2], parts[1], parts[0], with: ["axis": 1]), 8, 5, "v"))
  },
  Pattern("two consumers of one stream", ["8: a.0 c.1 v.1"]) { g in
    let a = g.conv(image(g), 3, 8, "a")
    g.output(g.conv(a, 8, 5, "c"), g.conv(a, 8, 5, "v"))
  },
  Pattern("a concatenation couples nothing", ["8: a.0 v.1", "4: b.0 v.1"]) { g in
    let x = image(g)
    let joined = g("Concat", g.conv(x, 3, 8, "a"), g.conv(x, 3, 4, "b"), with: ["axis": 1])
    g.output(g.conv(joined, 12, 5, "v"))
  },
  Pattern("a part without channels stays, beside it they are free", ["8: a.0 v.1"]) { g in
    let joined = g("Concat", g.conv(image(g), 3, 8, "a"), image(g, 2, name: "z"), with: ["axis": 1])
    g.output(g.conv(joined, 10, 5, "v"))
  },
  Pattern("a value with its own negative: two positions of one unit", ["8: a.0 v.1*2"]) { g in
    let a = g.conv(image(g), 3, 8, "a")
    g.output(g.conv(g("Concat", a, g("Neg", a), with: ["axis": 1]), 16, 5, "v"))
  },
  Pattern(
    "a narrow stream padded to a wide one: the padding goes with what it meets", ["8: a.0 b.0 v.1", "4: b.0 v.1"]
  ) {
    g in
    let x = image(g)
    let padded = g("Pad", g.conv(x, 3, 8, "a"), g.ints([0, 0, 0, 0, 0, 4, 0, 0]))
    g.output(g.conv(g("Add", padded, g.conv(x, 3, 12, "b")), 12, 5, "v"))
  },
  Pattern("squeeze and excite", ["8: a.0 s.1 e.0 v.1", "2: s.0 e.1"]) { g in
    let a = g.conv(image(g), 3, 8, "a")
    let s = g("Relu", g.conv(g("GlobalAveragePool", a), 8, 2, "s"))
    g.output(g.conv(g("Mul", a, g("Sigmoid", g.conv(s, 2, 8, "e"))), 8, 5, "v"))
  },
  Pattern("a branch that nothing reads has no channels of its own", ["8: a.0 d.1 v.1"]) { g in
    let a = g.conv(image(g), 3, 8, "a")
    _ = g("Relu", g.conv(a, 8, 4, "d"))
    g.output(g.conv(a, 8, 5, "v"))
  },
  Pattern("one channel taken elsewhere stays", ["7: a.0 v.1"]) { g in
    let a = g.conv(image(g), 3, 8, "a")
    g.output(g.conv(a, 8, 5, "v"), g("Slice", a, g.ints([3]), g.ints([4]), g.ints([1])))
  },
  Pattern("steps forwards and backwards are positions like any other", ["4: a.0*2 v.1"]) { g in
    // x[0, 2, 4, 6] + x[7, 5, 3, 1]: 0 with 7, 2 with 5, 4 with 3, 6 with 1.
    let a = g.conv(image(g), 3, 8, "a")
    let even = g("Slice", a, g.ints([0]), g.ints([8]), g.ints([1]), g.ints([2]))
    let odd = g("Slice", a, g.ints([-1]), g.ints([Int64.min]), g.ints([1]), g.ints([-2]))
    g.output(g.conv(g("Add", even, odd), 4, 5, "v"))
  },
  Pattern("equal biases stored once tie nothing", ["8: w.0 b.0 u.1", "8: u.0 b.0 v.1"]) { g in
    let b = g.weight([8], name: "b")
    let h = g("Conv", image(g), g.weight([8, 3, 1, 1], name: "w"), b)
    g.output(g.conv(g("Conv", h, g.weight([8, 8, 1, 1], name: "u"), b), 8, 5, "v"))
  },
  Pattern("a shared weight ties what reads it", ["8: a.0 t.1 u.0", "8: t.0 u.1 v.1"]) { g in
    let t = g.weight([8, 8, 1, 1], name: "t")
    let h = g("Conv", g("Conv", g.conv(image(g), 3, 8, "a"), t), g.weight([8, 8, 1, 1], name: "u"))
    g.output(g.conv(g("Conv", h, t), 8, 5, "v"))
  },
]

private let groupings: [Pattern] = [
  Pattern("group convolution: inputs and outputs of each group lose equally many", ["4x2: w.0 k.1", "4x3: k.0 v.1"]) {
    g in
    g.output(g.conv(g.conv(g.conv(image(g), 3, 8, "w"), 8, 12, "k", groups: 4), 12, 5, "v"))
  },
  Pattern("depthwise: the input channel takes its filter along", ["8: w.0 k.0 v.1"]) { g in
    g.output(g.conv(g.conv(g.conv(image(g), 3, 8, "w"), 8, 8, "k", groups: 8), 8, 5, "v"))
  },
  Pattern("depthwise with a multiplier: all filters of the input channel", ["8: w.0 k.0 v.1*3"]) { g in
    g.output(g.conv(g.conv(g.conv(image(g), 3, 8, "w"), 8, 24, "k", groups: 8), 24, 5, "v"))
  },
  Pattern("two convolutions of 4 and 8 groups on one stream", ["4x2: w.0 k.1 b.0 v.1"]) { g in
    // With 8 groups each channel is a group of its own and takes its filter along.
    let w = g.conv(image(g), 3, 8, "w")
    let k = g.conv(w, 8, 4, "k", groups: 4)
    g.output(g.conv(k, 4, 5, "u"), g.conv(g.conv(w, 8, 8, "b", groups: 8), 8, 5, "v"))
  },
  Pattern("channel shuffle ties local indices across groups", ["4: w.0*2 v.1*2"]) { g in
    let w = g.conv(image(g), 3, 8, "w")
    let groups = g("Transpose", g("Reshape", w, g.ints([1, 2, 4, 4, 4])), with: ["perm": [0, 2, 1, 3, 4]])
    g.output(g.conv(g("Reshape", groups, g.ints([1, 8, 4, 4])), 8, 5, "v"))
  },
  Pattern("attention: heads stay, dims go in pairs of q and k", ["2x4: q.1 k.1", "2x4: v.1 o.0"]) { attention($0) },
  Pattern("attention with whole heads to prune", ["2: q.1*4 k.1*4 v.1*4 o.0*4"], pruningBlocks: true) { attention($0) },
  Pattern("a number per head changes nothing about its dims", ["2x4: q.1 k.1", "2x4: v.1 o.0"]) {
    attention($0) { g, q in g("Mul", q, g.weight([2, 1, 1], name: "s")) }
  },
  Pattern("a table over the dims ties the heads of q and k", ["4: q.1*2 s.0 k.1*2", "2x4: v.1 o.0"]) {
    attention($0) { g, q in g("Mul", q, g.weight([4], name: "s")) }
  },
  Pattern("neighbours turned together go together, in each head on their own", ["2x2: q.1*2 k.1*2", "2x4: v.1 o.0"]) {
    attention($0) { g, q in g("Add", q, turned(g, q)) }
  },
  Pattern("so they do as pairs of their own axis", ["2x2: q.1*2 k.1*2", "2x4: v.1 o.0"]) {
    attention($0) { g, q in
      let pairs = g("Reshape", q, g.ints([1, 2, 6, 2, 2]))
      let turned = g(
        "Concat", g("Neg", g("Gather", pairs, g.ints([1]), with: ["axis": 4])),
        g("Slice", pairs, g.ints([0]), g.ints([1]), g.ints([4])), with: ["axis": 4])
      return g("Add", q, g("Reshape", turned, g.ints([1, 2, 6, 4])))
    }
  },
  Pattern("with angles for all heads in all heads alike", ["2: q.1*4 s.0*2 k.1*4", "2x4: v.1 o.0"]) {
    attention($0) { g, q in g("Add", q, g("Mul", turned(g, q), g.weight([4], name: "s"))) }
  },
  Pattern("tokens that are none stand before the others without a word", ["2x4: q.1 k.1", "2x4: v.1 o.0"]) {
    attention($0) { g, q in
      g("Concat", g("Slice", q, g.ints([0]), g.ints([0]), g.ints([2])), g("Relu", q), with: ["axis": 2])
    }
  },
  Pattern("dims that are none stand behind the others without a word", ["2x4: q.1 k.1", "2x4: v.1 o.0"]) {
    attention($0) { g, q in
      g("Concat", g("Relu", q), g("Slice", q, g.ints([4]), g.ints([9]), g.ints([3])), with: ["axis": 3])
    }
  },
  Pattern("packed queries, keys and values share one number", ["2x4: p.1*2 ~0", "2x4: p.1 o.0 ~0"]) { g in
    let packed = g("MatMul", g.input("x", [1, 6, 8]), g.weight([8, 24], name: "p"))
    let parts = g("Transpose", g("Reshape", packed, g.ints([1, 6, 3, 2, 4])), with: ["perm": [2, 0, 3, 1, 4]])
    let q = g("Gather", parts, g.ints([0], shape: []), with: ["axis": 0])
    let k = g("Gather", parts, g.ints([1], shape: []), with: ["axis": 0])
    let v = g("Gather", parts, g.ints([2], shape: []), with: ["axis": 0])
    let scores = g("Softmax", g("MatMul", q, g("Transpose", k, with: ["perm": [0, 1, 3, 2]])), with: ["axis": -1])
    let mixed = g("Transpose", g("MatMul", scores, v), with: ["perm": [0, 2, 1, 3]])
    g.output(g("MatMul", g("Reshape", mixed, g.ints([1, 6, 8])), g.weight([8, 8], name: "o")))
  },
  Pattern(
    "one stream read as 2 x 6 and as 4 x 3: whole columns are joined until both stay even", ["3: w.0*4 a.1*4 b.1*4"]
  ) {
    g in
    let w = g.conv(image(g), 3, 12, "w")
    g.output(g.conv(w, 12, 4, "a", groups: 2), g.conv(w, 12, 4, "b", groups: 4))
  },
  Pattern("the same entries as 4 x 4 and as 8 x 2 are two demands", ["2: w.0*8 a.1*8 b.1*8"]) { g in
    let w = g.conv(image(g), 3, 16, "w")
    g.output(g.conv(w, 16, 4, "a", groups: 4), g.conv(w, 16, 8, "b", groups: 8))
  },
]

@Suite("Patterns of coupling") struct PatternTests {
  @Test("Coupling", arguments: couplings + groupings)
  func groups(_ pattern: Pattern) throws {
    let reading = try CouplingReading(pattern.graph(), pruningBlocks: pattern.pruningBlocks)
    #expect(reading.groups == pattern.expected)
  }

  @Test("The order of independent nodes changes no group")
  func nodeOrder() throws {
    for pattern in couplings + groupings {
      let graph = pattern.graph()
      let reference = try units(graph, pattern.pruningBlocks)
      for seed in 0..<3 {
        var random = SeededGenerator(seed: UInt64(seed))
        #expect(try units(graph.shuffled(&random), pattern.pruningBlocks) == reference, "\(pattern)")
      }
    }
  }

  /// The units as sets of named slices: comparable between graphs whose labels are numbered differently.
  private func units(_ graph: Graph, _ pruningBlocks: Bool) throws -> Set<Set<String>> {
    let reading = try CouplingReading(graph, pruningBlocks: pruningBlocks)
    var slices: [Int32: Set<String>] = [:]
    for origin in reading.coupling.analysis.stored.origins {
      for (k, label) in origin.range.enumerated() where reading.coupling.group(of: label) != nil {
        slices[reading.coupling.classOf[Int(label)], default: []]
          .insert("\(graph[origin.value].name).\(origin.axis)[\(k)]")
      }
    }
    return Set(slices.values)
  }
}

extension Graph {
  /// The same graph with its nodes in another topological order.
  fileprivate func shuffled(_ random: inout SeededGenerator) -> Graph {
    var done = Set(values.indices.filter { values[$0].producer == nil })
    var left = Array(nodes.indices)
    var order: [Int] = []
    while !left.isEmpty {
      let ready = left.filter { nodes[$0].inputs.allSatisfy { $0.map { done.contains($0.index) } ?? true } }
      let next = ready.randomElement(using: &random) ?? left[0]
      order.append(next)
      left.removeAll { $0 == next }
      for output in nodes[next].outputs { if let output { done.insert(output.index) } }
    }
    let place = Dictionary(uniqueKeysWithValues: order.enumerated().map { ($1, $0) })
    return Graph(
      values: values.map { value in
        Value(
          name: value.name, dtype: value.dtype, declaredShape: value.declaredShape,
          producer: value.producer.flatMap { place[$0.index] }.map(NodeID.init), tensor: value.tensor)
      }, nodes: order.map { nodes[$0] }, inputs: inputs, outputs: outputs)
  }
}

@Suite("Why channels stay") struct FrozenReasonTests {
  /// The reason for parameter w's axis 0 between two convolutions.
  private func reason(
    opset: Int = 17, channels: Int = 8, parameter: String = "w", axis: Int = 0,
    _ body: (GraphBuilder, ValueID) -> ValueID
  ) throws -> (kind: Reason.Kind, sentence: String) {
    let graph = betweenConvolutions(opset: opset, channels: channels, body)
    let reason = try #require(try CouplingReading(graph).reason(parameter, axis))
    return (reason.kind, reason.sentence(in: graph))
  }

  @Test func modelOutput() throws {
    #expect(try reason(parameter: "v") { _, x in x }.kind == .modelOutput)
  }

  @Test func graphInput() throws {
    #expect(try reason(axis: 1) { _, x in x }.kind == .graphInput)
    // Present on every index: fixed. A single number that is broadcast: nothing.
    let full = try reason { g, x in g("Mul", x, g.input("z", [1, 8, 1, 1])) }
    #expect(full.kind == .graphInput)
    let single = betweenConvolutions { g, x in g("Mul", x, g.input("z", [1, 1, 4, 4])) }
    #expect(try CouplingReading(single).groups == ["8: w.0 v.1"])
  }

  @Test func kernelPositions() throws {
    let g = GraphBuilder()
    g.output(g("Conv", g.input("x", [1, 3, 4, 4]), g.weight([8, 3, 3, 2], name: "w")))
    let reading = try CouplingReading(g.build())
    #expect(reading.reason("w", 2)?.kind == .kernel)
    #expect(reading.reason("w", 3)?.kind == .kernel)
  }

  @Test func softmaxOverChannels() throws {
    let found = try reason { g, x in g("Softmax", x, with: ["axis": 1], name: "attend") }
    #expect(found.kind == .mixed)
    #expect(found.sentence.contains("Softmax 'attend'"))
  }

  @Test func settingsAreNotData() throws {
    // Pruning the four numbers of `scales` as channels would change what is resized.
    let found = try reason(parameter: "scales") { g, x in
      g("Resize", x, nil, g.floats([1, 1, 2, 2], name: "scales"), name: "up")
    }
    #expect(found.kind == .settings)
    #expect(found.sentence.contains("Resize 'up'"))
  }

  @Test func statisticsAcrossChannels() throws {
    func kind(_ graph: Graph) throws -> Reason.Kind? {
      #expect(try CouplingReading(graph).reason("w", 0) == nil)
      return try CouplingReading(graph, exactOnly: true).reason("w", 0)?.kind
    }
    #expect(try kind(betweenConvolutions { g, x in g("LpNormalization", x, with: ["axis": 1]) }) == .normalized)
    #expect(
      try kind(betweenConvolutions(opset: 18, channels: 1) { g, x in g("ReduceMean", x, g.ints([1])) }) == .reduced)
  }

  @Test func onlyIndexTaken() throws {
    let graph = betweenConvolutions(channels: 1) { g, x in
      g("Slice", x, g.ints([3]), g.ints([4]), g.ints([1]), name: "pick")
    }
    let reading = try CouplingReading(graph)
    #expect(reading.reason("w", 0, index: 3)?.kind == .onlyIndexTaken)
    #expect(reading.reason("w", 0, index: 2) == nil)
    #expect(reading.groups == ["7: w.0"])
  }

  @Test func onePerBlock() throws {
    let graph = Pattern("", []) { attention($0) { g, q in g("Mul", q, g.weight([2, 1, 1], name: "s")) } }.graph()
    #expect(try CouplingReading(graph).reason("s", 0)?.kind == .onePerBlock)
  }

  @Test func subgraphsAndUnknownDomains() throws {
    let g = GraphBuilder()
    let h = g.conv(g.input("x", [1, 3, 4, 4]), 3, 8, "w")
    g.output(g.conv(g.node("Relu", [h], domain: "com.example", declared: [1, 8, 4, 4])[0], 8, 5, "v"))
    let reading = try CouplingReading(g.build())
    #expect(reading.reason("w", 0)?.kind == .noRule)
    #expect(reading.groups == [])
  }

  @Test func balancedWithFrozen() throws {
    // One of the two groups is a model output: the other must keep as many.
    let g = GraphBuilder()
    let w = g.conv(g.input("x", [1, 3, 4, 4]), 3, 8, "w")
    let halves = g.node("Split", [w], ["axis": 1], outputs: 2)
    g.output(g.conv(w, 8, 4, "k", groups: 2), halves[0])
    let reading = try CouplingReading(g.build())
    #expect(reading.groups == [])
    #expect(reading.reason("w", 0, index: 0)?.kind == .modelOutput)
    #expect(reading.reason("w", 0, index: 4)?.kind == .balancedWithFrozen)
    #expect(reading.reason("w", 0, index: 4)?.sentence(in: reading.model.graph).contains("Conv 'conv_k'") == true)
  }

  @Test("Axes that a file has one number for lose the same")
  func tiedAxes() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 4, 4])
    let (a, b) = (g.conv(x, 3, 8, "a"), g.conv(x, 3, 8, "b"))
    let (c, d) = (g.conv(a, 8, 5, "c"), g.conv(b, 8, 5, "d"))
    g.output(g.conv(c, 5, 2, "e"), d)
    let ties = [
      FormatConstraints.TiedAxes(a, b, axes: [(1, 1)]), FormatConstraints.TiedAxes(c, d, axes: [(1, 1)]),
    ]
    let reading = try CouplingReading(g.build(constraints: FormatConstraints(tiedAxes: ties)))
    #expect(reading.groups == ["8: a.0 b.0 c.1 d.1"])
    #expect(reading.reason("c", 0)?.kind == .modelOutput)
  }

  @Test("Blocks of which a file states one width lose the same")
  func evenAxes() throws {
    func reading(_ isEven: Bool) throws -> [String] {
      let g = GraphBuilder()
      let x = g.input("x", [1, 6, 8])
      let heads = g("Reshape", g("MatMul", x, g.weight([8, 8], name: "w")), g.ints([1, 6, 2, 4]))
      let flat = g("Reshape", heads, g.ints([1, 6, 8]))
      g.output(g("MatMul", flat, g.weight([8, 5], name: "v")))
      let even = isEven ? [FormatConstraints.FixedAxis(value: heads, axis: 3)] : []
      return try CouplingReading(g.build(constraints: FormatConstraints(evenAxes: even))).groups
    }
    #expect(try reading(false) == ["2x4: w.1 v.0"])
    #expect(try reading(true) == ["4: w.1*2 v.0*2"])
  }

  @Test func unusedTensors() throws {
    let g = GraphBuilder()
    _ = g.weight([8, 3, 1, 1], name: "unused")
    g.output(g.conv(g.conv(g.input("x", [1, 3, 4, 4]), 3, 8, "w"), 8, 5, "v"))
    let reading = try CouplingReading(g.build())
    #expect(reading.groups == ["8: w.0 v.1"])
    #expect(!reading.coupling.analysis.stored.origins.contains { reading.model.graph[$0.value].name == "unused" })
  }

  @Test("Inspect tells the operator that decides")
  func inspection() throws {
    let graph = betweenConvolutions { g, x in g("Softmax", x, with: ["axis": 1], name: "attend") }
    let inspection = try CompressibleModel(graph: graph, sizeBytes: 0).inspect(work: Work())
    #expect(inspection.layers.map(\.name) == ["conv_w", "conv_v"])
    #expect(!inspection.layers[0].methods.contains { $0.rawValue.hasPrefix("PR_") })
    #expect(inspection.layers[0].reason?.contains("Softmax 'attend'") == true)
    #expect(inspection.layers[1].reason?.contains("model output") == true)
  }
}
