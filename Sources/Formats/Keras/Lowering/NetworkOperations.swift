import ModelGraph

/// What layers do, as operations of keras.ops.nn and keras.ops.image.
enum NetworkOperations {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Normalize": KerasRule("x axis order epsilon") { (l, a) throws(Failure) in
        .tensor(
          try l.normalized(
            a.tensor("x"), axes: a.ints("axis", [-1]), order: a.int("order", 2), epsilon: a.float("epsilon", 1e-7)))
      },
      "LayerNorm": KerasRule("x gamma beta axis epsilon rms_scaling") { (l, a) throws(Failure) in
        let (scale, shift) = (try l.parameter("gamma", a), try l.parameter("beta", a))
        return .tensor(
          try l.layerNorm(
            a.tensor("x"), axes: a.ints("axis", [-1]), scale: scale, shift: shift, epsilon: a.float("epsilon", 1e-7),
            isScaledOnly: a.bool("rms_scaling", false)))
      },
      "RMSNorm": KerasRule("x scale axis epsilon") { (l, a) throws(Failure) in
        let scale = try l.parameter("scale", a)
        return .tensor(
          try l.rmsNorm(
            a.tensor("x"), axes: a.ints("axis", [-1]), scale: scale, epsilon: a.float("epsilon", 1e-7)))
      },
      "Resize": KerasRule("images size") { (l, a) throws(Failure) in
        for name: StaticString in ["crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"] {
          guard try !a.bool(name, false) else { throw l.unsupported("it has '\(name)'") }
        }
        return .tensor(
          try l.resized(
            l.real(a.tensor("images")), to: a.ints("size", count: 2),
            interpolation: a.string("interpolation", "bilinear"),
            isChannelsFirst: a.isChannelsFirst()))
      },
      "DepthToSpace": KerasRule("x") { (l, a) throws(Failure) in
        let isChannelsFirst = try a.isChannelsFirst()
        let x = try l.channelsSecond(a.tensor("x"), isChannelsFirst: isChannelsFirst)
        let y = try l.node("DepthToSpace", [x], ["blocksize": .int(a.int("block_size")), "mode": .string("DCR")])
        return .tensor(try l.tensor(y, isChannelsFirst: isChannelsFirst))
      },
      "SpaceToDepth": KerasRule("x") { (l, a) throws(Failure) in
        let isChannelsFirst = try a.isChannelsFirst()
        let x = try l.channelsSecond(a.tensor("x"), isChannelsFirst: isChannelsFirst)
        let y = try l.node("SpaceToDepth", [x], ["blocksize": .int(a.int("block_size"))])
        return .tensor(try l.tensor(y, isChannelsFirst: isChannelsFirst))
      },
    ]
    for (name, op) in ["MaxPool": "MaxPool", "AveragePool": "AveragePool"] {
      table[name] = KerasRule("inputs pool_size strides padding data_format") { (l, a) throws(Failure) in
        let x = try a.tensor("inputs")
        return .tensor(try l.pool(op, x, a.ints("pool_size", count: l.rank(x) - 2), a))
      }
    }
    for (name, op) in ["AdaptiveMaxPool": "ReduceMax", "AdaptiveAveragePool": "ReduceMean"] {
      table[name] = KerasRule("inputs output_size data_format") { (l, a) throws(Failure) in
        let x = try a.tensor("inputs")
        return .tensor(
          try l.adaptivePool(
            op, x, targets: a.ints("output_size", count: l.rank(x) - 2), isChannelsFirst: a.isChannelsFirst()))
      }
    }
    return table
  }()
}

extension KerasLowering {
  fileprivate mutating func parameter(_ name: StaticString, _ a: KerasArguments) throws(Failure) -> ValueID? {
    guard let tensor = try a.optionalTensor(name) else { return nil }
    return try asWritten(tensor)
  }
}
