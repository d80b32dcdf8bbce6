import ModelGraph

/// Operations of keras.ops on every element.
enum ElementwiseOperations {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Clip": KerasRule("x x_min x_max") { (l, a) throws(Failure) in
        .tensor(
          try l.clip(
            a.tensor("x"), a.has("x_min") ? a.float("x_min") : nil, a.has("x_max") ? a.float("x_max") : nil))
      },
      "Where": KerasRule("condition x1 x2") { (l, a) throws(Failure) in
        let both = try l.promoted([a["x1"], a["x2"]])
        let condition = try l.cast(a.tensor("condition"), to: .bool)
        return .tensor(try l.combined("Where", [condition] + both, dtype: l.dtype(both[0])))
      },
      "Cast": cast, "SaturateCast": cast,
      "Square": KerasRule("x") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        return .tensor(try l.product(x, x))
      },
      "Rsqrt": KerasRule("x") { (l, a) throws(Failure) in
        .tensor(try l.unary("Reciprocal", l.unary("Sqrt", l.real(a.tensor("x")), as: "root")))
      },
      "Log1p": KerasRule("x") { (l, a) throws(Failure) in
        .tensor(try l.unary("Log", l.binary("Add", l.real(a.tensor("x")), 1, as: "sum")))
      },
      "Expm1": KerasRule("x") { (l, a) throws(Failure) in
        .tensor(try l.binary("Sub", l.unary("Exp", l.real(a.tensor("x")), as: "exp"), 1))
      },
      "Log2": logarithm(base: 2), "Log10": logarithm(base: 10),
      "Round": KerasRule("x decimals") { (l, a) throws(Failure) in
        guard try a.int("decimals", 0) == 0 else { throw l.unsupported("it rounds to decimals") }
        return .tensor(try l.unary("Round", a.tensor("x")))
      },
      "NotEqual": KerasRule("x1 x2") { (l, a) throws(Failure) in
        .tensor(
          try l.unary("Not", l.combined("Equal", l.promoted([a["x1"], a["x2"]]), as: "equal", dtype: .bool)))
      },
      "FloorDivide": KerasRule("x1 x2") { (l, a) throws(Failure) in
        let both = try l.promoted([a["x1"], a["x2"]])
        guard l.dtype(both[0]).isFloat else { throw l.unsupported("it divides whole numbers") }
        return .tensor(try l.unary("Floor", l.combined("Div", both, as: "quotient")))
      },
      "LogicalNot": KerasRule("x") { (l, a) throws(Failure) in
        .tensor(try l.unary("Not", l.cast(a.tensor("x"), to: .bool)))
      },
    ]
    for (name, op) in [
      "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Power": "Pow", "Maximum": "Max", "Minimum": "Min",
      "Fmax": "Max", "Fmin": "Min",
    ] {
      table[name] = KerasRule("x1 x2") { (l, a) throws(Failure) in
        .tensor(try l.combined(op, l.promoted([a["x1"], a["x2"]])))
      }
    }
    for name in ["Divide", "TrueDivide"] {
      table[name] = KerasRule("x1 x2") { (l, a) throws(Failure) in
        .tensor(try l.combined("Div", l.promoted([a["x1"], a["x2"]], toReal: true)))
      }
    }
    for (name, op) in [
      "Equal": "Equal", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual", "Less": "Less",
      "LessEqual": "LessOrEqual",
    ] {
      table[name] = KerasRule("x1 x2") { (l, a) throws(Failure) in
        .tensor(try l.combined(op, l.promoted([a["x1"], a["x2"]]), dtype: .bool))
      }
    }
    for (name, op) in ["LogicalAnd": "And", "LogicalOr": "Or", "LogicalXor": "Xor"] {
      table[name] = KerasRule("x1 x2") { (l, a) throws(Failure) in
        let both = [try l.cast(a.tensor("x1"), to: .bool), try l.cast(a.tensor("x2"), to: .bool)]
        return .tensor(try l.combined(op, both, dtype: .bool))
      }
    }
    for (name, op) in ["Abs": "Abs", "Absolute": "Abs", "Negative": "Neg", "Sign": "Sign"] {
      table[name] = KerasRule("x") { (l, a) throws(Failure) in .tensor(try l.unary(op, a.tensor("x"))) }
    }
    for (name, op) in [
      "Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Reciprocal": "Reciprocal", "Erf": "Erf", "Sin": "Sin", "Cos": "Cos",
      "Tan": "Tan", "Tanh": "Tanh", "Sinh": "Sinh", "Cosh": "Cosh", "Arcsin": "Asin", "Arccos": "Acos",
      "Arctan": "Atan", "Arcsinh": "Asinh", "Arccosh": "Acosh", "Arctanh": "Atanh", "Floor": "Floor", "Ceil": "Ceil",
    ] {
      table[name] = KerasRule("x") { (l, a) throws(Failure) in .tensor(try l.unary(op, l.real(a.tensor("x")))) }
    }
    for name in ["Copy", "ConvertToTensor", "Array"] {
      table[name] = KerasRule("x") { (_, a) throws(Failure) in .tensor(try a.tensor("x")) }
    }
    table["StopGradient"] = KerasRule("variable") { (_, a) throws(Failure) in .tensor(try a.tensor("variable")) }
    return table
  }()

  private static let cast = KerasRule("x dtype") { (l, a) throws(Failure) in
    guard let type = DType(kerasName: try a.string("dtype", "")) else { throw a.wrong("dtype", "a type of numbers") }
    return .tensor(try l.cast(a.tensor("x"), to: type))
  }

  private static func logarithm(base: Double) -> KerasRule {
    // ln 2 and ln 10.
    let factor = base == 2 ? 0.6931471805599453 : 2.302585092994046
    return KerasRule("x") { (l, a) throws(Failure) in
      .tensor(try l.binary("Div", l.unary("Log", l.real(a.tensor("x")), as: "log"), factor))
    }
  }
}

extension KerasLowering {
  /// Whole numbers as real ones.
  mutating func real(_ x: KerasTensor) throws(Failure) -> KerasTensor {
    dtype(x).isFloat ? x : try cast(x, to: .float32)
  }
}
