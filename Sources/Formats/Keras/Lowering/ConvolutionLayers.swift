import ModelGraph

/// Convolutions of one to three spatial axes: plain, grouped, transposed, depthwise, separable.
enum ConvolutionLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [:]
    for rank in 1...3 {
      // Keras has most of them under two names.
      for name in ["Conv\(rank)D", "Convolution\(rank)D"] {
        table[name] = KerasRule { (l, a, x) throws(Failure) in try l.convolutionLayer(a, x, rank) }
        table[name + "Transpose"] = KerasRule { (l, a, x) throws(Failure) in try l.transposedLayer(a, x, rank) }
        guard rank < 3 else { continue }
        table["Separable" + name] = KerasRule { (l, a, x) throws(Failure) in try l.separableLayer(a, x, rank) }
      }
      guard rank < 3 else { continue }
      table["DepthwiseConv\(rank)D"] = KerasRule { (l, a, x) throws(Failure) in try l.depthwiseLayer(a, x, rank) }
    }
    return table
  }()
}

extension KerasLowering {
  fileprivate mutating func convolutionLayer(
    _ a: KerasArguments, _ x: KerasTensor, _ rank: Int
  ) throws(Failure) -> KerasTensor {
    let kernel = try stored("kernel", a.layer)
    let (weight, lengths) = try convolutionKernel(kernel, rank)
    let isChannelsFirst = try a.isChannelsFirst()
    let groups = try a.int("groups", 1)
    let y = try convolution(
      channelsSecond(x, isChannelsFirst: isChannelsFirst), weight, bias(a), geometry(a, kernel: lengths), groups: groups
    )
    if groups != 1 {
      settings[NodeSetting(node: lastNode, attribute: "group")] = a.place("groups").map(KerasSetting.literal)
    }
    return try activated(tensor(y, isChannelsFirst: isChannelsFirst), a)
  }

  /// (spatial..., in, out) as (out, in, spatial...).
  mutating func convolutionKernel(
    _ kernel: KerasVariable, _ rank: Int
  ) throws(Failure) -> (weight: ValueID, lengths: [Int]) {
    guard kernel.tensor.shape.count == rank + 2 else {
      throw malformed("its kernel has the shape \(kernel.tensor.shape)")
    }
    let spatial = (0..<rank).map { [$0] }
    let weight = try variable(
      kernel, [[rank + 1], [rank]] + spatial, depthwise: [[rank], [rank + 1]] + spatial)
    return (weight, Array(kernel.tensor.shape.prefix(rank)))
  }

  func hasBias(_ a: KerasArguments) throws(Failure) -> Bool { try a.bool("use_bias", true) }

  mutating func bias(_ a: KerasArguments) throws(Failure) -> ValueID? {
    try hasBias(a) ? try variable("bias", a) : nil
  }

  /// - Parameter x: with its channels second, as in the result.
  mutating func convolution(
    _ x: ValueID, _ weight: ValueID, _ bias: ValueID?, _ geometry: SlidingGeometry, groups: Int = 1,
    as suffix: String = ""
  ) throws(Failure) -> ValueID {
    let (data, kernel) = (try shape(x), try shape(weight))
    guard data.count == kernel.count, groups > 0, kernel[0] % groups == 0, data[1] == kernel[1] * groups else {
      throw malformed("its kernel does not fit: channels \(data.count > 1 ? data[1] : 0), kernel \(kernel)")
    }
    let x = try cast(x, to: dtype(weight))
    var attributes = geometry.attributes(lengths: try spatialLengths(x))
    if groups != 1 { attributes["group"] = .int(groups) }
    return try node("Conv", bias.map { [x, weight, $0] } ?? [x, weight], attributes, as: suffix)
  }

  fileprivate mutating func depthwiseLayer(
    _ a: KerasArguments, _ x: KerasTensor, _ rank: Int
  ) throws(Failure) -> KerasTensor {
    let isChannelsFirst = try a.isChannelsFirst()
    guard let kernel = a.layer.variable("depthwise_kernel") ?? a.layer.variable("kernel") else {
      throw malformed("it has no kernel")
    }
    let y = try depthwise(
      channelsSecond(x, isChannelsFirst: isChannelsFirst), kernel, bias(a), a, rank)
    return try activated(tensor(y, isChannelsFirst: isChannelsFirst), a)
  }

  /// The kernel (spatial..., in, multiplier) as (in * multiplier, 1, spatial...), one group for every channel.
  private mutating func depthwise(
    _ x: ValueID, _ kernel: KerasVariable, _ bias: ValueID?, _ a: KerasArguments, _ rank: Int, as suffix: String = ""
  ) throws(Failure) -> ValueID {
    let shape = kernel.tensor.shape
    guard shape.count == rank + 2 else { throw malformed("its kernel has the shape \(shape)") }
    let weight = try variable(kernel, [[rank, rank + 1], []] + (0..<rank).map { [$0] })
    let y = try convolution(
      x, weight, bias, geometry(a, kernel: Array(shape.prefix(rank))), groups: shape[rank], as: suffix)
    settings[NodeSetting(node: lastNode, attribute: "group")] = .follows
    return y
  }

  fileprivate mutating func separableLayer(
    _ a: KerasArguments, _ x: KerasTensor, _ rank: Int
  ) throws(Failure) -> KerasTensor {
    let isChannelsFirst = try a.isChannelsFirst()
    var x = try channelsSecond(x, isChannelsFirst: isChannelsFirst)
    if try a.string("padding", "valid") == "causal" {
      // The padding comes before the depthwise convolution, whose own is none.
      throw unsupported("its padding is 'causal'")
    }
    x = try depthwise(x, stored("depthwise_kernel", a.layer), nil, a, rank, as: "depthwise")
    let (weight, lengths) = try convolutionKernel(stored("pointwise_kernel", a.layer), rank)
    keepWhole(weight, "the pointwise convolution is part of a separable one")
    let y = try convolution(
      x, weight, bias(a), SlidingGeometry(kernel: lengths, strides: lengths.map { _ in 1 }, padding: .valid))
    return try activated(tensor(y, isChannelsFirst: isChannelsFirst), a)
  }
}
