import ModelGraph

// What the settings of each operator must be once lengths have changed, by operator. Operators that are not here have
// no setting that encodes a length of their data; numbers they read keep their values.

extension Reconciliation {
  /// Writes what the node's settings must become.
  /// - Returns: the inputs dealt with.
  mutating func reconcileSettings(_ id: NodeID, _ node: Node) throws(Failure) -> Set<Int> {
    reconcileAttention(id, node)
    switch node.qualifiedOperator {
    case "GroupNormalization": reconcileNormalizedGroups(id, node)
    case "Conv", "ConvInteger", "DeformConv", "com.microsoft.FusedConv": reconcileGroups(id, node)
    case "QLinearConv": reconcileGroups(id, node, weight: 3)
    case "ConvTranspose": reconcileGroups(id, node, ofOutputs: true)
    case "RNN", "GRU", "LSTM": reconcileState(id, node)
    case "Reshape":
      try reconcileReshape(id, node)
      return [1]
    case "Expand":
      try reconcileExpand(id, node)
      return [1]
    case "Tile":
      if let x = newShape(node.input(0)), let y = newShape(node.output(0)), x.count == y.count,
        let stated = contents(new, node.input(1)), stated.count == y.count, !x.contains(0)
      {
        try require(id, 1, y.indices.map { y[$0] / x[$0] })
      }
      return [1]
    case "ConstantOfShape":
      if let y = newShape(node.output(0)), y != oldShape(node.output(0)) {
        try require(id, 0, y, nominal: newNominalShape(node.output(0)))
      }
      return [0]
    case "Split":
      try reconcileSplit(id, node)
      return [1]
    case "Slice":
      try reconcileSlice(id, node)
      return [1, 2, 3, 4]
    case "Gather":
      try reconcileGather(id, node)
      return [1]
    case "Pad":
      try reconcilePad(id, node)
      return [1]
    case "Resize":
      try reconcileResize(id, node)
      return [3]
    case "MaxUnpool":
      if node.input(2) != nil, let y = newShape(node.output(0)) {
        try require(id, 2, y, nominal: newNominalShape(node.output(0)))
      }
      return [2]
    case "ScatterND":
      try reconcileScatter(id, node)
      return [1]
    case "Squeeze": try reconcileSqueeze(id, node)
    default: break
    }
    return []
  }

  private func oldShape(_ id: ValueID?) -> [Int]? { id.flatMap { old.analysis[$0] } }
  private func newShape(_ id: ValueID?) -> [Int]? { id.flatMap { new.analysis[$0] } }
  private func newNominalShape(_ id: ValueID?) -> [Int]? { id.flatMap { (new.nominal ?? new.analysis)[$0] } }

  // MARK: Convolution

  /// New input channels (or outputs) over what the weight's kernels now read (or write).
  private mutating func reconcileGroups(_ id: NodeID, _ node: Node, weight: Int = 1, ofOutputs: Bool = false) {
    let groups = node.int("group", default: 1)
    guard groups > 1, let x = newShape(node.input(0)), let w = newShape(node.input(weight)),
      let y = newShape(node.output(0)), w[1] > 0
    else { return }
    let now = (ofOutputs ? y[1] : x[1]) / w[1]
    if now != groups { add(.setAttribute(node: id, name: "group", value: .int(now))) }
  }

  private mutating func reconcileState(_ id: NodeID, _ node: Node) {
    guard let stated = node.int("hidden_size"), let width = newShape(node.input(2))?.last, width != stated else {
      return
    }
    add(.setAttribute(node: id, name: "hidden_size", value: .int(width)))
  }

  // MARK: Reshape, Expand

  private mutating func reconcileReshape(_ id: NodeID, _ node: Node) throws(Failure) {
    guard let stated = contents(new, node.input(1)), let x = newShape(node.input(0)), let y = newShape(node.output(0)),
      stated.count == y.count
    else { return }
    let keepsZero = node.int("allowzero", default: 0) != 0
    func resolved(_ target: [Int], _ x: [Int]) -> [Int]? {
      var shape = target
      for k in shape.indices where shape[k] == 0 && !keepsZero { shape[k] = k < x.count ? x[k] : 0 }
      if let open = shape.firstIndex(of: -1) {
        let rest = shape.indices.filter { $0 != open }.reduce(1) { $0 * shape[$1] }
        guard rest > 0, x.reduce(1, *) % rest == 0 else { return nil }
        shape[open] = x.reduce(1, *) / rest
      }
      return shape
    }
    if resolved(stated, x) == y { return }
    func patched(_ stated: [Int], _ x: [Int], _ y: [Int]) -> [Int] {
      let target = stated.indices.map { k in
        stated[k] == -1 || (stated[k] == 0 && !keepsZero && k < x.count && x[k] == y[k]) ? stated[k] : y[k]
      }
      return resolved(target, x) == y ? target : y
    }
    guard let xNominal = newNominalShape(node.input(0)), let yNominal = newNominalShape(node.output(0)) else { return }
    let nominalStated = (new.nominal ?? new.analysis).contents(of: node.inputs[1] ?? ValueID(0))?.integers
    try require(
      id, 1, patched(stated, x, y),
      nominal: patched(nominalStated?.map(Int.init(clamping:)) ?? stated, xNominal, yNominal))
  }

  private mutating func reconcileExpand(_ id: NodeID, _ node: Node) throws(Failure) {
    guard let stated = contents(new, node.input(1)), let x = newShape(node.input(0)), let y = newShape(node.output(0)),
      let yNominal = newNominalShape(node.output(0))
    else { return }
    // Aligned from the right; 1 means "as long as the data is".
    func patched(_ y: [Int]) -> [Int] {
      stated.indices.map { k in
        let axis = y.count - stated.count + k
        let dataAxis = x.count - stated.count + k
        return stated[k] == 1 && dataAxis >= 0 && x[dataAxis] == y[axis] ? 1 : y[axis]
      }
    }
    try require(id, 1, patched(y), nominal: patched(yNominal))
  }

  // MARK: Split

  /// The outputs' new lengths, in the form the node has: attribute, input, or an even split.
  private mutating func reconcileSplit(_ id: NodeID, _ node: Node) throws(Failure) {
    guard let x = newShape(node.input(0)), let axis = normalized(node.int("axis", default: 0), x.count) else { return }
    let sizes = node.outputs.map { newShape($0)?[axis] ?? 0 }
    if let stated = node.ints("split") {
      if stated != sizes { add(.setAttribute(node: id, name: "split", value: .ints(sizes))) }
    } else if node.input(1) != nil {
      try require(id, 1, sizes)
    } else {
      // Equal parts; from opset 18 on the last may be shorter.
      let share = (x[axis] + sizes.count - 1) / max(sizes.count, 1)
      let even = sizes.indices.map { max(min(share, x[axis] - share * $0), 0) }
      if even == sizes, node.opset >= 18 || x[axis] % sizes.count == 0 { return }
      if node.opset < 13 {
        add(.setAttribute(node: id, name: "split", value: .ints(sizes)))
      } else {
        if node.int("num_outputs") != nil { add(.removeAttribute(node: id, name: "num_outputs")) }
        try require(id, 1, sizes)
      }
    }
  }

  private func normalized(_ axis: Int, _ rank: Int) -> Int? {
    let positive = axis < 0 ? axis + rank : axis
    return (0..<rank).contains(positive) ? positive : nil
  }

  // MARK: Slice

  /// Compares the positions selected, not the numbers: bounds that still hit (INT_MAX, negative ones) stay.
  private mutating func reconcileSlice(_ id: NodeID, _ node: Node) throws(Failure) {
    guard let input = node.input(0), let before = oldShape(input), let after = newShape(input),
      before != after || (1...4).contains(where: { contents(old, node.input($0)) != contents(new, node.input($0)) }),
      let was = selections(node, old, before), let now = selections(node, new, after)
    else { return }
    var rewritten: [(place: Int, start: Int, end: Int, step: Int)] = []
    for (k, selection) in was.enumerated() {
      guard let kept = removal.keptPositions(of: input, axis: selection.axis) else { continue }
      let rank = Self.ranks(kept)
      let wanted = selection.positions.filter { kept[$0] }.map { rank[$0] }
      if k < now.count, now[k].positions == wanted { continue }
      guard let run = Self.progression(wanted, preferredStep: selection.step) else {
        if was.count == 1 { return add(.becomeGather(node: id, axis: selection.axis, indices: wanted)) }
        // Picked before the slice, which takes all of them and has the other axes as they were.
        add(.gatherInput(node: id, input: 0, axis: selection.axis, indices: wanted))
        rewritten.append((k, 0, wanted.count, 1))
        continue
      }
      rewritten.append((k, run.start, run.end, run.step))
    }
    guard !rewritten.isEmpty else { return }
    try write(rewritten, id, node)
  }

  private func selections(_ node: Node, _ lengths: Lengths, _ shape: [Int]) -> [SliceSelection]? {
    let call = OperatorCall(
      node: node, shapes: node.inputs.map { $0.flatMap { lengths.analysis[$0] } },
      contents: node.inputs.map { $0.flatMap { lengths.analysis.contents(of: $0) } })
    return (try? call.sliceSelections(shape)) ?? nil
  }

  /// Per position its index among the kept ones.
  private static func ranks(_ kept: [Bool]) -> [Int] {
    var next = 0
    return kept.map { isKept in
      defer { if isKept { next += 1 } }
      return next
    }
  }

  /// Bounds that select exactly `positions`, nil if they are not evenly spaced.
  private static func progression(_ positions: [Int], preferredStep: Int) -> (start: Int, end: Int, step: Int)? {
    guard let first = positions.first, let last = positions.last else { return (0, 0, preferredStep) }
    let step = positions.count > 1 ? positions[1] - first : preferredStep
    guard step != 0, zip(positions, positions.dropFirst()).allSatisfy({ $1 - $0 == step }) else { return nil }
    let end = last + (step > 0 ? 1 : -1)
    // A descending slice that reaches index 0 ends before it: -1 would count from the end.
    return (first, end < 0 ? Int(Int32.min) : end, step)
  }

  private mutating func write(
    _ rewritten: [(place: Int, start: Int, end: Int, step: Int)], _ id: NodeID, _ node: Node
  ) throws(Failure) {
    let inputs: [(name: String, input: Int, number: (Int, Int, Int) -> Int)] = [
      ("starts", 1, { start, _, _ in start }), ("ends", 2, { _, end, _ in end }), ("steps", 4, { _, _, step in step }),
    ]
    for (name, input, number) in inputs {
      let stated = node.ints(name) ?? contents(new, node.input(input))
      if name == "steps", stated == nil {
        guard rewritten.allSatisfy({ $0.step == 1 }) else {
          throw refusal(id, "the kept positions need a step that the node does not have,")
        }
        continue
      }
      guard var elements = stated else { continue }
      for entry in rewritten { elements[entry.place] = number(entry.start, entry.end, entry.step) }
      if node.ints(name) == nil {
        try require(id, input, elements)
      } else if elements != stated {
        add(.setAttribute(node: id, name: name, value: .ints(elements)))
      }
    }
  }

  // MARK: Gather, Pad, Resize, Squeeze

  /// The index list keeps the entries whose target stays, renumbered.
  private mutating func reconcileGather(_ id: NodeID, _ node: Node) throws(Failure) {
    guard let data = node.input(0), let before = oldShape(data), let index = node.input(1),
      let axis = normalized(node.int("axis", default: 0), before.count), newShape(data) != before,
      let kept = removal.keptPositions(of: data, axis: axis), kept.contains(false)
    else { return }
    guard let stated = contents(old, index), let tensor = graph[index].tensor else {
      throw refusal(id, "the index is data")
    }
    let rank = Self.ranks(kept)
    let positions = stated.map { $0 < 0 ? $0 + before[axis] : $0 }
    let wanted = positions.filter { kept[$0] }.map { rank[$0] }
    if wanted == stated { return }
    let shape = tensor.shape.map { $0 > 1 ? wanted.count : $0 }
    add(.setInput(node: id, input: 1, tensor: Self.integers(wanted, dtype: tensor.dtype, shape: shape)))
  }

  /// The index keeps the places of slices that stay, renumbered.
  private mutating func reconcileScatter(_ id: NodeID, _ node: Node) throws(Failure) {
    guard let data = node.input(0), let before = oldShape(data), let index = node.input(1), let updates = node.input(2),
      newShape(data) != before, let kept = removal.keptPositions(of: data, axis: 0), kept.contains(false)
    else { return }
    guard let stated = contents(old, index), let tensor = graph[index].tensor,
      let written = removal.keptPositions(of: updates, axis: 0)
        ?? newShape(updates).map({ _ in stated.map { _ in true } })
    else { throw refusal(id, "the index is data") }
    let rank = Self.ranks(kept)
    let wanted = stated.indices.filter { written[$0] }.map {
      rank[stated[$0] < 0 ? stated[$0] + before[0] : stated[$0]]
    }
    if wanted == stated { return }
    add(.setInput(node: id, input: 1, tensor: Self.integers(wanted, dtype: tensor.dtype, shape: [wanted.count, 1])))
  }

  /// Padding of a pruned axis is as wide as what is kept of each padding block.
  private mutating func reconcilePad(_ id: NodeID, _ node: Node) throws(Failure) {
    guard let y = node.output(0), let before = oldShape(y), let x = oldShape(node.input(0)), newShape(y) != before,
      let stated = node.ints("pads") ?? contents(old, node.input(1))
    else { return }
    var axes = Array(before.indices)
    if node.input(3) != nil { axes = (contents(old, node.input(3)) ?? []).compactMap { normalized($0, before.count) } }
    guard stated.count == 2 * axes.count else { return }
    var pads = stated
    for (k, axis) in axes.enumerated() where stated[k] > 0 || stated[k + axes.count] > 0 {
      guard let kept = removal.keptPositions(of: y, axis: axis), kept.contains(false), stated[k] >= 0,
        stated[k + axes.count] >= 0
      else { continue }
      pads[k] = kept[..<stated[k]].filter { $0 }.count
      pads[k + axes.count] = kept[(stated[k] + x[axis])...].filter { $0 }.count
    }
    if pads == stated { return }
    if node.ints("pads") != nil {
      add(.setAttribute(node: id, name: "pads", value: .ints(pads)))
    } else {
      try require(id, 1, pads)
    }
  }

  private mutating func reconcileResize(_ id: NodeID, _ node: Node) throws(Failure) {
    guard node.input(3) != nil, let y = newShape(node.output(0)), let stated = contents(new, node.input(3)),
      !stated.isEmpty
    else { return }
    let axes = node.ints("axes").map { $0.compactMap { normalized($0, y.count) } } ?? Array(y.indices)
    guard axes.count == stated.count, let yNominal = newNominalShape(node.output(0)) else { return }
    try require(id, 3, axes.map { y[$0] }, nominal: axes.map { yNominal[$0] })
  }

  /// Without axes Squeeze takes whatever has length 1; a pruned axis may have come to that.
  private mutating func reconcileSqueeze(_ id: NodeID, _ node: Node) throws(Failure) {
    guard node.ints("axes") == nil, node.input(1) == nil, let before = oldShape(node.input(0)),
      let after = newShape(node.input(0)), after != before
    else { return }
    let axes = before.indices.filter { before[$0] == 1 }
    guard after.indices.filter({ after[$0] == 1 }) != Array(axes) else { return }
    if node.opset < 13 {
      add(.setAttribute(node: id, name: "axes", value: .ints(Array(axes))))
    } else {
      try require(id, 1, Array(axes))
    }
  }
}
