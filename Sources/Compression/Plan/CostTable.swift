import ModelGraph

/// What a model costs, and what is left of that once lengths have changed.
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

  /// The cost once stored tensors and nodes have the shapes that `shape` gives under the lengths of the analysis (nil
  /// where it is unknown); `sizeBytes` from the tensors alone.
  /// - Parameters:
  ///   - cut: stored tensors, among them all that lose anything.
  ///   - copies: per copy of a shared vector, its source and the entries it has.
  ///   - replaced: shared vectors of which only copies are left.
  func after(
    cutting cut: [ValueID], copies: [(source: ValueID, count: Int)], replaced: [ValueID],
    shape: (ValueID) throws(Failure) -> [Int]?
  ) throws(Failure) -> ModelSize {
    var size = original
    for id in cut {
      guard let tensor = graph[id].tensor, let shape = try shape(id) else { continue }
      let gone = tensor.elementCount - shape.reduce(1, *)
      size.sizeBytes -= gone * (tensor.dtype.byteWidth ?? 0)
      if CostModel.parameters(of: graph[id]) > 0 { size.parameters -= gone }
    }
    for (source, count) in copies {
      guard let tensor = graph[source].tensor else { continue }
      size.sizeBytes += count * (tensor.dtype.byteWidth ?? 0)
      if CostModel.parameters(of: graph[source]) > 0 { size.parameters += count }
    }
    for id in replaced {
      guard let tensor = graph[id].tensor else { continue }
      size.sizeBytes -= tensor.bytes.count
      size.parameters -= CostModel.parameters(of: graph[id])
    }
    size.macs = 0
    for (id, _) in nodes {
      let node = graph[id]
      var known: [(value: ValueID, shape: [Int])] = []
      for case let value? in node.inputs + node.outputs where !known.contains(where: { $0.value == value }) {
        guard let nominal = shapes.nominal[value],
          let after = Reconciliation.scaled(nominal, from: shapes.analysis[value], to: try shape(value))
        else { continue }
        known.append((value, after))
      }
      let macs = CostModel.macs(of: node, in: graph, shapes: { id in known.first { $0.value == id }?.shape })
      size.macs = size.macs.addingClamped(macs)
    }
    return size
  }

  /// The cost after `removal`.
  /// - Parameter shape: of each value under the lengths of the analysis.
  func after(
    _ removal: Removal, shape: (ValueID) throws(Failure) -> [Int]?
  ) throws(Failure) -> ModelSize {
    try after(
      cutting: removal.slices.map(\.value), copies: removal.copies.map { ($0.source, $0.kept.count) },
      replaced: removal.replaced, shape: shape)
  }
}

extension Int {
  fileprivate func addingClamped(_ other: Int) -> Int {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? Int.max : sum
  }
}
