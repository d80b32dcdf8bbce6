import ModelGraph

/// A choice of classes to remove, and what every value becomes: its new lengths and the positions it keeps.
///
/// The lengths follow from the labels alone, before anything is rewritten, so the rewriting needs no shape inference
/// and no knowledge of what exporters write.
package struct Removal {
  let coupling: ChannelCoupling
  /// What every stored tensor keeps, in order of the tensors.
  package let slices: [TensorSlice]
  /// Uses of shared vectors that lose entries which other uses keep.
  let copies: [VectorCopy]
  /// Shared vectors that nobody reads any more, since every use has a copy.
  let replaced: [ValueID]
  /// Per label.
  private let removed: [Bool]
  private var analysis: CouplingAnalysis { coupling.analysis }
  private var graph: Graph { coupling.graph }

  package init(_ coupling: ChannelCoupling, classes: some Sequence<Int32>) {
    var isRemoved = [Bool](repeating: false, count: coupling.classOf.count)
    for c in classes { isRemoved[Int(c)] = true }
    removed = coupling.classOf.map { isRemoved[Int($0)] }
    self.coupling = coupling
    let cut = Self.cuts(coupling, removed)
    var (slices, copies, replaced) = (cut.slices, [VectorCopy](), [ValueID]())
    for (id, uses) in cut.ofUses.sorted(by: { $0.key < $1.key }) {
      guard let first = uses.first, let length = coupling.graph[id].tensor?.shape[first.axis] else { continue }
      if uses.allSatisfy({ $0.kept == first.kept }) {
        if first.kept.count < length {
          slices.append(TensorSlice(value: id, axes: [AxisSlice(axis: first.axis, kept: .indices(first.kept))]))
        }
        continue
      }
      let own = uses.filter { $0.kept.count < length }
      copies += own
      let released = Set(own.map(\.use))
      if coupling.graph.uses(of: id).allSatisfy(released.contains) { replaced.append(id) }
    }
    self.slices = slices.sorted { $0.value < $1.value }
    (self.copies, self.replaced) = (copies, replaced)
  }

  func keep(_ set: LabelSet) -> KeptSet {
    var keptCount = 0
    set.labels.forEach { if !removed[Int($0)] { keptCount += 1 } }
    if keptCount == set.labels.count { return .whole }
    if keptCount == 0 { return .vanishes }
    if set.factors.count == 1 { return .sizes([keptCount]) }
    return ClassGrid(set, classOf: coupling.classOf).kept(removed)
  }

  private static func strides(_ sizes: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: sizes.count)
    for d in stride(from: sizes.count - 2, through: 0, by: -1) { strides[d] = strides[d + 1] * sizes[d + 1] }
    return strides
  }

  // MARK: Shared vectors

  /// A use of a shared vector that needs a copy of its own.
  struct VectorCopy: Sendable {
    var source: ValueID
    var use: Use
    var axis: Int
    /// Ascending.
    var kept: [Int]
  }

  /// The copy's contents.
  func tensor(of copy: VectorCopy) -> Tensor? {
    guard let source = graph[copy.source].tensor, let width = source.dtype.byteWidth else { return nil }
    var shape = source.shape
    shape[copy.axis] = copy.kept.count
    return Tensor(
      dtype: source.dtype, shape: shape,
      bytes: TensorBytes(count: copy.kept.count * width) { bytes in
        // A vector: its other axes have length 1, so entries lie one after the other.
        for (k, index) in copy.kept.enumerated() {
          bytes[k * width..<(k + 1) * width].copyBytes(from: source.bytes.buffer[index * width..<(index + 1) * width])
        }
      })
  }

  // MARK: Approximation

  /// The operators that take statistics across removed channels, in node order.
  func approximations() -> [Approximation] {
    mixers().sorted { $0.key < $1.key }.map { node, reason in
      Approximation(
        node: node, name: graph.displayName(node), op: graph[node].op, reason: reason.sentence(in: graph))
    }
  }

  /// The same by node, with what they do.
  func mixers() -> [NodeID: Reason] {
    var reasons: [NodeID: Reason] = [:]
    for approximate in coupling.facts.approximations {
      let reason = coupling.facts.reasons[Int(approximate.reason)]
      guard let node = reason.node, reasons[node] == nil else { continue }
      let isRemoved = approximate.labels.mapping { removed[Int($0)] ? 1 : 0 }
      if Facts.varyingDimensions(isRemoved).contains(where: approximate.across.contains) { reasons[node] = reason }
    }
    return reasons
  }

  func isRemoved(_ label: Int32) -> Bool { removed[Int(label)] }

  // MARK: Lengths

  /// Per value, its new shape under the lengths of the analysis; equal to the old where nothing is removed.
  /// - Throws: naming the value, `layerUnavailable` if nothing of it would be left, `certificateFailed` if what is
  ///   left is not rectangular.
  package func lengths() throws(Failure) -> [[Int]?] {
    var result = analysis.shapes.shapes
    for id in graph.valueIDs {
      if let shape = try newShape(id) { result[id.index] = shape }
    }
    return result
  }

  /// The new shape of a value, nil if nothing of it is removed.
  func newShape(_ id: ValueID) throws(Failure) -> [Int]? {
    if let source = analysis.shared.source(of: id) {
      guard let slice = slices.first(where: { $0.value == source }), var shape = graph[source].tensor?.shape else {
        return nil
      }
      for axis in slice.axes { if case .indices(let kept) = axis.kept { shape[axis.axis] = kept.count } }
      return shape
    }
    guard let value = analysis.values[id.index], !value.sets.isEmpty else { return nil }
    var sizes: [Factor: Int] = [:]
    for set in value.sets {
      switch keep(set) {
      case .whole: continue
      case .sizes(let kept):
        for (factor, size) in zip(set.factors, kept) { sizes[factor] = min(sizes[factor] ?? size, size) }
      case .vanishes:
        throw flaw(.layerUnavailable, id, "nothing of '\(graph[id].name)' would be left")
      case .notRectangular:
        throw flaw(.certificateFailed, id, "what is left of '\(graph[id].name)' would not be rectangular")
      }
    }
    guard !sizes.isEmpty else { return nil }
    return value.axes.map { axis in axis.reduce(1) { $0 * (sizes[$1] ?? $1.size) } }
  }

  private func flaw(_ kind: Failure.Kind, _ id: ValueID, _ message: String) -> Failure {
    let node = graph[id].producer.map { " (made by \(graph[$0].op) '\(graph.displayName($0))')" } ?? ""
    return Failure(
      kind, "\(message)\(node); exclude the layers around it or choose other channels",
      details: ["value": .string(graph[id].name)])
  }

  // MARK: Positions

  /// Per index of axis `axis` of a value, whether it stays. Where blocks keep different local indices this is the view
  /// of the first surviving block, which has as many as the others.
  func keptPositions(of id: ValueID, axis: Int) -> [Bool]? {
    guard let value = analysis.values[id.index], axis < value.axes.count else { return nil }
    let factors = value.axes[axis]
    let length = factors.reduce(1) { $0 * $1.size }
    guard length <= LabelArray.limit else { return nil }
    var result = [Bool](repeating: true, count: length)
    for set in value.sets where set.factors.contains(where: factors.contains) {
      let classes = set.labels.mapping { coupling.classOf[Int($0)] }
      let mine = set.factors.indices.filter { factors.contains(set.factors[$0]) }
      let others = set.factors.indices.filter { !mine.contains($0) }
      let cut = Facts.varyingDimensions(classes).last
      // Rows: one per index of the factors outside this axis.
      let flat = classes.permuted(others + mine).flattened()
      let width = mine.reduce(1) { $0 * set.factors[$1].size }
      var row = [Bool](repeating: false, count: width)
      for start in stride(from: 0, to: flat.count, by: width) {
        let entries = (start..<start + width).map { !removed[Int(flat[$0])] }
        if let cut, mine.contains(cut) {
          if entries.contains(true) {
            row = entries
            break
          }
        } else {
          for k in 0..<width where entries[k] { row[k] = true }
        }
      }
      // Spread the row over the axis: its factors that the set does not have repeat it.
      let sizes = factors.map(\.size)
      let strides = Self.strides(sizes)
      let rowSizes = mine.map { set.factors[$0].size }
      let rowStrides = Self.strides(rowSizes)
      let places = mine.map { m in factors.firstIndex(of: set.factors[m]) ?? 0 }
      for index in 0..<length {
        var position = 0
        for (k, place) in places.enumerated() { position += index / strides[place] % sizes[place] * rowStrides[k] }
        if !row[position] { result[index] = false }
      }
    }
    return result
  }

  // MARK: Stored tensors

  /// What every tensor keeps, and what every use of a shared vector does.
  private static func cuts(
    _ coupling: ChannelCoupling, _ removed: [Bool]
  ) -> (slices: [TensorSlice], ofUses: [ValueID: [VectorCopy]]) {
    var axes: [ValueID: [AxisSlice]] = [:]
    var ofUses: [ValueID: [VectorCopy]] = [:]
    for origin in coupling.analysis.stored.origins {
      let first = Int(origin.first)
      let isCut = removed[first..<first + origin.count].contains(true)
      if let use = origin.use {
        let kept = (0..<origin.count).filter { !removed[first + $0] }
        ofUses[origin.value, default: []].append(
          VectorCopy(source: origin.value, use: use, axis: origin.axis, kept: kept))
        continue
      }
      guard isCut else { continue }
      let slice: AxisSlice.Kept
      if origin.blocks > 1 {
        let width = origin.count / origin.blocks
        let blocks = (0..<origin.blocks).map { g in (0..<width).filter { !removed[first + g * width + $0] } }
        slice = Set(blocks).count == 1 ? .indices(blocks[0]) : .perBlock(blockAxis: 0, blocks)
      } else {
        var indices: [Int] = []
        indices.reserveCapacity(origin.count * origin.width)
        for k in 0..<origin.count where !removed[first + k] {
          for index in k * origin.width..<(k + 1) * origin.width { indices.append(index) }
        }
        slice = .indices(indices)
      }
      axes[origin.value, default: []].append(AxisSlice(axis: origin.axis, kept: slice))
    }
    let slices = axes.map { id, axes in TensorSlice(value: id, axes: axes.sorted { $0.axis < $1.axis }) }
    return (slices, ofUses)
  }
}
