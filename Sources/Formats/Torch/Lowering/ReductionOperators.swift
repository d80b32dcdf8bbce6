import ModelGraph

/// Sums, means, extremes and statistics along axes.
enum ReductionOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [
      "var": TorchFunction("input dim unbiased keepdim correction") { (l, a) throws(Failure) in
        .tensor(try l.variance(a))
      },
      "std": TorchFunction("input dim unbiased keepdim correction") { (l, a) throws(Failure) in
        .tensor(try l.node("Sqrt", [l.variance(a)], as: "root"))
      },
      "var_mean": TorchFunction("input dim unbiased keepdim correction") { (l, a) throws(Failure) in
        let variance = try l.variance(a)
        return .list([.tensor(variance), try l.reduction("ReduceMean", a)])
      },
      "norm": TorchFunction("input p dim keepdim dtype") { (l, a) throws(Failure) in
        if case .string(let p) = a["p"], p != "fro" { throw l.unsupported("the norm '\(p)' has no rule") }
        if case .string = a["p"] { return try l.reduction("ReduceL2", a) }
        let p = a.has("p") ? try a.float("p") : 2
        guard p == 1 || p == 2 else { throw l.unsupported("the norm of order \(p) has no rule") }
        return try l.reduction(p == 1 ? "ReduceL1" : "ReduceL2", a)
      },
      "linalg_vector_norm": TorchFunction("input ord dim keepdim dtype") { (l, a) throws(Failure) in
        let order = a.has("ord") ? try a.float("ord") : 2
        guard order == 1 || order == 2 else { throw l.unsupported("the norm of order \(order) has no rule") }
        return try l.reduction(order == 1 ? "ReduceL1" : "ReduceL2", a)
      },
      "cumsum": TorchFunction("input dim dtype") { (l, a) throws(Failure) in
        var x = try a.tensor("input")
        x = try a.has("dtype") ? l.cast(x, to: l.type(named: a["dtype"])) : l.summable(x)
        return .tensor(
          try l.node("CumSum", [x, l.integers([l.axis(a.int("dim"), of: x)], shape: [], as: "axis")]))
      },
    ]
    for (name, op) in [
      "mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax", "amin": "ReduceMin", "prod": "ReduceProd",
      "logsumexp": "ReduceLogSumExp",
    ] {
      table[name] = TorchFunction("input dim keepdim dtype") { (l, a) throws(Failure) in try l.reduction(op, a) }
    }
    for (name, op) in ["max": "Max", "min": "Min"] {
      table[name] = TorchFunction("input dim keepdim") { (l, a) throws(Failure) in
        if case .tensor = a["dim"] { return try l.binary(op, a["input"], a["dim"]) }
        if case .integer = a["input"] { return try l.binary(op, a["input"], a["dim"]) }
        let values = try l.reduction("Reduce\(op)", a)
        return a.has("dim") ? .list([values, try l.position("Arg\(op)", a)]) : values
      }
      table["arg\(name)"] = TorchFunction("input dim keepdim") { (l, a) throws(Failure) in try l.position("Arg\(op)", a)
      }
    }
    for (name, op) in ["any": "ReduceMax", "all": "ReduceMin"] {
      table[name] = TorchFunction("input dim keepdim") { (l, a) throws(Failure) in
        let numbers = try l.node("Cast", [a.tensor("input")], ["to": .int(DType.int32.rawValue)], as: "numbers")
        guard case .tensor(let extreme) = try l.reduction(op, a, of: numbers) else { return .none }
        return .tensor(try l.cast(extreme, to: .bool))
      }
    }
    return table
  }()
}

extension TorchLowering {
  fileprivate mutating func reduction(
    _ op: String, _ a: OperatorArguments, of input: ValueID? = nil
  ) throws(Failure) -> TorchValue {
    var x = if let input { input } else { try a.tensor("input") }
    if a.has("dtype") { x = try cast(x, to: type(named: a["dtype"])) }
    if !dtype(x).isFloat, op == "ReduceMean" || op.hasPrefix("ReduceL") { x = try cast(x, to: .float32) }
    if op == "ReduceSum" || op == "ReduceProd", !a.has("dtype") { x = try summable(x) }
    if dtype(x) == .bool { x = try cast(x, to: .int64) }
    return .tensor(
      try node(op, [x, reducedAxes(x, a)], ["keepdims": .int(a.bool("keepdim", false) ? 1 : 0)]))
  }

  /// PyTorch adds and multiplies integers of any width, and truth values, in 64 bits.
  fileprivate mutating func summable(_ x: ValueID) throws(Failure) -> ValueID {
    dtype(x).isFloat ? x : try cast(x, to: .int64)
  }

  /// nil for all.
  private mutating func reducedAxes(_ x: ValueID, _ a: OperatorArguments) throws(Failure) -> ValueID? {
    guard a.has("dim") else { return nil }
    let axes = try a.ints("dim").map { dim throws(Failure) in try axis(dim, of: x) }
    return axes.isEmpty ? nil : integers(axes, as: "axes")
  }

  fileprivate mutating func position(_ op: String, _ a: OperatorArguments) throws(Failure) -> TorchValue {
    var x = try a.tensor("input")
    let keeps = try a.bool("keepdim", false) ? 1 : 0
    guard a.has("dim") else {
      x = try node("Reshape", [x, integers([-1], as: "flat")], as: "flat")
      return .tensor(try node(op, [x], ["axis": .int(0), "keepdims": .int(0)]))
    }
    return .tensor(try node(op, [x], ["axis": .int(axis(a.int("dim"), of: x)), "keepdims": .int(keeps)]))
  }

  /// Mean of the squared distances from the mean, over n - correction.
  fileprivate mutating func variance(_ a: OperatorArguments) throws(Failure) -> ValueID {
    let x = try floating(a.tensor("input"))
    let axes = try reducedAxes(x, a)
    let mean = try node("ReduceMean", [x, axes], ["keepdims": .int(1)], as: "mean")
    let distance = try node("Sub", [x, mean], as: "distance")
    let square = try node("Mul", [distance, distance], as: "square")
    let keeps = Attribute.int(try a.bool("keepdim", false) ? 1 : 0)
    let biased = try node("ReduceMean", [square, axes], ["keepdims": keeps], as: "variance")
    // The second positional argument may be the truth value alone.
    let correction: Double = a.has("correction") ? try a.float("correction") : try a.bool("unbiased", true) ? 1 : 0
    if correction == 0 { return biased }
    // How many there are is counted where they are: fewer channels, fewer numbers.
    let ones = try cast(node("Equal", [x, x], as: "ones"), to: dtype(x))
    let n = try node("ReduceSum", [ones, axes], ["keepdims": keeps], as: "count")
    let rest = try node("Sub", [n, scalar(correction, dtype(x))], as: "rest")
    return try node("Div", [node("Mul", [biased, n], as: "sum"), rest], as: "unbiased")
  }
}
