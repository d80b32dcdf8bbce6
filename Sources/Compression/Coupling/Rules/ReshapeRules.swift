import ModelGraph

// Operators that only read the same elements under other axes.

let reshapeRules: [String: Rule] = [
  "Reshape": reshape, "Flatten": reshape, "Squeeze": reshape, "Unsqueeze": reshape,
  "Transpose": transpose,
  "DepthToSpace": depthToSpace, "SpaceToDepth": spaceToDepth,
]

@Sendable private func reshape(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let extents = call.outputExtents() else { return nil }
  return x.reshaped(extents, at: call.id, &call.facts).map { [$0] }
}

@Sendable private func transpose(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0) else { return nil }
  let order = call.node.ints("perm") ?? Array(x.axes.indices.reversed())
  guard order.sorted() == Array(x.axes.indices) else { return nil }
  return [x.permuted(order)]
}

/// Channels `[b][b][C]` (DCR) or `[C][b][b]` (CRD) go to `[H][b]`, `[W][b]`.
@Sendable private func depthToSpace(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let shape = call.shape(0), let original = call.originalShape(0),
    let b = call.node.int("blocksize"), b > 0, shape.count == 4, shape[1] % (b * b) == 0
  else { return nil }
  let channels = Extent(shape[1] / (b * b), original: original[1] / (b * b))
  let block = Extent(b, original: b)
  let (n, h, w) = (extent(shape, original, 0), extent(shape, original, 2), extent(shape, original, 3))
  let columnFirst = call.node.string("mode") == "CRD"
  let split = columnFirst ? [n, channels, block, block, h, w] : [n, block, block, channels, h, w]
  let order = columnFirst ? [0, 1, 4, 2, 5, 3] : [0, 3, 4, 1, 5, 2]
  return view(&call, x, split, order, blocks: columnFirst ? [2, 3] : [1, 2])
}

@Sendable private func spaceToDepth(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let shape = call.shape(0), let original = call.originalShape(0),
    let b = call.node.int("blocksize"), b > 0, shape.count == 4, shape[2] % b == 0, shape[3] % b == 0
  else { return nil }
  let block = Extent(b, original: b)
  let split = [
    extent(shape, original, 0), extent(shape, original, 1), Extent(shape[2] / b, original: original[2] / b), block,
    Extent(shape[3] / b, original: original[3] / b), block,
  ]
  return view(&call, x, split, [0, 3, 5, 1, 2, 4], blocks: [3, 5])
}

private func extent(_ shape: [Int], _ original: [Int], _ axis: Int) -> Extent {
  Extent(shape[axis], original: original[axis])
}

/// Split axes, reorder them, and read the result under the output's axes. One number says how long all `blocks` are, so
/// that what lies in them goes together.
private func view(
  _ call: inout RuleCall, _ x: LabelledValue, _ split: [Extent], _ order: [Int], blocks: [Int]
) -> [LabelledValue]? {
  guard let extents = call.outputExtents(), let pieces = x.reshaped(split, at: call.id, &call.facts) else { return nil }
  let inBlocks = blocks.flatMap { pieces.axes[$0] }
  for set in pieces.sets {
    for factor in inBlocks { if let d = set.position(of: factor) { call.facts.joinAlong(set.labels, d) } }
  }
  return pieces.permuted(order).reshaped(extents, at: call.id, &call.facts).map { [$0] }
}
