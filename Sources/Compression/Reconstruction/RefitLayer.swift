import ModelGraph

/// A layer of a compressed network whose weight can be fitted anew: what it computes at every position is linear in the
/// numbers it reads there, and the weight is its own.
struct RefitLayer: Sendable {
  enum Form: Sendable {
    /// Conv: each of `groups` parts of the outputs reads patches of its own part of the inputs.
    case convolution(PatchGeometry, groups: Int)
    /// Gemm and MatMul: channels along one axis each of what they read and compute, counted from the end.
    case product(inputAxis: Int, outputAxis: Int)
  }

  /// Of the compressed graph.
  let node: NodeID
  let name: String
  let form: Form
  let weight: StoredWeight
  /// Axes of the weight, outputs first, as rows of the regression read them.
  let weightOrder: [Int]
  /// What a stored weight is multiplied by (Gemm's alpha).
  let weightScale: Double
  /// Of all groups together.
  let outputCount: Int
  /// Numbers that one output is a sum over.
  let length: Int
  let intercept: Intercept
  let input: ValueID
  /// What the node computes, in both networks.
  let output: ValueID
  /// The original's output channels that are left, in order.
  let keptOutputs: [Int]
  /// What is added to the output further on, along the same channels, and may itself be off.
  let shortcut: Shortcut?
  /// By output channel: what a normalization right behind multiplies it with.
  let gains: [Double]?

  var groups: Int { if case .convolution(_, let groups) = form { groups } else { 1 } }
  var outputsPerGroup: Int { outputCount / groups }

  /// The weight as `[outputCount, length]`.
  var rows: [Double] {
    let elements = weight.elements(order: weightOrder)
    return weightScale == 1 ? elements : elements.map { $0 * weightScale }
  }

  /// What a sum of the layer and a value that bypasses it needs to come out as in the original.
  struct Shortcut: Sendable {
    let value: ValueID
    let sum: ValueID
    /// By output channel: what the layer's output is multiplied by on the way to the sum.
    let gains: [Double]?
  }

  /// Where a constant can be added to every output channel.
  enum Intercept: Sendable {
    case none
    /// A bias that the node itself reads, times `scale`.
    case bias(ValueID, scale: Double)
    /// A stored vector that the Add after it adds.
    case sum(ValueID)
    /// The mean that the BatchNormalization after it takes off.
    case mean(ValueID)
  }
}

/// All layers of a compressed network that can be fitted anew, and why others cannot.
struct RefitLayers {
  /// In node order.
  let layers: [RefitLayer]
  let others: [SkippedLayer]

  /// Regressions on more numbers than this take too long and too much memory.
  private static let largestLength = 8192

  /// - Parameters:
  ///   - graph: the compressed one; values of `original` have the ids they have there.
  ///   - shapes: of `graph`.
  ///   - kept: what is left of a value along an axis, in the original's numbering; nil if all.
  ///   - changeable: which stored tensors a plan can give other contents.
  init(
    _ graph: Graph, original: Graph, shapes: ShapeTable, kept: @escaping (ValueID, Int) -> [Int]?,
    changeable: @escaping (ValueID) -> Bool
  ) {
    let finding = Finding(
      graph: graph, original: original, shapes: shapes, kept: kept, changeable: changeable,
      isConstant: graph.constantValues(), held: Set(graph.outputs).union(graph.nodes.lazy.flatMap(\.captures)))
    var (layers, others) = ([RefitLayer](), [SkippedLayer]())
    for id in graph.nodeIDs {
      switch finding.layer(id) {
      case .layer(let layer)? where layer.length > Self.largestLength:
        others.append(
          SkippedLayer(
            name: layer.name,
            reason: "an output sums \(layer.length) numbers; weights are fitted for up to \(Self.largestLength)"))
      case .layer(let layer)?: layers.append(layer)
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
    case "Conv": return convolution(id, node)
    case "Gemm", "MatMul": return product(id, node)
    case "ConvTranspose", "com.microsoft.FusedConv", "com.microsoft.FusedGemm", "com.microsoft.FusedMatMul":
      return .unavailable("the weights of \(node.op) are not fitted")
    default: return nil
    }
  }

  private func convolution(_ id: NodeID, _ node: Node) -> Found? {
    guard let operand = node.input(1), isConstant[operand.index] else { return nil }
    guard let weight = weight(behind: operand), weight.shape.count >= 3 else { return notOwn }
    let groups = node.int("group", default: 1)
    guard groups > 0, weight.shape[0] % groups == 0 else { return nil }
    return layer(
      id, .convolution(PatchGeometry(node, kernel: Array(weight.shape.dropFirst(2))), groups: groups), weight,
      order: Array(weight.shape.indices), data: 0, channelAxis: 1)
  }

  private func product(_ id: NodeID, _ node: Node) -> Found? {
    guard let place = DecomposableLayers.product(node, graph, shapes, isConstant),
      case .product(let input, let inputAxis) = place.form, let operand = node.input(place.input)
    else { return nil }
    guard let weight = weight(behind: operand), weight.shape.count == 2 else { return notOwn }
    let isTransposed = node.int(input == 1 ? "transA" : "transB", default: 0) != 0
    let dataAxis = (input == 1) != isTransposed ? -1 : -2
    return layer(
      id, .product(inputAxis: dataAxis, outputAxis: input == 1 ? -1 : -2), weight, order: [1 - inputAxis, inputAxis],
      data: 1 - input, channelAxis: input == 1 ? -1 : -2)
  }

  private var notOwn: Found {
    .unavailable("its weight is computed, or read in several places, and stays as it is")
  }

  private func layer(
    _ id: NodeID, _ form: RefitLayer.Form, _ weight: StoredWeight, order: [Int], data: Int, channelAxis: Int
  ) -> Found? {
    let node = graph[id]
    guard let input = node.input(data), let output = node.output(0), output.index < original.values.count,
      let before = original[output].producer, let fullShape = shapes[output]
    else { return nil }
    let axis = channelAxis < 0 ? fullShape.count + channelAxis : channelAxis
    let outputs = weight.shape[order[0]]
    let intercept = intercept(id, output, outputs: outputs, axis: channelAxis)
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
        gains: channelAxis == 1 ? onlyUse(of: output).flatMap { gains($0, outputs: outputs) } : nil))
  }

  // MARK: What is stored

  /// The weight behind an operand, if the operand and nobody else reads it.
  private func weight(behind operand: ValueID) -> StoredWeight? {
    guard let weight = StoredWeight(behind: operand, in: graph, shapes: shapes), weight.tensor.dtype == weight.dtype,
      changeable(weight.source), weight.tensor.dtype.isFloat
    else { return nil }
    var value = operand
    while true {
      guard graph.uses(of: value).count == 1, !held.contains(value) else { return nil }
      if value == weight.source { return weight }
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
