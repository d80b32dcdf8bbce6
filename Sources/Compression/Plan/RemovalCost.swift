import ModelGraph

/// The cost of a model as a function of the classes that are removed: prepared once for a coupling, and then asked in
/// time that grows with the layers and the distinct sets of labels, without making a plan.
///
/// Invariant: says what `CostTable` says of the plan for the same classes.
struct RemovalCost: Sendable {
  let table: CostTable
  private let coupling: ChannelCoupling
  private let shapes: GraphShapes
  private let lengths: KeptLengths
  /// Stored tensors with labels that all uses share.
  private let tensors: [ValueID]
  private let vectors: [ValueID: SharedVector]

  /// A stored vector whose uses have labels of their own.
  private struct SharedVector {
    let shape: [Int]
    let axis: Int
    /// Distinct ones.
    var grids: [ClassGrid]
    /// Per use its grid, and whether it reads the vector itself.
    var uses: [(grid: Int, isDirect: Bool)]
    /// Whether all that read the vector itself are among the uses.
    let isOurs: Bool
  }

  init(_ coupling: ChannelCoupling, shapes: GraphShapes, table: CostTable) {
    (self.coupling, self.shapes, self.table) = (coupling, shapes, table)
    let (graph, analysis) = (coupling.graph, coupling.analysis)
    var tensors: Set<ValueID> = []
    var vectors: [ValueID: SharedVector] = [:]
    for origin in analysis.stored.origins {
      guard let use = origin.use, let value = analysis.initialOfUse[use], let set = value.sets.first else {
        tensors.insert(origin.value)
        continue
      }
      let direct = graph.uses(of: origin.value)
      var vector =
        vectors[origin.value]
        ?? SharedVector(
          shape: value.shape, axis: origin.axis, grids: [], uses: [],
          isOurs: direct.allSatisfy { analysis.initialOfUse[$0] != nil })
      let grid = ClassGrid(set, classOf: coupling.classOf)
      let number = vector.grids.firstIndex(of: grid) ?? vector.grids.count
      if number == vector.grids.count { vector.grids.append(grid) }
      vector.uses.append((number, direct.contains(use)))
      vectors[origin.value] = vector
    }
    (self.tensors, self.vectors) = (tensors.sorted(), vectors)
    let operands = table.nodes.flatMap { entry in
      (graph[entry.node].inputs + graph[entry.node].outputs).compactMap { $0 }
    }
    lengths = KeptLengths(self.tensors + operands, of: coupling)
  }

  /// - Throws: `Failure` naming the value of which nothing would be left, or no rectangle.
  func after(_ classes: [Int32]) throws(Failure) -> ModelSize {
    var removed = [Bool](repeating: false, count: coupling.classOf.count)
    for c in classes { removed[Int(c)] = true }
    guard let shape = lengths.shapes(removing: removed) else {
      let removal = Removal(coupling, classes: classes)
      return try table.after(removal) { id throws(Failure) in try removal.newShape(id) ?? shapes.analysis[id] }
    }
    var cut = tensors
    var copies: [(source: ValueID, count: Int)] = []
    var replaced: [ValueID] = []
    var shapeOfVector: [ValueID: [Int]] = [:]
    for (id, vector) in vectors {
      let kept = vector.grids.map { grid in grid.classes.map { !removed[Int($0)] } }
      let counts = kept.map { $0.count { $0 } }
      let length = vector.shape[vector.axis]
      guard let first = kept.first else { continue }
      if kept.allSatisfy({ $0 == first }) {
        guard counts[0] < length else { continue }
        var shape = vector.shape
        shape[vector.axis] = counts[0]
        shapeOfVector[id] = shape
        cut.append(id)
        continue
      }
      for use in vector.uses where counts[use.grid] < length { copies.append((id, counts[use.grid])) }
      if vector.isOurs, vector.uses.allSatisfy({ !$0.isDirect || counts[$0.grid] < length }) { replaced.append(id) }
    }
    let shared = coupling.analysis.shared
    return try table.after(cutting: cut, copies: copies, replaced: replaced) { id in
      if let source = shared.source(of: id) { return shapeOfVector[source] ?? shapes.analysis[id] }
      return shape(id) ?? shapes.analysis[id]
    }
  }
}
