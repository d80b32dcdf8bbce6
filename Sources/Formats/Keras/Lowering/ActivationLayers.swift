import ModelGraph

/// Layers that apply a function to every element, and those that do nothing but in training.
enum ActivationLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Activation": KerasRule { (l, a, x) throws(Failure) in
        guard let setting = a.layer.settings["activation"], !setting.isNull else { return x }
        return try l.activated(x, setting)
      },
      "ReLU": KerasRule { (l, a, x) throws(Failure) in
        try l.relu(
          x, slope: a.has("negative_slope") ? a.float("negative_slope") : 0,
          limit: a.has("max_value") ? a.float("max_value") : nil, threshold: a.float("threshold", 0))
      },
      "LeakyReLU": KerasRule { (l, a, x) throws(Failure) in
        let slope = a.first("negative_slope", "alpha").number ?? 0.3
        return try l.unary("LeakyRelu", x, ["alpha": .float(Float(slope))])
      },
      "ThresholdedReLU": KerasRule { (l, a, x) throws(Failure) in
        try l.unary("ThresholdedRelu", x, ["alpha": .float(Float(a.float("theta", 1)))])
      },
      "ELU": KerasRule { (l, a, x) throws(Failure) in
        try l.unary("Elu", x, ["alpha": .float(Float(a.float("alpha", 1)))])
      },
      "PReLU": KerasRule { (l, a, x) throws(Failure) in
        // A slope for every place of a sample, but those along `shared_axes`, where there is one.
        let slope = l.tensor(try l.variable("alpha", a))
        return try l.combined("PRelu", [x, slope])
      },
      "Softmax": KerasRule("inputs mask") { (l, a) throws(Failure) in
        let x = try a.tensor("inputs")
        guard !a.has("mask"), l.masks[x] == nil else { throw l.unsupported("it is given a mask") }
        let axes = try a.ints("axis", [-1])
        if axes.count == 1 { return .tensor(try l.softmax(x, axis: axes[0])) }
        return .tensor(try l.softmax(x, axes: axes))
      },
    ]
    // Nothing in inference, or nothing that numbers show.
    for name in [
      "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout",
      "GaussianNoise", "ActivityRegularization", "Identity", "InputLayer", "RandomFlip", "RandomRotation", "RandomZoom",
      "RandomTranslation", "RandomContrast", "RandomBrightness", "RandomHeight", "RandomWidth", "RandomErasing",
      "RandomColorJitter", "RandomColorDegeneration", "RandomGrayscale", "RandomHue", "RandomSaturation",
      "RandomSharpness", "RandomPosterization", "RandomShear", "RandomPerspective", "RandomElasticTransform",
      "RandomGaussianBlur", "RandomInvert", "StochasticDepth", "RandAugment", "AugMix", "CutMix", "MixUp",
    ] {
      table[name] = KerasRule { _, _, x in x }
    }
    return table
  }()
}

extension KerasLowering {
  /// x between threshold and limit, the limit above, slope * (x - threshold) below.
  mutating func relu(
    _ x: KerasTensor, slope: Double, limit: Double?, threshold: Double
  ) throws(Failure) -> KerasTensor {
    if threshold == 0 {
      if slope == 0 {
        if let limit { return try clip(x, 0, limit) }
        return try unary("Relu", x)
      }
      let leaky = try unary("LeakyRelu", x, ["alpha": .float(Float(slope))], as: limit == nil ? "" : "leaky")
      guard let limit else { return leaky }
      return try binary("Min", leaky, limit)
    }
    let passes = try binary("GreaterOrEqual", x, threshold, as: "passes", dtype: .bool)
    let above = if let limit { try binary("Min", x, limit, as: "above") } else { x }
    let below = try binary("Mul", binary("Sub", x, threshold, as: "distance"), slope, as: "below")
    return try combined("Where", [passes, above, below], dtype: dtype(x))
  }

  /// Over several axes at once.
  mutating func softmax(_ x: KerasTensor, axes: [Int]) throws(Failure) -> KerasTensor {
    var places: [Int] = []
    for axis in axes { places.append(place(of: try self.axis(axis, of: x), in: x)) }
    let source = primary(x)
    let list = integers(places.sorted(), as: "axes")
    let top = try node("ReduceMax", [source.value, list], ["keepdims": .int(1)], as: "max")
    let powers = try node("Exp", [node("Sub", [source.value, top], as: "shifted")], as: "exp")
    let sum = try node("ReduceSum", [powers, list], ["keepdims": .int(1)], as: "sum")
    return tensor(try node("Div", [powers, sum]), source.axes)
  }
}
