import ModelGraph

/// What of a replaced layer its successors must do too: padding that is no zeros goes around the image once, where the
/// window is that it was made for.
struct OriginalLayer {
  /// "zeros", "reflect", ...
  let paddingMode: String
  private let padding: [Int]
  private let kernel: [Int]

  init(_ state: PickleNode, path: String) throws(Failure) {
    paddingMode = state["padding_mode"]?.string ?? "zeros"
    kernel = state["kernel_size"]?.ints ?? []
    padding = state["padding"]?.ints ?? []
    guard paddingMode == "zeros" || padding.count == kernel.count else {
      throw Failure(
        .modelUnsupportedOperator,
        "the convolution '\(path)' pads by '\(paddingMode)' to the same size, which a row of layers in its place cannot"
          + " say; exclude it, or give its padding in numbers", details: ["module": .string(path)])
    }
  }

  /// The padding of one of the layers, nil where it is what the layer says.
  func padding(of layers: [TorchReplacement.Layer], at index: Int) -> [Int]? {
    guard paddingMode != "zeros" else { return nil }
    return kernel.indices.map { axis in
      let first = layers.firstIndex {
        $0.weight.shape.count == kernel.count + 2 && $0.weight.shape[2 + axis] == kernel[axis]
      }
      return first == index ? padding[axis] : 0
    }
  }
}

/// A new module of torch.nn: one layer of a row.
struct LayerModule {
  enum Bias {
    case none
    /// The replaced layer's own.
    case original
    case new(PickleNode)
  }

  var name: String { layer.name }
  private let layer: TorchReplacement.Layer
  private let weight: PickleNode
  private let bias: Bias
  private let padding: [Int]?
  private let paddingMode: String

  init(_ layer: TorchReplacement.Layer, weight: PickleNode, bias: Bias, padding: [Int]?, paddingMode: String) {
    (self.layer, self.weight, self.bias) = (layer, weight, bias)
    (self.padding, self.paddingMode) = (padding, paddingMode)
  }

  /// - Parameter base: what the module has in common with all others.
  func node(_ base: ModuleState, originalBias: PickleNode) -> PickleNode {
    let biasNode: PickleNode =
      switch bias {
      case .none: .none
      case .original: originalBias
      case .new(let node): node
      }
    let state = base.state(parameters: [("weight", weight), ("bias", biasNode)], settings: settings)
    return .newObject(.global(moduleName, className), state: state)
  }

  private var moduleName: String {
    if case .linear = layer.kind { "torch.nn.modules.linear" } else { "torch.nn.modules.conv" }
  }

  private var className: String {
    switch layer.kind {
    case .linear: "Linear"
    case .convolution(let rank, _, _, _, _): "Conv\(rank)d"
    case .transposedConvolution(let rank, _, _, _, _, _): "ConvTranspose\(rank)d"
    }
  }

  /// Every attribute that the class's own constructor sets.
  private var settings: [(String, PickleNode)] {
    let shape = layer.weight.shape
    switch layer.kind {
    case .linear: return [("in_features", .int(shape[1])), ("out_features", .int(shape[0]))]
    case .convolution(let rank, let stride, let padding, let dilation, let groups):
      return convolution(
        channels: (shape[1] * groups, shape[0]), kernel: Array(shape[2...]), stride: stride,
        padding: self.padding ?? padding, outputPadding: [Int](repeating: 0, count: rank), dilation: dilation,
        groups: groups, isTransposed: false)
    case .transposedConvolution(_, let stride, let padding, let outputPadding, let dilation, let groups):
      return convolution(
        channels: (shape[0], shape[1] * groups), kernel: Array(shape[2...]), stride: stride, padding: padding,
        outputPadding: outputPadding, dilation: dilation, groups: groups, isTransposed: true)
    }
  }

  private func convolution(
    channels: (input: Int, output: Int), kernel: [Int], stride: [Int], padding: [Int], outputPadding: [Int],
    dilation: [Int], groups: Int, isTransposed: Bool
  ) -> [(String, PickleNode)] {
    // What torch.nn.functional.pad would be given: the last axis first, both sides.
    let reversed = padding.reversed().flatMap { [$0, $0] }
    return [
      ("in_channels", .int(channels.input)), ("out_channels", .int(channels.output)), ("kernel_size", .tuple(kernel)),
      ("stride", .tuple(stride)), ("padding", .tuple(padding)), ("dilation", .tuple(dilation)),
      ("transposed", .bool(isTransposed)), ("output_padding", .tuple(outputPadding)), ("groups", .int(groups)),
      ("padding_mode", .string(self.padding == nil || padding.allSatisfy { $0 == 0 } ? "zeros" : paddingMode)),
      ("_reversed_padding_repeated_twice", .tuple(reversed)),
    ]
  }
}
