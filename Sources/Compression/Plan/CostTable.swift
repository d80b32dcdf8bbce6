import ModelGraph

/// What a model costs, and what is left of that after a removal, without building a plan.
struct CostTable: Sendable {
  let original: ModelSize
  private let graph: Graph
  private let shapes: GraphShapes
  /// Nodes with multiply-adds, and these.
  let nodes: [(node: NodeID, macs: Int)]

  init(graph: Graph, shapes: GraphShapes, sizeBytes: Int) {
    (self.graph, self.shapes) = (graph, shapes)
    nodes = graph.nodeIDs.compactMap { id in
      let macs = CostModel.macs(of: graph[id], in: graph, shapes: { shapes.nominal[$0] })
      return macs > 0 ? (id, macs) : nil
    }
    original = ModelSize(
      parameters: CostModel.parameters(of: graph), macs: nodes.reduce(0) { $0.addingClamped($1.macs) },
      sizeBytes: sizeBytes)
  }

  /// The cost after `removal`; `sizeBytes` from the tensors alone.
  /// - Parameter lengths: `removal.lengths()`, where the caller has them already.
  func after(_ removal: Removal, lengths: [[Int]?]? = nil) throws(Failure) -> ModelSize {
    func newShape(_ id: ValueID) throws(Failure) -> [Int]? {
      if let lengths { return lengths[id.index] }
      return try removal.newShape(id) ?? shapes.analysis[id]
    }
    var size = original
    for slice in removal.slices {
      guard let tensor = graph[slice.value].tensor, let shape = try newShape(slice.value) else { continue }
      let gone = tensor.elementCount - shape.reduce(1, *)
      size.sizeBytes -= gone * (tensor.dtype.byteWidth ?? 0)
      if CostModel.parameters(of: tensor) > 0 { size.parameters -= gone }
    }
    for copy in removal.copies {
      guard let tensor = graph[copy.source].tensor else { continue }
      size.sizeBytes += copy.kept.count * (tensor.dtype.byteWidth ?? 0)
      if CostModel.parameters(of: tensor) > 0 { size.parameters += copy.kept.count }
    }
    for id in removal.replaced {
      guard let tensor = graph[id].tensor else { continue }
      size.sizeBytes -= tensor.bytes.count
      size.parameters -= CostModel.parameters(of: tensor)
    }
    size.macs = 0
    var known: [ValueID: [Int]] = [:]
    for (id, _) in nodes {
      for value in graph[id].inputs + graph[id].outputs {
        guard let value, known[value] == nil, let before = shapes.nominal[value] else { continue }
        known[value] = Reconciliation.scaled(before, from: shapes.analysis[value], to: try newShape(value))
      }
      size.macs = size.macs.addingClamped(CostModel.macs(of: graph[id], in: graph, shapes: { known[$0] }))
    }
    return size
  }
}

extension Int {
  fileprivate func addingClamped(_ other: Int) -> Int {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? Int.max : sum
  }
}
