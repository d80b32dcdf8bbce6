import ModelGraph

// Operators that move whole slices: join, divide, pick, pad, repeat.

let movementRules: [String: Rule] = [
  "Concat": concat, "Split": split, "Slice": slice, "Gather": gather, "Pad": pad, "Expand": expand,
  "Tile": tile,
  "Shape": shapeOf, "Size": shapeOf, "ConstantOfShape": filled,
]

// MARK: Joining

@Sendable private func concat(_ call: inout RuleCall) -> [LabelledValue]? {
  let parts = call.inputs.compactMap { $0 }
  guard parts.count == call.inputs.count, let rank = parts.first?.axes.count,
    parts.allSatisfy({ $0.axes.count == rank }), let stated = call.node.int("axis"),
    let axis = call.normalized(stated, rank: rank)
  else { return nil }
  return call.facts.concatenate(parts, axis: axis, at: call.id).map { [$0] }
}

extension Facts {
  /// Joins values along `axis`; along the other axes they run together like element-wise operands.
  mutating func concatenate(_ parts: [LabelledValue], axis: Int, at node: NodeID) -> LabelledValue? {
    let rank = parts[0].axes.count
    // The concatenated axis is another letter for every part: nothing is demanded along it.
    let operands = parts.enumerated().map { k, part in
      Operand(value: part, letters: (0..<rank).map { $0 == axis ? rank + k : $0 })
    }
    guard var aligned = align(operands, at: node) else { return nil }
    let lengths = parts.map { $0.axes[axis].reduce(1) { $0 * $1.size } }
    for k in aligned.indices {
      aligned[k].value.fuse(axis: axis, 0..<aligned[k].value.axes[axis].count, at: node, &self)
    }
    relate(aligned, at: node)
    let total = factor(
      size: lengths.reduce(0, +), reason: reason(.fixedPart, node),
      isShrunk: aligned.contains { $0.value.axes[axis].contains(where: \.isShrunk) })
    var axes = aligned[0].value.axes
    for a in 0..<rank where a != axis {
      // A part's axis of length 1 cannot stand beside a longer one, so any part that has the factors will do.
      axes[a] = aligned.lazy.map { $0.value.axes[a] }.first { !$0.isEmpty } ?? []
    }
    axes[axis] = [total]
    var result = LabelledValue(axes: axes, sets: [], isStored: parts.allSatisfy(\.isStored))
    // Sets that do not touch the joined axis: one of each suffices, the others were made equal.
    for set in aligned.flatMap(\.value.sets).sorted(by: { $0.factors.count > $1.factors.count })
    where set.factors.allSatisfy({ f in axes.enumerated().contains { $0 != axis && $1.contains(f) } })
      && !result.sets.contains(where: { kept in set.factors.allSatisfy(kept.contains) })
    { result.sets.append(set) }
    if let joined = joinedSet(aligned.map(\.value), axis: axis, lengths: lengths, total: total, at: node) {
      result.sets.removeAll { set in set.factors.allSatisfy(joined.contains) }
      result.sets.append(joined)
    }
    return result
  }

  /// The labels of the parts side by side, broadcast to the factors that any of them varies along; parts without
  /// labels contribute frozen ones. nil if no part has labels.
  private mutating func joinedSet(
    _ parts: [LabelledValue], axis: Int, lengths: [Int], total: Factor, at node: NodeID
  ) -> LabelSet? {
    let touching = parts.map { part in part.axes[axis].first.map { f in part.sets.filter { $0.contains(f) } } ?? [] }
    guard let model = touching.flatMap({ $0 }).max(by: { $0.factors.count < $1.factors.count }) else { return nil }
    // The other factors, in the order of the set that has most of them.
    var others = model.factors.filter { f in !parts.contains { $0.axes[axis].first == f } }
    for set in touching.flatMap({ $0 }) {
      for f in set.factors where !others.contains(f) && !parts.contains(where: { $0.axes[axis].first == f }) {
        others.append(f)
      }
    }
    let place = model.factors.firstIndex { f in parts.contains { $0.axes[axis].first == f } } ?? others.count
    let otherCount = others.reduce(1) { $0 * $1.size }
    guard otherCount * total.size <= LabelArray.limit else {
      let reason = self.reason(.arrayTooLarge, node)
      for set in touching.flatMap({ $0 }) { freeze(set.labels, reason) }
      return nil
    }
    // Rows: one per index of the other factors; every part fills its columns.
    var rows = [Int32](repeating: 0, count: otherCount * total.size)
    var column = 0
    for (k, part) in parts.enumerated() {
      let width = lengths[k]
      let flat: [Int32]
      if touching[k].count == 1, let cut = part.axes[axis].first {
        var set = touching[k][0]
        for f in others where !set.contains(f) {
          set.labels = set.labels.broadcast(at: 0, size: f.size)
          set.factors.insert(f, at: 0)
        }
        flat = set.labels.permuted((others + [cut]).compactMap(set.position)).flattened()
      } else {
        let reason = self.reason(touching[k].isEmpty ? .fixedPart : .axesMerged, node)
        for set in touching[k] { freeze(set.labels, reason) }
        let fixed = freshArray(shape: [width])
        freeze(fixed, reason)
        flat = fixed.broadcast(at: 0, size: otherCount).flattened()
      }
      for row in 0..<otherCount {
        for index in 0..<width { rows[row * total.size + column + index] = flat[row * width + index] }
      }
      column += width
    }
    let labels = LabelArray(rows, shape: others.map(\.size) + [total.size])
    var order = Array(others.indices)
    order.insert(others.count, at: min(place, others.count))
    var factors = others
    factors.insert(total, at: min(place, others.count))
    return LabelSet(
      factors: factors, labels: LabelArray(labels.permuted(order).flattened(), shape: factors.map(\.size)))
  }
}

// MARK: Dividing and picking

/// Contiguous parts, as long as shape inference found the outputs to be.
@Sendable private func split(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let axis = call.normalized(call.node.int("axis", default: 0), rank: x.axes.count)
  else { return nil }
  var start = 0
  var outputs: [LabelledValue] = []
  for k in call.node.outputs.indices {
    guard let length = call.outputShape(k)?[axis] else { return nil }
    var part = x
    part.take(
      axis: axis, .run(start..<start + length), keepsFactor: call.wasLonger(axis, ofOutput: k), at: call.id, &call.facts
    )
    outputs.append(part)
    start += length
  }
  return outputs
}

@Sendable private func slice(_ call: inout RuleCall) -> [LabelledValue]? {
  guard var x = call.input(0), let shape = call.shape(0),
    let selections = try? call.settings.sliceSelections(shape)
  else { return nil }
  for selection in selections {
    // Positions with a step are listed one by one: as many as a file claims, if the axis is fixed.
    guard selection.step == 1 || selection.count <= LabelArray.limit else { return nil }
    x.take(
      axis: selection.axis, LabelledValue.Positions(selection), keepsFactor: call.wasLonger(selection.axis),
      at: call.id, &call.facts)
  }
  return [x]
}

/// With a constant index a selection; an index that is data reaches every position of the axis.
@Sendable private func gather(_ call: inout RuleCall) -> [LabelledValue]? {
  guard var x = call.input(0), let indices = call.input(1), let indexShape = call.shape(1), let shape = call.shape(0),
    let extents = call.outputExtents(),
    let axis = call.normalized(call.node.int("axis", default: 0), rank: x.axes.count)
  else { return nil }
  for set in indices.sets { call.facts.freeze(set.labels, call.facts.reason(.settings, call.id)) }
  if let stated = call.integers(1), call.node.input(1).map({ call.graph[$0].isStored }) == true,
    indexShape.filter({ $0 > 1 }).count <= 1, !stated.isEmpty
  {
    let positions = stated.map { $0 < 0 ? $0 + shape[axis] : $0 }
    guard positions.allSatisfy((0..<shape[axis]).contains) else { return nil }
    x.take(
      axis: axis, .list(positions), keepsFactor: indexShape.count == 1 && call.wasLonger(axis), at: call.id, &call.facts
    )
    return x.reshaped(extents, at: call.id, &call.facts).map { [$0] }
  }
  x = call.facts.mix(x, x.axes[axis], reason: call.facts.reason(.indexedByData, call.id))
  if x.isStored, !indices.isStored {
    for set in x.sets { call.facts.noteRole(.table, label: set.labels.first, node: call.id) }
    x.isStored = false
  }
  let picked = indexShape.map { call.fixedAxis($0, .indexedByData) }
  x.axes.replaceSubrange(axis...axis, with: picked)
  return [x]
}

// MARK: Padding and repeating

/// Constant padding of a labelled axis brings elements of its own: elastic labels, which go with whatever they are
/// added to. Other modes copy neighbours, so the axis must stay whole.
@Sendable private func pad(_ call: inout RuleCall) -> [LabelledValue]? {
  guard var x = call.input(0), let from = call.shape(0), let to = call.outputShape(),
    let original = call.originalOutputShape(), let amounts = padding(call, rank: from.count), to.count == from.count
  else { return nil }
  call.freezeSettings([1, 2, 3])
  let constant = (call.node.string("mode") ?? "constant") == "constant"
  for axis in from.indices where amounts[axis].before != 0 || amounts[axis].after != 0 {
    let labelled = x.axes[axis].contains(where: x.isLabelled)
    let (before, after) = amounts[axis]
    if constant, labelled, before >= 0, after >= 0, to[axis] <= LabelArray.limit {
      var parts = [x]
      if before > 0 { parts.insert(call.padding(like: x, axis: axis, length: before), at: 0) }
      if after > 0 { parts.append(call.padding(like: x, axis: axis, length: after)) }
      guard let padded = call.facts.concatenate(parts, axis: axis, at: call.id) else { return nil }
      x = padded
    } else {
      x = call.facts.mix(x, x.axes[axis], reason: call.facts.reason(.spatial, call.id))
      x.axes[axis] = call.fixedAxis(to[axis], original: original[axis], .spatial)
    }
  }
  return [x]
}

/// Per axis, what is put before and after.
private func padding(_ call: RuleCall, rank: Int) -> [(before: Int, after: Int)]? {
  guard case .known(let pads) = call.settings.setting(attribute: "pads", input: 1) else { return nil }
  var axes = Array(0..<rank)
  if call.node.input(3) != nil {
    guard let stated = call.integers(3) else { return nil }
    axes = stated.compactMap { call.normalized($0, rank: rank) }
  }
  guard pads.count == 2 * axes.count else { return nil }
  var result = [(before: Int, after: Int)](repeating: (0, 0), count: rank)
  for (k, axis) in axes.enumerated() { result[axis] = (pads[k], pads[k + axes.count]) }
  return result
}

extension RuleCall {
  /// A block of padding beside `x`: over `axis`, fresh labels for every index (and every index of the factors that
  /// `x`'s labels vary along with it); along the other axes it is whatever `x` is.
  fileprivate mutating func padding(like x: LabelledValue, axis: Int, length: Int) -> LabelledValue {
    var block = x
    let own = x.axes[axis]
    let factor = facts.factor(size: length, reason: facts.reason(.fixedPart, id))
    block.axes[axis] = [factor]
    block.sets = x.sets.filter { set in !own.contains(where: set.contains) }
    if let joint = x.sets.first(where: { set in own.contains(where: set.contains) }) {
      var others = joint.factors.filter { !own.contains($0) }
      let place = joint.factors.firstIndex(where: own.contains) ?? others.count
      others.insert(factor, at: min(place, others.count))
      block.sets.append(LabelSet(factors: others, labels: facts.freshArray(shape: others.map(\.size))))
    }
    return block
  }
}

/// Axes of length 1 become longer ones: elastic where one number fills any lengths, where only element-wise operators
/// read the result, which might as well have broadcast it, and where it names an element for every entry of a slice;
/// fixed elsewhere.
@Sendable private func expand(_ call: inout RuleCall) -> [LabelledValue]? {
  guard var x = call.input(0), let to = call.outputShape(), let original = call.originalOutputShape(),
    to.count >= x.axes.count
  else { return nil }
  let isFill = x.isStored && x.axes.allSatisfy(\.isEmpty) && call.carriesLabels(input: 0)
  x.axes = Array(repeating: [], count: to.count - x.axes.count) + x.axes
  let expanded = to.indices.filter { x.axes[$0].isEmpty && max(to[$0], original[$0]) > 1 }
  for axis in expanded { x.axes[axis] = call.fixedAxis(to[axis], original: original[axis], .expanded) }
  let isElastic = isFill || call.resultIsBroadcast || call.resultIsElementIndex
  return [isElastic ? call.elastic(x, axes: expanded) : x]
}

/// A repeated axis has its labels again in every round; one of length 1 is expanded.
@Sendable private func tile(_ call: inout RuleCall) -> [LabelledValue]? {
  guard var x = call.input(0), let repeats = call.integers(1), let original = call.originalOutputShape(),
    repeats.count == x.axes.count, original.count == x.axes.count, repeats.allSatisfy({ $0 > 0 })
  else { return nil }
  call.freezeSettings([1])
  let expanded = x.axes.indices.filter { x.axes[$0].isEmpty && max(repeats[$0], original[$0]) > 1 }
  for axis in x.axes.indices where repeats[axis] > 1 || expanded.contains(axis) {
    x.axes[axis].insert(
      call.facts.factor(size: repeats[axis], reason: call.facts.reason(.expanded, call.id)), at: 0)
  }
  return [call.resultIsBroadcast || call.resultIsElementIndex ? call.elastic(x, axes: expanded) : x]
}

extension RuleCall {
  /// Whether nothing but element-wise operators reads the first output.
  fileprivate var resultIsBroadcast: Bool {
    guard let output = node.output(0), !graph.outputs.contains(output) else { return false }
    return graph.uses(of: output).allSatisfy { broadcastingOperators.contains(graph[$0.node].qualifiedOperator) }
  }

  /// Whether the first output is the index of GatherElements or ScatterElements and nothing else.
  fileprivate var resultIsElementIndex: Bool {
    guard let output = node.output(0), !graph.outputs.contains(output), !graph.uses(of: output).isEmpty else {
      return false
    }
    return graph.uses(of: output).allSatisfy { use in
      use.input == 1 && ["GatherElements", "ScatterElements"].contains(graph[use.node].qualifiedOperator)
    }
  }

  /// Whether input `k` is of a type that holds data.
  fileprivate func carriesLabels(input k: Int) -> Bool {
    node.input(k).flatMap { graph[$0].dtype }.map(StoredLabels.carriesLabels) ?? false
  }

  /// `value` with labels of their own for the entries of `axes`, which then go with whatever they are joined to.
  fileprivate mutating func elastic(_ value: LabelledValue, axes: [Int]) -> LabelledValue {
    var result = value
    let factors = axes.compactMap { value.axes[$0].first }.filter { $0.size <= Self.elasticLimit }
    if factors.count == 1, factors.count == axes.count, let set = value.sets.first, value.sets.count == 1 {
      // Another entry for every label that is there: blocks then choose on their own.
      let joint = LabelSet(
        factors: set.factors + factors, labels: facts.freshArray(shape: (set.factors + factors).map(\.size)))
      facts.project(joint, visible: Array(set.factors.indices), onto: set.labels, at: id)
      result.sets = [joint]
      return result
    }
    for factor in factors {
      result.sets.append(LabelSet(factors: [factor], labels: facts.freshArray(shape: [factor.size])))
    }
    return result
  }

  /// Longer axes are no channels; labels for them would only cost memory.
  private static let elasticLimit = 16384
}

// MARK: Lengths

/// Lengths are read off the result, which the planner reconciles; nothing is demanded of the data.
@Sendable private func shapeOf(_ call: inout RuleCall) -> [LabelledValue]? { fixedOutput(&call) }

/// Numbers become as long as what they meet; what counts or chooses does so only where it would have been broadcast.
@Sendable private func filled(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let output = fixedOutput(&call)?.first else { return nil }
  var dtype = DType.float32
  if case .tensor(let value)? = call.node.attributes["value"] { dtype = value.dtype }
  let isElastic = StoredLabels.carriesLabels(dtype) || call.resultIsBroadcast
  return [isElastic ? call.elastic(output, axes: Array(output.axes.indices)) : output]
}

private func fixedOutput(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let shape = call.outputShape(), let original = call.originalOutputShape() else { return nil }
  return [
    LabelledValue(
      axes: shape.indices.map { call.fixedAxis(shape[$0], original: original[$0], .shapeDependent) }, sets: [])
  ]
}
