import ModelGraph

// Operators that order an axis, run along it, or pick from it and write to it by index. Axes that the indices do not
// touch pass.

let indexingRules: [String: Rule] = [
  "TopK": topK, "CumSum": cumulated, "CumProd": cumulated, "Trilu": triangle, "ReverseSequence": reversed,
  "GatherElements": gatherElements, "GatherND": gatherND,
  "ScatterElements": scatterElements, "Scatter": scatterElements, "ScatterND": scatterND,
]

// MARK: Along an axis

/// Which entries come first is data: the axis keeps its order and its length.
@Sendable private func topK(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let to = call.outputShape(), let original = call.originalOutputShape(),
    let axis = call.normalized(call.node.int("axis", default: -1), rank: x.axes.count)
  else { return nil }
  var y = call.facts.mix(x, x.axes[axis], reason: call.facts.reason(.mixed, call.id))
  y.axes[axis] = call.fixedAxis(to[axis], original: original[axis], .mixed)
  return [y, y]
}

@Sendable private func cumulated(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let axis = call.integers(1)?.first.flatMap({ call.normalized($0, rank: x.axes.count) })
  else { return nil }
  return [call.facts.mix(x, x.axes[axis], reason: call.facts.reason(.mixed, call.id))]
}

@Sendable private func triangle(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), x.axes.count >= 2 else { return nil }
  return [call.facts.mix(x, x.axes.suffix(2).flatMap { $0 }, reason: call.facts.reason(.mixed, call.id))]
}

/// Each entry of the batch is reversed up to a length of its own.
@Sendable private func reversed(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), x.axes.count >= 2 else { return nil }
  call.freezeSettings([1])
  return [call.facts.mix(x, x.axes[0] + x.axes[1], reason: call.facts.reason(.mixed, call.id))]
}

// MARK: By index, element by element

/// Along `axis` the index is data; along the others data and index run together, where the index covers them.
@Sendable private func gatherElements(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let index = call.input(1), let shape = call.shape(0), let indexShape = call.shape(1),
    let original = call.originalShape(1), shape.count == indexShape.count,
    let axis = call.normalized(call.node.int("axis", default: 0), rank: shape.count)
  else { return nil }
  let partial = shape.indices.filter { $0 == axis || shape[$0] != indexShape[$0] }
  guard let met = call.runTogether([x, index], except: partial, as: indexShape, original) else { return nil }
  return [met]
}

@Sendable private func scatterElements(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let index = call.input(1), let updates = call.input(2), let shape = call.shape(0),
    let indexShape = call.shape(1), let original = call.originalShape(0), shape.count == indexShape.count,
    let axis = call.normalized(call.node.int("axis", default: 0), rank: shape.count)
  else { return nil }
  let partial = shape.indices.filter { $0 == axis || shape[$0] != indexShape[$0] }
  return call.runTogether([x, index, updates], except: partial, as: shape, original).map { [$0] }
}

extension RuleCall {
  /// The values element by element, but for the axes `partial`, which are mixed in each and get the lengths of `shape`.
  fileprivate mutating func runTogether(
    _ values: [LabelledValue], except partial: [Int], as shape: [Int], _ original: [Int]
  ) -> LabelledValue? {
    guard values.allSatisfy({ $0.axes.count == shape.count }) else { return nil }
    let reason = facts.reason(.indexedByData, id)
    var operands = values
    for k in operands.indices {
      operands[k] = facts.mix(operands[k], partial.flatMap { operands[k].axes[$0] }, reason: reason)
      for axis in partial { operands[k].axes[axis] = [] }
    }
    guard var result = operands.first else { return nil }
    for operand in operands.dropFirst() {
      guard let met = facts.elementwise([result, operand], rank: shape.count, at: id) else { return nil }
      result = met
    }
    for axis in partial { result.axes[axis] = fixedAxis(shape[axis], original: original[axis], .indexedByData) }
    return result
  }
}

// MARK: By index, slice by slice

/// The index names positions along the axes after the batch axes; what comes after these passes.
@Sendable private func gatherND(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let index = call.input(1), let indexShape = call.shape(1),
    let original = call.originalShape(1), let depth = indexShape.last
  else { return nil }
  let batch = call.node.int("batch_dims", default: 0)
  guard batch >= 0, batch < indexShape.count, depth > 0, batch + depth <= x.axes.count else { return nil }
  // Batch axes of both run together; those that are picked from stay whole.
  var data = call.facts.mix(
    x, x.axes[batch..<batch + depth].flatMap { $0 }, reason: call.facts.reason(.indexedByData, call.id))
  for set in index.sets { call.facts.freeze(set.labels, call.facts.reason(.settings, call.id)) }
  var batches = index
  (batches.axes, batches.sets) = (Array(index.axes[..<batch]), [])
  data.axes.removeSubrange(batch..<batch + depth)
  let letters = Array(0..<data.axes.count)
  guard
    var y = call.facts.contract(
      [Operand(value: data, letters: letters), Operand(value: batches, letters: Array(0..<batch))], output: letters,
      at: call.id)
  else { return nil }
  let places = (batch..<indexShape.count - 1).map {
    call.fixedAxis(indexShape[$0], original: original[$0], .indexedByData)
  }
  y.axes.insert(contentsOf: places, at: batch)
  return [y]
}

/// Slices at the positions that the index names are overwritten. With a constant index of places along the first axis,
/// each written slice is tied to the one it replaces; an index that is data may name any of them.
@Sendable private func scatterND(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let index = call.input(1), let updates = call.input(2), let shape = call.shape(0),
    let original = call.originalShape(0), let indexShape = call.shape(1), let depth = indexShape.last, depth > 0,
    depth <= shape.count, updates.axes.count == indexShape.count - 1 + shape.count - depth
  else { return nil }
  for set in index.sets { call.facts.freeze(set.labels, call.facts.reason(.settings, call.id)) }
  if let places = call.scatteredPlaces() {
    var replaced = x
    replaced.take(
      axis: 0, .list(places), keepsFactor: (call.originalShape(1)?.first ?? 1) > 1, at: call.id, &call.facts)
    guard call.facts.elementwise([replaced, updates], rank: shape.count, at: call.id) != nil else { return nil }
    return [x]
  }
  let reason = call.facts.reason(.indexedByData, call.id)
  var data = call.facts.mix(x, x.axes[..<depth].flatMap { $0 }, reason: reason)
  let written = indexShape.count - 1
  var slices = call.facts.mix(updates, updates.axes[..<written].flatMap { $0 }, reason: reason)
  data.axes.removeSubrange(..<depth)
  slices.axes.removeSubrange(..<written)
  guard var y = call.facts.elementwise([data, slices], rank: data.axes.count, at: call.id) else { return nil }
  y.axes.insert(
    contentsOf: (0..<depth).map { call.fixedAxis(shape[$0], original: original[$0], .indexedByData) }, at: 0)
  return [y]
}

extension RuleCall {
  /// The places along axis 0 that a ScatterND with a constant index writes, each once; nil for other forms.
  func scatteredPlaces() -> [Int]? {
    guard let shape = self.shape(0), let indexShape = self.shape(1), indexShape.count == 2, indexShape[1] == 1,
      (node.string("reduction") ?? "none") == "none", let input = node.input(1), graph[input].isStored,
      let stated = integers(1)
    else { return nil }
    let places = stated.map { $0 < 0 ? $0 + shape[0] : $0 }
    guard !places.isEmpty, places.allSatisfy((0..<shape[0]).contains), Set(places).count == places.count else {
      return nil
    }
    return places
  }
}
