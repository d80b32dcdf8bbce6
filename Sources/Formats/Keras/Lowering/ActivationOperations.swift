import ModelGraph

/// Activations as operations.
enum ActivationOperations {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "LeakyRelu": KerasRule("x negative_slope") { (l, a) throws(Failure) in
        .tensor(try l.unary("LeakyRelu", a.tensor("x"), ["alpha": .float(Float(a.float("negative_slope", 0.2)))]))
      },
      "Gelu": KerasRule("x approximate") { (l, a) throws(Failure) in
        .tensor(try l.gelu(a.tensor("x"), approximate: a.bool("approximate", true)))
      },
      "Softmax": KerasRule("x axis") { (l, a) throws(Failure) in
        let axes = try a.ints("axis", [-1])
        return .tensor(
          try axes.count == 1 ? l.softmax(a.tensor("x"), axis: axes[0]) : l.softmax(a.tensor("x"), axes: axes))
      },
      "LogSoftmax": KerasRule("x axis") { (l, a) throws(Failure) in
        .tensor(try l.softmax(a.tensor("x"), axis: a.int("axis", -1), op: "LogSoftmax"))
      },
      "Glu": KerasRule("x axis") { (l, a) throws(Failure) in .tensor(try l.glu(a.tensor("x"), axis: a.int("axis", -1)))
      },
      "Squareplus": KerasRule("x b") { (l, a) throws(Failure) in
        .tensor(try l.squareplus(a.tensor("x"), b: a.float("b", 4)))
      },
      "HardShrink": KerasRule("x threshold") { (l, a) throws(Failure) in
        .tensor(try l.unary("Shrink", a.tensor("x"), ["lambd": .float(Float(a.float("threshold", 0.5)))]))
      },
      "SoftShrink": KerasRule("x threshold") { (l, a) throws(Failure) in
        let bound = Attribute.float(Float(try a.float("threshold", 0.5)))
        return .tensor(try l.unary("Shrink", a.tensor("x"), ["lambd": bound, "bias": bound]))
      },
      "Threshold": KerasRule("x threshold default_value") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let passes = try l.binary("Greater", x, a.float("threshold"), as: "passes", dtype: .bool)
        let other = l.tensor(try l.scalar(a.float("default_value"), l.dtype(x)))
        return .tensor(try l.combined("Where", [passes, x, other], dtype: l.dtype(x)))
      },
    ]
    for (name, op) in ["Elu": "Elu", "Celu": "Celu"] {
      table[name] = KerasRule("x alpha") { (l, a) throws(Failure) in
        .tensor(try l.unary(op, a.tensor("x"), ["alpha": .float(Float(a.float("alpha", 1)))]))
      }
    }
    for (name, function) in [
      "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Silu": "silu", "HardSilu": "hard_silu",
      "HardTanh": "hard_tanh", "HardSigmoid": "hard_sigmoid", "LogSigmoid": "log_sigmoid", "Selu": "selu",
      "Softplus": "softplus", "Softsign": "softsign", "Mish": "mish", "TanhShrink": "tanh_shrink",
      "SparsePlus": "sparse_plus", "SparseSigmoid": "sparse_sigmoid",
    ] {
      table[name] = KerasRule("x") { (l, a) throws(Failure) in
        guard let apply = Activations.function(function) else { throw l.unsupported("there is no such function") }
        return .tensor(try apply(&l, a.tensor("x")))
      }
    }
    return table
  }()
}
