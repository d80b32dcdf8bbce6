import ModelGraph

/// All layers of a compressed network that can be fitted anew, and why others cannot.
struct RefitLayers {
  /// In node order.
  let layers: [RefitLayer]
  let others: [SkippedLayer]

  /// Regressions on more numbers than this take too long and too much memory.
  static let largestLength = 8192

  /// - Parameters:
  ///   - graph: the compressed one; values of `original` have the ids they have there.
  ///   - originalShapes: of `original`; nil where channels are not to be mixed.
  ///   - shapes: of `graph`.
  ///   - kept: what is left of a value along an axis, in the original's numbering; nil if all.
  ///   - changeable: which stored tensors a plan can give other contents.
  ///   - largestLength: regressions on more numbers are made on mixtures of channels, if on anything.
  init(
    _ graph: Graph, original: Graph, originalShapes: ShapeTable? = nil, shapes: ShapeTable,
    kept: @escaping (ValueID, Int) -> [Int]?, changeable: @escaping (ValueID) -> Bool,
    largestLength: Int = Self.largestLength
  ) {
    let finding = Finding(
      graph: graph, original: original, originalShapes: originalShapes, shapes: shapes, kept: kept,
      changeable: changeable,
      isConstant: graph.constantValues(), held: Set(graph.outputs).union(graph.nodes.lazy.flatMap(\.captures)))
    var (layers, others) = ([RefitLayer](), [SkippedLayer]())
    var linked: [NodeID: [RefitLayer]] = [:]
    for id in graph.nodeIDs {
      switch finding.layer(id) {
      case .layer(let layer)? where finding.waitsForItself(layer, linked):
        others.append(
          SkippedLayer(
            name: layer.name,
            reason: "its weight is read in several places, one of which reads what another computes; it stays"))
      case .layer(let layer)? where layer.length > largestLength:
        if let mixing = finding.mixing(layer) {
          layers.append(mixing)
          continue
        }
        others.append(
          SkippedLayer(
            name: layer.name,
            reason:
              "an output sums \(layer.length) numbers, and they are no channels with taps that could be mixed; weights are fitted for up to \(largestLength)"
          ))
      case .layer(let layer)?:
        layers.append(layer)
        if !layer.others.isEmpty { for place in layer.places { linked[place.node] = layer.places } }
      case .unavailable(let reason)?: others.append(SkippedLayer(name: graph.displayName(id), reason: reason))
      case nil: break
      }
    }
    (self.layers, self.others) = (layers, others)
  }
}

private struct Finding {
  let graph: Graph
  let original: Graph
  let originalShapes: ShapeTable?
  let shapes: ShapeTable
  let kept: (ValueID, Int) -> [Int]?
  let changeable: (ValueID) -> Bool
  let isConstant: [Bool]
  /// Read by somebody who is not a node of the graph.
  let held: Set<ValueID>

  enum Found {
    case layer(RefitLayer)
    case unavailable(String)
  }

  func layer(_ id: NodeID) -> Found? {
    let node = graph[id]
    switch node.qualifiedOperator {
    case "Conv", "ConvTranspose": return convolution(id, node)
    case "Gemm", "MatMul": return product(id, node)
    case "com.microsoft.FusedConv", "com.microsoft.FusedGemm", "com.microsoft.FusedMatMul":
      return .unavailable("the weights of \(node.op) are not fitted")
    default: return nil
    }
  }

  private func convolution(_ id: NodeID, _ node: Node) -> Found? {
    guard let operand = node.input(1), isConstant[operand.index] else { return nil }
    guard let (weight, readers) = weight(behind: operand), weight.shape.count >= 3 else { return notOwn }
    let (groups, isTransposed) = (node.int("group", default: 1), node.op == "ConvTranspose")
    guard groups > 0, weight.shape[0] % groups == 0 else { return nil }
    if isTransposed, groups > 1 { return .unavailable("the weights of \(node.op) in groups are not fitted") }
    return layer(
      id, .convolution(PatchGeometry(node, kernel: Array(weight.shape.dropFirst(2))), groups: groups), weight, readers,
      order: isTransposed ? [1, 0] + weight.shape.indices.dropFirst(2) : Array(weight.shape.indices), data: 0,
      channelAxis: 1)
  }

  private func product(_ id: NodeID, _ node: Node) -> Found? {
    guard let place = DecomposableLayers.product(node, graph, shapes, isConstant),
      case .product(let input, let inputAxis) = place.form, let operand = node.input(place.input)
    else { return nil }
    guard let (weight, readers) = weight(behind: operand), weight.shape.count == 2 else { return notOwn }
    let isTransposed = node.int(input == 1 ? "transA" : "transB", default: 0) != 0
    let dataAxis = (input == 1) != isTransposed ? -1 : -2
    return layer(
      id, .product(inputAxis: dataAxis, outputAxis: input == 1 ? -1 : -2), weight, readers,
      order: [1 - inputAxis, inputAxis], data: 1 - input, channelAxis: input == 1 ? -1 : -2)
  }

  private var notOwn: Found {
    .unavailable("its weight is computed, or read by something else besides, and stays as it is")
  }

  private func layer(
    _ id: NodeID, _ form: RefitLayer.Form, _ weight: StoredWeight, _ readers: [NodeID], order: [Int], data: Int,
    channelAxis: Int
  ) -> Found? {
    guard readers.count > 1 else { return place(id, form, weight, order, data, channelAxis, readers: 1) }
    // The first place speaks for all.
    guard readers[0] == id else { return nil }
    var places: [RefitLayer] = []
    for reader in readers {
      let node = graph[reader]
      var own = form
      if case .convolution(let geometry, let groups) = form {
        guard node.op == graph[id].op, node.int("group", default: 1) == groups else { return notOwn }
        own = .convolution(PatchGeometry(node, kernel: geometry.kernel), groups: groups)
      } else {
        guard ["Gemm", "MatMul"].contains(node.op), node.op == graph[id].op,
          ["transA", "transB"].allSatisfy({ node.int($0, default: 0) == graph[id].int($0, default: 0) }),
          node.float("alpha") == graph[id].float("alpha")
        else { return notOwn }
      }
      guard case .layer(let place)? = place(reader, own, weight, order, data, channelAxis, readers: readers.count),
        place.keptOutputs == places.first?.keptOutputs ?? place.keptOutputs
      else { return notOwn }
      places.append(place)
    }
    places[0].others = Array(places.dropFirst())
    return .layer(places[0])
  }

  /// Whether a place of a layer that has several reads what another of them computes, directly or by way of others of
  /// `linked` layers, all of whose places are fitted at once.
  func waitsForItself(_ layer: RefitLayer, _ linked: [NodeID: [RefitLayer]]) -> Bool {
    guard !layer.others.isEmpty else { return false }
    let captors = graph.nodeIDs.filter { !graph[$0].captures.isEmpty }
    let inputs = Set(layer.places.map(\.input))
    var open = layer.places.map(\.output)
    var seen = Set(open)
    while let value = open.popLast() {
      if inputs.contains(value) { return true }
      let readers = graph.uses(of: value).map(\.node) + captors.filter { graph[$0].captures.contains(value) }
      for reader in readers {
        let next = graph[reader].outputs.compactMap { $0 } + (linked[reader] ?? []).map(\.output)
        for value in next where seen.insert(value).inserted { open.append(value) }
      }
    }
    return false
  }

  private func place(
    _ id: NodeID, _ form: RefitLayer.Form, _ weight: StoredWeight, _ order: [Int], _ data: Int, _ channelAxis: Int,
    readers: Int
  ) -> Found? {
    let node = graph[id]
    guard let input = node.input(data), let output = node.output(0), output.index < original.values.count,
      let before = original[output].producer, let fullShape = shapes[output]
    else { return nil }
    let axis = channelAxis < 0 ? fullShape.count + channelAxis : channelAxis
    let outputs = weight.shape[order[0]]
    // Several places would each want a constant of their own.
    let intercept = readers == 1 ? intercept(id, output, outputs: outputs, axis: channelAxis) : .none
    var offset: [Double]?
    if case .none = intercept, let bias = node.input(2) {
      let scale = node.op == "Gemm" ? Double(node.float("beta") ?? 1) : 1
      guard let stored = graph[bias].tensor?.realNumbers, [1, outputs].contains(stored.count) else {
        return .unavailable("its bias is computed, and its weight stays as it is")
      }
      offset = (0..<outputs).map { scale * stored[stored.count == 1 ? 0 : $0] }
    }
    let keptOutputs = kept(output, axis) ?? Array(0..<outputs)
    guard keptOutputs.count == outputs, original[before].output(0) == output else {
      return .unavailable("which of its outputs are left cannot be told")
    }
    return .layer(
      RefitLayer(
        node: id, name: graph.displayName(id), form: form, weight: weight, weightOrder: order,
        weightScale: node.op == "Gemm" ? Double(node.float("alpha") ?? 1) : 1, outputCount: outputs,
        length: order.dropFirst().reduce(1) { $0 * weight.shape[$1] }, intercept: intercept, input: input,
        output: output, keptOutputs: keptOutputs,
        shortcut: shortcut(from: output, outputs: outputs, axis: channelAxis),
        gains: channelAxis == 1 ? onlyUse(of: output).flatMap { gains($0, outputs: outputs) } : nil,
        offset: offset))
  }

  /// The same layer by mixtures of its channels; nil where the original's channels and weight are not there to be read.
  func mixing(_ layer: RefitLayer) -> RefitLayer? {
    guard let originalShapes, layer.others.isEmpty, layer.input.index < original.values.count,
      let node = original[layer.output].producer.map({ original[$0] }), node.op == graph[layer.node].op,
      node.inputs.contains(layer.input), layer.weight.source.index < original.values.count,
      let before = node.inputs.compactMap({ $0 }).lazy.compactMap({ operand in
        StoredWeight(behind: operand, in: original, shapes: originalShapes)
      }).first(where: { $0.source == layer.weight.source }), before.shape.count == layer.weight.shape.count
    else { return nil }
    let axis = 1
    var (value, taps) = (layer.input, 1)
    switch layer.form {
    case .convolution(let geometry, 1) where !geometry.isTransposed: taps = geometry.kernel.reduce(1, *)
    case .product:
      guard let maps = layer.mapsMadeRows(in: graph, shapes), maps.value.index < original.values.count else {
        return nil
      }
      (value, taps) = maps
    default: return nil
    }
    let full = before.elements(order: layer.weightOrder)
    let width = full.count / max(1, before.shape[layer.weightOrder[0]])
    guard let rank = shapes[value]?.count, width % taps == 0, layer.length % taps == 0 else { return nil }
    let (channels, count) = (width / taps, layer.length / taps)
    let keptChannels = kept(value, axis) ?? Array(0..<channels)
    guard keptChannels.count == count, (keptChannels.last ?? 0) < channels, count <= RefitLayers.largestLength else {
      return nil
    }
    let weight = layer.keptOutputs.flatMap { full[$0 * width..<($0 + 1) * width] }.map { $0 * layer.weightScale }
    let mixing = ChannelMixing(
      weight: weight, outputs: layer.outputCount, channels: channels, taps: taps, kept: keptChannels)
    return RefitLayer(
      node: layer.node, name: layer.name, form: .mixing(inputAxis: axis - rank, outputAxis: axis - rank, mixing),
      weight: layer.weight, weightOrder: layer.weightOrder, weightScale: layer.weightScale, outputCount: channels,
      length: count, intercept: layer.intercept, input: value, output: layer.output,
      keptOutputs: Array(0..<channels), shortcut: nil, gains: nil)
  }

  // MARK: What is stored

  /// The weight behind an operand, if it is read through it alone, and the nodes that read the operand, in order, all
  /// of them as the same one of their inputs.
  private func weight(behind operand: ValueID) -> (weight: StoredWeight, readers: [NodeID])? {
    guard let weight = StoredWeight(behind: operand, in: graph, shapes: shapes), weight.tensor.dtype == weight.dtype,
      changeable(weight.source), weight.tensor.dtype.isFloat
    else { return nil }
    let uses = graph.uses(of: operand)
    guard !held.contains(operand), uses.allSatisfy({ $0.input == uses[0].input }) else { return nil }
    let readers = uses.map(\.node).sorted()
    guard Set(readers).count == readers.count else { return nil }
    var value = operand
    while true {
      guard value == operand || graph.uses(of: value).count == 1, !held.contains(value) else { return nil }
      if value == weight.source { return (weight, readers) }
      guard let producer = graph[value].producer, let next = graph[producer].input(0) else { return nil }
      value = next
    }
  }

  /// A stored vector of one number per output that one place reads.
  private func vector(_ value: ValueID?, count: Int) -> ValueID? {
    guard let value, let tensor = graph[value].tensor, tensor.dtype.isFloat, tensor.elementCount == count,
      tensor.shape.last == count || tensor.shape.isEmpty, graph.uses(of: value).count == 1, !held.contains(value),
      changeable(value)
    else { return nil }
    return value
  }

  private func onlyUse(of value: ValueID) -> Use? {
    guard !held.contains(value), graph.uses(of: value).count == 1 else { return nil }
    return graph.uses(of: value).first
  }

  private func intercept(_ id: NodeID, _ output: ValueID, outputs: Int, axis: Int) -> RefitLayer.Intercept {
    let node = graph[id]
    if let bias = node.input(2) {
      let scale = node.op == "Gemm" ? Double(node.float("beta") ?? 1) : 1
      guard scale != 0, let own = vector(bias, count: outputs) else { return .none }
      return .bias(own, scale: scale)
    }
    guard let use = onlyUse(of: output) else { return .none }
    let next = graph[use.node]
    switch next.qualifiedOperator {
    case "Add" where axis == -1 && use.input < 2:
      return vector(next.input(1 - use.input), count: outputs).map { .sum($0) } ?? .none
    case "BatchNormalization" where axis == 1 && use.input == 0 && next.int("training_mode", default: 0) == 0:
      return vector(next.input(3), count: outputs).map { .mean($0) } ?? .none
    default: return .none
    }
  }

  /// What a batch normalization multiplies its channels with.
  private func gains(_ use: Use, outputs: Int) -> [Double]? {
    let node = graph[use.node]
    guard node.qualifiedOperator == "BatchNormalization", use.input == 0,
      let scale = node.input(1).flatMap({ graph[$0].tensor?.realNumbers }),
      let variance = node.input(4).flatMap({ graph[$0].tensor?.realNumbers }), scale.count == outputs,
      variance.count == outputs
    else { return nil }
    let epsilon = Double(node.float("epsilon") ?? 1e-5)
    return zip(scale, variance).map { $0 / (max(0, $1) + epsilon).squareRoot() }
  }

  /// What joins the layer's output in a sum that nothing else lies before but constants and a normalization.
  private func shortcut(from output: ValueID, outputs: Int, axis: Int) -> RefitLayer.Shortcut? {
    var (value, gains) = (output, [Double]?.none)
    while let use = onlyUse(of: value) {
      let next = graph[use.node]
      switch next.qualifiedOperator {
      case "BatchNormalization" where axis == 1 && use.input == 0 && gains == nil:
        guard let found = self.gains(use, outputs: outputs) else { return nil }
        gains = found
      case "Add" where use.input < 2:
        guard let other = next.input(1 - use.input) else { return nil }
        guard isConstant[other.index] else {
          guard other.index < original.values.count, shapes[other] == shapes[output], other != value else { return nil }
          guard let sum = next.output(0) else { return nil }
          return RefitLayer.Shortcut(value: other, sum: sum, gains: gains)
        }
      case "Identity": break
      default: return nil
      }
      guard let result = next.output(0) else { return nil }
      value = result
    }
    return nil
  }
}

extension RefitLayer {
  /// The maps that were made one row each, of which the layer reads the rows: channels have as many taps as maps have
  /// places.
  func mapsMadeRows(in graph: Graph, _ shapes: ShapeTable) -> (value: ValueID, places: Int)? {
    guard case .product(-1, _) = form, let producer = graph[input].producer,
      ["Flatten", "Reshape"].contains(graph[producer].op), let maps = graph[producer].input(0),
      let shape = shapes[maps], shape.count >= 3, let rows = shapes[input], rows.count == 2, shape[0] == rows[0],
      length == shape.dropFirst().reduce(1, *)
    else { return nil }
    return (maps, shape.dropFirst(2).reduce(1, *))
  }
}
