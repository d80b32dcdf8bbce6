import ModelGraph

// Pooling and resizing: space is mixed and gets lengths of its own, channels pass.

let poolingRules: [String: Rule] = [
  "MaxPool": pool, "AveragePool": pool, "LpPool": pool,
  "GlobalAveragePool": pool, "GlobalMaxPool": pool, "GlobalLpPool": pool,
  "Resize": resize, "Upsample": resize,
]

@Sendable private func pool(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let y = spatiallyMixed(&call, x, axes: 2..<max(x.axes.count, 2)) else { return nil }
  guard let positions = call.node.output(1) else { return [y] }
  // MaxPool's second output holds positions in the flattened input, which a smaller input would change.
  let isRead = !call.graph.uses(of: positions).isEmpty || call.graph.outputs.contains(positions)
  return isRead ? nil : [y, y]
}

/// Axes whose length stays the same pass; scales, region and sizes are settings.
@Sendable private func resize(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let from = call.shape(0), let to = call.outputShape(), from.count == to.count
  else { return nil }
  call.freezeSettings(1..<call.inputs.count)
  return spatiallyMixed(&call, x, axes: from.indices.filter { from[$0] != to[$0] }).map { [$0] }
}

/// `x` with `axes` mixed and given the output's lengths.
private func spatiallyMixed(_ call: inout RuleCall, _ x: LabelledValue, axes: some Sequence<Int>) -> LabelledValue? {
  guard let to = call.outputShape(), let original = call.originalOutputShape(), to.count == x.axes.count
  else { return nil }
  let axes = Array(axes)
  var y = call.facts.mix(x, axes.flatMap { x.axes[$0] }, reason: call.facts.reason(.spatial, call.id))
  for a in axes { y.axes[a] = call.fixedAxis(to[a], original: original[a], .spatial) }
  return y
}
