import Compression
import ModelGraph
import TestSupport
import Testing

// The certificate lets good plans through and catches every single fault planted in one: a swapped index, a wrong
// setting, a wrong list.

/// A plan with all that its certificate needs.
private struct Proof {
  let reading: CouplingReading
  let removal: Removal
  let plan: CompressionPlan

  init(_ graph: Graph, removing channels: [Int], of layer: String = "conv_w") throws {
    reading = try CouplingReading(graph)
    plan = try PlanReading(graph, removing: [layer: channels]).planned.plan
    let outputs = try #require(reading.coupling.layers.first { $0.name == layer }?.outputs)
    let coupling = reading.coupling
    removal = Removal(coupling, classes: channels.map { coupling.classOf[Int(outputs.range.lowerBound) + $0] })
  }

  func check(_ plan: CompressionPlan) throws -> CertificateReport {
    let lengths = reading.model.shapes.analysisLengths
    return try Certificate(removal: removal).check(
      plan, shapes: removal.lengths(), inputShapes: lengths.shapes, symbols: lengths.symbols, work: Work())
  }

  /// The kept list of one axis replaced.
  func slicing(_ parameter: String, _ axis: Int, _ kept: AxisSlice.Kept) throws -> CompressionPlan {
    var faulty = plan
    let s = try #require(plan.slices.firstIndex { reading.model.graph[$0.value].name == parameter })
    faulty.slices[s] = TensorSlice(
      value: plan.slices[s].value,
      axes: plan.slices[s].axes.map { $0.axis == axis ? AxisSlice(axis: axis, kept: kept) : $0 })
    return faulty
  }

  func node(_ name: String) throws -> NodeID {
    try #require(reading.model.graph.nodeIDs.first { reading.model.graph[$0].name == name })
  }

  /// The edits of one node's setting replaced (or added).
  func editing(_ edit: NodeEdit, replacing old: String? = nil) -> CompressionPlan {
    var faulty = plan
    faulty.edits.removeAll { PlanReading.words($0, reading.model.graph).hasPrefix(old ?? "\u{0}") }
    faulty.edits.append(edit)
    return faulty
  }

  /// Expects a fault, told with the name of a node or value.
  func expectFault(
    _ faulty: CompressionPlan, at names: Set<String>, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let failure = try #require(throws: Failure.self, sourceLocation: sourceLocation) { try check(faulty) }
    #expect(failure.kind == .certificateFailed, sourceLocation: sourceLocation)
    let named = ["node", "value"].compactMap { key in
      if case .string(let name) = failure.details[key] { name } else { nil }
    }
    #expect(!names.isDisjoint(with: named), "\(failure.message) names \(named)", sourceLocation: sourceLocation)
  }
}

@Suite("Certificate") struct CertificateTests {
  private func residual() -> Graph {
    betweenConvolutions { g, x in
      let side = g("Relu", g.conv(x, 8, 8, "s"), name: "relu")
      let scaled = g("Mul", g("Add", x, side, name: "sum"), g.weight([8, 1, 1], name: "c"), name: "scaled")
      return scaled
    }
  }

  @Test("A good plan passes, with something compared")
  func good() throws {
    let proof = try Proof(residual(), removing: [1, 6])
    let report = try proof.check(proof.plan)
    #expect(report.labelsCompared > 0)
    #expect(report.valuesChecked > 0)
  }

  @Test("Every single swapped index is caught, in every parameter and at every place")
  func swappedIndices() throws {
    let proof = try Proof(residual(), removing: [1, 6])
    let graph = proof.reading.model.graph
    for slice in proof.plan.slices {
      for axis in slice.axes {
        guard case .indices(let kept) = axis.kept else { continue }
        for position in kept.indices {
          for removed in [1, 6] {
            var wrong = kept
            wrong[position] = removed
            wrong.sort()
            let faulty = try proof.slicing(graph[slice.value].name, axis.axis, .indices(wrong))
            let failure = #expect(throws: Failure.self, "\(graph[slice.value].name).\(axis.axis) \(wrong)") {
              try proof.check(faulty)
            }
            #expect(failure?.kind == .certificateFailed)
          }
        }
      }
    }
  }

  @Test("Indices out of order are caught")
  func disorder() throws {
    let proof = try Proof(residual(), removing: [1, 6])
    try proof.expectFault(try proof.slicing("c", 0, .indices([0, 3, 2, 4, 5, 7])), at: ["scaled"])
  }

  @Test(
    "A list that is too long, too short, or reaches outside is caught",
    arguments: [
      [0, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5, 7], [0, 2, 3, 4, 5, 8], [-1, 2, 3, 4, 5, 7], [],
    ])
  func badLists(_ kept: [Int]) throws {
    let proof = try Proof(residual(), removing: [1, 6])
    let faulty = try proof.slicing("c", 0, .indices(kept))
    let failure = try #require(throws: Failure.self) { try proof.check(faulty) }
    #expect(failure.kind == .certificateFailed)
  }

  @Test("A tensor that was forgotten is caught")
  func forgotten() throws {
    let proof = try Proof(residual(), removing: [1, 6])
    for k in proof.plan.slices.indices {
      var faulty = proof.plan
      faulty.slices.remove(at: k)
      let failure = try #require(throws: Failure.self) { try proof.check(faulty) }
      #expect(failure.kind == .certificateFailed)
    }
  }

  @Test("A wrong group attribute is caught")
  func group() throws {
    let proof = try Proof(betweenConvolutions { g, x in g.conv(x, 8, 8, "k", groups: 8) }, removing: [1, 6])
    let k = try proof.node("conv_k")
    for number in [1, 2, 3, 8] {
      let faulty = proof.editing(
        .setAttribute(node: k, name: "group", value: .int(number)), replacing: "conv_k group")
      let failure = try #require(throws: Failure.self) { try proof.check(faulty) }
      #expect(failure.kind == .certificateFailed)
    }
  }

  @Test("Another list for one group of a convolution is caught")
  func perGroup() throws {
    let graph = betweenConvolutions { g, x in g.conv(x, 8, 8, "k", groups: 4) }
    let proof = try Proof(graph, removing: [0, 3, 4, 7])
    _ = try proof.check(proof.plan)
    for g in 0..<4 {
      var blocks = [[1], [0], [1], [0]]
      blocks[g] = [1 - blocks[g][0]]
      try proof.expectFault(try proof.slicing("k", 1, .perBlock(blockAxis: 0, blocks)), at: ["conv_k"])
    }
  }

  @Test("A filter of another depthwise channel is caught")
  func multiplier() throws {
    let graph = betweenConvolutions(channels: 24) { g, x in g.conv(x, 8, 24, "k", groups: 8) }
    let proof = try Proof(graph, removing: [1, 2, 3, 4, 5, 6])
    _ = try proof.check(proof.plan)
    for wrong in [[0, 1, 2, 20, 22, 23], [0, 1, 3, 21, 22, 23], [3, 4, 5, 21, 22, 23]] {
      let failure = try #require(throws: Failure.self) { try proof.check(try proof.slicing("k", 0, .indices(wrong))) }
      #expect(failure.kind == .certificateFailed)
    }
  }

  private func halves(_ op: (GraphBuilder, ValueID) -> [ValueID]) -> Graph {
    betweenConvolutions { g, x in
      let parts = op(g, x)
      return g("Add", g.conv(parts[0], 4, 8, "p"), g.conv(parts[1], 4, 8, "q"), name: "sum")
    }
  }

  @Test("Wrong Split sizes are caught", arguments: [[4, 2], [3, 3], [1, 5]])
  func splitSizes(_ sizes: [Int64]) throws {
    let graph = halves { g, x in g.node("Split", [x, g.ints([4, 4])], ["axis": 1], outputs: 2, name: "s") }
    let proof = try Proof(graph, removing: [1, 2])
    _ = try proof.check(proof.plan)
    try proof.expectFault(
      proof.editing(.setInput(node: try proof.node("s"), input: 1, tensor: Tensor(int64: sizes)), replacing: "s input"),
      at: ["s_out", "s_out1", "s", "conv_p", "conv_q"])
  }

  @Test("Slice bounds of the right length at the wrong place are caught")
  func sliceBounds() throws {
    let graph = halves { g, x in
      [
        g("Slice", x, g.ints([0]), g.ints([4]), g.ints([1]), name: "a"),
        g("Slice", x, g.ints([4]), g.ints([8]), g.ints([1]), name: "b"),
      ]
    }
    let proof = try Proof(graph, removing: [1, 6])
    _ = try proof.check(proof.plan)
    var faulty = proof.editing(
      .setInput(node: try proof.node("b"), input: 1, tensor: Tensor(int64: [2])), replacing: "b input")
    faulty.edits.append(.setInput(node: try proof.node("b"), input: 2, tensor: Tensor(int64: [5])))
    try proof.expectFault(faulty, at: ["conv_q"])
  }

  @Test("A wrong Gather list is caught, also where a Slice became the Gather")
  func gatherLists() throws {
    let picked = halves { g, x in
      [
        g("Gather", x, g.ints([0, 2, 4, 6]), with: ["axis": 1], name: "a"),
        g("Gather", x, g.ints([1, 3, 5, 7]), with: ["axis": 1], name: "b"),
      ]
    }
    let list = try Proof(picked, removing: [2, 6])
    _ = try list.check(list.plan)
    try list.expectFault(
      list.editing(
        .setInput(node: try list.node("a"), input: 1, tensor: Tensor(int64: [0, 4])), replacing: "a input"),
      at: ["conv_p"])
    let stepped = halves { g, x in
      [
        g("Slice", x, g.ints([0]), g.ints([8]), g.ints([1]), g.ints([2]), name: "a"),
        g("Slice", x, g.ints([1]), g.ints([8]), g.ints([1]), g.ints([2]), name: "b"),
      ]
    }
    let slice = try Proof(stepped, removing: [2])
    _ = try slice.check(slice.plan)
    try slice.expectFault(
      slice.editing(.becomeGather(node: try slice.node("a"), axis: 1, indices: [0, 4, 5]), replacing: "a →"),
      at: ["conv_p"])
  }

  @Test("A wrong constant of a Reshape is caught", arguments: [[1, 5, 16], [1, 3, 32], [1, 16, 6]])
  func reshapeTarget(_ target: [Int64]) throws {
    let graph = betweenConvolutions { g, x in
      g("Reshape", g("Reshape", x, g.ints([1, 8, 16]), name: "r"), g.ints([1, 8, 4, 4]), name: "back")
    }
    let proof = try Proof(graph, removing: [1, 6])
    let faulty = proof.editing(
      .setInput(node: try proof.node("r"), input: 1, tensor: Tensor(int64: target)), replacing: "r input")
    let failure = try #require(throws: Failure.self) { try proof.check(faulty) }
    #expect(failure.kind == .certificateFailed)
  }

  @Test("A swap between channels that look alike after shrinking is caught")
  func shrunken() throws {
    // Three of four channels of each group go: the convolution looks depthwise now, and its index lists still count.
    let g = GraphBuilder()
    let w = g.conv(g.input("x", [1, 3, 4, 4]), 3, 16, "w")
    g.output(g.conv(g.conv(w, 16, 16, "k", groups: 4), 16, 5, "v"))
    let proof = try Proof(g.build(), removing: (0..<16).filter { $0 % 4 != 2 })
    _ = try proof.check(proof.plan)
    try proof.expectFault(try proof.slicing("k", 1, .indices([1])), at: ["conv_k"])
    try proof.expectFault(try proof.slicing("w", 0, .indices([2, 6, 10, 15])), at: ["conv_k"])
  }
}
