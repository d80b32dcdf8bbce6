import Compression
import ModelGraph
import TestSupport
import Testing

// What a reply says was removed is enough to work the removal out again.

@Suite("Removals from their listings") struct ReplayRemovalTests {
  private func listing(_ planned: PlannedCompression) -> RemovalListing {
    RemovalListing(removed: planned.removed, copied: planned.copied)
  }

  private func expectReplay(_ graph: Graph, removing channels: KeyValuePairs<String, [Int]>) throws {
    let plan = try PlanReading(graph, removing: channels)
    let again = try plan.model.plan(listing(plan.planned), work: Work())
    #expect(again.removed == plan.planned.removed && again.copied == plan.planned.copied)
    #expect(again.plan.slices == plan.planned.plan.slices)
    #expect(again.plan.edits.map { PlanReading.words($0, graph) } == plan.edits)
  }

  @Test func plainAndDepthwiseAndGrouped() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 8, 8])
    let a = g.conv(x, 3, 8, "a", name: "first")
    let d = g.conv(a, 8, 16, "d", groups: 8, name: "depthwise")
    let k = g.conv(d, 16, 8, "k", groups: 4, name: "grouped")
    g.output(g.conv(k, 8, 2, "v", name: "head"))
    try expectReplay(g.build(), removing: ["first": [1, 3, 5, 7]])
    try expectReplay(g.build(), removing: ["grouped": [0, 3, 4, 7]])
  }

  @Test func sharedVectors() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 8, 8])
    let shift = g.weight([8], name: "shift")
    let a = g("Conv", x, g.weight([8, 3, 1, 1], name: "a"), shift, name: "first")
    let b = g("Conv", g("Relu", a), g.weight([8, 8, 1, 1], name: "b"), shift, name: "second")
    g.output(g.conv(g("Relu", b), 8, 2, "v", name: "head"))
    try expectReplay(g.build(), removing: ["first": [0, 1], "second": [6, 7]])
    try expectReplay(g.build(), removing: ["first": [0, 1], "second": [0, 1]])
  }

  @Test func nothing() throws {
    let g = GraphBuilder()
    g.output(g.conv(g.conv(g.input("x", [1, 3, 8, 8]), 3, 8, "a"), 8, 2, "v"))
    let planned = try CompressibleModel(graph: g.build(), sizeBytes: 0).plan(
      RemovalListing(removed: [], copied: []), work: Work())
    #expect(planned.plan.slices.isEmpty && planned.plan.edits.isEmpty && planned.removed.isEmpty)
  }

  @Test(
    "What no removal takes is refused",
    arguments: [
      [RemovedSlices(parameter: "a", axis: 0, indices: .all([1]))],
      [RemovedSlices(parameter: "a", axis: 0, indices: .all([8]))],
      [RemovedSlices(parameter: "a", axis: 4, indices: .all([0]))],
      [RemovedSlices(parameter: "other", axis: 0, indices: .all([0]))],
      [RemovedSlices(parameter: "a", axis: 0, indices: .perGroup([[1], [1]]))],
      [
        RemovedSlices(parameter: "a", axis: 0, indices: .all([1])),
        RemovedSlices(parameter: "v", axis: 1, indices: .all([2])),
      ],
      [
        RemovedSlices(parameter: "a", axis: 0, indices: .all(Array(0..<8))),
        RemovedSlices(parameter: "v", axis: 1, indices: .all(Array(0..<8))),
      ],
    ])
  func refused(removed: [RemovedSlices]) throws {
    let g = GraphBuilder()
    g.output(g.conv(g.conv(g.input("x", [1, 3, 8, 8]), 3, 8, "a"), 8, 2, "v"))
    let model = try CompressibleModel(graph: g.build(), sizeBytes: 0)
    #expect(throws: Failure.self) {
      try model.plan(RemovalListing(removed: removed, copied: []), work: Work())
    }
  }
}
