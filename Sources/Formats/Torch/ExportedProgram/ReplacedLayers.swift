import JSON
import ModelGraph

/// The calls of layers that rows of layers take the place of.
///
/// Invariant: what a replaced call bound is bound by the last call of its row. New parameters are named as if the
/// layer were a module of layers: `head.weight` gives `head.input.weight` and `head.out.weight`; a weight of another
/// name, `projection`, gives `projection_input`.
struct ReplacedLayers {
  /// A call of the row.
  struct Call {
    let target: String
    /// Name and value of each argument.
    let arguments: [(name: String, value: TorchArgument)]
    /// nil for the last, which binds what the replaced call did.
    let result: (name: String, layout: TensorLayout)?
  }

  /// By index of the replaced call.
  private(set) var rows: [Int: [Call]] = [:]
  /// Parameters that replaced calls have read.
  private(set) var replacedParameters: Set<String> = []
  /// By the weight that was replaced: the names of its factors and their biases.
  private var known: [String: [(weight: String, bias: String?)]] = [:]

  /// - Parameters:
  ///   - call: the replaced one.
  ///   - input: the layout of what it is given.
  ///   - old: the layout of what it returns.
  ///   - probe: values for open lengths, to compare strides.
  mutating func add(
    _ replacement: TorchReplacement, _ call: EditedCall, result: String, input: TensorLayout, old: TensorLayout,
    probe: [String: Int], _ weights: inout EditedWeights, _ names: inout ExportedNames
  ) throws(Failure) {
    guard let given = Self.input(of: call), !replacement.layers.isEmpty else { throw call.misfit() }
    let parameters = try parameters(of: replacement, &weights, &names)
    var row: [Call] = []
    var (value, layout) = (given, input)
    for (k, layer) in replacement.layers.enumerated() {
      var bound: (name: String, layout: TensorLayout)?
      let isLast = k == replacement.layers.count - 1
      if !isLast {
        guard let sizes = Self.sizes(of: layer, layout.sizes), sizes.count == old.rank else { throw call.misfit() }
        layout = TensorLayout.dense(sizes, orderedAs: old, probe)
        bound = (names.make("\(result)_\(layer.name)"), layout)
      }
      row.append(
        Call(
          target: Self.target(of: layer, instead: call.function),
          arguments: Self.arguments(of: layer, value, parameters[k], instead: call.function), result: bound))
      if let bound { value = .reference(bound.name) }
    }
    rows[replacement.call] = row
    replacedParameters.insert(replacement.weight)
    if let bias = replacement.bias { replacedParameters.insert(bias) }
  }

  // MARK: Parameters

  /// The state-dict names of the layers' parameters; a weight that is replaced in several calls has one set.
  private mutating func parameters(
    of replacement: TorchReplacement, _ weights: inout EditedWeights, _ names: inout ExportedNames
  ) throws(Failure) -> [(weight: String, bias: String?)] {
    if let known = known[replacement.weight] { return known }
    let suffix = ".weight"
    let isNamed = replacement.weight.hasSuffix(suffix)
    let path = isNamed ? String(replacement.weight.dropLast(suffix.count)) + "." : replacement.weight + "_"
    let (weightEnding, biasEnding) = isNamed ? (suffix, ".bias") : ("", "_bias")
    var result: [(weight: String, bias: String?)] = []
    for layer in replacement.layers {
      let weight = try weights.add(
        path + layer.name + weightEnding, layer.weight, behind: replacement.weight, like: replacement.weight)
      _ = names.makeInput(for: weight)
      var bias: String?
      let place = replacement.bias ?? replacement.weight
      switch layer.bias {
      case .none: break
      case .original:
        guard let original = replacement.bias else {
          throw Failure(.certificateFailed, "'\(replacement.weight)' has no bias that its factors could have")
        }
        bias = try weights.add(path + layer.name + biasEnding, nil, behind: original, like: original)
      case .new(let tensor): bias = try weights.add(path + layer.name + biasEnding, tensor, behind: place, like: place)
      }
      if let bias { _ = names.makeInput(for: bias) }
      result.append((weight, bias))
    }
    known[replacement.weight] = result
    return result
  }

  // MARK: Calls

  /// What a layer's call applies the weight to.
  private static func input(of call: EditedCall) -> TorchArgument? {
    switch call.function {
    case "addmm": call.argument("mat1", 1)
    case "mm", "matmul": call.argument("self", 0)
    default: call.argument("input", 0)
    }
  }

  /// The name of the input's value.
  static func inputName(of call: EditedCall) -> String? {
    if case .reference(let name)? = input(of: call) { name } else { nil }
  }

  private static func target(of layer: TorchReplacement.Layer, instead function: String) -> String {
    switch layer.kind {
    case .linear: "torch.ops.aten.linear.default"
    case .convolution where function == "convolution", .transposedConvolution where function == "convolution":
      "torch.ops.aten.convolution.default"
    case .convolution(let rank, _, _, _, _): "torch.ops.aten.conv\(rank)d.default"
    // The overloads of one, two and three axes are named differently.
    case .transposedConvolution(let rank, _, _, _, _, _):
      "torch.ops.aten.conv_transpose\(rank)d.\(rank == 1 ? "default" : "input")"
    }
  }

  private static func arguments(
    of layer: TorchReplacement.Layer, _ input: TorchArgument, _ parameters: (weight: String, bias: String?),
    instead function: String
  ) -> [(name: String, value: TorchArgument)] {
    func list(_ values: [Int]) -> TorchArgument { .list(values.map(TorchArgument.int)) }
    var arguments: [(String, TorchArgument)] = [
      ("input", input), ("weight", .parameter(parameters.weight)),
      ("bias", parameters.bias.map(TorchArgument.parameter) ?? .none),
    ]
    switch layer.kind {
    case .linear: break
    case .convolution(let rank, let stride, let padding, let dilation, let groups):
      arguments += [("stride", list(stride)), ("padding", list(padding)), ("dilation", list(dilation))]
      if function == "convolution" {
        arguments += [("transposed", .bool(false)), ("output_padding", list([Int](repeating: 0, count: rank)))]
      }
      arguments.append(("groups", .int(groups)))
    case .transposedConvolution(_, let stride, let padding, let outputPadding, let dilation, let groups):
      arguments += [("stride", list(stride)), ("padding", list(padding))]
      if function == "convolution" {
        arguments += [
          ("dilation", list(dilation)), ("transposed", .bool(true)), ("output_padding", list(outputPadding)),
          ("groups", .int(groups)),
        ]
      } else {
        arguments += [("output_padding", list(outputPadding)), ("groups", .int(groups)), ("dilation", list(dilation))]
      }
    }
    return arguments
  }

  /// The sizes of what a layer returns for an input of `sizes`; nil if it takes none such.
  private static func sizes(of layer: TorchReplacement.Layer, _ sizes: [SizeExpression]) -> [SizeExpression]? {
    let kernel = layer.weight.shape.dropFirst(2)
    switch layer.kind {
    case .linear:
      guard !sizes.isEmpty else { return nil }
      return sizes.dropLast() + [.number(layer.weight.shape[0])]
    case .convolution(let rank, let stride, let padding, let dilation, _):
      guard let result = channels(sizes, rank, layer.weight.shape[0]) else { return nil }
      return result
        + zip(sizes.suffix(rank), kernel).enumerated().map { axis, size in
          let span = 2 * padding[axis] - dilation[axis] * (size.1 - 1) - 1
          let steps = SizeExpression.floorDivision(SizeExpression.sum(size.0, .number(span)), by: stride[axis])
          return SizeExpression.sum(steps, .number(1))
        }
    case .transposedConvolution(let rank, let stride, let padding, let outputPadding, let dilation, let groups):
      guard let result = channels(sizes, rank, layer.weight.shape[1] * groups) else { return nil }
      return result
        + zip(sizes.suffix(rank), kernel).enumerated().map { axis, size in
          let rest = dilation[axis] * (size.1 - 1) + outputPadding[axis] + 1 - 2 * padding[axis] - stride[axis]
          return SizeExpression.sum(size.0 * .number(stride[axis]), .number(rest))
        }
    }
  }

  /// The axes before the spatial ones: a batch, if there is one, and the new channels.
  private static func channels(_ sizes: [SizeExpression], _ rank: Int, _ channels: Int) -> [SizeExpression]? {
    guard sizes.count > rank, sizes.count <= rank + 2 else { return nil }
    return sizes.prefix(sizes.count - rank - 1) + [.number(channels)]
  }
}
