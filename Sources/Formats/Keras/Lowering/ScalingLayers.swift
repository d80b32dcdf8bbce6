import ModelGraph

/// Layers that bring inputs to the range that a network wants.
enum ScalingLayers {
  static let rules: [String: KerasRule] = [
    // Of keras.applications' own: x * gamma along the channels.
    "LayerScale": KerasRule { (l, a, x) throws(Failure) in
      let gamma = l.tensor(try l.variable("gamma", a))
      return try l.product(x, gamma)
    },
    "Rescaling": KerasRule { (l, a, x) throws(Failure) in
      let x = try l.cast(x, to: l.variableType(a.layer) ?? .float32)
      let scaled = try l.scaled("Mul", x, a["scale"], as: "scaled")
      return try l.scaled("Add", scaled, a["offset"])
    },
    "Normalization": KerasRule { (l, a, x) throws(Failure) in
      let x = try l.cast(x, to: l.variableType(a.layer) ?? .float32)
      let mean = try l.statistic("mean", a, of: x)
      let variance = try l.statistic("variance", a, of: x)
      let deviation = try l.binary("Max", l.unary("Sqrt", variance, as: "deviation"), 1e-7, as: "bound")
      if try a.bool("invert", false) {
        return try l.binary("Add", l.binary("Mul", x, deviation, as: "scaled"), mean)
      }
      return try l.binary("Div", l.binary("Sub", x, mean, as: "centred"), deviation)
    },
  ]
}

extension KerasLowering {
  /// `op` with a number, or with one number per channel.
  fileprivate mutating func scaled(
    _ op: String, _ x: KerasTensor, _ setting: LoweredOperand, as suffix: String = ""
  ) throws(Failure) -> KerasTensor {
    if let number = setting.number { return try binary(op, x, number, as: suffix) }
    if setting.isNone { return x }
    return try binary(op, x, tensor(constant(setting, dtype(x))), as: suffix)
  }

  /// A statistic that was stored, or stated in the settings, along the axes that are kept.
  fileprivate mutating func statistic(
    _ name: StaticString, _ a: KerasArguments, of x: KerasTensor
  ) throws(Failure) -> KerasTensor {
    var axes: [Int] = []
    if let setting = a.layer.settings["axis"], !setting.isNull {
      for axis in try a.ints("axis") { axes.append(try self.axis(axis, of: x)) }
    }
    axes.sort()
    let value: ValueID
    if a.layer.variable(name.description) != nil {
      value = try variable(name.description, a)
      fixed[value] = "'\(base)' normalises by statistics of the channels as they are"
    } else {
      value = try constant(a[name], dtype(x))
    }
    var statistic = try cast(value, to: dtype(x))
    // Numbers stand for the last of the axes that are kept.
    let own = try rank(statistic)
    guard own <= max(axes.count, 1) || own == rank(x) else { throw malformed("its \(name) has \(own) axes") }
    guard own > 0, own < rank(x), let last = axes.last else {
      if own == 1, axes.isEmpty {
        statistic = try node("Reshape", [statistic, integers([Int](), as: "shape")], as: "number")
      }
      return tensor(statistic)
    }
    let kept = axes.suffix(own)
    let first = kept.first ?? last
    let ones = (first..<rank(x)).filter { !kept.contains($0) }.map { $0 - first }
    if !ones.isEmpty { statistic = try node("Unsqueeze", [statistic, integers(ones, as: "axes")], as: "along") }
    return tensor(statistic)
  }
}
