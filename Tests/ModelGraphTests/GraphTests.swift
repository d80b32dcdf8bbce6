import ModelGraph
import TestSupport
import Testing

/// What a graph makes sure of, whoever builds it.
@Suite struct GraphTests {
  @Test("A value names the node that computes it, whatever it named in another graph")
  func producers() {
    let values = [
      Value(name: "x", producer: NodeID(7)), Value(name: "a", producer: NodeID(1)), Value(name: "y"),
      Value(name: "unread", dtype: .float32, producer: NodeID(0), tensor: Tensor(float32: [1], shape: [1])),
    ]
    let relu = { (input: Int, output: Int) in
      Node(name: "", op: "Relu", opset: 17, inputs: [ValueID(input)], outputs: [ValueID(output)])
    }
    let graph = Graph(
      values: values, nodes: [relu(0, 1), relu(1, 2)], inputs: [ValueID(0)], outputs: [ValueID(2)])
    #expect(graph.values.map(\.producer) == [nil, NodeID(0), NodeID(1), nil])
    #expect(graph.values.map(\.name) == values.map(\.name))
    #expect(graph.values[3].tensor?.shape == [1])
  }

  @Test("Positions are integers, whatever was ranked")
  func elementTypes() {
    let g = GraphBuilder()
    let x = g.input("x", [1, 4, 8, 8])
    let ranked = g.node("TopK", [x, g.ints([3])], outputs: 2)
    let pooled = g.node("MaxPool", [x], ["kernel_shape": .ints([2, 2])], outputs: 2)
    let dropped = g.node("Dropout", [x], outputs: 2)
    let classes = g("OneHot", ranked[1], g.ints([4]), g.floats([0, 1]))
    let graph = g.build()
    #expect(
      (ranked + pooled + dropped + [classes]).map { graph.elementType(of: $0) }
        == [.float32, .int64, .float32, .int64, .float32, .bool, .float32])
  }
}
