import ModelGraph

/// Pooling, resizing, padding, and channels traded for space.
enum PoolingOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [
      "pixel_shuffle": TorchFunction("input upscale_factor") { (l, a) throws(Failure) in
        .tensor(
          try l.node(
            "DepthToSpace", [a.tensor("input")],
            ["blocksize": .int(a.int("upscale_factor")), "mode": .string("CRD")]))
      },
      "pixel_unshuffle": TorchFunction("input downscale_factor") { (l, a) throws(Failure) in
        .tensor(try l.unshuffled(a.tensor("input"), a.int("downscale_factor")))
      },
      "channel_shuffle": TorchFunction("input groups") { (l, a) throws(Failure) in
        .tensor(try l.shuffled(a.tensor("input"), groups: a.int("groups")))
      },
      "pad": TorchFunction("input pad mode value") { (l, a) throws(Failure) in
        .tensor(
          try l.padded(
            a.tensor("input"), a.integers("pad"), mode: a.string("mode", "constant"),
            value: a.has("value") ? a.float("value") : 0))
      },
      "constant_pad_nd": TorchFunction("input pad value") { (l, a) throws(Failure) in
        .tensor(
          try l.padded(
            a.tensor("input"), a.integers("pad"), mode: "constant", value: a.has("value") ? a.float("value") : 0))
      },
      "interpolate": TorchFunction(
        "input size scale_factor mode align_corners recompute_scale_factor antialias"
      ) { (l, a) throws(Failure) in
        if try a.bool("antialias", false) { throw l.unsupported("it filters against aliases") }
        return .tensor(
          try l.resized(
            a.tensor("input"), size: a.has("size") ? a.integers("size") : nil, scale: a["scale_factor"],
            mode: a.string("mode", "nearest"), alignsCorners: a.bool("align_corners", false)))
      },
    ]
    for (rank, modes) in [
      (1, ["linear", "nearest"]), (2, ["bilinear", "nearest", "bicubic"]), (3, ["trilinear", "nearest"]),
    ] {
      for mode in modes {
        let hasCorners = mode != "nearest"
        let parameters =
          hasCorners ? "input output_size align_corners scale_factors" : "input output_size scale_factors"
        table["upsample_\(mode)\(rank)d"] = TorchFunction(parameters) { (l, a) throws(Failure) in
          .tensor(
            try l.resized(
              a.tensor("input"), size: a.has("output_size") ? a.integers("output_size") : nil,
              scale: a["scale_factors"], mode: mode,
              alignsCorners: hasCorners ? a.bool("align_corners", false) : false))
        }
      }
    }
    for rank in 1...3 {
      for name in ["max_pool\(rank)d", "max_pool\(rank)d_with_indices"] {
        table[name] = TorchFunction("input kernel_size stride padding dilation ceil_mode return_indices") {
          (l, a) throws(Failure) in
          if try a.bool("return_indices", false) { throw l.unsupported("it returns the positions of the maxima") }
          let result = TorchValue.tensor(try l.pool("MaxPool", a, rank))
          return name.hasSuffix("indices") ? .list([result, .none]) : result
        }
      }
      table["avg_pool\(rank)d"] = TorchFunction(
        "input kernel_size stride padding ceil_mode count_include_pad divisor_override"
      ) { (l, a) throws(Failure) in
        let mean = try l.pool("AveragePool", a, rank)
        guard a.has("divisor_override") else { return .tensor(mean) }
        let area = try a.ints("kernel_size", count: rank).reduce(1, *)
        guard try a.bool("count_include_pad", true), try !a.bool("ceil_mode", false) else {
          throw l.unsupported("it divides windows of several sizes by one number")
        }
        return try l.binary("Mul", .tensor(mean), .float(Double(area) / a.float("divisor_override")))
      }
      table["adaptive_avg_pool\(rank)d"] = TorchFunction("input output_size") { (l, a) throws(Failure) in
        .tensor(try l.adaptivePool("Average", a["output_size"], a.tensor("input"), rank))
      }
      table["adaptive_max_pool\(rank)d"] = TorchFunction("input output_size return_indices") { (l, a) throws(Failure) in
        if try a.bool("return_indices", false) { throw l.unsupported("it returns the positions of the maxima") }
        return .tensor(try l.adaptivePool("Max", a["output_size"], a.tensor("input"), rank))
      }
    }
    return table
  }()
}

extension TorchLowering {
  fileprivate mutating func pool(_ op: String, _ a: OperatorArguments, _ rank: Int) throws(Failure) -> ValueID {
    let kernel = try a.ints("kernel_size", count: rank)
    // An empty list means the kernel's size as well.
    let givenStride = a.has("stride") ? try a.ints("stride") : []
    let stride = givenStride.isEmpty ? kernel : try a.ints("stride", count: rank)
    let padding = try a.ints("padding", count: rank, [0])
    var attributes: [String: Attribute] = [
      "kernel_shape": .ints(kernel), "strides": .ints(stride), "pads": .ints(padding + padding),
      "ceil_mode": .int(try a.bool("ceil_mode", false) ? 1 : 0),
    ]
    if op == "MaxPool" {
      attributes["dilations"] = .ints(try a.ints("dilation", count: rank, [1]))
    } else {
      attributes["count_include_pad"] = .int(try a.bool("count_include_pad", true) ? 1 : 0)
    }
    return try batched([a.tensor("input")], spatialRank: rank) { (l, operands) throws(Failure) in
      try l.node(op, operands, attributes)
    }
  }

  /// Windows that share out the input over `size` outputs: [floor(i n / m), ceil((i + 1) n / m)).
  mutating func adaptivePool(
    _ kind: String, _ size: TorchValue, _ x: ValueID, _ rank: Int
  ) throws(Failure) -> ValueID {
    let sizes = try adaptiveSizes(size, rank)
    return try batched([x], spatialRank: rank) { (l, operands) throws(Failure) in
      let x = operands[0]
      if sizes.allSatisfy({ $0 == 1 }) { return try l.node("Global\(kind)Pool", [x]) }
      let spatial = Array(try l.shape(x).suffix(rank))
      let targets = zip(sizes, spatial).map { $0 ?? $1 }
      if targets == spatial { return try l.node("Identity", [x]) }
      if zip(spatial, targets).allSatisfy({ $1 > 0 && $0 % $1 == 0 }) {
        let kernel = zip(spatial, targets).map { $0 / $1 }
        return try l.node("\(kind)Pool", [x], ["kernel_shape": .ints(kernel), "strides": .ints(kernel)])
      }
      return try l.unevenPool(kind == "Average" ? "ReduceMean" : "ReduceMax", x, targets)
    }
  }

  /// nil for an axis that stays as it is.
  private func adaptiveSizes(_ size: TorchValue, _ rank: Int) throws(Failure) -> [Int?] {
    switch size {
    case .integer(let integer): return [Int?](repeating: integer.value, count: rank)
    case .list(let elements) where elements.count == rank:
      return try elements.map { element throws(Failure) -> Int? in
        switch element {
        case .integer(let integer): return integer.value
        case .none: return nil
        default: throw unsupported("its output size is \(element.kind)")
        }
      }
    default: throw unsupported("its output size is \(size.kind)")
    }
  }

  /// Window by window, axis by axis.
  private mutating func unevenPool(_ reduction: String, _ x: ValueID, _ targets: [Int]) throws(Failure) -> ValueID {
    guard targets.allSatisfy({ (1...64).contains($0) }) else { throw unsupported("its windows are uneven and many") }
    var x = x
    let first = try rank(x) - targets.count
    for (k, target) in targets.enumerated() {
      let (axis, length) = (first + k, try shape(x)[first + k])
      if length == target { continue }
      let axes = integers([axis], as: "axes")
      var windows: [ValueID] = []
      for i in 0..<target {
        let bounds = [i * length / target, ((i + 1) * length + target - 1) / target]
        let window = try node(
          "Slice", [x, integers([bounds[0]], as: "start"), integers([bounds[1]], as: "end"), axes], as: "window")
        windows.append(try node(reduction, [window, axes], ["keepdims": .int(1)], as: "pooled"))
      }
      x = try node("Concat", windows, ["axis": .int(axis)])
    }
    return x
  }

  mutating func resized(
    _ x: ValueID, size: [TorchInteger]?, scale: TorchValue, mode: String, alignsCorners: Bool
  ) throws(Failure) -> ValueID {
    let rank = try rank(x)
    let spatial = rank - 2
    var attributes: [String: Attribute] = ["axes": .ints(Array(2..<rank))]
    switch mode {
    case "area":
      return try adaptivePool("Average", .list((size ?? []).map(TorchValue.integer)), x, spatial)
    case "nearest-exact":
      attributes["mode"] = .string("nearest")
      attributes["coordinate_transformation_mode"] = .string("half_pixel")
      attributes["nearest_mode"] = .string("round_prefer_ceil")
    case "nearest":
      attributes["mode"] = .string("nearest")
      attributes["coordinate_transformation_mode"] = .string("asymmetric")
      attributes["nearest_mode"] = .string("floor")
    case "linear", "bilinear", "trilinear", "bicubic":
      attributes["mode"] = .string(mode == "bicubic" ? "cubic" : "linear")
      if mode == "bicubic" { attributes["cubic_coeff_a"] = .float(-0.75) }
      attributes["coordinate_transformation_mode"] = .string(alignsCorners ? "align_corners" : "pytorch_half_pixel")
    default: throw unsupported("the mode '\(mode)' has no rule")
    }
    if let size {
      let lengths = size.count == 1 ? [TorchInteger](repeating: size[0], count: spatial) : size
      guard lengths.count == spatial else { throw malformed("it resizes \(spatial) axes to \(size.count) lengths") }
      return try node("Resize", [x, nil, nil, vector(lengths, as: "size")], attributes)
    }
    var scales: [Double] = []
    switch scale {
    case .float(let value): scales = [value]
    case .integer(let value): scales = [Double(value.value)]
    case .list(let elements):
      for element in elements {
        switch element {
        case .float(let value): scales.append(value)
        case .integer(let value): scales.append(Double(value.value))
        default: throw unsupported("a scale is \(element.kind)")
        }
      }
    default: throw unsupported("it says neither size nor scale")
    }
    if scales.count == 1 { scales = [Double](repeating: scales[0], count: spatial) }
    guard scales.count == spatial else { throw malformed("it resizes \(spatial) axes by \(scales.count) scales") }
    let id = assembler.constant("\(base).scales", Tensor(float32: scales.map(Float.init)))
    return try node("Resize", [x, nil, id], attributes)
  }

  /// - Parameter pad: in pairs, from the last axis on, as PyTorch gives them.
  mutating func padded(_ x: ValueID, _ pad: [Int], mode: String, value: Double) throws(Failure) -> ValueID {
    try padded(x, pad.map { TorchInteger($0) }, mode: mode, value: value)
  }

  fileprivate mutating func padded(
    _ x: ValueID, _ pad: [TorchInteger], mode: String, value: Double
  ) throws(Failure) -> ValueID {
    let rank = try rank(x)
    guard pad.count % 2 == 0, pad.count / 2 <= rank else { throw malformed("it pads by \(pad.map(\.value))") }
    if pad.allSatisfy({ $0.isLiteral && $0.value == 0 }) { return try node("Identity", [x]) }
    let count = pad.count / 2
    let axes = (0..<count).map { rank - count + $0 }
    let before = (0..<count).map { pad[2 * (count - 1 - $0)] }
    let after = (0..<count).map { pad[2 * (count - 1 - $0) + 1] }
    let modes = ["constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"]
    guard let mode = modes[mode] else { throw unsupported("the mode '\(mode)' has no rule") }
    let filling = mode == "constant" ? try scalar(value, dtype(x)) : nil
    return try node(
      "Pad", [x, vector(before + after, as: "pads"), filling, integers(axes, as: "axes")], ["mode": .string(mode)])
  }

  /// Channels in `groups` rows, read by columns.
  mutating func shuffled(_ x: ValueID, groups: Int) throws(Failure) -> ValueID {
    let rank = try rank(x)
    guard rank >= 2 else { throw malformed("a tensor of \(rank) axes has no channels") }
    var split: [TorchInteger] = [try length(x, 0), TorchInteger(groups), TorchInteger(-1)]
    for axis in 2..<rank { split.append(try length(x, axis)) }
    let rows = try node("Reshape", [x, vector(split, as: "rows")], as: "rows")
    let turned = try node("Transpose", [rows], ["perm": .ints([0, 2, 1] + Array(3..<rank + 1))], as: "columns")
    var joined: [TorchInteger] = [try length(x, 0), TorchInteger(-1)]
    for axis in 2..<rank { joined.append(try length(x, axis)) }
    return try node("Reshape", [turned, vector(joined, as: "shape")])
  }

  fileprivate mutating func unshuffled(_ x: ValueID, _ factor: Int) throws(Failure) -> ValueID {
    let shape = try shape(x)
    guard shape.count == 4, factor > 0 else { throw unsupported("it takes four axes") }
    let channels = try length(x, 1)
    let (height, width) = (shape[2] / factor, shape[3] / factor)
    let six = try node(
      "Reshape",
      [
        x,
        vector(
          [
            length(x, 0), channels, TorchInteger(height), TorchInteger(factor), TorchInteger(width),
            TorchInteger(factor),
          ], as: "blocks"),
      ], as: "blocks")
    let turned = try node("Transpose", [six], ["perm": .ints([0, 1, 3, 5, 2, 4])], as: "turned")
    return try node(
      "Reshape",
      [turned, vector([length(x, 0), TorchInteger(-1), TorchInteger(height), TorchInteger(width)], as: "shape")])
  }
}
