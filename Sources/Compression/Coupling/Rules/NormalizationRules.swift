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
  /// Sets that touch one of `axes` are cut only approximately: the operator takes statistics along them.
  mutating func approximate(_ value: LabelledValue, axes: some Sequence<Int>) {
    let reason = facts.reason(.normalized, id)
    for factor in axes.flatMap({ value.axes[$0] }) {
      for s in value.sets(touching: factor) { facts.approximate(value.sets[s].labels, reason) }
    }
  }
}
