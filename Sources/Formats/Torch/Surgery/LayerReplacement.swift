import Compression
import ModelGraph
import Numerics

/// The nodes that take a layer's place, as layers of PyTorch.
struct LayerReplacement {
  let replacement: TorchReplacement

  /// - Throws: `modelUnsupportedOperator` where PyTorch has no such layers.
  init(
    _ nodes: NodeReplacement, _ plan: CompressionPlan, _ program: TorchProgram, _ lowered: LoweredProgram
  ) throws(Failure) {
    let graph = lowered.graph
    let node = graph[nodes.node]
    let call = lowered.calls[nodes.node.index]
    guard let weight = Self.parameter(behind: node.input(1), lowered) else {
      throw Self.unsayable(node, "its weight is no parameter of its own")
    }
    var layers: [TorchReplacement.Layer] = []
    for (k, stage) in nodes.stages.enumerated() {
      guard stage.inputs.count >= 2, case .constant(let index) = stage.inputs[1] else {
        throw Self.unsayable(node, "a factor stands in an unusual place")
      }
      let isLast = k == nodes.stages.count - 1
      var bias = try Self.bias(of: stage, plan, node)
      if case .none = bias, isLast { bias = Self.followingBias(of: nodes.node, plan, lowered) }
      let (name, tensor) = plan.constants[index]
      layers.append(try Self.layer(stage, tensor, bias, Self.stageName(name, of: weight, k), node))
    }
    replacement = TorchReplacement(
      call: call, weight: weight, bias: Self.bias(of: nodes.node, lowered), layers: layers)
  }

  // MARK: Parameters

  /// "core" of "layer1.0.conv1.core.weight", and of "projection_core" for the weight "projection".
  private static func stageName(_ parameter: String, of weight: String, _ index: Int) -> String {
    if parameter.hasPrefix(weight + "_") { return String(parameter.dropFirst(weight.count + 1)) }
    let parts = parameter.split(separator: ".")
    return parts.count >= 2 && parts.last == "weight" ? String(parts[parts.count - 2]) : String(index)
  }

  private static func parameter(behind value: ValueID?, _ lowered: LoweredProgram) -> String? {
    guard var id = value else { return nil }
    while let producer = lowered.graph[id].producer {
      let node = lowered.graph[producer]
      guard ["Transpose", "Identity"].contains(node.op), let input = node.input(0) else { return nil }
      id = input
    }
    return lowered.parameters[id]
  }

  /// The Add of the same call that reads what the node computes: a linear layer's bias.
  private static func biasNode(after node: NodeID, _ lowered: LoweredProgram) -> NodeID? {
    let graph = lowered.graph
    guard graph[node].op == "MatMul", let output = graph[node].output(0), graph.uses(of: output).count == 1,
      let use = graph.uses(of: output).first, graph[use.node].op == "Add",
      lowered.calls[use.node.index] == lowered.calls[node.index]
    else { return nil }
    return use.node
  }

  private static func bias(of node: NodeID, _ lowered: LoweredProgram) -> String? {
    if let third = lowered.graph[node].input(2) { return lowered.parameters[third] }
    guard let add = biasNode(after: node, lowered) else { return nil }
    return lowered.graph[add].inputs.compactMap { $0.flatMap { lowered.parameters[$0] } }.first
  }

  private static func bias(
    of stage: NodeReplacement.Stage, _ plan: CompressionPlan, _ node: Node
  ) throws(Failure) -> TorchReplacement.Layer.Bias {
    guard stage.inputs.count > 2 else { return .none }
    guard stage.inputs.count == 3 else { throw unsayable(node, "a stage reads more than a bias") }
    switch stage.inputs[2] {
    case .original: return .original
    case .constant(let index): return .new(plan.constants[index].tensor)
    case .previous: throw unsayable(node, "a stage reads what it should not")
    }
  }

  /// What the Add after a matrix product adds, as the plan leaves it.
  private static func followingBias(
    of node: NodeID, _ plan: CompressionPlan, _ lowered: LoweredProgram
  ) -> TorchReplacement.Layer.Bias {
    guard let add = biasNode(after: node, lowered) else { return .none }
    for case .readConstant(add, _, let index) in plan.edits { return .new(plan.constants[index].tensor) }
    return .original
  }

  // MARK: Layers

  private static func layer(
    _ stage: NodeReplacement.Stage, _ weight: Tensor, _ bias: TorchReplacement.Layer.Bias, _ name: String, _ node: Node
  ) throws(Failure) -> TorchReplacement.Layer {
    func ints(_ name: String, _ fallback: Int) -> [Int] {
      if case .ints(let values)? = stage.attributes[name] { return values }
      return [Int](repeating: fallback, count: weight.shape.count - 2)
    }
    func int(_ name: String, _ fallback: Int) -> Int {
      if case .int(let value)? = stage.attributes[name] { value } else { fallback }
    }
    switch stage.op {
    case "MatMul":
      return TorchReplacement.Layer(kind: .linear, weight: try transposed(weight, node), bias: bias, name: name)
    case "Gemm":
      let isTransposed = int("transB", 0) == 1
      return TorchReplacement.Layer(
        kind: .linear, weight: isTransposed ? weight : try transposed(weight, node), bias: bias,
        name: name)
    case "Conv", "ConvTranspose":
      let rank = weight.shape.count - 2
      let pads = stage.attributes["pads"] == nil ? [Int](repeating: 0, count: 2 * rank) : ints("pads", 0)
      guard rank >= 1, pads.count == 2 * rank, Array(pads.prefix(rank)) == Array(pads.suffix(rank)) else {
        throw unsayable(node, "its padding is not the same on both sides")
      }
      let padding = Array(pads.prefix(rank))
      let (stride, dilation) = (ints("strides", 1), ints("dilations", 1))
      return TorchReplacement.Layer(
        kind: stage.op == "Conv"
          ? .convolution(
            spatialRank: rank, stride: stride, padding: padding, dilation: dilation, groups: int("group", 1))
          : .transposedConvolution(
            spatialRank: rank, stride: stride, padding: padding, outputPadding: ints("output_padding", 0),
            dilation: dilation, groups: int("group", 1)), weight: weight, bias: bias, name: name)
    default: throw unsayable(node, "a stage is a \(stage.op)")
    }
  }

  private static func transposed(_ matrix: Tensor, _ node: Node) throws(Failure) -> Tensor {
    guard matrix.shape.count == 2, let width = matrix.dtype.byteWidth else {
      throw unsayable(node, "a factor is no matrix")
    }
    let (rows, columns) = (matrix.shape[0], matrix.shape[1])
    let bytes = TensorBytes(count: matrix.bytes.count) { target in
      for r in 0..<rows {
        for c in 0..<columns {
          target[(c * rows + r) * width..<(c * rows + r + 1) * width].copyBytes(
            from: matrix.bytes.buffer[(r * columns + c) * width..<(r * columns + c + 1) * width])
        }
      }
    }
    return Tensor(dtype: matrix.dtype, shape: [columns, rows], bytes: bytes)
  }

  private static func unsayable(_ node: Node, _ what: String) -> Failure {
    Failure(
      .modelUnsupportedOperator,
      "the layer '\(node.name)' cannot be replaced in a PyTorch file: \(what); exclude it, or compress the model as ONNX",
      details: ["node": .string(node.name)])
  }
}
