import ModelGraph

/// Normalisation, with the statistics of evaluation mode.
enum NormalizationOperators {
  static let functions: [String: TorchFunction] = [
    "batch_norm": TorchFunction(
      "input running_mean running_var weight bias training momentum eps cudnn_enabled"
    ) { (l, a) throws(Failure) in
      guard a.has("running_mean") else {
        return .tensor(
          try l.batchStandardized(
            a.tensor("input"), weight: a.optionalTensor("weight"), bias: a.optionalTensor("bias"),
            epsilon: a.float("eps", 1e-5)))
      }
      guard try !a.bool("training", false) else {
        throw l.unsupported("it normalises by the batch's own statistics; call .eval() before saving the model")
      }
      return .tensor(
        try l.batchNorm(
          a.tensor("input"), mean: a.tensor("running_mean"), variance: a.tensor("running_var"),
          weight: a.optionalTensor("weight"), bias: a.optionalTensor("bias"), epsilon: a.float("eps", 1e-5)))
    },
    "_native_batch_norm_legit_no_training": TorchFunction(
      "input weight bias running_mean running_var momentum eps"
    ) { (l, a) throws(Failure) in
      let result = try l.batchNorm(
        a.tensor("input"), mean: a.tensor("running_mean"), variance: a.tensor("running_var"),
        weight: a.optionalTensor("weight"), bias: a.optionalTensor("bias"), epsilon: a.float("eps", 1e-5))
      return .list([.tensor(result), .none, .none])
    },
    "layer_norm": TorchFunction("input normalized_shape weight bias eps cudnn_enable") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      let axes = try l.repeatedTail(of: x, a.integers("normalized_shape"))
      return .tensor(
        try l.layerNorm(
          x, axes: axes, weight: a.optionalTensor("weight"), bias: a.optionalTensor("bias"),
          epsilon: a.float("eps", 1e-5)))
    },
    "native_layer_norm": TorchFunction("input normalized_shape weight bias eps") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      let axes = try l.repeatedTail(of: x, a.integers("normalized_shape"))
      let result = try l.layerNorm(
        x, axes: axes, weight: a.optionalTensor("weight"), bias: a.optionalTensor("bias"),
        epsilon: a.float("eps", 1e-5))
      return .list([.tensor(result), .none, .none])
    },
    "rms_norm": TorchFunction("input normalized_shape weight eps") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      let axes = try l.repeatedTail(of: x, a.integers("normalized_shape"))
      return .tensor(
        try l.rmsNorm(x, axes: axes, weight: a.optionalTensor("weight"), epsilon: a.has("eps") ? a.float("eps") : nil))
    },
    "group_norm": TorchFunction("input num_groups weight bias eps cudnn_enabled") { (l, a) throws(Failure) in
      let result = try l.groupNorm(
        a.tensor("input"), groups: a.int("num_groups"), weight: a.optionalTensor("weight"),
        bias: a.optionalTensor("bias"), epsilon: a.float("eps", 1e-5))
      if let place = a.place("num_groups") {
        l.settings[NodeSetting(node: l.lastNode, attribute: "num_groups")] = .literal(place)
      }
      return .tensor(result)
    },
    "instance_norm": TorchFunction(
      "input running_mean running_var weight bias use_input_stats momentum eps cudnn_enabled"
    ) { (l, a) throws(Failure) in
      guard try a.bool("use_input_stats", true) else { throw l.unsupported("it uses running statistics") }
      return .tensor(
        try l.instanceNorm(
          a.tensor("input"), weight: a.optionalTensor("weight"), bias: a.optionalTensor("bias"),
          epsilon: a.float("eps", 1e-5)))
    },
    "local_response_norm": TorchFunction("input size alpha beta k") { (l, a) throws(Failure) in
      .tensor(
        try l.node(
          "LRN", [a.tensor("input")],
          [
            "size": .int(a.int("size")), "alpha": .float(Float(a.float("alpha", 1e-4))),
            "beta": .float(Float(a.float("beta", 0.75))), "bias": .float(Float(a.float("k", 1))),
          ]))
    },
    "normalize": TorchFunction("input p dim eps") { (l, a) throws(Failure) in
      guard try a.float("p", 2) == 2 else { throw l.unsupported("it is not the Euclidean norm") }
      let x = try a.tensor("input")
      let axis = try l.axis(a.int("dim", 1), of: x)
      let axes = l.integers([axis], as: "axes")
      let norm = try l.node("ReduceL2", [x, axes], ["keepdims": .int(1)], as: "norm")
      let bound = try l.node("Clip", [norm, l.scalar(a.float("eps", 1e-12), l.dtype(x), as: "eps")], as: "bound")
      return .tensor(try l.node("Div", [x, bound]))
    },
    "_weight_norm": TorchFunction("v g dim") { (l, a) throws(Failure) in
      .tensor(try l.weightNorm(a.tensor("v"), length: a.tensor("g"), axis: a.int("dim", 0)))
    },
  ]
}

extension TorchLowering {
  /// Scale, shift, mean and variance as ONNX wants them: all four there.
  mutating func batchNorm(
    _ x: ValueID, mean: ValueID, variance: ValueID, weight: ValueID?, bias: ValueID?, epsilon: Double
  ) throws(Failure) -> ValueID {
    let scale = if let weight { weight } else { try filled(1, like: variance, as: "scale") }
    let shift = if let bias { bias } else { try filled(0, like: mean, as: "shift") }
    return try node(
      "BatchNormalization", [x, scale, shift, mean, variance], ["epsilon": .float(Float(epsilon))])
  }

  /// Each channel by its own mean and deviation in `x`: what there is where no statistics are kept. Weights are
  /// standardised so, too.
  mutating func batchStandardized(
    _ x: ValueID, weight: ValueID?, bias: ValueID?, epsilon: Double
  ) throws(Failure) -> ValueID {
    let rank = try rank(x)
    guard rank >= 2 else { throw malformed("it normalises a tensor of \(rank) axes") }
    let axes = integers([0] + (2..<max(rank, 2)), as: "axes")
    let keeping: [String: Attribute] = ["keepdims": .int(1)]
    let centered = try node("Sub", [x, node("ReduceMean", [x, axes], keeping, as: "mean")], as: "centered")
    let square = try node("Mul", [centered, centered], as: "square")
    let variance = try node("ReduceMean", [square, axes], keeping, as: "variance")
    let sum = try node("Add", [variance, scalar(epsilon, dtype(x), as: "eps")], as: "sum")
    let isPlain = weight == nil && bias == nil
    var result = try node("Div", [centered, node("Sqrt", [sum], as: "deviation")], as: isPlain ? "" : "normed")
    // Behind the channels' axis.
    let inner = integers(Array(1..<rank - 1), as: "inner")
    func aligned(_ vector: ValueID, _ suffix: String, _ l: inout TorchLowering) throws(Failure) -> ValueID {
      rank == 2 ? vector : try l.node("Unsqueeze", [vector, inner], as: suffix)
    }
    if let weight {
      result = try node("Mul", [result, aligned(weight, "weight", &self)], as: bias == nil ? "" : "scaled")
    }
    if let bias { result = try node("Add", [result, aligned(bias, "bias", &self)]) }
    return result
  }

  /// A weight of which each slice along the axis has a length of its own, a parameter; along axis -1 there is one slice.
  fileprivate mutating func weightNorm(
    _ direction: ValueID, length: ValueID, axis: Int
  ) throws(Failure) -> ValueID {
    let rank = try rank(direction)
    guard (-1..<rank).contains(axis) else { throw malformed("it takes lengths along axis \(axis) of \(rank)") }
    let axes = integers((0..<rank).filter { $0 != axis }, as: "axes")
    let norm = try node("ReduceL2", [direction, axes], ["keepdims": .int(1)], as: "norm")
    return try node("Mul", [direction, node("Div", [length, norm], as: "factor")])
  }

  /// A tensor of `value` as long as `other`, computed so that it follows when the other is cut.
  mutating func filled(_ value: Double, like other: ValueID, as suffix: String) throws(Failure) -> ValueID {
    let number = try scalar(value, dtype(other), as: "\(suffix)_value")
    let size = try node("Shape", [other], as: "\(suffix)_shape")
    return try node("Expand", [number, size], as: suffix)
  }

  /// The axes that `lengths`, the last lengths of `x`, stand for; the literals among them repeat these.
  fileprivate mutating func repeatedTail(of x: ValueID, _ lengths: [TorchInteger]) throws(Failure) -> [Int] {
    let shape = try shape(x)
    guard lengths.count <= shape.count, Array(shape.suffix(lengths.count)) == lengths.map(\.value) else {
      throw malformed("it normalises \(lengths.map(\.value)) of a tensor \(shape)")
    }
    let first = shape.count - lengths.count
    for (k, length) in lengths.enumerated() {
      if let place = length.place { repeated.append(RepeatedLength(place: place, value: x, axis: first + k)) }
    }
    return Array(first..<shape.count)
  }

  mutating func layerNorm(
    _ x: ValueID, axes: [Int], weight: ValueID?, bias: ValueID?, epsilon: Double
  ) throws(Failure) -> ValueID {
    guard let first = axes.first else { throw malformed("it normalises no axis") }
    let scale: ValueID
    if let weight {
      scale = weight
    } else {
      // Without a weight the norm still scales, by ones as long as what it normalises.
      let size = try vector(axes.map { axis throws(Failure) in try length(x, axis) }, as: "scale_shape")
      scale = try node("Expand", [scalar(1, dtype(x), as: "one"), size], as: "scale")
    }
    return try node(
      "LayerNormalization", bias.map { [x, scale, $0] } ?? [x, scale],
      ["axis": .int(first), "epsilon": .float(Float(epsilon))])
  }

  /// x / sqrt(mean(x^2) + eps) * weight, from parts: the operator of its own is newer than the operator set.
  mutating func rmsNorm(_ x: ValueID, axes: [Int], weight: ValueID?, epsilon: Double?) throws(Failure) -> ValueID {
    let square = try node("Mul", [x, x], as: "square")
    let mean = try node("ReduceMean", [square, integers(axes, as: "axes")], ["keepdims": .int(1)], as: "mean")
    // PyTorch's default is the type's own.
    let fallback = dtype(x) == .float64 ? Double.ulpOfOne : Double(Float.ulpOfOne)
    let sum = try node("Add", [mean, scalar(epsilon ?? fallback, dtype(x), as: "eps")], as: "sum")
    let normed = try node("Div", [x, node("Sqrt", [sum], as: "rms")], as: weight == nil ? "" : "normed")
    guard let weight else { return normed }
    return try node("Mul", [normed, weight])
  }

  /// A vector of `value`, as long as `x` has channels.
  private mutating func channels(
    of x: ValueID, filledWith value: Double, as suffix: String
  ) throws(Failure) -> ValueID {
    let number = try scalar(value, dtype(x), as: "number")
    return try node("Expand", [number, vector([length(x, 1)], as: "channels")], as: suffix)
  }

  mutating func groupNorm(
    _ x: ValueID, groups: Int, weight: ValueID?, bias: ValueID?, epsilon: Double
  ) throws(Failure) -> ValueID {
    let scale = if let weight { weight } else { try channels(of: x, filledWith: 1, as: "scale") }
    let shift = if let bias { bias } else { try channels(of: x, filledWith: 0, as: "shift") }
    return try node(
      "GroupNormalization", [x, scale, shift],
      ["num_groups": .int(groups), "epsilon": .float(Float(epsilon))])
  }

  mutating func instanceNorm(
    _ x: ValueID, weight: ValueID?, bias: ValueID?, epsilon: Double
  ) throws(Failure) -> ValueID {
    let scale = if let weight { weight } else { try channels(of: x, filledWith: 1, as: "scale") }
    let shift = if let bias { bias } else { try channels(of: x, filledWith: 0, as: "shift") }
    return try node("InstanceNormalization", [x, scale, shift], ["epsilon": .float(Float(epsilon))])
  }
}
