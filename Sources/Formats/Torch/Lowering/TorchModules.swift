import ModelGraph

/// Modules of torch.nn as calls of the functions that they apply, with their settings and parameters as arguments.
enum TorchModules {
  /// A module class: the function, and per parameter of it the attribute that gives it.
  private struct Form {
    let function: String
    /// (parameter of the function, attribute of the module)
    let settings: [(parameter: Substring, attribute: Substring)]
    let parameters: [String]

    /// - Parameter settings: "name" or "parameter=attribute", separated by spaces.
    init(_ function: String, _ settings: String = "", parameters: [String] = []) {
      self.function = function
      self.settings = settings.split(separator: " ").map { entry in
        let sides = entry.split(separator: "=")
        return (sides[0], sides[sides.count - 1])
      }
      self.parameters = parameters
    }
  }

  private static let forms: [String: Form] = {
    var forms: [String: Form] = [
      "Linear": Form("linear", parameters: ["weight", "bias"]),
      "NonDynamicallyQuantizableLinear": Form("linear", parameters: ["weight", "bias"]),
      "Identity": Form("identity"), "Flatten": Form("flatten", "start_dim end_dim"),
      "Unflatten": Form("unflatten", "dim sizes=unflattened_size"),
      "LayerNorm": Form("layer_norm", "eps", parameters: ["weight", "bias"]),
      "RMSNorm": Form("rms_norm", "eps", parameters: ["weight"]),
      "GroupNorm": Form("group_norm", "num_groups eps", parameters: ["weight", "bias"]),
      "LocalResponseNorm": Form("local_response_norm", "size alpha beta k"),
      "Embedding": Form("embedding", parameters: ["weight"]),
      "PReLU": Form("prelu", parameters: ["weight"]),
      "Softmax": Form("softmax", "dim"), "LogSoftmax": Form("log_softmax", "dim"), "Softmin": Form("softmin", "dim"),
      "GLU": Form("glu", "dim"), "GELU": Form("gelu", "approximate"), "ELU": Form("elu", "alpha"),
      "CELU": Form("celu", "alpha"), "LeakyReLU": Form("leaky_relu", "negative_slope"),
      "Hardtanh": Form("hardtanh", "min_val max_val"), "Softplus": Form("softplus", "beta threshold"),
      "Unfold": Form("im2col", "kernel_size dilation padding stride"),
      "Fold": Form("col2im", "output_size kernel_size dilation padding stride"),
      "PixelShuffle": Form("pixel_shuffle", "upscale_factor"),
      "PixelUnshuffle": Form("pixel_unshuffle", "downscale_factor"),
      "Threshold": Form("threshold", "threshold value"), "Hardshrink": Form("hardshrink", "lambd"),
      "Softshrink": Form("softshrink", "lambd"), "RReLU": Form("rrelu", "lower upper"),
      "ChannelShuffle": Form("channel_shuffle", "groups"),
      "Upsample": Form("interpolate", "size scale_factor mode align_corners"),
      "UpsamplingNearest2d": Form("interpolate", "size scale_factor mode"),
      "UpsamplingBilinear2d": Form("interpolate", "size scale_factor mode align_corners"),
    ]
    for (name, function) in [
      "ReLU": "relu", "ReLU6": "relu6", "SiLU": "silu", "Mish": "mish", "Sigmoid": "sigmoid", "Tanh": "tanh",
      "Hardswish": "hardswish", "Hardsigmoid": "hardsigmoid", "SELU": "selu", "Softsign": "softsign",
      "LogSigmoid": "logsigmoid", "Softmax2d": "softmax2d", "Tanhshrink": "tanhshrink", "Dropout": "identity",
      "Dropout1d": "identity", "Dropout2d": "identity",
      "Dropout3d": "identity", "AlphaDropout": "identity", "FeatureAlphaDropout": "identity",
      "StochasticDepth": "identity",
    ] {
      forms[name] = Form(function)
    }
    for rank in 1...3 {
      forms["Conv\(rank)d"] = Form(
        "conv\(rank)d", "stride padding dilation groups", parameters: ["weight", "bias"])
      forms["ConvTranspose\(rank)d"] = Form(
        "conv_transpose\(rank)d", "stride padding output_padding groups dilation", parameters: ["weight", "bias"])
      forms["MaxPool\(rank)d"] = Form(
        "max_pool\(rank)d", "kernel_size stride padding dilation ceil_mode return_indices")
      forms["AvgPool\(rank)d"] = Form(
        "avg_pool\(rank)d", "kernel_size stride padding ceil_mode count_include_pad divisor_override")
      forms["AdaptiveAvgPool\(rank)d"] = Form("adaptive_avg_pool\(rank)d", "output_size")
      forms["AdaptiveMaxPool\(rank)d"] = Form("adaptive_max_pool\(rank)d", "output_size return_indices")
      for (name, mode) in [
        "Zero": "constant", "Constant": "constant", "Reflection": "reflect", "Replication": "replicate",
        "Circular": "circular",
      ] {
        forms["\(name)Pad\(rank)d"] = Form("pad:\(mode)", name == "Constant" ? "pad=padding value" : "pad=padding")
      }
    }
    return forms
  }()

  static func apply(
    _ module: TorchModule, _ given: TorchLowering.Given, _ lowering: inout TorchLowering
  ) throws(Failure) -> TorchValue {
    switch module.className {
    case "Sequential": return try sequence(module, given, &lowering)
    case "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm":
      return .tensor(try batchNorm(module, input(given, lowering), &lowering))
    case "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d":
      guard module.attributes["track_running_stats"] != .bool(true) else {
        throw lowering.unsupported("it uses running statistics")
      }
      return .tensor(
        try lowering.instanceNorm(
          input(given, lowering), weight: tensor("weight", module, &lowering), bias: tensor("bias", module, &lowering),
          epsilon: number("eps", module) ?? 1e-5))
    case "MultiheadAttention": return try MultiheadAttention.apply(module, given, &lowering)
    case "TransformerEncoder", "TransformerEncoderLayer":
      return try TransformerEncoder.apply(module, given, &lowering)
    case "LSTM", "GRU", "RNN": return try RecurrentOperators.apply(module, given, &lowering)
    default: break
    }
    guard let form = forms[module.className] else { throw lowering.unsupported("there is no rule for its class") }
    return try apply(form, module, given, &lowering)
  }

  /// The module's function, given what the module holds.
  private static func apply(
    _ form: Form, _ module: TorchModule, _ given: TorchLowering.Given, _ lowering: inout TorchLowering
  ) throws(Failure) -> TorchValue {
    var given = given
    let sides = form.function.split(separator: ":")
    let name = String(sides[0])
    guard let function = TorchOperators.function(name) else { throw lowering.unsupported("there is no rule for it") }
    if sides.count == 2 { given.keywords.append(("mode", .string(String(sides[1])))) }
    if given.positional.isEmpty, let first = given.keywords.firstIndex(where: { $0.name == "input" || $0.name == "x" })
    {
      given.positional = [given.keywords.remove(at: first).value]
    }
    // What PyTorch's own constructor always sets, and its forward needs.
    let needed = name.hasPrefix("conv") ? ["stride", "padding", "dilation", "groups"] : []
    if let missing = needed.first(where: { module.attributes[$0] == nil }) {
      throw lowering.malformed("it has no '\(missing)'")
    }
    for (parameter, attribute) in form.settings {
      guard let setting = module.attributes[String(attribute)], setting != .none else { continue }
      given.keywords.append((String(parameter), value(setting)))
    }
    for parameter in form.parameters {
      guard let id = try tensor(parameter, module, &lowering) else { continue }
      given.keywords.append((parameter == "weight" && name == "embedding" ? "indices" : parameter, .tensor(id)))
    }
    if case .string(let mode)? = module.attributes["padding_mode"], mode != "zeros" {
      given = try padding(given, mode, module, &lowering)
    }
    if name == "layer_norm" || name == "rms_norm" {
      given.keywords.append(("normalized_shape", try normalizedShape(module, lowering)))
    }
    let result = try lowering.run(function, given)
    rememberSettings(module, name, &lowering)
    return result
  }

  /// Which settings of the module the nodes' attributes are.
  private static func rememberSettings(_ module: TorchModule, _ name: String, _ lowering: inout TorchLowering) {
    if name.hasPrefix("conv") {
      lowering.settings[NodeSetting(node: lowering.lastConvolution, attribute: "group")] = .attribute(
        module: module.path, name: "groups")
    } else if name == "group_norm" {
      lowering.settings[NodeSetting(node: lowering.lastNode, attribute: "num_groups")] = .attribute(
        module: module.path, name: "num_groups")
    }
  }

  // MARK: Parts

  private static func input(_ given: TorchLowering.Given, _ lowering: TorchLowering) throws(Failure) -> ValueID {
    guard case .tensor(let id)? = given.positional.first ?? given.keywords.first?.value else {
      throw lowering.unsupported("its input is no tensor")
    }
    return id
  }

  static func tensor(
    _ name: String, _ module: TorchModule, _ lowering: inout TorchLowering
  ) throws(Failure) -> ValueID? {
    guard case .some(.some(let parameter)) = module.parameters[name] else { return nil }
    return try lowering.parameter(parameter)
  }

  static func number(_ name: String, _ module: TorchModule) -> Double? {
    switch module.attributes[name] {
    case .float(let value): value
    case .int(let value): Double(value)
    default: nil
    }
  }

  static func int(_ name: String, _ module: TorchModule) -> Int? {
    if case .int(let value)? = module.attributes[name] { value } else { nil }
  }

  /// A setting as an argument that nobody wrote.
  private static func value(_ setting: TorchArgument) -> TorchValue {
    switch setting {
    case .int(let value): .integer(TorchInteger(value))
    case .float(let value): .float(value)
    case .bool(let value): .bool(value)
    case .string(let value): .string(value)
    case .symbol(let name): .symbol(name)
    case .list(let elements), .tuple(let elements): .list(elements.map(value))
    default: .none
    }
  }

  private static func normalizedShape(
    _ module: TorchModule, _ lowering: TorchLowering
  ) throws(Failure) -> TorchValue {
    guard let setting = module.attributes["normalized_shape"] else {
      throw lowering.malformed("it does not say what it normalises")
    }
    return value(setting)
  }

  private static func sequence(
    _ module: TorchModule, _ given: TorchLowering.Given, _ lowering: inout TorchLowering
  ) throws(Failure) -> TorchValue {
    var value = TorchValue.tensor(try input(given, lowering))
    let base = lowering.base
    for child in module.children {
      lowering.base = child.path
      value = try apply(child, TorchLowering.Given(positional: [value], keywords: []), &lowering)
    }
    lowering.base = base
    return value
  }

  private static func batchNorm(
    _ module: TorchModule, _ x: ValueID, _ lowering: inout TorchLowering
  ) throws(Failure) -> ValueID {
    guard let mean = try tensor("running_mean", module, &lowering),
      let variance = try tensor("running_var", module, &lowering)
    else { throw lowering.unsupported("it keeps no running statistics, so it depends on the batch") }
    return try lowering.batchNorm(
      x, mean: mean, variance: variance, weight: tensor("weight", module, &lowering),
      bias: tensor("bias", module, &lowering), epsilon: number("eps", module) ?? 1e-5)
  }

  /// Padding by other than zeros happens before a convolution without any.
  private static func padding(
    _ given: TorchLowering.Given, _ mode: String, _ module: TorchModule, _ lowering: inout TorchLowering
  ) throws(Failure) -> TorchLowering.Given {
    let twice: [TorchArgument]
    switch module.attributes["_reversed_padding_repeated_twice"] {
    case .tuple(let elements)?, .list(let elements)?: twice = elements
    default: throw lowering.unsupported("its padding is given in a form without a rule")
    }
    guard case .tensor(let x)? = given.positional.first else {
      throw lowering.unsupported("its padding is given in a form without a rule")
    }
    let pads = twice.compactMap { if case .int(let value) = $0 { value } else { nil } }
    let base = lowering.base
    lowering.base = "\(base).padded"
    var given = given
    given.positional[0] = .tensor(try lowering.padded(x, pads, mode: mode, value: 0))
    lowering.base = base
    given.keywords.removeAll { $0.name == "padding" }
    return given
  }
}

/// torch.nn.MultiheadAttention: packed projections, attention by heads, a projection back.
///
/// The module insists on its own sizes (three times the embedding in the packed weight, heads that divide it), so what
/// it holds stays as it is.
enum MultiheadAttention {
  static func apply(
    _ module: TorchModule, _ given: TorchLowering.Given, _ l: inout TorchLowering
  ) throws(Failure) -> TorchValue {
    let names: [Substring] = "query key value key_padding_mask need_weights attn_mask average_attn_weights is_causal"
      .split(separator: " ")
    let a = try OperatorArguments(parameters: names, given: given, context: l.context)
    guard let width = TorchModules.int("embed_dim", module), let heads = TorchModules.int("num_heads", module),
      heads > 0, width % heads == 0
    else { throw l.malformed("its width and heads do not fit together") }
    guard !a.has("key_padding_mask"), module.attributes["add_zero_attn"] != .bool(true),
      try TorchModules.tensor("bias_k", module, &l) == nil
    else { throw l.unsupported("padding masks, bias_k and add_zero_attn have no rule") }
    guard let out = module.children.first(where: { $0.name == "out_proj" }),
      let outWeight = try TorchModules.tensor("weight", out, &l)
    else { throw l.malformed("it has no output projection") }
    let outBias = try TorchModules.tensor("bias", out, &l)
    // Read from outside only: [batch, length, width] within.
    let isBatchFirst = module.attributes["batch_first"] == .bool(true)
    let inputs = try ["query", "key", "value"].map { name throws(Failure) in try a.tensor(name) }
    let rank = try l.rank(inputs[0])
    guard rank == 3 else { throw l.unsupported("it takes \(rank) axes; the rule wants a batch") }
    let base = l.base
    for input in inputs { l.fixed[input] = sentence(base) }
    let packed = try TorchModules.tensor("in_proj_weight", module, &l)
    let packedBias = try TorchModules.tensor("in_proj_bias", module, &l)
    var projected: [ValueID] = []
    var (weights, biases): ([ValueID?], [ValueID?]) = ([nil, nil, nil], [nil, nil, nil])
    for case let whole? in [packed, packedBias] { l.fixed[whole] = sentence(base) }
    if let packed { weights = try l.parts(of: packed, axis: 0, sizes: nil, count: 3) }
    if let packedBias { biases = try l.parts(of: packedBias, axis: 0, sizes: nil, count: 3) }
    for (k, (input, name)) in zip(inputs, ["q", "k", "v"]).enumerated() {
      if weights[k] == nil { weights[k] = try TorchModules.tensor("\(name)_proj_weight", module, &l) }
      guard let weight = weights[k] else {
        throw l.malformed("it has no projection of \(name)")
      }
      l.fixed[weight] = sentence(base)
      l.base = "\(base).\(name)_proj"
      let x = isBatchFirst ? input : try l.node("Transpose", [input], ["perm": .ints([1, 0, 2])], as: "batched")
      let flat = try l.linear(x, weight, biases[k])
      let shape: [TorchInteger] = try [
        l.length(flat, 0), l.length(flat, 1), TorchInteger(heads), TorchInteger(width / heads),
      ]
      let split = try l.node("Reshape", [flat, l.vector(shape, as: "heads")], as: "heads")
      projected.append(try l.node("Transpose", [split], ["perm": .ints([0, 2, 1, 3])], as: "heads"))
    }
    l.base = "\(base).attention"
    let isCausal = try a.bool("is_causal", false) && !a.has("attn_mask")
    var mask = try a.optionalTensor("attn_mask")
    // In masks of truth values, true hides here; in plain attention it shows.
    if let given = mask, l.dtype(given) == .bool { mask = try l.node("Not", [given], as: "mask") }
    let attended = try l.attention(
      projected[0], projected[1], projected[2], mask: mask, isCausal: isCausal,
      scale: 1 / Double(width / heads).squareRoot(), isGrouped: false)
    let turned = try l.node("Transpose", [attended], ["perm": .ints([0, 2, 1, 3])], as: "turned")
    let flat: [TorchInteger] = try [l.length(turned, 0), l.length(turned, 1), TorchInteger(width)]
    let joined = try l.node("Reshape", [turned, l.vector(flat, as: "joined")], as: "joined")
    l.base = out.path
    l.fixed[outWeight] = sentence(base)
    var result = try l.linear(joined, outWeight, outBias)
    l.base = base
    l.fixed[result] = sentence(base)
    if !isBatchFirst { result = try l.node("Transpose", [result], ["perm": .ints([1, 0, 2])]) }
    // Weights are returned where they are wanted; who wants them is not served.
    return .list([.tensor(result), .none])
  }

  private static func sentence(_ name: String) -> String {
    "torch.nn.MultiheadAttention '\(name)' insists on the sizes it was made with"
  }
}
