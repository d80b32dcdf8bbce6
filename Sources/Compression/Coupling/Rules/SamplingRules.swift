import ModelGraph

// Operators that read space at positions of their own: sampling grids, regions, remembered maxima. Channels pass; the
// positions are the same for all of them.

let samplingRules: [String: Rule] = [
  "GridSample": gridSample, "RoiAlign": regions, "MaxRoiPool": regions, "MaxUnpool": unpool,
  "CenterCropPad": cropOrPad, "Col2Im": columnsToImage,
]

/// The grid has a batch axis of its own, and places instead of space.
@Sendable private func gridSample(_ call: inout RuleCall) -> [LabelledValue]? {
  call.freezeSettings([1])
  guard let x = call.input(0) else { return nil }
  return resampled(&call, x, axes: 2..<max(x.axes.count, 2))
}

/// Regions of any image of the batch: their number takes the batch's place.
@Sendable private func regions(_ call: inout RuleCall) -> [LabelledValue]? {
  call.freezeSettings([1, 2])
  guard let x = call.input(0) else { return nil }
  return resampled(&call, x, axes: x.axes.indices.filter { $0 != 1 })
}

/// Positions count through batch, channels and space. Where they come from a pooling of the very space that is
/// restored, what is removed of the channels shifts both sides alike.
@Sendable private func unpool(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let positions = call.input(1), let to = call.outputShape(),
    let pooling = call.node.input(1).flatMap({ call.graph[$0].producer }).map({ call.graph[$0] }),
    pooling.op == "MaxPool", let pooled = pooling.input(0).flatMap({ call.shapes[$0] }),
    pooled.count == to.count, pooled.dropFirst(2) == to.dropFirst(2),
    let both = call.facts.elementwise([x, positions], rank: x.axes.count, at: call.id)
  else { return nil }
  call.freezeSettings([2])
  return resampled(&call, both, axes: 2..<max(both.axes.count, 2))
}

@Sendable private func cropOrPad(_ call: inout RuleCall) -> [LabelledValue]? {
  call.freezeSettings([1])
  guard let x = call.input(0) else { return nil }
  let axes = (call.node.ints("axes") ?? Array(x.axes.indices)).compactMap { call.normalized($0, rank: x.axes.count) }
  return resampled(&call, x, axes: axes)
}

/// Patches `[channel][place in the patch]` are added where they lie in the image, each channel for itself.
@Sendable private func columnsToImage(_ call: inout RuleCall) -> [LabelledValue]? {
  call.freezeSettings([1, 2])
  guard let x = call.input(0), let shape = call.shape(0), shape.count == 3, let to = call.outputShape(),
    let original = call.originalOutputShape(), to.count > 2, to[1] > 0, shape[1] % to[1] == 0
  else { return nil }
  let patch = shape[1] / to[1]
  guard
    var y = x.splitting(
      axis: 1, into: [Extent(to[1], original: original[1]), Extent(patch, original: patch)], at: call.id, &call.facts)
  else { return nil }
  y = call.facts.mix(y, y.axes[2] + y.axes[3], reason: call.facts.reason(.spatial, call.id))
  y.axes.replaceSubrange(2..., with: (2..<to.count).map { call.fixedAxis(to[$0], original: original[$0], .spatial) })
  return [y]
}

/// `x` with `axes` mixed and given the output's lengths.
private func resampled(_ call: inout RuleCall, _ x: LabelledValue, axes: some Sequence<Int>) -> [LabelledValue]? {
  call.spatiallyMixed(x, axes: axes).map { [$0] }
}
