import Compression
import ModelGraph
import TestSupport
import Testing

// A compressed model as it could come back from its file, right and with one thing wrong.

@Suite("What a compressed file holds") struct CompressedContentsTests {
  /// Two convolutions between which channels 1 and 2 of 4 go.
  private func network(
    first: Tensor, bias: Tensor, second: Tensor, op: String = "Relu", pads: Int = 0, reads: String = "first",
    batch: Dimension = 1, extra: (GraphBuilder) -> Void = { _ in }
  ) -> Graph {
    let g = GraphBuilder()
    let x = g.input("x", [batch, 2, 3, 3])
    extra(g)
    let a = g("Conv", x, g.stored(first, name: "first.w"), g.stored(bias, name: "first.b"), name: "first")
    let relu = g(op, a, name: "relu")
    g.output(
      g(
        "Conv", reads == "first" ? relu : a, g.stored(second, name: "second.w"),
        with: ["pads": .ints([pads, pads, pads, pads])], name: "second"))
    return g.build()
  }

  private let first = Tensor(float32: (0..<8).map(Float.init), shape: [4, 2, 1, 1])
  private let bias = Tensor(float32: [10, 11, 12, 13])
  private let second = Tensor(float32: (20..<32).map(Float.init), shape: [3, 4, 1, 1])
  private let keptFirst: [Float] = [0, 1, 6, 7]
  private let keptSecond: [Float] = [20, 23, 24, 27, 28, 31]

  private func difference(_ compressed: Graph) throws -> String? {
    let original = network(first: first, bias: bias, second: second)
    let plan = try PlanReading(original, removing: ["first": [1, 2]])
    return try CompressedContents(plan.planned, of: original, in: compressed).firstDifference(work: Work())
  }

  private func compressed(
    first: [Float]? = nil, bias: [Float] = [10, 13], second: [Float]? = nil, op: String = "Relu", pads: Int = 0,
    reads: String = "first", batch: Dimension = 1, extra: (GraphBuilder) -> Void = { _ in }
  ) -> Graph {
    network(
      first: Tensor(float32: first ?? keptFirst, shape: [2, 2, 1, 1]), bias: Tensor(float32: bias),
      second: Tensor(float32: second ?? keptSecond, shape: [3, 2, 1, 1]), op: op, pads: pads, reads: reads,
      batch: batch, extra: extra)
  }

  @Test func whatItShouldBe() throws { #expect(try difference(compressed()) == nil) }

  @Test("Numbers in another order, or others")
  func numbers() throws {
    #expect(try difference(compressed(first: [6, 7, 0, 1]))?.contains("'first.w'") == true)
    #expect(try difference(compressed(bias: [10, 13.000001]))?.contains("'first.b'") == true)
    #expect(try difference(compressed(second: [20, 23, 24, 27, 28, 30]))?.contains("'second.w'") == true)
  }

  /// Scores of one head whose width is divided by: by the root of the length as it is, or by a number.
  private func scores(queries: Tensor, keys: Tensor, divisor: Float? = nil) -> Graph {
    let g = GraphBuilder()
    let x = g.input("x", [1, 2, 2])
    let weight = g.stored(queries, name: "q.w")
    let q = g("MatMul", x, weight, name: "q")
    let k = g("MatMul", x, g.stored(keys, name: "k.w"), name: "k")
    let product = g("MatMul", q, g("Transpose", k, with: ["perm": [0, 2, 1]], name: "turned"), name: "product")
    let width = g("Cast", g("Shape", q, with: ["start": 2, "end": 3]), with: ["to": 1])
    let root = divisor.map { g.floats([$0], shape: []) } ?? g("Sqrt", width, name: "root")
    g.output(g("Div", product, root, name: "scaled"))
    guard divisor == nil else { return g.build() }
    let derived = FormatConstraints.DerivedRoot(
      of: FormatConstraints.FixedAxis(value: q, axis: 2), carriers: [weight])
    return g.build(constraints: FormatConstraints(derivedRoots: [root: derived]))
  }

  @Test("A number that the file works out again stays by a factor")
  func carriedFactors() throws {
    let all = Tensor(float32: (1...8).map(Float.init), shape: [2, 4])
    let original = scores(queries: all, keys: all)
    let plan = try PlanReading(original, removing: ["q": [1]])
    let factor = Double(3).squareRoot() / 2
    let kept: [Float] = [1, 3, 4, 5, 7, 8]
    let multiplied = Tensor(float32: kept.map { Float(Double($0) * factor) }, shape: [2, 3])
    let keys = Tensor(float32: kept, shape: [2, 3])
    #expect(plan.edits == ["scaled input 1 = 2.0"] && plan.planned.adjusted.map(\.parameter) == ["q.w"])
    #expect(plan.planned.adjusted.compactMap(\.factor).allSatisfy { abs($0 - factor) < 1e-12 })

    func difference(_ compressed: Graph) throws -> String? {
      try CompressedContents(plan.planned, of: original, in: compressed, isLowered: true).firstDifference(work: Work())
    }
    #expect(try difference(scores(queries: multiplied, keys: keys)) == nil)
    #expect(try difference(scores(queries: keys, keys: keys))?.contains("'q.w'") == true)
    #expect(try difference(scores(queries: multiplied, keys: multiplied))?.contains("'k.w'") == true)
    // A file that states the number has the numbers themselves.
    #expect(try difference(scores(queries: keys, keys: keys, divisor: 2)) == nil)
    #expect(try difference(scores(queries: multiplied, keys: keys, divisor: 2))?.contains("'q.w'") == true)
  }

  @Test("Other slices")
  func shapes() throws {
    let wide = network(first: first, bias: bias, second: second)
    #expect(try difference(wide)?.contains("[4, 2, 1, 1]") == true)
    #expect(try difference(compressed(first: [2, 3, 4, 5]))?.contains("'first.w'") == true)
  }

  @Test("Other nodes")
  func nodes() throws {
    #expect(try difference(compressed(op: "Sigmoid"))?.contains("Sigmoid") == true)
    #expect(try difference(compressed(pads: 1))?.contains("'pads'") == true)
    #expect(try difference(compressed(reads: "nothing"))?.contains("'first_out' as input 0") == true)
  }

  @Test("What nothing reads, and what only the signature tells")
  func besides() throws {
    #expect(try difference(compressed { _ = $0.floats([1], name: "junk") })?.contains("'junk'") == true)
    let node = compressed { _ = $0("Relu", $0.floats([1, 2]), name: "junk") }
    #expect(try difference(node)?.contains("nothing reads") == true)
    #expect(try difference(compressed(batch: "batch"))?.contains("'x', one of the inputs") == true)
    let right = compressed()
    let later = Graph(
      values: right.values, nodes: right.nodes, inputs: right.inputs, outputs: right.outputs,
      definitions: OperatorDefinitions(opsets: ["": 21]))
    #expect(try difference(later)?.contains("version 21") == true)
  }
}
