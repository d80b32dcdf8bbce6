/// Multiply-adds and parameters, checked by hand.
import ModelGraph
import TestSupport
import Testing

@Suite struct CostTests {
  private func macs(
    _ op: String, _ shapes: [[Int]?], output: [Int], _ attributes: [String: Attribute] = [:], domain: String = ""
  ) -> Int {
    let g = GraphBuilder()
    var known: [ValueID: [Int]] = [:]
    let inputs = shapes.map { shape -> ValueID? in
      guard let shape else { return nil }
      let id = g.input("x", nil)
      known[id] = shape
      return id
    }
    let y = g.node(op, inputs, attributes, domain: domain)[0]
    known[y] = output
    let graph = g.build()
    return CostModel.macs(of: graph.nodes[0], in: graph, shapes: { known[$0] })
  }

  @Test func multiplyAddsByHand() {
    // 2 images of 5x6 outputs, 8 channels, each a sum over 3 channels of 3x3.
    #expect(macs("Conv", [[2, 3, 7, 8], [8, 3, 3, 3]], output: [2, 8, 5, 6]) == 2 * 8 * 5 * 6 * 27)
    #expect(macs("Conv", [[1, 8, 7, 7], [8, 1, 3, 3]], output: [1, 8, 7, 7]) == 8 * 49 * 9)
    #expect(macs("QLinearConv", [[1, 3, 4], [], [], [8, 3, 1]], output: [1, 8, 4]) == 8 * 4 * 3)
    #expect(macs("ConvTranspose", [[1, 8, 7, 7], [8, 4, 2, 2]], output: [1, 4, 14, 14]) == 8 * 49 * 4 * 4)
    #expect(macs("Gemm", [[2, 3], [3, 4]], output: [2, 4]) == 24)
    #expect(macs("Gemm", [[3, 2], [4, 3]], output: [2, 4], ["transA": 1, "transB": 1]) == 24)
    #expect(macs("MatMul", [[2, 5, 3, 4], [4, 6]], output: [2, 5, 3, 6]) == 2 * 5 * 3 * 6 * 4)
    #expect(macs("MatMul", [[4], [4]], output: []) == 4)
    #expect(macs("FusedMatMul", [[4, 3], [4, 5]], output: [3, 5], ["transA": 1], domain: "com.microsoft") == 60)
    #expect(macs("Einsum", [[2, 3], [3, 4]], output: [2, 4], ["equation": "ij,jk->ik"]) == 24)
    #expect(macs("Einsum", [[2, 3]], output: [3, 2], ["equation": "ij->ji"]) == 0)
    #expect(macs("LSTM", [[7, 2, 5], [2, 12, 5], [2, 12, 3]], output: [7, 2, 2, 3]) == 7 * 2 * 2 * 12 * 8)
    let (query, key) = ([2, 6, 4, 8], [2, 3, 5, 8])
    #expect(macs("Attention", [query, key, [2, 3, 5, 7]], output: [2, 6, 4, 7]) == 2 * 6 * 4 * 5 * (8 + 7))
    #expect(macs("Relu", [[2, 3]], output: [2, 3]) == 0)
    #expect(macs("Conv", [[2, 3, 7, 8], [8, 3, 3, 3]], output: [2, 8, 5, 6], domain: "mine") == 0)
    #expect(macs("MatMul", [[0, 4], [4, 6]], output: [0, 6]) == 0)
    #expect(macs("MatMul", [[1 << 40, 4], [4, 1 << 40]], output: [1 << 40, 1 << 40]) == .max)
  }

  @Test func parametersAreCountedOnce() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 4, 8, 8])
    let shared = g.weight([4, 4, 3, 3])
    let a = g.node("Conv", [x, shared, g.weight([4])], ["pads": [1, 1, 1, 1]])[0]
    let b = g("Conv", a, g("Identity", shared), with: ["pads": [1, 1, 1, 1]])
    let scaled = g("Mul", b, g.floats([2], shape: []))
    let quantized = g.stored(Tensor(dtype: .int8, shape: [5, 256], bytes: TensorBytes(count: 1280) { _ in }))
    let flat = g("Reshape", g("Resize", scaled, nil, g.floats([1, 1, 1, 1])), g.ints([1, 256]))
    let y = g("Gemm", flat, g("DequantizeLinear", quantized, g.floats([1], shape: [])), with: ["transB": 1])
    _ = g.weight([1000], name: "unread")
    g.output(y)
    let graph = g.build()
    #expect(CostModel.parameters(of: graph) == 144 + 4 + 1280)
    let layers = graph.nodeIDs.filter { ["Conv", "Gemm", "Resize", "Mul"].contains(graph[$0].op) }
    #expect(layers.map { CostModel.parameters(of: $0, in: graph) } == [148, 144, 0, 0, 1280])
    let table = try graph.inferShapes(inputShapes: [x: [1, 4, 8, 8]], symbols: [:])
    #expect(CostModel.macs(of: graph, shapes: { table[$0] }) == 2 * 4 * 64 * 36 + 1280)
  }
}
