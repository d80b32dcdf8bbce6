import ModelGraph

/// Normalisation, with the statistics that prediction uses.
enum NormalizationLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "LayerNormalization": KerasRule { (l, a, x) throws(Failure) in
        try l.layerNorm(
          x, axes: a.ints("axis", [-1]), scale: l.optionalVariable("gamma", a), shift: l.optionalVariable("beta", a),
          epsilon: a.float("epsilon", 1e-3), isScaledOnly: a.bool("rms_scaling", false))
      },
      "RMSNormalization": KerasRule { (l, a, x) throws(Failure) in
        try l.rmsNorm(
          x, axes: a.ints("axis", [-1]), scale: l.optionalVariable("scale", a), epsilon: a.float("epsilon", 1e-6))
      },
      "GroupNormalization": KerasRule { (l, a, x) throws(Failure) in try l.groupNormLayer(a, x) },
      "UnitNormalization": KerasRule { (l, a, x) throws(Failure) in
        // tf.keras 2 bounds the sum of squares, Keras 3 its root.
        try l.normalized(x, axes: a.ints("axis", [-1]), order: 2, epsilon: l.isOfKeras2 ? 1e-6 : 1e-12)
      },
    ]
    for name in ["BatchNormalization", "SyncBatchNormalization", "BatchNormalizationV1", "BatchNormalizationV2"] {
      table[name] = KerasRule { (l, a, x) throws(Failure) in
        let x = try l.cast(x, to: l.stored("moving_mean", a.layer).tensor.dtype)
        let mean = try l.variable("moving_mean", a)
        if try a.bool("renorm", false) { l.fixed[mean] = "'\(l.base)' has statistics that only training reads" }
        return try l.batchNorm(
          x, axis: a.ints("axis", [-1]).first ?? -1, mean: mean,
          variance: l.variable("moving_variance", a), scale: l.optionalVariable("gamma", a),
          shift: l.optionalVariable("beta", a), epsilon: a.float("epsilon", 1e-3))
      }
    }
    return table
  }()
}

extension KerasLowering {
  /// A variable that a layer has or has not by its settings.
  mutating func optionalVariable(_ role: String, _ a: KerasArguments) throws(Failure) -> ValueID? {
    a.layer.variable(role) == nil ? nil : try variable(role, a)
  }

  /// The tensor as a value whose second axis is Keras's axis `axis`.
  mutating func second(_ axis: Int, of x: KerasTensor) throws(Failure) -> (value: ValueID, axes: [Int]) {
    let axis = try self.axis(axis, of: x)
    guard axis > 0 else { throw unsupported("it normalises the samples of a batch") }
    for known in arrangements[x.index] where known.axes[1] == axis && known.axes[0] == 0 {
      return (known.value, known.axes)
    }
    let axes = [0, axis] + (1..<rank(x)).filter { $0 != axis }
    return (try arranged(x, axes), axes)
  }

  mutating func batchNorm(
    _ x: KerasTensor, axis: Int, mean: ValueID, variance: ValueID, scale: ValueID?, shift: ValueID?, epsilon: Double
  ) throws(Failure) -> KerasTensor {
    let (value, axes) = try second(axis, of: x)
    let scale = if let scale { scale } else { try filled(1, like: variance, as: "scale") }
    let shift = if let shift { shift } else { try filled(0, like: mean, as: "shift") }
    let y = try node(
      "BatchNormalization", [value, scale, shift, mean, variance], ["epsilon": .float(Float(epsilon))])
    return tensor(y, axes)
  }

  // MARK: Over axes

  /// The axes counted from the front, in order.
  private func sortedAxes(_ axes: [Int], of x: KerasTensor) throws(Failure) -> [Int] {
    var result: [Int] = []
    for axis in axes { result.append(try self.axis(axis, of: x)) }
    guard Set(result).count == result.count, !result.isEmpty else { throw malformed("it names the axes \(axes)") }
    return result.sorted()
  }

  /// - Parameter isScaledOnly: whether the mean stays in: x / deviation * scale.
  mutating func layerNorm(
    _ x: KerasTensor, axes: [Int], scale: ValueID?, shift: ValueID?, epsilon: Double, isScaledOnly: Bool
  ) throws(Failure) -> KerasTensor {
    let axes = try sortedAxes(axes, of: x)
    let rank = rank(x)
    let scale = if let scale { try laid(scale, along: axes, of: x) } else { scale }
    let shift = if let shift { try laid(shift, along: axes, of: x) } else { shift }
    if !isScaledOnly, axes == Array(rank - axes.count..<rank) {
      let value = try asWritten(x)
      let factor: ValueID
      if let scale {
        factor = scale
      } else {
        // Without a scale of its own it has ones, as long as what it normalises.
        let size = try node("Shape", [value], ["start": .int(axes[0])], as: "scale_shape")
        factor = try node("Expand", [scalar(1, dtype(value), as: "one"), size], as: "scale")
      }
      return tensor(
        try node(
          "LayerNormalization", shift.map { [value, factor, $0] } ?? [value, factor],
          ["axis": .int(axes[0]), "epsilon": .float(Float(epsilon))]))
    }
    let mean = try reduced("ReduceMean", x, axes: axes, keepsAxes: true, as: "mean")
    let centred = try binary("Sub", x, mean, as: "centred")
    let square = try binary("Mul", centred, centred, as: "square")
    let variance = try reduced("ReduceMean", square, axes: axes, keepsAxes: true, as: "variance")
    let deviation = try unary("Sqrt", binary("Add", variance, epsilon, as: "sum"), as: "deviation")
    let normed = try binary(
      "Div", isScaledOnly ? x : centred, deviation, as: scale == nil && shift == nil ? "" : "normed")
    return try affine(normed, axes: axes, scale: scale, shift: isScaledOnly ? nil : shift)
  }

  /// The parameter as the normalization reads it. The layer makes it when it still counts some axes from the end, and
  /// sorts those to the front; its numbers are then read in the order of the tensor's own axes.
  private mutating func laid(_ parameter: ValueID, along axes: [Int], of x: KerasTensor) throws(Failure) -> ValueID {
    let (stored, whole) = (try shape(parameter), try shape(x))
    let lengths = axes.map { whole[$0] }
    guard stored != lengths, stored.sorted() == lengths.sorted() else { return parameter }
    return try node("Reshape", [parameter, integers(lengths, as: "lengths")], as: "laid")
  }

  /// x * scale + shift, with parameters along `axes`.
  private mutating func affine(
    _ x: KerasTensor, axes: [Int], scale: ValueID?, shift: ValueID?
  ) throws(Failure) -> KerasTensor {
    var x = x
    if let scale {
      x = try binary("Mul", x, along(axes, scale, rank: rank(x)), as: shift == nil ? "" : "scaled")
    }
    if let shift { x = try binary("Add", x, along(axes, shift, rank: rank(x))) }
    return x
  }

  /// A parameter that runs along `axes` of a tensor of `rank` axes.
  private mutating func along(_ axes: [Int], _ parameter: ValueID, rank: Int) throws(Failure) -> KerasTensor {
    // Some are stored with ones for the other axes.
    if try self.rank(parameter) == rank || axes.last == rank - 1 && axes.count == (axes.last ?? 0) - axes[0] + 1 {
      return tensor(parameter)
    }
    let ones = (0..<rank).filter { !axes.contains($0) && $0 > axes[0] }
    let leading = axes[0]
    let wide = try node("Unsqueeze", [parameter, integers(ones.map { $0 - leading }, as: "axes")], as: "along")
    return tensor(wide)
  }

  /// x / sqrt(mean(x^2) + epsilon) * scale
  mutating func rmsNorm(
    _ x: KerasTensor, axes: [Int], scale: ValueID?, epsilon: Double
  ) throws(Failure) -> KerasTensor {
    let axes = try sortedAxes(axes, of: x)
    let square = try binary("Mul", x, x, as: "square")
    let mean = try reduced("ReduceMean", square, axes: axes, keepsAxes: true, as: "mean")
    let root = try unary("Sqrt", binary("Add", mean, epsilon, as: "sum"), as: "rms")
    let normed = try binary("Div", x, root, as: scale == nil ? "" : "normed")
    return try affine(normed, axes: axes, scale: scale, shift: nil)
  }

  /// x / max(norm, epsilon)
  mutating func normalized(
    _ x: KerasTensor, axes: [Int], order: Int, epsilon: Double
  ) throws(Failure) -> KerasTensor {
    guard order == 1 || order == 2 else { throw unsupported("it is the norm of order \(order)") }
    let axes = try sortedAxes(axes, of: x)
    let norm = try reduced(order == 1 ? "ReduceL1" : "ReduceL2", x, axes: axes, keepsAxes: true, as: "norm")
    return try binary("Div", x, binary("Max", norm, epsilon, as: "bound"))
  }

  // MARK: By groups

  fileprivate mutating func groupNormLayer(_ a: KerasArguments, _ x: KerasTensor) throws(Failure) -> KerasTensor {
    let (value, axes) = try second(a.int("axis", -1), of: x)
    let channels = try shape(value)[1]
    let stated = try a.int("groups", 32)
    let groups = stated == -1 ? channels : stated
    guard groups > 0, channels % groups == 0 else { throw malformed("\(channels) channels make no \(groups) groups") }
    var size: ValueID?
    func parameter(_ role: String, _ number: Double, _ l: inout KerasLowering) throws(Failure) -> ValueID {
      if let stored = try l.optionalVariable(role, a) { return stored }
      let length: ValueID
      if let size {
        length = size
      } else {
        length = try l.node("Shape", [value], ["start": .int(1), "end": .int(2)], as: "channels")
      }
      size = length
      return try l.node("Expand", [l.scalar(number, l.dtype(value), as: "\(role)_value"), length], as: role)
    }
    let (scale, shift) = (try parameter("gamma", 1, &self), try parameter("beta", 0, &self))
    let y = try node(
      "GroupNormalization", [value, scale, shift],
      ["num_groups": .int(groups), "epsilon": .float(Float(a.float("epsilon", 1e-3)))])
    let setting = NodeSetting(node: lastNode, attribute: "num_groups")
    settings[setting] = stated == -1 ? .follows : a.place("groups").map(KerasSetting.literal)
    return tensor(y, axes)
  }
}
