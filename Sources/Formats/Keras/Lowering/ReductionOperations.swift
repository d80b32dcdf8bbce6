import ModelGraph

/// Operations that make one element of many along axes.
enum ReductionOperations {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Var": KerasRule("x axis keepdims") { (l, a) throws(Failure) in
        .tensor(try l.variance(a.tensor("x"), a, keepsAxes: a.bool("keepdims", false)))
      },
      "Std": KerasRule("x axis keepdims") { (l, a) throws(Failure) in
        .tensor(
          try l.unary("Sqrt", l.variance(a.tensor("x"), a, keepsAxes: a.bool("keepdims", false), as: "variance")))
      },
      "Moments": KerasRule("x axes keepdims") { (l, a) throws(Failure) in
        let (x, keepsAxes) = (try a.tensor("x"), try a.bool("keepdims", false))
        let axes = try l.reducedAxes("axes", a, of: x)
        let mean = try l.reduced("ReduceMean", x, axes: axes, keepsAxes: keepsAxes, as: "mean")
        return .list([.tensor(mean), .tensor(try l.variance(x, a, "axes", keepsAxes: keepsAxes))])
      },
    ]
    for (name, op) in [
      "Mean": "ReduceMean", "Sum": "ReduceSum", "Max": "ReduceMax", "Min": "ReduceMin", "Amax": "ReduceMax",
      "Amin": "ReduceMin", "Prod": "ReduceProd", "Logsumexp": "ReduceLogSumExp",
    ] {
      table[name] = KerasRule("x axis keepdims") { (l, a) throws(Failure) in
        var x = try a.tensor("x")
        guard !a.has("initial"), !a.has("dtype") else { throw l.unsupported("it has an initial value or a type") }
        if name == "Mean" || name == "Logsumexp" { x = try l.real(x) }
        return .tensor(
          try l.reduced(op, x, axes: l.reducedAxes("axis", a, of: x), keepsAxes: a.bool("keepdims", false)))
      }
    }
    for (name, op) in ["Any": "ReduceMax", "All": "ReduceMin"] {
      table[name] = KerasRule("x axis keepdims") { (l, a) throws(Failure) in
        let x = try l.cast(l.cast(a.tensor("x"), to: .bool), to: .int32)
        let axes = try l.reducedAxes("axis", a, of: x)
        let y = try l.reduced(op, x, axes: axes, keepsAxes: a.bool("keepdims", false), as: "reduced")
        return .tensor(try l.cast(y, to: .bool))
      }
    }
    for (name, op) in ["Argmax": "ArgMax", "Argmin": "ArgMin"] {
      table[name] = KerasRule("x axis keepdims") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        guard a.has("axis") else { throw l.unsupported("it runs over all axes at once") }
        let axis = try l.axis(a.int("axis"), of: x)
        let keepsAxes = try a.bool("keepdims", false)
        let y = try l.node(
          op, [l.asWritten(x)], ["axis": .int(axis), "keepdims": .int(keepsAxes ? 1 : 0)], as: "places", dtype: .int64)
        return .tensor(l.tensor(try l.cast(y, to: l.isOfKeras2 ? .int64 : .int32)))
      }
    }
    return table
  }()
}

extension KerasLowering {
  /// The stated axes counted from the front; all where none are stated.
  func reducedAxes(_ name: StaticString, _ a: KerasArguments, of x: KerasTensor) throws(Failure) -> [Int] {
    guard a.has(name) else { return Array(0..<rank(x)) }
    var axes: [Int] = []
    for axis in try a.ints(name) { axes.append(try self.axis(axis, of: x)) }
    return axes
  }

  fileprivate mutating func variance(
    _ x: KerasTensor, _ a: KerasArguments, _ name: StaticString = "axis", keepsAxes: Bool, as suffix: String = ""
  ) throws(Failure) -> KerasTensor {
    let x = try real(x)
    let axes = try reducedAxes(name, a, of: x)
    let centred = try binary("Sub", x, reduced("ReduceMean", x, axes: axes, keepsAxes: true, as: "mean"), as: "centred")
    return try reduced("ReduceMean", product(centred, centred), axes: axes, keepsAxes: keepsAxes, as: suffix)
  }
}
