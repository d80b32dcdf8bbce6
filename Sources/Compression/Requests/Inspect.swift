import ModelGraph

extension CompressibleModel {
  /// What can be pruned, what goes with it, what it costs, and why the rest cannot.
  package func inspect(work: Work) throws(Failure) -> Inspection {
    let coupling = try coupling(CouplingOptions(), work)
    let macs = Dictionary(uniqueKeysWithValues: cost.nodes.map { ($0.node, $0.macs) })
    let explanations = GroupExplanations(coupling)
    let isWeight = coupling.analysis.graph.constantValues()
    let layers = coupling.layers.map { layer in
      report(
        layer, coupling, explanations, parameters: parameters(of: layer, isWeight), macs: macs[layer.node] ?? 0)
    }
    var members = [[String]](repeating: [], count: coupling.groups.count)
    for layer in coupling.layers {
      for g in layer.outputs.map(coupling.groups(along:)) ?? [] { members[g].append(layer.name) }
    }
    let groups = coupling.groups.enumerated().map { g, group in
      report(g, group, layers: members[g], coupling)
    }
    let lengths = shapes.nominalLengths
    return Inspection(
      inputs: graph.inputs.map(port), outputs: graph.outputs.map(port), size: cost.original,
      assumedLengths: shapes.isStatic
        ? [] : lengths.symbols.sorted { $0.key < $1.key }.map { (symbol: $0.key, length: $0.value) },
      layers: layers, groups: groups)
  }

  private func port(_ id: ValueID) -> Port {
    let value = graph[id]
    return Port(
      name: value.name, dtype: value.dtype,
      shape: value.declaredShape ?? shapes.nominal[id].map { $0.map(Dimension.fixed) })
  }

  private func report(
    _ layer: Layer, _ coupling: ChannelCoupling, _ explanations: GroupExplanations, parameters: Int, macs: Int
  ) -> LayerReport {
    let node = graph[layer.node]
    let shape = node.input(layer.input).flatMap { shapes.nominal[$0] } ?? graph[layer.weight].tensor?.shape ?? []
    let isConvolution = node.op.contains("Conv")
    let groups = node.int("group", default: 1)
    let reason = coupling.reasonNotPrunable(layer)
    let decompositions = decomposableLayers.report(layer.node)
    let group = layer.outputs.flatMap { origin in origin.range.lazy.compactMap { coupling.group(of: $0) }.first }
    let all = layer.outputs.map(coupling.groups(along:)) ?? []
    let partners = explanations.partners(of: layer)
    return LayerReport(
      name: layer.name, op: node.op, parameter: graph[layer.weight].name,
      channels: channels(layer, node, shape, groups: groups),
      kernel: isConvolution ? Array(shape.dropFirst(2)) : nil, groups: isConvolution ? groups : nil,
      parameters: parameters, macs: macs,
      methods: (reason == nil ? CompressionMethod.pruning : []) + decompositions.map(\.method),
      decomposition: decompositions.isEmpty ? nil : decompositions, group: group,
      otherGroups: all.filter { $0 != group }, reason: reason,
      coupledWith: partners, explanation: explanations.sentence(for: layer, with: partners))
  }

  /// What the layer reads, and what the weights are made of that are computed from stored tensors alone.
  private func parameters(of layer: Layer, _ isWeight: [Bool]) -> Int {
    var total = CostModel.parameters(of: layer.node, in: graph)
    guard let weight = graph[layer.node].input(layer.input), isWeight[weight.index],
      !graph[StoredLabels.stored(behind: weight, in: graph)].isStored
    else { return total }
    var seen: Set<ValueID> = Set(graph[layer.node].inputs.compactMap { $0 }.filter { graph[$0].isStored })
    var open = [weight]
    let read = CostModel.source(of: weight, in: graph)
    if graph[read].isStored { return total }
    while let value = open.popLast() {
      total += CostModel.parameters(of: graph[value])
      for case let input? in graph[value].producer.map({ graph[$0].inputs }) ?? [] where seen.insert(input).inserted {
        open.append(input)
      }
    }
    return total
  }

  /// `[in, out]`, read off the weight as the node reads it.
  private func channels(_ layer: Layer, _ node: Node, _ shape: [Int], groups: Int) -> [Int] {
    guard shape.count >= 2 else { return shape }
    func matrix(transposed: Bool) -> [Int] { transposed ? shape.suffix(2).reversed() : Array(shape.suffix(2)) }
    switch node.op {
    case "ConvTranspose": return [shape[0], shape[1].multipliedReportingOverflow(by: groups).partialValue]
    case _ where node.op.contains("Conv"):
      return [shape[1].multipliedReportingOverflow(by: groups).partialValue, shape[0]]
    case "RNN", "GRU", "LSTM":
      return [shape[shape.count - 1], node.input(2).flatMap { shapes.nominal[$0]?.last } ?? shape[1]]
    case "Einsum":
      guard let equation = node.string("equation").flatMap(EinsumEquation.init), layer.input < equation.operands.count
      else { return shape }
      var (inputs, outputs) = (1, 1)
      for (label, length) in zip(equation.operands[layer.input], shape) {
        if !equation.output.contains(label) {
          inputs *= length
        } else if !equation.operands.indices.contains(where: {
          $0 != layer.input && equation.operands[$0].contains(label)
        }) {
          outputs *= length
        }
      }
      return [inputs, outputs]
    case "Gather", "EmbedLayerNormalization": return matrix(transposed: false)
    default:
      // As the right operand (in, out); on the left the other way round.
      let transposed = node.int(layer.input == 0 ? "transA" : "transB", default: 0) != 0
      return matrix(transposed: transposed != (layer.input == 0))
    }
  }

  private func report(
    _ g: Int, _ group: ChannelGroup, layers: [String], _ coupling: ChannelCoupling
  ) -> GroupReport {
    let linked = coupling.groups.indices.filter {
      $0 != g && group.link != nil && coupling.groups[$0].link == group.link
    }
    return GroupReport(
      id: g, name: group.name, size: group.removable.filter { $0 }.count, channels: group.weights.reduce(0, +),
      prunable: !group.producers.isEmpty,
      layers: layers,
      balance: group.blocks > 1 || !linked.isEmpty
        ? BalanceReport(blocks: group.blocks, width: group.width, linkedWith: linked) : nil,
      reason: group.producers.isEmpty ? "no layer with weights makes these channels" : nil)
  }
}

extension ChannelCoupling {
  /// Why none of the layer's output channels can be removed, nil if some can.
  func reasonNotPrunable(_ layer: Layer) -> String? {
    guard let outputs = layer.outputs else { return "it has a single output channel" }
    for label in outputs.range where frozenReason(of: label) == nil {
      if let g = group(of: label), !groups[g].producers.isEmpty { return nil }
    }
    return frozenReason(of: outputs.first)?.sentence(in: graph) ?? "no layer with weights makes these channels alone"
  }
}
