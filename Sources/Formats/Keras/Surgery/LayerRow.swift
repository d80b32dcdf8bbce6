import Compression
import JSON
import ModelGraph

/// The row of layers of Keras that the nodes are which take a layer's place.
struct LayerRow {
  private let layer: KerasLayer
  private let plan: CompressionPlan
  private let lowered: LoweredKeras
  /// By path: what the plan leaves of variables that it changes.
  private let left: [String: () -> Tensor]

  init(_ layer: KerasLayer, _ plan: CompressionPlan, _ lowered: LoweredKeras, left: [String: () -> Tensor]) {
    (self.layer, self.plan, self.lowered, self.left) = (layer, plan, lowered, left)
  }

  /// - Throws: `modelUnsupportedOperator` where Keras has no such layers.
  func replacement(_ nodes: NodeReplacement) throws(Failure) -> KerasReplacement {
    var layers: [KerasReplacement.Layer] = []
    for index in nodes.stages.indices { layers.append(try self.layer(nodes, index)) }
    return KerasReplacement(layer: layer, layers: layers)
  }

  // MARK: Layers

  private func layer(_ nodes: NodeReplacement, _ index: Int) throws(Failure) -> KerasReplacement.Layer {
    let stage = nodes.stages[index]
    let isLast = index == nodes.stages.count - 1
    guard let operand = stage.inputs.dropFirst().first, case .constant(let constant) = operand else {
      throw .unsayable(layer.path, "a factor stands in an unusual place")
    }
    let (parameter, factor) = plan.constants[constant]
    var bias = try bias(of: stage)
    if bias == nil, isLast { bias = followingBias(of: nodes.node) }
    let activation = isLast ? layer.settings.member("activation")?.source : nil
    var settings: [(name: String, json: String)] = [
      ("use_bias", bias == nil ? "false" : "true"), ("activation", activation ?? "\"linear\""),
    ]
    let className: String
    let kernel: Tensor
    switch stage.op {
    case "Gemm", "MatMul":
      className = "Dense"
      let isTransposed = if case .int(1)? = stage.attributes["transB"] { true } else { false }
      kernel = try permuted(factor, isTransposed ? [1, 0] : [0, 1])
      settings.append(("units", "\(kernel.shape.last ?? 0)"))
    case "Conv":
      let window = try Window(stage, factor, layer)
      settings += window.settings(of: layer)
      if stage.isDepthwise(factor.shape) {
        // (h, w, in, 1): grouped convolutions do not run everywhere that Keras does.
        className = "DepthwiseConv\(window.rank)D"
        kernel = try permuted(factor, window.spatialAxes + [0, 1])
        settings.append(("depth_multiplier", "1"))
      } else {
        className = "Conv\(window.rank)D"
        kernel = try permuted(factor, window.spatialAxes + [1, 0])
        settings += [("filters", "\(factor.shape[0])"), ("groups", "\(window.groups)")]
      }
    case "ConvTranspose":
      let window = try Window(stage, factor, layer)
      guard window.groups == 1 else { throw .unsayable(layer.path, "a transposed convolution would have groups") }
      className = "Conv\(window.rank)DTranspose"
      // (h, w, out, in) of (in, out, h, w).
      kernel = try permuted(factor, window.spatialAxes + [1, 0])
      settings += window.settings(of: layer)
      settings.append(("filters", "\(factor.shape[1])"))
    default: throw .unsayable(layer.path, "a part of it would be a \(stage.op)")
    }
    let role = className.hasPrefix("Depthwise") ? "depthwise_kernel" : "kernel"
    var variables: [(role: String, tensor: Tensor)] = [(role, kernel)]
    if let bias { variables.append(("bias", bias)) }
    return KerasReplacement.Layer(
      name: Self.stageName(parameter, index), className: className, settings: settings, variables: variables)
  }

  /// "conv1_core" of "conv1/conv1_core/kernel".
  private static func stageName(_ parameter: String, _ index: Int) -> String {
    let parts = parameter.split(separator: "/")
    return parts.count >= 2 ? String(parts[parts.count - 2]) : String(index)
  }

  private func permuted(_ tensor: Tensor, _ order: [Int]) throws(Failure) -> Tensor {
    // The graph's axis k is the row's axis that the order names.
    var axes = [[Int]](repeating: [], count: order.count)
    for (own, axis) in order.enumerated() { axes[axis] = [own] }
    return try VariableView(path: layer.path, axes: axes).variable(of: tensor, like: order.map { tensor.shape[$0] })
  }

  // MARK: Bias

  private func bias(of stage: NodeReplacement.Stage) throws(Failure) -> Tensor? {
    guard stage.inputs.count > 2 else { return nil }
    switch stage.inputs[2] {
    case .original(2):
      guard let bias = layer.variable("bias") else { throw .unsayable(layer.path, "its bias is no variable") }
      return left[bias.path]?() ?? bias.tensor
    case .constant(let index):
      let tensor = plan.constants[index].tensor
      return Tensor(dtype: tensor.dtype, shape: [tensor.elementCount], bytes: tensor.bytes)
    default: throw .unsayable(layer.path, "a part of it reads what it should not")
    }
  }

  /// What the Add behind a matrix product adds, as the plan leaves it.
  private func followingBias(of node: NodeID) -> Tensor? {
    guard lowered.graph[node].op == "MatMul", let bias = layer.variable("bias") else { return nil }
    let call = lowered.calls[node.index]
    for case .readConstant(let add, _, let index) in plan.edits where lowered.calls[add.index] == call {
      let tensor = plan.constants[index].tensor
      return Tensor(dtype: tensor.dtype, shape: [tensor.elementCount], bytes: tensor.bytes)
    }
    return left[bias.path]?() ?? bias.tensor
  }
}

/// How a part of a convolution slides: its kernel, strides, dilation and groups.
private struct Window {
  let kernel: [Int]
  let strides: [Int]
  let dilations: [Int]
  let groups: Int

  var rank: Int { kernel.count }
  var spatialAxes: [Int] { Array(2..<(2 + rank)) }

  init(_ stage: NodeReplacement.Stage, _ weight: Tensor, _ layer: KerasLayer) throws(Failure) {
    guard weight.shape.count >= 3 else { throw .unsayable(layer.path, "a factor is no kernel") }
    let kernel = Array(weight.shape.dropFirst(2))
    func numbers(_ name: String) -> [Int] {
      if case .ints(let values)? = stage.attributes[name], values.count == kernel.count { return values }
      return kernel.map { _ in 1 }
    }
    self.kernel = kernel
    (strides, dilations) = (numbers("strides"), numbers("dilations"))
    groups = if case .int(let value)? = stage.attributes["group"] { value } else { 1 }
  }

  /// Padding is the layer's own: "same" and "valid" mean for every axis by itself what they meant for all, and nothing
  /// where the kernel has one tap.
  func settings(of layer: KerasLayer) -> [(name: String, json: String)] {
    func json(_ values: [Int]) -> String { "[\(values.map(String.init).joined(separator: ", "))]" }
    var settings = [("kernel_size", json(kernel)), ("strides", json(strides)), ("dilation_rate", json(dilations))]
    for name in ["padding", "data_format"] {
      if let own = layer.settings.member(name) { settings.append((name, own.source)) }
    }
    return settings
  }
}
