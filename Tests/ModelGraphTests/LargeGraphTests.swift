/// Inference is linear in the graph: a deep network with exporters' shape arithmetic takes milliseconds.
import ModelGraph
import TestSupport
import Testing

@Suite struct LargeGraphTests {
  /// 500 attention-like blocks of 7 nodes, each reading its Reshape target off a Shape.
  @Test func thousandsOfNodes() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", "T", 64])
    let zero = g.ints([0])
    let weight = g.weight([64, 64])
    var y = x
    for _ in 0..<500 {
      let batch = g("Gather", g("Shape", y), zero)
      let target = g("Concat", batch, g.ints([-1, 4, 16]), with: ["axis": 0])
      let heads = g("Transpose", g("Reshape", g("MatMul", y, weight), target), with: ["perm": [0, 1, 3, 2]])
      y = g("Reshape", heads, g.ints([0, 0, 64]))
    }
    let graph = g.build()
    #expect(graph.nodes.count == 3500)
    let clock = ContinuousClock()
    // The best of a few: a busy machine shall not fail it.
    let durations = try (0..<5).map { _ in try clock.measure { _ = try graph.inferShapes() } }
    let shapes = try graph.inferShapes()
    #expect(shapes.analysis[y] == [1009, 1013, 64])
    #expect(CostModel.macs(of: graph, shapes: { shapes.nominal[$0] }) == 500 * 128 * 64 * 64)
    #expect(durations.min() ?? .seconds(1) < .milliseconds(60))
  }
}
