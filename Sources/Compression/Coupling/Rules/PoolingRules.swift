import ModelGraph

// Pooling and resizing: space is mixed and gets lengths of its own; channels pass, and so does an axis along which
// windows are one place long.

let poolingRules: [String: Rule] = [
  "MaxPool": pool, "AveragePool": pool, "LpPool": pool,
  "GlobalAveragePool": pool, "GlobalMaxPool": pool, "GlobalLpPool": pool,
  "Resize": resize, "Upsample": resize,
  "com.microsoft.QLinearGlobalAveragePool": quantizedPool, "com.microsoft.QLinearAveragePool": quantizedPool,
]

@Sendable private func pool(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0) else { return nil }
  let passing = call.node.ints("kernel_shape").map { call.pointwiseAxes(kernel: $0) } ?? []
  guard let y = call.spatiallyMixed(x, axes: (2..<max(x.axes.count, 2)).filter { !passing.contains($0) }) else {
    return nil
  }
  guard let positions = call.node.output(1) else { return [y] }
  // MaxPool's second output holds positions in the flattened input, which a smaller input would change. To put the
  // elements back where they were is the one use that does not mind.
  let isRead = call.graph.uses(of: positions).contains { use in
    call.graph[use.node].op != "MaxUnpool" || use.input != 1
  }
  return isRead || call.graph.outputs.contains(positions) ? nil : [y, y]
}

@Sendable private func quantizedPool(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0) else { return nil }
  let channels = call.node.int("channels_last", default: 0) != 0 ? x.axes.count - 1 : 1
  return call.spatiallyMixed(x, axes: x.axes.indices.filter { $0 != 0 && $0 != channels }).map { [$0] }
}

/// Axes whose length stays the same pass; scales, region and sizes are settings.
@Sendable private func resize(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let from = call.shape(0), let to = call.outputShape(), from.count == to.count
  else { return nil }
  call.freezeSettings(1..<call.inputs.count)
  return call.spatiallyMixed(x, axes: from.indices.filter { from[$0] != to[$0] }).map { [$0] }
}

extension RuleCall {
  /// The spatial axes along which a window of lengths `kernel` is one place long, moves by one and meets no padding.
  func pointwiseAxes(kernel: [Int]) -> [Int] {
    let (strides, pads) = (node.ints("strides"), node.ints("pads"))
    return kernel.indices.filter { k in
      kernel[k] == 1 && (strides.map { k < $0.count && $0[k] == 1 } ?? true)
        && (pads.map { $0.count == 2 * kernel.count && $0[k] == 0 && $0[k + kernel.count] == 0 } ?? true)
        && (node.ints("output_padding").map { k < $0.count && $0[k] == 0 } ?? true) && node.ints("output_shape") == nil
    }.map { $0 + 2 }
  }

  /// `x` with `axes` mixed and given the output's lengths.
  mutating func spatiallyMixed(_ x: LabelledValue, axes: some Sequence<Int>) -> LabelledValue? {
    guard let to = outputShape(), let original = originalOutputShape(), to.count == x.axes.count else { return nil }
    let axes = Array(axes)
    var y = facts.mix(x, axes.flatMap { x.axes[$0] }, reason: facts.reason(.spatial, id))
    for a in axes { y.axes[a] = fixedAxis(to[a], original: original[a], .spatial) }
    return y
  }
}
