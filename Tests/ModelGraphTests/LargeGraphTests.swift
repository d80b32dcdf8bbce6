/// Inference is linear in the graph, also where it is deep and full of exporters' shape arithmetic.
import ModelGraph
import TestSupport
import Testing

@Suite struct LargeGraphTests {
  /// 500 attention-like blocks of 7 nodes, each reading its Reshape target off a Shape.
  @Test func thousandsOfNodes() throws {
    let (graph, y) = blocks(500)
    #expect(graph.nodes.count == 3500)
    let shapes = try graph.inferShapes()
    #expect(shapes.analysis[y] == [1009, 1013, 64])
    #expect(CostModel.macs(of: graph, shapes: { shapes.nominal[$0] }) == 500 * 128 * 64 * 64)
  }

  /// Four times as many blocks take four times as long, where each looking at all others would take sixteen times.
  @Test func timeGrowsWithTheGraph() throws {
    let (small, _) = blocks(250)
    let (large, _) = blocks(1000)
    let clock = ContinuousClock()
    // The best of a few, in turns: a busy machine shall not fail it.
    var best = (small: Duration.seconds(60), large: Duration.seconds(60))
    for _ in 0..<5 {
      best.small = min(best.small, try clock.measure { _ = try small.inferShapes() })
      best.large = min(best.large, try clock.measure { _ = try large.inferShapes() })
    }
    #expect(best.large < best.small * 10)
  }

  private func blocks(_ count: Int) -> (graph: Graph, result: ValueID) {
    let g = GraphBuilder()
    let x = g.input("x", ["N", "T", 64])
    let zero = g.ints([0])
    let weight = g.weight([64, 64])
    var y = x
    for _ in 0..<count {
      let batch = g("Gather", g("Shape", y), zero)
      let target = g("Concat", batch, g.ints([-1, 4, 16]), with: ["axis": 0])
      let heads = g("Transpose", g("Reshape", g("MatMul", y, weight), target), with: ["perm": [0, 1, 3, 2]])
      y = g("Reshape", heads, g.ints([0, 0, 64]))
    }
    return (g.build(), y)
  }
}
