import ModelGraph

/// Which slice of which stored tensor a label stands for.
package struct LabelOrigin: Sendable {
  package let value: ValueID
  package let axis: Int
  /// Labels `first ..< first + count` are the slices of the axis, in order of `index`.
  let first: Int32
  let count: Int
  /// Original indices per label: label k of the range stands for indices `k*width ..< (k+1)*width` (the outputs of one
  /// group of a depthwise convolution), except on input axes of group convolutions.
  let width: Int
  /// Groups of a group convolution, if the labels of axis 1 are numbered per group: label (g, i) at g*n + i.
  let blocks: Int
  /// The only place the labels are for, if the tensor is a shared vector.
  let use: Use?

  init(value: ValueID, axis: Int, first: Int32, count: Int, width: Int = 1, blocks: Int = 1, use: Use? = nil) {
    (self.value, self.axis, self.first, self.count) = (value, axis, first, count)
    (self.width, self.blocks, self.use) = (width, blocks, use)
  }

  package var range: Range<Int32> { first..<first + Int32(count) }
}

/// How convolutions read a weight, which decides the labels it starts with.
enum WeightUse: Hashable, Sendable {
  case conv(groups: Int)
  case convTranspose(groups: Int)
}

/// Gives stored tensors their first labels: one per index of every axis that can be cut.
package struct StoredLabels: Sendable {
  package private(set) var origins: [LabelOrigin] = []
  private let weightUses: [ValueID: Set<WeightUse>]

  init(graph: Graph) {
    var uses: [ValueID: Set<WeightUse>] = [:]
    for node in graph.nodes where node.domain.isEmpty {
      guard let weight = node.input(node.op == "QLinearConv" ? 3 : 1) else { continue }
      let groups = node.int("group", default: 1)
      let use: WeightUse
      switch node.op {
      case "Conv", "ConvInteger", "QLinearConv": use = .conv(groups: groups)
      case "ConvTranspose": use = .convTranspose(groups: groups)
      default: continue
      }
      uses[Self.stored(behind: weight, in: graph), default: []].insert(use)
    }
    weightUses = uses
  }

  /// The tensor that `value` copies or converts, seen through Identity, Cast and DequantizeLinear.
  static func stored(behind value: ValueID, in graph: Graph) -> ValueID {
    var current = value
    while !graph[current].isStored, let producer = graph[current].producer {
      let node = graph[producer]
      guard ["Identity", "Cast", "DequantizeLinear"].contains(node.op), let input = node.input(0) else { break }
      current = input
    }
    return current
  }

  /// Element types that hold data; the others are settings and indices.
  static func carriesLabels(_ dtype: DType) -> Bool {
    switch dtype {
    case .float16, .bfloat16, .float32, .float64, .int8, .uint8, .int32: true
    default: false
    }
  }

  /// The form of a stored tensor that carries no labels.
  static func unlabelled(_ tensor: Tensor, _ facts: inout Facts) -> LabelledValue {
    let reason = facts.reason(.fixedPart, nil)
    return LabelledValue(
      axes: tensor.shape.map { $0 != 1 ? [facts.factor(size: $0, reason: reason)] : [] }, sets: [], isStored: true)
  }

  /// The labelled form of the stored tensor `id`, with fresh labels.
  /// - Parameter use: the only place the labels are for, nil for all.
  mutating func label(
    _ id: ValueID, _ tensor: Tensor, use: Use? = nil, _ facts: inout Facts
  ) -> LabelledValue {
    var value = Self.unlabelled(tensor, &facts)
    guard Self.carriesLabels(tensor.dtype), tensor.elementCount > 1 else { return value }
    var plainAxes = Array(tensor.shape.indices)
    if let uses = weightUses[id], uses.count == 1, let use = uses.first, tensor.shape.count >= 2 {
      switch use {
      case .conv(let groups) where groups > 1 && tensor.shape[0] % groups == 0:
        labelGrouped(id, &value, shape: tensor.shape, groups: groups, innerIsInput: true, &facts)
        plainAxes.removeFirst(2)
      case .convTranspose(let groups) where groups > 1 && tensor.shape[0] % groups == 0:
        labelGrouped(id, &value, shape: tensor.shape, groups: groups, innerIsInput: false, &facts)
        plainAxes.removeFirst(2)
      default: break
      }
    }
    for axis in plainAxes where tensor.shape[axis] > 1 {
      let count = tensor.shape[axis]
      let labels = facts.freshArray(shape: [count])
      origins.append(LabelOrigin(value: id, axis: axis, first: labels.first, count: count, use: use))
      value.sets.append(LabelSet(factors: value.axes[axis], labels: labels))
    }
    return value
  }

  /// Axis 0 is `[g][a]`, axis 1 is `[b]`: outputs and inputs of each group (the other way round for ConvTranspose).
  /// With one channel per group on axis 1 of a Conv (depthwise) or on axis 0 of a ConvTranspose, the group is what can
  /// be removed: one label per group.
  private mutating func labelGrouped(
    _ id: ValueID, _ value: inout LabelledValue, shape: [Int], groups: Int, innerIsInput: Bool, _ facts: inout Facts
  ) {
    let (a, b) = (shape[0] / groups, shape[1])
    guard let whole = value.axes[0].first else { return }
    let parts = a > 1 ? value.split(whole, into: [groups, a], &facts) : [whole]
    let g = parts[0]
    let depthwise = innerIsInput ? b == 1 : a == 1
    if depthwise {
      let labels = facts.freshArray(shape: [groups])
      // The whole group goes: its rows on axis 0, and for ConvTranspose its outputs, which share axis 1 with the
      // others.
      origins.append(LabelOrigin(value: id, axis: 0, first: labels.first, count: groups, width: a))
      value.sets.append(LabelSet(factors: [g], labels: labels))
      return
    }
    let rows = facts.freshArray(shape: a > 1 ? [groups, a] : [groups])
    origins.append(LabelOrigin(value: id, axis: 0, first: rows.first, count: shape[0]))
    value.sets.append(LabelSet(factors: parts, labels: rows))
    if b > 1 {
      let columns = facts.freshArray(shape: [groups, b])
      origins.append(
        LabelOrigin(value: id, axis: 1, first: columns.first, count: groups * b, blocks: groups))
      value.sets.append(LabelSet(factors: [g] + value.axes[1], labels: columns))
    }
  }

  /// The origin of a label, nil for auxiliary ones (blocks, padding).
  package func origin(of label: Int32) -> LabelOrigin? {
    var (low, high) = (0, origins.count)
    while low < high {
      let middle = (low + high) / 2
      if origins[middle].first <= label { low = middle + 1 } else { high = middle }
    }
    guard low > 0, origins[low - 1].range.contains(label) else { return nil }
    return origins[low - 1]
  }
}
