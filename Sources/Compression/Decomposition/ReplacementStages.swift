import ModelGraph

// From factors to nodes: which operators take a layer's place, with which attributes, and what they read. Geometry goes
// where it belongs: strides, padding and dilation to the stage with the spatial kernel, or the first where all are
// pointwise; bias and activation to the last.

extension DecomposableLayer {
  /// The stages, and the tensors they read besides what the layer read.
  ///
  /// - Parameters:
  ///   - bias: a new one, where the layer's own changes.
  ///   - names: gives what is new in the model a name.
  ///   - constants: of the plan; the new ones are appended, unless the layer shares `shared`.
  ///   - shared: the constants of a layer with the same weight and ranks.
  func replacement(
    by factors: LayerFactors, bias: Tensor?, in graph: Graph, names: inout UniqueNames,
    constants: inout [(name: String, tensor: Tensor)], shared: [Int]?
  ) -> (replacement: NodeReplacement, constants: [Int]) {
    let node = graph[self.node]
    let dtype = weight.dtype
    let parts = factors.parts
    let stageNames = parts.map { names.make("\(name)_\($0.stage)") }
    let outputName = node.output(0).map { graph[$0].name } ?? name
    var indices: [Int] = []
    for (k, part) in parts.enumerated() {
      if let shared {
        indices.append(shared[k])
        continue
      }
      indices.append(constants.count)
      let (elements, shape) = layout(part)
      constants.append(
        (names.make(parameterName(graph[weight.source].name, part.stage)), .rounding(elements, shape: shape, to: dtype))
      )
    }
    var biasOperand = node.input(2).map { _ in NodeReplacement.Operand.original(2) }
    if let bias {
      biasOperand = .constant(constants.count)
      let original = node.input(2).map { graph[$0].name } ?? "\(name)_bias"
      constants.append((names.make(biasName(insteadOf: original, lastStage: parts.last?.stage, in: graph)), bias))
    }
    let stages = parts.enumerated().map { k, part in
      let isLast = k == parts.count - 1
      let isMain = !factors.isSpatial && !isTransposed && k == 0
      let operators = operators(part, node, isFirst: k == 0, isMain: isMain, isLast: isLast)
      var inputs: [NodeReplacement.Operand] = [k == 0 ? .original(dataInput) : .previous, .constant(indices[k])]
      if weightInput == 0 { inputs.reverse() }
      if isLast {
        if let biasOperand { inputs.append(biasOperand) }
        // What a fused convolution adds before its activation.
        if node.input(3) != nil { inputs.append(.original(3)) }
      } else if let zero = operators.zeroBias {
        inputs.append(.constant(constants.count))
        constants.append((names.make("\(stageNames[k])_zero"), .rounding(zero, shape: [zero.count], to: dtype)))
      }
      return NodeReplacement.Stage(
        name: stageNames[k], outputName: isLast ? "" : names.make("\(outputName)_\(part.stage)"), op: operators.op,
        domain: operators.domain, inputs: inputs, attributes: operators.attributes)
    }
    return (NodeReplacement(node: self.node, stages: stages), indices)
  }

  private func parameterName(_ parameter: String, _ stage: String) -> String {
    if parameter.hasSuffix(".weight") { return "\(parameter.dropLast(".weight".count)).\(stage).weight" }
    if parameter.hasSuffix("/kernel") {
      // Keras wants names of layers to differ across models within models.
      let layer = parameter.dropLast("/kernel".count)
      return "\(layer)/\(layer.split(separator: "/").last ?? "")_\(stage)/kernel"
    }
    return "\(parameter)_\(stage)"
  }

  /// The name of a new bias. Where names of weights are those of layers, it is the last layer's that is put in the place.
  func biasName(insteadOf original: String, lastStage: String?, in graph: Graph) -> String {
    guard let lastStage else { return "\(original)_adjusted" }
    let weight = parameterName(graph[self.weight.source].name, lastStage)
    for (kind, bias) in [(".weight", ".bias"), ("/kernel", "/bias")] where weight.hasSuffix(kind) {
      return "\(weight.dropLast(kind.count))\(bias)"
    }
    return "\(original)_adjusted"
  }

  /// A weight `[O, I, taps]` as the layer's node reads it.
  func arranged(_ elements: [Double]) -> [Double] {
    outputAxis == 0 ? elements : elements.swappingOuterAxes(outputChannels, inputChannels, inner: taps)
  }

  /// Whether the layer is a product that reads its weight as `[inputs, outputs]`.
  var readsInputsFirst: Bool { if case .product(_, inputAxis: 0) = form { true } else { false } }

  /// The factors again, from the tensors that hold them.
  /// - Parameter areLinear: whether those of products are `[outputs, inputs]`, rather than as their nodes read them.
  func factors(
    _ method: DecompositionMethod, ranks: [Int], stored: [Tensor], areLinear: Bool = false
  ) -> LayerFactors {
    let shapes = LayerFactors.shapes(method, ranks: ranks, of: self)
    let parts = zip(shapes, stored).map { shape, tensor in
      let elements = tensor.realNumbers ?? []
      let part = LayerFactors.Part(
        kind: shape.kind, stage: shape.stage, outputs: shape.outputs, inputs: shape.inputs, elements: [])
      // Swapped as they were laid out; swapping is its own inverse with the lengths exchanged.
      switch (form, part.kind) {
      case (.product, _) where readsInputsFirst && !areLinear:
        return part.with(elements.swappingOuterAxes(part.inputs, part.outputs, inner: 1))
      case (.transposedConvolution, _) where isUpsampling(part, isLast: part.stage == "out"):
        return part.with(elements.swappingOuterAxes(part.inputs, part.outputs, inner: part.kind == .kernel ? taps : 1))
      default: return part.with(elements)
      }
    }
    return LayerFactors(method: method, ranks: ranks, parts: parts)
  }

  /// The elements of a factor as its node reads them, with their shape.
  private func layout(_ part: LayerFactors.Part) -> (elements: [Double], shape: [Int]) {
    switch form {
    case .product:
      // The weight had its input channels along `inputAxis`, and so have its factors.
      return inputAxis == 1
        ? (part.elements, [part.outputs, part.inputs])
        : (part.elements.transposed(rows: part.outputs, columns: part.inputs), [part.inputs, part.outputs])
    case .convolution, .transposedConvolution:
      let ones = kernel.map { _ in 1 }
      switch part.kind {
      case .matrix, .kernel:
        let spatial = part.kind == .kernel ? kernel : ones
        guard isUpsampling(part, isLast: part.stage == "out") else {
          return (part.elements, [part.outputs, part.inputs] + spatial)
        }
        return (
          part.elements.swappingOuterAxes(part.outputs, part.inputs, inner: spatial.reduce(1, *)),
          [part.inputs, part.outputs] + spatial
        )
      case .axis(let axis):
        var shape = ones
        shape[axis] = kernel[axis]
        return (part.elements, [part.outputs, 1] + shape)
      }
    }
  }

  /// Whether a factor is the one that a transposed convolution goes on applying: its kernel, or where that is one tap the
  /// last, so that the others see the smaller maps.
  private func isUpsampling(_ part: LayerFactors.Part, isLast: Bool) -> Bool {
    isTransposed && (isPointwise ? isLast : part.kind == .kernel)
  }

  private struct Operators {
    var op: String
    var domain = ""
    var attributes: [String: Attribute]
    /// Old Gemms have to have a bias.
    var zeroBias: [Double]?
  }

  /// - Parameter isMain: of pointwise stages, whether it is the one that the layer's strides and padding go to.
  private func operators(
    _ part: LayerFactors.Part, _ node: Node, isFirst: Bool, isMain: Bool, isLast: Bool
  ) -> Operators {
    if case .product = form { return product(part, node, isFirst: isFirst, isLast: isLast) }
    if isUpsampling(part, isLast: isLast) { return Operators(op: node.op, attributes: node.attributes) }
    switch part.kind {
    case .kernel:
      var attributes = node.attributes
      if isLast { return Operators(op: node.op, domain: node.domain, attributes: attributes) }
      for name in attributes.keys where name.hasPrefix("activation") { attributes[name] = nil }
      return Operators(op: "Conv", attributes: attributes)
    case .matrix:
      var attributes: [String: Attribute] = ["kernel_shape": .ints(kernel.map { _ in 1 })]
      if isMain {
        for name in ["strides", "pads", "auto_pad"] { attributes[name] = node.attributes[name] }
      }
      let isFused = isLast && !node.domain.isEmpty
      if isFused {
        for (name, value) in node.attributes where name.hasPrefix("activation") { attributes[name] = value }
      }
      return Operators(op: isFused ? node.op : "Conv", domain: isFused ? node.domain : "", attributes: attributes)
    case .axis(let axis): return Operators(op: "Conv", attributes: separable(axis, part, node))
    }
  }

  /// The attributes of a convolution along one spatial axis. The first of them also takes what the layer did along axes
  /// on which its kernel has one tap.
  private func separable(_ axis: Int, _ part: LayerFactors.Part, _ node: Node) -> [String: Attribute] {
    let isFirstAxis = kernel.firstIndex { $0 > 1 } == axis
    func own(_ k: Int) -> Bool { k == axis || (isFirstAxis && kernel[k] == 1) }
    let count = kernel.count
    func selected(_ name: String, _ neutral: Int, _ copies: Int = 1) -> Attribute? {
      guard let values = node.ints(name), values.count == count * copies else { return nil }
      return .ints(values.enumerated().map { own($0 % count) ? $1 : neutral })
    }
    var attributes: [String: Attribute] = [
      "kernel_shape": .ints(kernel.enumerated().map { $0 == axis ? $1 : 1 }), "group": .int(part.outputs),
    ]
    attributes["strides"] = selected("strides", 1)
    attributes["pads"] = selected("pads", 0, 2)
    attributes["dilations"] = selected("dilations", 1)
    attributes["auto_pad"] = node.attributes["auto_pad"]
    return attributes
  }

  private func product(_ part: LayerFactors.Part, _ node: Node, isFirst: Bool, isLast: Bool) -> Operators {
    let flags = weightInput == 1 ? (data: "transA", weight: "transB") : (data: "transB", weight: "transA")
    var attributes: [String: Attribute] = isLast ? node.attributes : [:]
    // What the stage before computed lies as it is to be read.
    attributes[flags.data] = isFirst ? node.attributes[flags.data] : nil
    attributes[flags.weight] = node.attributes[flags.weight]
    if isLast { return Operators(op: node.op, domain: node.domain, attributes: attributes) }
    switch node.qualifiedOperator {
    case "Gemm", "com.microsoft.FusedGemm":
      // Until version 11 the bias was not optional, until version 7 it was not broadcast unless asked.
      let needsBias = node.domain.isEmpty && node.opset < 11
      if needsBias, node.opset < 7 { attributes["broadcast"] = .int(1) }
      return Operators(
        op: "Gemm", attributes: attributes,
        zeroBias: needsBias ? [Double](repeating: 0, count: weightInput == 1 ? part.outputs : 1) : nil)
    default: return Operators(op: node.op, domain: node.domain, attributes: attributes)
    }
  }
}

extension [Double] {
  /// A row-major matrix `[rows, columns]` as `[columns, rows]`.
  func transposed(rows: Int, columns: Int) -> [Double] { swappingOuterAxes(rows, columns, inner: 1) }

  /// `[first, second, inner]` as `[second, first, inner]`.
  func swappingOuterAxes(_ first: Int, _ second: Int, inner: Int) -> [Double] {
    [Double](unsafeUninitializedCapacity: count) { target, initialized in
      withUnsafeBufferPointer { source in
        for a in 0..<first {
          for b in 0..<second {
            for k in 0..<inner {
              target.initializeElement(at: (b * first + a) * inner + k, to: source[(a * second + b) * inner + k])
            }
          }
        }
      }
      initialized = count
    }
  }
}
