import Compression
import ModelGraph
import TestSupport
import Testing

// The masked original and its twin, read back in words: `b reads p silenced [1, 4, 1, 1] 1011`.

@Suite("The masked original") struct MaskedOriginalTests {
  /// The original with `channels` removed, masked (or its twin).
  private func masked(
    _ graph: Graph, removing channels: KeyValuePairs<String, [Int]>, twin: Bool = false, shapes: [String: [Int]] = [:]
  ) throws -> Words {
    let plan = try PlanReading(graph, removing: channels)
    let table = shapes.isEmpty ? plan.model.shapes.nominal : try graph.inferShapes(given: shapes).nominal
    let result = try plan.planned.graph(of: twin ? .twin : .original, original: graph, shapes: table, work: Work())
    // What was built is a graph like any other: its shapes fit together, and its values are the original's.
    let known = try result.inferShapes(given: shapes.isEmpty ? [:] : shapes).nominal
    for output in graph.outputs { #expect(known[output] == table[output]) }
    #expect(result.outputs == graph.outputs && result.inputs == graph.inputs)
    return Words(result)
  }

  @Test("What sums over channels reads them silenced, once for all its readers")
  func convolutions() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 8, 8])
    let a = g("Relu", g.conv(x, 3, 4, "a", name: "first"), name: "relu")
    let b = g.conv(a, 4, 4, "b", name: "left")
    let c = g.conv(a, 4, 4, "c", name: "right")
    g.output(g.conv(g("Add", b, c, name: "sum"), 4, 2, "d", name: "head"))
    let words = try masked(g.build(), removing: ["first": [1]])
    #expect(words.silenced == ["relu_out [1, 4, 1, 1] 1011"])
    #expect(words.readers(ofSilenced: "relu_out") == ["left", "right"])
    #expect(words.weightsThatChanged(from: g.build()).isEmpty)
    #expect(words.nodes == ["Conv first", "Relu relu", "Where", "Conv left", "Conv right", "Add sum", "Conv head"])
  }

  @Test("Products of activations: both operands, over heads and their widths")
  func products() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["batch", 5, 6])
    func projected(_ name: String) -> ValueID {
      let flat = g("MatMul", x, g.weight([6, 4], name: name), name: name)
      return g(
        "Transpose", g("Reshape", flat, g.ints([0, 0, 2, 2])), with: ["perm": [0, 2, 1, 3]], name: "\(name) heads")
    }
    let (q, k) = (projected("q"), g("Transpose", projected("k"), with: ["perm": [0, 1, 3, 2]], name: "kt"))
    g.output(g("MatMul", q, k, name: "scores"))
    let words = try masked(g.build(), removing: ["q": [1, 3]])
    #expect(words.silenced == ["kt_out [1, 2, 2, 1] 1010", "q heads_out [1, 2, 1, 2] 1010"])
  }

  @Test("An axis of batch and heads in one, at the lengths of the run")
  func mergedAxes() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["batch", 5, 6])
    let flat = g("MatMul", x, g.weight([6, 4], name: "w"), name: "project")
    let heads = g("Transpose", g("Reshape", flat, g.ints([0, 0, 2, 2])), with: ["perm": [0, 2, 1, 3]])
    let merged = g("Reshape", heads, g.ints([-1, 5, 2]), name: "merge")
    g.output(g("MatMul", merged, g.weight([2, 3], name: "v"), name: "mix"))
    // Three samples of two heads, of which each loses its first entry.
    let words = try masked(g.build(), removing: ["project": [0, 2]], shapes: ["x": [3, 5, 6]])
    #expect(words.silenced == ["merge_out [6, 1, 2] 010101010101"])
  }

  @Test("Where an operator sums what it computes itself, its weights are silenced")
  func fusedProjection() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 5, 6])
    let y = g.node(
      "Attention", [x, g.weight([6, 12], name: "qkv"), g.weight([12], name: "qkv.bias")], ["num_heads": 2],
      name: "attend", domain: "com.microsoft")
    g.output(g("MatMul", y[0], g.weight([4, 3], name: "v"), name: "head"))
    let model = try CompressibleModel(graph: g.build(), sizeBytes: 0)
    // Of queries (0 to 3) and keys (4 to 7), the first entry of either head.
    let gone = RemovedSlices.Indices.all([0, 2, 4, 6])
    let planned = try model.plan(
      RemovalListing(
        removed: [
          RemovedSlices(parameter: "qkv", axis: 1, indices: gone),
          RemovedSlices(parameter: "qkv.bias", axis: 0, indices: gone),
        ], copied: []), work: Work())
    let words = Words(
      try planned.graph(of: .original, original: model.graph, shapes: model.shapes.nominal, work: Work()))
    #expect(words.zeros(of: "attend", input: 1, axis: 1) == [0, 2, 4, 6])
    #expect(words.zeros(of: "attend", input: 2, axis: 0) == [0, 2, 4, 6])
    #expect(words.silenced.isEmpty)
  }

  @Test("A normalization keeps its operands; its twin sees what stays and spreads it")
  func normalization() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 2, 5])
    let h = g("MatMul", x, g.weight([5, 4], name: "w"), name: "embed")
    let n = g(
      "LayerNormalization", h, g.weight([4], name: "scale"), g.weight([4], name: "shift"), with: ["axis": -1],
      name: "norm")
    g.output(g("MatMul", n, g.weight([4, 3], name: "v"), name: "head"))
    let graph = g.build()
    #expect(try masked(graph, removing: ["embed": [0, 2]]).silenced == ["norm_out [1, 1, 4] 0101"])
    let words = try masked(graph, removing: ["embed": [0, 2]], twin: true)
    #expect(
      words.nodes == [
        "MatMul embed", "Gather", "Gather", "Gather", "LayerNormalization norm", "Gather", "Where", "MatMul head",
      ])
    #expect(words.gathers == ["embed_out.2 [1, 3]", "scale.0 [1, 3]", "shift.0 [1, 3]", "→norm_out.2 [0, 0, 0, 1]"])
  }

  @Test("A normalization over several axes at once, in one piece of which channels go")
  func groups() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 2, 2])
    let h = g.conv(x, 3, 6, "w", name: "conv")
    let halves = g("Reshape", h, g.ints([1, 2, 12]), name: "halves")
    let n = g(
      "InstanceNormalization", halves, g.floats([1, 1], name: "ones"), g.floats([0, 0], name: "zeros"), name: "norm")
    g.output(g.conv(g("Reshape", n, g.ints([1, 6, 2, 2]), name: "back"), 6, 2, "v", name: "head"))
    let words = try masked(g.build(), removing: ["conv": [0, 5]], twin: true)
    #expect(
      words.nodes == [
        "Conv conv", "Reshape halves", "Reshape", "Gather", "Reshape", "InstanceNormalization norm", "Reshape",
        "Gather",
        "Reshape", "Reshape back", "Where", "Conv head",
      ])
    // Two halves of three channels of four positions: without the first of all and the last of all.
    let kept = Array(4..<20)
    #expect(
      words.gathers == [
        ".1 \(kept)", "→.1 \([0, 0, 0, 0] + kept.map { $0 - 4 } + [0, 0, 0, 0])",
      ])
  }

  @Test("A sum is exact with its operands silenced, a mean is not")
  func reductions() throws {
    for (op, isSilenced) in [("ReduceSum", true), ("ReduceMean", false)] {
      let g = GraphBuilder(opset: 18)
      let x = g.input("x", [1, 2, 5])
      let h = g("MatMul", x, g.weight([5, 4], name: "w"), name: "embed")
      let mean = g(op, h, g.ints([-1]), name: "mean")
      g.output(g("MatMul", g("Mul", h, mean, name: "scaled"), g.weight([4, 3], name: "v"), name: "head"))
      let graph = g.build()
      let words = try masked(graph, removing: ["embed": [3]])
      #expect(words.silenced.contains("embed_out [1, 1, 4] 1110") == isSilenced, "\(op)")
      #expect(try masked(graph, removing: ["embed": [3]], twin: true).gathers == ["embed_out.2 [0, 1, 2]"])
    }
  }

  @Test("Half precision is silenced by a zero of its own type")
  func types() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 4, 4], dtype: .float16)
    func half(_ shape: [Int], _ name: String) -> ValueID {
      g.stored(
        Tensor(
          dtype: .float16, shape: shape,
          bytes: TensorBytes(copying: [UInt16](repeating: 0x3c00, count: shape.reduce(1, *)))),
        name: name)
    }
    let a = g("Relu", g("Conv", x, half([4, 3, 1, 1], "a"), name: "first"))
    g.output(g("Conv", a, half([2, 4, 1, 1], "b"), name: "second"))
    let words = try masked(g.build(), removing: ["first": [0]])
    #expect(words.zeroTypes == [.float16])
  }
}

/// A graph that verification made, in words.
private struct Words {
  let graph: Graph
  init(_ graph: Graph) { self.graph = graph }

  private func name(_ id: ValueID) -> String { graph[id].name }

  var nodes: [String] { graph.nodes.map { $0.name.isEmpty ? $0.op : "\($0.op) \($0.name)" } }

  private var masks: [(value: ValueID, words: String, output: ValueID, zero: ValueID)] {
    graph.nodes.compactMap { node in
      guard node.op == "Where", node.name.isEmpty, let mask = node.input(0).flatMap({ graph[$0].tensor }),
        let value = node.input(1), let zero = node.input(2), let output = node.output(0)
      else { return nil }
      let bits = mask.bytes.buffer.map { $0 == 0 ? "0" : "1" }.joined()
      return (value, "\(name(value)) \(mask.shape) \(bits)", output, zero)
    }
  }

  var silenced: [String] { masks.map(\.words).sorted() }
  var zeroTypes: [DType?] { masks.map { graph[$0.zero].dtype } }

  func readers(ofSilenced name: String) -> [String] {
    masks.filter { self.name($0.value) == name }.flatMap { graph.uses(of: $0.output) }.map { graph[$0.node].name }
  }

  /// Selections and spreadings: what of which value along which axis; a spreading names what it makes.
  var gathers: [String] {
    graph.nodes.compactMap { node in
      guard node.op == "Gather", node.name.isEmpty, let value = node.input(0), let output = node.output(0),
        let indices = node.input(1).flatMap({ graph[$0].tensor }).flatMap(ElementArray.init(reading:))?.integers
      else { return nil }
      let isSpreading = Set(indices).count < indices.count
      return "\(isSpreading ? "→\(name(output))" : name(value)).\(node.int("axis", default: 0)) \(indices)"
    }
  }

  func weightsThatChanged(from original: Graph) -> [String] {
    original.valueIDs.filter { id in
      original[id].tensor?.bytes.base != graph[id].tensor?.bytes.base
    }.map { original[$0].name }
  }

  /// The indices along `axis` of a stored input at which everything is zero.
  func zeros(of node: String, input: Int, axis: Int) -> [Int] {
    guard let tensor = graph.nodes.first(where: { $0.name == node })?.input(input).flatMap({ graph[$0].tensor })
    else { return [] }
    let inner = tensor.shape[(axis + 1)...].reduce(1, *)
    return (0..<tensor.shape[axis]).filter { index in
      (0..<tensor.elementCount).allSatisfy { k in
        k / inner % tensor.shape[axis] != index
          || tensor.bytes.buffer.loadUnaligned(fromByteOffset: 4 * k, as: Float.self) == 0
      }
    }
  }
}
