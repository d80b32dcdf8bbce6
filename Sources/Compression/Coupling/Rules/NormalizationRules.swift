import ModelGraph

// Normalizations: their parameters run along an axis of the data; what they average over may be cut only
// approximately, because the statistics change.

let normalizationRules: [String: Rule] = [
  "BatchNormalization": batchNormalization,
  "InstanceNormalization": instanceNormalization,
  "LRN": { call in approximate(&call, axes: [1]) },
  "LpNormalization": { call in
    guard let x = call.input(0) else { return nil }
    return call.normalized(call.node.int("axis", default: -1), rank: x.axes.count)
      .flatMap { approximate(&call, axes: [$0]) }
  },
  "MeanVarianceNormalization": { call in approximate(&call, axes: call.node.ints("axes") ?? [0, 2, 3]) },
  "GroupNormalization": groupNormalization,
  "LayerNormalization": layerNormalization, "RMSNormalization": layerNormalization,
  "SimplifiedLayerNormalization": layerNormalization,
  "com.microsoft.SkipLayerNormalization": { call in skipNormalization(&call, parameters: [2, 3], bias: 4) },
  "com.microsoft.SkipSimplifiedLayerNormalization": { call in skipNormalization(&call, parameters: [2], bias: 3) },
  "com.microsoft.EmbedLayerNormalization": embedding,
]

/// Inference mode is a scale and a shift per channel. Training mode computes statistics over the other axes.
@Sendable private func batchNormalization(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), x.axes.count >= 2, call.inputs.count >= 5 else { return nil }
  guard let y = perChannel(&call, x, parameters: 1..<5) else { return nil }
  let extra = call.node.outputs.dropFirst()
  if call.node.int("training_mode", default: 0) != 0 || extra.contains(where: { $0 != nil }) {
    call.approximate(y, axes: y.axes.indices.filter { $0 != 1 })
  }
  // The statistics it hands out run along the channels, as the stored ones do.
  guard let statistics = call.input(3) else { return nil }
  return [y] + extra.map { _ in statistics }
}

@Sendable private func instanceNormalization(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), x.axes.count >= 3, let y = perChannel(&call, x, parameters: 1..<3) else { return nil }
  call.approximate(y, axes: 2..<y.axes.count)
  return [y]
}

/// Groups of neighbouring channels are normalized together; scale and shift run along the channels, in operator sets
/// before 21 along the groups.
@Sendable private func groupNormalization(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let scale = call.input(1), let bias = call.input(2), let shape = call.shape(0),
    let original = call.originalShape(0), let extents = call.outputExtents(), shape.count >= 2,
    let groups = call.node.int("num_groups"), let originalGroups = call.originalNode.int("num_groups"), groups > 0,
    originalGroups > 0, shape[1] % groups == 0, scale.axes.count == 1, bias.axes.count == 1,
    let parts = x.splitting(
      axis: 1,
      into: [
        Extent(groups, original: originalGroups), Extent(shape[1] / groups, original: original[1] / originalGroups),
      ], at: call.id, &call.facts)
  else { return nil }
  var grouped = parts
  let letters = Array(0..<grouped.axes.count)
  let perGroup = call.originalShape(1) == [originalGroups] && original[1] != originalGroups
  if perGroup {
    guard
      let scaled = call.facts.contract(
        [Operand(value: grouped, letters: letters)] + [scale, bias].map { Operand(value: $0, letters: [1]) },
        output: letters, at: call.id, roles: true)
    else { return nil }
    grouped = scaled
  }
  call.approximate(grouped, axes: 2..<grouped.axes.count)
  guard let y = grouped.reshaped(extents, at: call.id, &call.facts) else { return nil }
  return perGroup ? [y] : perChannel(&call, y, parameters: 1..<3).map { [$0] }
}

/// Scale and shift are aligned with the last axes, which are normalized together. The statistics that it may hand out
/// lose these axes.
@Sendable private func layerNormalization(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let axis = call.normalized(call.node.int("axis", default: -1), rank: x.axes.count)
  else { return nil }
  return normalized(&call, x, from: axis, parameters: [1, 2]).map { [$0] + call.statistics($0, from: axis, count: 2) }
}

/// The sum of two streams, normalized over the last axis: output, statistics, and the sum itself.
private func skipNormalization(_ call: inout RuleCall, parameters: [Int], bias: Int) -> [LabelledValue]? {
  guard let x = call.input(0), let skip = call.input(1), let last = x.axes.indices.last,
    var sum = call.facts.elementwise([x, skip], rank: x.axes.count, at: call.id)
  else { return nil }
  call.noteJoin([x, skip], sum)
  if let bias = call.input(bias) {
    guard let biased = call.facts.elementwise([sum, bias], rank: x.axes.count, at: call.id) else { return nil }
    sum = biased
  }
  guard let y = normalized(&call, sum, from: last, parameters: parameters) else { return nil }
  return [y] + call.statistics(y, from: last, count: 2) + [sum]
}

/// Rows of the tables of tokens, positions and segments, added and normalized.
@Sendable private func embedding(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let shape = call.outputShape(), let original = call.originalOutputShape(), shape.count == 3 else { return nil }
  call.freezeSettings([0, 1])
  let positions = [0, 1].map { call.fixedAxis(shape[$0], original: original[$0], .indexedByData) }
  var sum: LabelledValue?
  for k in 2..<5 {
    guard let table = call.input(k) else { continue }
    guard table.axes.count == 2 else { return nil }
    var rows = call.facts.mix(table, table.axes[0], reason: call.facts.reason(.indexedByData, call.id))
    rows.axes[0] = []
    guard let part = call.facts.elementwise([sum, rows].compactMap { $0 }, rank: 2, at: call.id) else { return nil }
    sum = part
  }
  guard var x = sum else { return nil }
  x.axes = positions + [x.axes[1]]
  x.isStored = false
  let statistics = LabelledValue(axes: [positions[0]], sets: [])
  return normalized(&call, x, from: 2, parameters: [5, 6]).map { [$0, statistics, x] }
}

/// `x` with the inputs `parameters` aligned to its last axes, and statistics taken over the axes from `axis` on.
private func normalized(
  _ call: inout RuleCall, _ x: LabelledValue, from axis: Int, parameters: [Int]
) -> LabelledValue? {
  var y = x
  for k in parameters {
    guard let parameter = call.input(k) else { continue }
    guard parameter.axes.count <= x.axes.count,
      let next = call.facts.elementwise([y, parameter], rank: x.axes.count, at: call.id)
    else { return nil }
    y = next
  }
  call.approximate(y, axes: axis..<y.axes.count)
  return y
}

/// `x` with one number per index of axis 1 from each of the inputs `parameters`.
private func perChannel(_ call: inout RuleCall, _ x: LabelledValue, parameters: Range<Int>) -> LabelledValue? {
  let letters = Array(0..<x.axes.count)
  var operands = [Operand(value: x, letters: letters)]
  for k in parameters {
    guard let parameter = call.input(k), parameter.axes.count == 1 else { return nil }
    operands.append(Operand(value: parameter, letters: [1]))
  }
  return call.facts.contract(operands, output: letters, at: call.id, roles: true)
}

private func approximate(_ call: inout RuleCall, axes: [Int]) -> [LabelledValue]? {
  guard let x = call.input(0), axes.allSatisfy(x.axes.indices.contains) else { return nil }
  call.approximate(x, axes: axes)
  return [x]
}

extension RuleCall {
  /// What statistics over the axes from `axis` on keep of the labels of `value`.
  fileprivate mutating func statistics(_ value: LabelledValue, from axis: Int, count: Int) -> [LabelledValue] {
    // What nobody reads need not be related.
    guard node.outputs.dropFirst().prefix(count).contains(where: { $0 != nil }) else {
      return Array(repeating: value, count: count)
    }
    let letters = Array(0..<value.axes.count)
    guard
      var reduced = facts.contract(
        [Operand(value: value, letters: letters)], output: Array(letters[..<axis]), at: id)
    else { return [] }
    reduced.axes += Array(repeating: [], count: value.axes.count - axis)
    return Array(repeating: reduced, count: count)
  }

  /// Sets that touch one of `axes` are cut only approximately: the operator takes statistics along them.
  mutating func approximate(_ value: LabelledValue, axes: some Sequence<Int>) {
    let reason = facts.reason(.normalized, id)
    let factors = axes.flatMap { value.axes[$0] }
    for set in value.sets { facts.approximate(set, over: factors, reason) }
  }
}
