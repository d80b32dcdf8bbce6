import ModelGraph

/// Convolutions and transposed convolutions, of one to three spatial axes.
enum ConvolutionOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [:]
    for rank in 1...3 {
      table["conv\(rank)d"] = TorchFunction("input weight bias stride padding dilation groups") {
        (l, a) throws(Failure) in
        try l.convolution(a, rank)
      }
      table["conv_transpose\(rank)d"] = TorchFunction(
        "input weight bias stride padding output_padding groups dilation"
      ) { (l, a) throws(Failure) in
        try l.transposedConvolution(a, rank)
      }
    }
    for name in ["convolution", "_convolution"] {
      table[name] = TorchFunction(
        "input weight bias stride padding dilation transposed output_padding groups benchmark deterministic "
          + "cudnn_enabled allow_tf32"
      ) { (l, a) throws(Failure) in
        let rank = try l.rank(a.tensor("weight")) - 2
        return try a.bool("transposed", false) ? l.transposedConvolution(a, rank) : l.convolution(a, rank)
      }
    }
    return table
  }()
}

extension TorchLowering {
  fileprivate mutating func convolution(_ a: OperatorArguments, _ rank: Int) throws(Failure) -> TorchValue {
    let geometry = ConvolutionGeometry(
      stride: try a.ints("stride", count: rank, [1]), dilation: try a.ints("dilation", count: rank, [1]),
      padding: try padding(a, rank), groups: try groups(a))
    let result = try convolution(a.tensor("input"), a.tensor("weight"), a.optionalTensor("bias"), geometry)
    try rememberGroups(a)
    return .tensor(result)
  }

  /// A depthwise convolution has as many groups as its input has channels, and may say it so.
  private func groups(_ a: OperatorArguments) throws(Failure) -> Int {
    try groupsFollow(a) ? a.integer("groups").value : a.int("groups", 1)
  }

  private func groupsFollow(_ a: OperatorArguments) throws(Failure) -> Bool {
    guard case .integer(let groups) = a["groups"], case .length(_, axis: 1) = groups.source else { return false }
    let (x, weight) = (try shape(a.tensor("input")), try shape(a.tensor("weight")))
    return weight.count > 1 && weight[1] == 1 && x.count == weight.count && x[1] == groups.value
  }

  private mutating func rememberGroups(_ a: OperatorArguments) throws(Failure) {
    let setting = NodeSetting(node: lastConvolution, attribute: "group")
    if try groupsFollow(a) {
      settings[setting] = .follows
    } else if let place = a.place("groups") {
      settings[setting] = .literal(place)
    }
  }

  private func padding(_ a: OperatorArguments, _ rank: Int) throws(Failure) -> ConvolutionGeometry.Padding {
    if case .string(let word) = a["padding"] {
      switch word {
      case "valid": return .both([Int](repeating: 0, count: rank))
      case "same": return .same
      default: throw unsupported("its padding is '\(word)'")
      }
    }
    return .both(try a.ints("padding", count: rank, [0]))
  }

  /// - Returns: the result; its node is `lastConvolution`.
  mutating func convolution(
    _ x: ValueID, _ weight: ValueID, _ bias: ValueID?, _ geometry: ConvolutionGeometry
  ) throws(Failure) -> ValueID {
    let kernel = Array(try shape(weight).dropFirst(2))
    let operands = bias.map { [x, weight, $0] } ?? [x, weight]
    if let bias, !isParameter(bias) { indivisible[weight] = "its bias is computed" }
    if geometry.isUneven(kernel: kernel) { indivisible[weight] = "its padding is not the same on both sides" }
    return try batched(operands, spatialRank: kernel.count) { (l, operands) throws(Failure) in
      let result = try l.node("Conv", operands, geometry.attributes(kernel: kernel))
      l.lastConvolution = l.lastNode
      return result
    }
  }

  fileprivate mutating func transposedConvolution(_ a: OperatorArguments, _ rank: Int) throws(Failure) -> TorchValue {
    let result = try transposedConvolution(
      a.tensor("input"), a.tensor("weight"), a.optionalTensor("bias"),
      ConvolutionGeometry(
        stride: a.ints("stride", count: rank, [1]), dilation: a.ints("dilation", count: rank, [1]),
        padding: .both(a.ints("padding", count: rank, [0])), groups: groups(a)),
      outputPadding: a.ints("output_padding", count: rank, [0]))
    try rememberGroups(a)
    return .tensor(result)
  }

  mutating func transposedConvolution(
    _ x: ValueID, _ weight: ValueID, _ bias: ValueID?, _ geometry: ConvolutionGeometry, outputPadding: [Int]
  ) throws(Failure) -> ValueID {
    let kernel = Array(try shape(weight).dropFirst(2))
    var attributes = geometry.attributes(kernel: kernel)
    if outputPadding.contains(where: { $0 != 0 }) { attributes["output_padding"] = .ints(outputPadding) }
    let operands = bias.map { [x, weight, $0] } ?? [x, weight]
    return try batched(operands, spatialRank: kernel.count) { (l, operands) throws(Failure) in
      let result = try l.node("ConvTranspose", operands, attributes)
      l.lastConvolution = l.lastNode
      return result
    }
  }

  /// Runs `body` on operands whose first has a batch axis; PyTorch takes single samples too.
  mutating func batched(
    _ operands: [ValueID], spatialRank: Int,
    _ body: (inout TorchLowering, [ValueID]) throws(Failure) -> ValueID
  ) throws(Failure) -> ValueID {
    guard let x = operands.first, try rank(x) == spatialRank + 1 else { return try body(&self, operands) }
    let axes = integers([0], as: "batch")
    let single = try node("Unsqueeze", [x, axes], as: "batched")
    let result = try body(&self, [single] + operands.dropFirst())
    return try node("Squeeze", [result, axes], as: "single")
  }
}

struct ConvolutionGeometry {
  enum Padding {
    /// As much on both sides, per axis.
    case both([Int])
    case same
  }
  var stride: [Int]
  var dilation: [Int]
  var padding: Padding
  var groups: Int

  /// Whether one side gets more padding than the other.
  func isUneven(kernel: [Int]) -> Bool {
    guard case .same = padding else { return false }
    return zip(kernel, dilation).contains { ($0 - 1) * $1 % 2 != 0 }
  }

  func attributes(kernel: [Int]) -> [String: Attribute] {
    var pads: [Int]
    switch padding {
    case .both(let both): pads = both + both
    case .same:
      // PyTorch puts the odd one at the end.
      let total = zip(kernel, dilation).map { ($0 - 1) * $1 }
      pads = total.map { $0 / 2 } + total.map { $0 - $0 / 2 }
    }
    return [
      "kernel_shape": .ints(kernel), "strides": .ints(stride), "dilations": .ints(dilation), "pads": .ints(pads),
      "group": .int(groups),
    ]
  }
}
