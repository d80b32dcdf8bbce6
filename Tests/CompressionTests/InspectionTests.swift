import Compression
import ModelGraph
import TestSupport
import Testing

/// What inspect says of layers and groups: no unit goes that no layer shows, and both tell the same of who goes with
/// whom.
@Suite("Inspection") struct InspectionTests {
  private func inspect(_ g: GraphBuilder) throws -> Inspection {
    let found = try CompressibleModel(graph: g.build(), sizeBytes: 0).inspect(work: Work())
    for layer in found.layers {
      let groups = layer.otherGroups + [layer.group].compactMap { $0 }
      let together = Set(groups.flatMap { id in found.groups[id].layers }).subtracting([layer.name])
      #expect(Set(layer.coupledWith) == together, "\(layer.name)")
    }
    for group in found.groups where group.prunable { #expect(!group.layers.isEmpty, "\(group.name)") }
    return found
  }

  @Test("A table that data picks rows of is a layer")
  func table() throws {
    let g = GraphBuilder()
    let ids = g.input("ids", [1, 6], dtype: .int64)
    let words = g("Gather", g.weight([50, 16], name: "words"), ids, name: "embedding")
    g.output(g("MatMul", words, g.weight([16, 3], name: "head"), name: "head"))
    let found = try inspect(g)
    #expect(found.layers.map(\.name) == ["embedding", "head"])
    let layer = found.layers[0]
    #expect(layer.op == "Gather" && layer.channels == [50, 16] && layer.parameters == 800)
    #expect(layer.reason == nil && layer.group == 0)
    #expect(found.groups[0].layers == ["embedding"] && found.groups[0].size == 16)
  }

  @Test("Weights that are standardised when the network runs count")
  func standardised() throws {
    let g = GraphBuilder(opset: 18)
    let w = g.weight([8, 3, 1, 1], name: "w")
    let mean = g("ReduceMean", w, g.ints([1, 2, 3]), with: ["keepdims": 1])
    let y = g("Conv", g.input("x", [1, 3, 4, 4]), g("Sub", w, mean), name: "first")
    g.output(g("Conv", g("Relu", y), g.weight([5, 8, 1, 1], name: "v"), name: "second"))
    let found = try inspect(g)
    #expect(found.layers.map(\.name) == ["first", "second"])
    #expect(found.layers.map(\.parameters) == [24, 40])
    #expect(found.layers[0].parameter == "w" && found.layers[0].reason == nil)
  }

  @Test("The hidden layer of a network that makes a bias from constants alone")
  func metaNetwork() throws {
    let g = GraphBuilder()
    let hidden = g("Relu", g("MatMul", g.weight([4, 2], name: "places"), g.weight([2, 12], name: "a"), name: "fc1"))
    let bias = g("MatMul", hidden, g.weight([12, 8], name: "b"), name: "fc2")
    g.output(g("Add", g.input("x", [4, 8]), bias))
    let found = try inspect(g)
    #expect(found.layers.contains { $0.name == "fc1" && $0.channels == [2, 12] && $0.reason == nil })
  }

  @Test("Channels and the units they make")
  func channelsOfUnits() throws {
    let g = GraphBuilder()
    // Each channel of the first stands beside itself: sixteen rows of the second, eight units.
    let x = g("Relu", g("Conv", g.input("x", [1, 3, 4, 4]), g.weight([8, 3, 1, 1], name: "w"), name: "first"))
    let depthwise = g("Conv", x, g.weight([16, 1, 1, 1], name: "d"), with: ["group": 8], name: "multiplied")
    g.output(g("Conv", depthwise, g.weight([5, 16, 1, 1], name: "v"), name: "second"))
    let found = try inspect(g)
    let group = try #require(found.groups.first { $0.prunable })
    #expect(group.size == 8 && group.channels == 8)
    #expect(found.layers.first { $0.name == "multiplied" }?.channels[1] == 16)
    #expect(found.layers.first { $0.name == "multiplied" }?.explanation.contains("16 output channels") == true)
  }

  @Test("A recurrent layer whose weight is flat is answered all the same")
  func flatRecurrentWeight() throws {
    let g = GraphBuilder()
    g.output(g("GRU", g.input("x", [5, 1, 8]), g.weight([4, 8], name: "w"), with: ["hidden_size": 4], name: "gru"))
    #expect(try inspect(g).layers.map(\.name) == ["gru"])
  }
}
