import ModelGraph

// Layers: the nodes with a weight that a user would prune or decompose, whatever stands between the stored tensor and
// the node (Identity, a transposition, a scale, a norm).

/// A node with a stored weight.
package struct Layer: Sendable {
  var node: NodeID
  package var name: String
  /// The stored tensor that makes its output channels.
  var weight: ValueID
  /// The input through which the node reads it.
  var input: Int
  /// The stored axis of its output channels; nil if that has length 1.
  package var outputs: LabelOrigin?
}

extension CouplingAnalysis {
  /// In node order.
  func layers() -> [Layer] {
    var originOf: [ValueID: [LabelOrigin]] = [:]
    for origin in stored.origins { originOf[origin.value, default: []].append(origin) }
    var producers: [NodeID: [LabelOrigin]] = [:]
    for (label, role) in facts.roles where role.kind == .producer {
      if let origin = stored.origin(of: label) { producers[role.node, default: []].append(origin) }
    }
    let isWeight = graph.constantValues()
    return graph.nodeIDs.compactMap { id in
      let node = graph[id]
      // Of two stored operands the usual one; a layer that is weights alone is part of another's weight.
      guard let positions = Self.weightInputs[node.qualifiedOperator],
        node.op == "Conv" || !node.inputs.allSatisfy({ $0.map { isWeight[$0.index] } ?? true }),
        let input = positions.first(where: { k in node.input(k).map { isWeight[$0.index] } ?? false }),
        let operand = node.input(input)
      else { return nil }
      let made = producers[id] ?? []
      var weight = StoredLabels.stored(behind: operand, in: graph)
      var outputs: LabelOrigin?
      if let tensor = graph[weight].tensor {
        guard StoredLabels.carriesLabels(tensor.dtype), tensor.shape.count >= 2 else { return nil }
        let axes = originOf[weight] ?? []
        if let axis = outputAxis(node, input: input, rank: tensor.shape.count) {
          outputs = axes.first { $0.axis == axis } ?? (node.op == "ConvTranspose" ? axes.first { $0.axis == 0 } : nil)
        } else {
          outputs = made.first { $0.value == weight }
        }
        if Self.tables.contains(node.qualifiedOperator), outputs == nil { return nil }
      } else if let origin = made.first ?? largestSource(of: operand).flatMap({ originOf[$0]?.first }) {
        (weight, outputs) = (origin.value, origin)
      } else {
        return nil
      }
      return Layer(node: id, name: graph.displayName(id), weight: weight, input: input, outputs: outputs)
    }
  }

  /// The inputs that may hold an operator's weight, the usual one first.
  private static let weightInputs: [String: [Int]] = [
    "Conv": [1], "ConvTranspose": [1], "ConvInteger": [1], "QLinearConv": [3], "DeformConv": [1],
    "com.microsoft.FusedConv": [1],
    "Gemm": [1, 0], "com.microsoft.FusedGemm": [1, 0], "com.microsoft.QGemm": [3],
    "MatMul": [1, 0], "com.microsoft.FusedMatMul": [1, 0], "MatMulInteger": [1], "QLinearMatMul": [3],
    "com.microsoft.DynamicQuantizeMatMul": [1], "com.microsoft.MatMulIntegerToFloat": [1],
    "Einsum": [1, 0, 2], "RNN": [1], "GRU": [1], "LSTM": [1],
    "com.microsoft.Attention": [1], "Gather": [0], "com.microsoft.EmbedLayerNormalization": [2],
  ]
  /// Those whose weight is a table that data picks rows of.
  private static let tables: Set = ["Gather", "com.microsoft.EmbedLayerNormalization"]

  /// The axis of a weight as the node reads it that runs along the output channels, where the operator alone says so.
  private func outputAxis(_ node: Node, input: Int, rank: Int) -> Int? {
    switch node.qualifiedOperator {
    case "Conv", "ConvInteger", "QLinearConv", "DeformConv", "com.microsoft.FusedConv": 0
    case "ConvTranspose": 1
    case "Gemm", "com.microsoft.FusedGemm", "com.microsoft.QGemm":
      input == 0
        ? (node.int("transA", default: 0) != 0 ? 1 : 0) : (node.int("transB", default: 0) != 0 ? 0 : 1)
    case "Einsum": nil
    case "RNN", "GRU", "LSTM": 1
    case "Gather": rank == 2 && [0, -2].contains(node.int("axis", default: 0)) ? 1 : nil
    case "com.microsoft.EmbedLayerNormalization": 1
    case "com.microsoft.FusedMatMul":
      input == 0
        ? (node.int("transA", default: 0) != 0 ? rank - 1 : rank - 2)
        : (node.int("transB", default: 0) != 0 ? rank - 2 : rank - 1)
    default: input == 0 ? rank - 2 : rank - 1
    }
  }

  /// A layer for every one of `producers` that makes a removable channel which no layer shows, as the hidden ones of a
  /// network that makes another's weights.
  func layers(
    _ layers: [Layer], and producers: [ChannelGroup.Producer], labelCount: Int, classOf: (Int32) -> Int32?
  ) -> [Layer] {
    var isShown = [Bool](repeating: false, count: labelCount)
    func show(_ origin: LabelOrigin) -> Bool {
      var isNew = false
      for label in origin.range {
        guard let shown = classOf(label).map(Int.init), !isShown[shown] else { continue }
        (isShown[shown], isNew) = (true, true)
      }
      return isNew
    }
    for origin in layers.compactMap(\.outputs) { _ = show(origin) }
    var all = layers
    for producer in producers where show(producer.origin) {
      let node = graph[producer.node]
      let input = node.inputs.indices.first { k in
        node.input(k).map { StoredLabels.stored(behind: $0, in: graph) } == producer.origin.value
      }
      all.append(
        Layer(
          node: producer.node, name: graph.displayName(producer.node), weight: producer.origin.value,
          input: input ?? 0, outputs: producer.origin))
    }
    return all.sorted { $0.node < $1.node }
  }

  /// The largest stored tensor that a computed weight is made from.
  private func largestSource(of value: ValueID) -> ValueID? {
    var seen: Set<ValueID> = [value]
    var open = [value]
    var best: (id: ValueID, count: Int)?
    while let next = open.popLast() {
      if let tensor = graph[next].tensor {
        if StoredLabels.carriesLabels(tensor.dtype), tensor.elementCount > best?.count ?? 1 {
          best = (next, tensor.elementCount)
        }
        continue
      }
      for case let input? in graph[next].producer.map({ graph[$0].inputs }) ?? [] where seen.insert(input).inserted {
        open.append(input)
      }
    }
    return best?.id
  }
}
