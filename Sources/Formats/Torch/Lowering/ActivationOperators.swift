import ModelGraph

/// Activations, softmax, and what is nothing in evaluation mode.
enum ActivationOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [
      "relu6": TorchFunction("input inplace") { (l, a) throws(Failure) in
        .tensor(try l.clip(a.tensor("input"), 0, 6))
      },
      "hardtanh": TorchFunction("input min_val max_val inplace") { (l, a) throws(Failure) in
        .tensor(try l.clip(a.tensor("input"), a.float("min_val", -1), a.float("max_val", 1)))
      },
      "gelu": TorchFunction("input approximate") { (l, a) throws(Failure) in
        .tensor(try l.node("Gelu", [a.tensor("input")], ["approximate": .string(a.string("approximate", "none"))]))
      },
      "silu": TorchFunction("input inplace") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        return .tensor(try l.node("Mul", [x, l.node("Sigmoid", [x], as: "sigmoid")]))
      },
      "mish": TorchFunction("input inplace") { (l, a) throws(Failure) in
        .tensor(try l.node("Mish", [a.tensor("input")]))
      },
      "hardswish": TorchFunction("input inplace") { (l, a) throws(Failure) in
        .tensor(try l.node("HardSwish", [a.tensor("input")]))
      },
      "hardsigmoid": TorchFunction("input inplace") { (l, a) throws(Failure) in
        .tensor(try l.node("HardSigmoid", [a.tensor("input")], ["alpha": .float(1.0 / 6), "beta": .float(0.5)]))
      },
      "leaky_relu": TorchFunction("input negative_slope inplace") { (l, a) throws(Failure) in
        .tensor(
          try l.node("LeakyRelu", [a.tensor("input")], ["alpha": .float(Float(a.float("negative_slope", 0.01)))]))
      },
      "elu": TorchFunction("input alpha inplace scale input_scale") { (l, a) throws(Failure) in
        .tensor(try l.node("Elu", [a.tensor("input")], ["alpha": .float(Float(a.float("alpha", 1)))]))
      },
      "celu": TorchFunction("input alpha inplace") { (l, a) throws(Failure) in
        .tensor(try l.node("Celu", [a.tensor("input")], ["alpha": .float(Float(a.float("alpha", 1)))]))
      },
      "selu": TorchFunction("input inplace") { (l, a) throws(Failure) in
        .tensor(try l.node("Selu", [a.tensor("input")]))
      },
      "softplus": TorchFunction("input beta threshold") { (l, a) throws(Failure) in
        .tensor(try l.softplus(a))
      },
      "softsign": TorchFunction("input") { (l, a) throws(Failure) in
        .tensor(try l.node("Softsign", [a.tensor("input")]))
      },
      "logsigmoid": TorchFunction("input") { (l, a) throws(Failure) in
        // The logarithm of a sigmoid loses what is close to nothing.
        let softplus = try l.node("Softplus", [l.node("Neg", [a.tensor("input")], as: "neg")], as: "softplus")
        return .tensor(try l.node("Neg", [softplus]))
      },
      "log_sigmoid": TorchFunction("input") { (l, a) throws(Failure) in
        // The logarithm of a sigmoid loses what is close to nothing.
        let softplus = try l.node("Softplus", [l.node("Neg", [a.tensor("input")], as: "neg")], as: "softplus")
        return .tensor(try l.node("Neg", [softplus]))
      },
      "prelu": TorchFunction("input weight") { (l, a) throws(Failure) in
        let (x, slope) = (try a.tensor("input"), try a.tensor("weight"))
        // A slope per channel lies along axis 1, which ONNX aligns from the right.
        let count = try l.shape(slope).reduce(1, *)
        let trailing = max(try l.rank(x) - 2, 0)
        guard count > 1, trailing > 0 else { return .tensor(try l.node("PRelu", [x, slope])) }
        let shape = l.integers([-1] + [Int](repeating: 1, count: trailing), as: "slope_shape")
        return .tensor(try l.node("PRelu", [x, l.node("Reshape", [slope, shape], as: "slope")]))
      },
      "softmax": TorchFunction("input dim _stacklevel dtype") { (l, a) throws(Failure) in
        try l.softmax("Softmax", a)
      },
      "_softmax": TorchFunction("input dim half_to_float") { (l, a) throws(Failure) in try l.softmax("Softmax", a) },
      "log_softmax": TorchFunction("input dim _stacklevel dtype") { (l, a) throws(Failure) in
        try l.softmax("LogSoftmax", a)
      },
      "_log_softmax": TorchFunction("input dim half_to_float") { (l, a) throws(Failure) in
        try l.softmax("LogSoftmax", a)
      },
      "softmin": TorchFunction("input dim") { (l, a) throws(Failure) in
        let x = try l.node("Neg", [a.tensor("input")], as: "neg")
        return .tensor(try l.node("Softmax", [x], ["axis": .int(l.axis(a.int("dim"), of: x))]))
      },
      "softmax2d": TorchFunction("input") { (l, a) throws(Failure) in
        .tensor(try l.node("Softmax", [a.tensor("input")], ["axis": .int(-3)]))
      },
      "tanhshrink": TorchFunction("input") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        return .tensor(try l.node("Sub", [x, l.node("Tanh", [x], as: "tanh")]))
      },
      "hardshrink": TorchFunction("input lambd") { (l, a) throws(Failure) in
        .tensor(try l.node("Shrink", [a.tensor("input")], ["lambd": .float(Float(a.float("lambd", 0.5)))]))
      },
      "softshrink": TorchFunction("input lambd") { (l, a) throws(Failure) in
        let lambda = Attribute.float(Float(try a.float("lambd", 0.5)))
        return .tensor(try l.node("Shrink", [a.tensor("input")], ["lambd": lambda, "bias": lambda]))
      },
      "threshold": TorchFunction("input threshold value inplace") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        let type = l.dtype(x)
        let passes = try l.node("Greater", [x, l.scalar(a.float("threshold"), type, as: "threshold")], as: "passes")
        return .tensor(try l.node("Where", [passes, x, l.scalar(a.float("value"), type)]))
      },
      "rrelu": TorchFunction("input lower upper training inplace") { (l, a) throws(Failure) in
        // The mean of the slopes that training draws from.
        let slope = try (a.float("lower", 1.0 / 8) + a.float("upper", 1.0 / 3)) / 2
        return .tensor(try l.node("LeakyRelu", [a.tensor("input")], ["alpha": .float(Float(slope))]))
      },
      "glu": TorchFunction("input dim") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        let axis = try l.axis(a.int("dim", -1), of: x)
        let halves = try l.parts(of: x, axis: axis, sizes: nil, count: 2)
        return .tensor(try l.node("Mul", [halves[0], l.node("Sigmoid", [halves[1]], as: "sigmoid")]))
      },
    ]
    table["log_sigmoid"] = table["logsigmoid"]
    for (name, op) in ["relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"] {
      table[name] = TorchFunction("input inplace") { (l, a) throws(Failure) in
        .tensor(try l.node(op, [a.tensor("input")]))
      }
    }
    // Nothing in evaluation mode, or nothing that numbers show.
    let identities = [
      "dropout": "input p training inplace", "dropout1d": "input p training inplace",
      "dropout2d": "input p training inplace", "dropout3d": "input p training inplace",
      "alpha_dropout": "input p training inplace", "feature_dropout": "input p training",
      "feature_alpha_dropout": "input p training inplace", "contiguous": "input memory_format",
      "clone": "input memory_format", "detach": "input", "alias": "input", "lift_fresh_copy": "input",
      "identity": "input", "detach_": "input", "stochastic_depth": "input p mode training",
      "torchvision_ops_stochastic_depth_stochastic_depth": "input p mode training", "native_dropout": "input p train",
      "cpu": "input", "cuda": "input", "requires_grad_": "input requires_grad",
    ]
    for (name, parameters) in identities {
      table[name] = TorchFunction(parameters) { (l, a) throws(Failure) in
        name == "native_dropout" ? .list([a["input"], .none]) : a["input"]
      }
    }
    return table
  }()
}

extension TorchLowering {
  mutating func clip(_ x: ValueID, _ low: Double, _ high: Double) throws(Failure) -> ValueID {
    let (a, b) = (try scalar(low, dtype(x), as: "min"), try scalar(high, dtype(x), as: "max"))
    return try node("Clip", [x, a, b])
  }

  /// log(1 + exp(beta x)) / beta, and x itself where beta x exceeds the threshold.
  fileprivate mutating func softplus(_ a: OperatorArguments) throws(Failure) -> ValueID {
    let x = try a.tensor("input")
    let (beta, threshold) = (try a.float("beta", 1), try a.float("threshold", 20))
    guard beta != 0 else { throw malformed("beta is 0") }
    if beta == 1, threshold >= 20 { return try node("Softplus", [x]) }
    let type = dtype(x)
    let factor = try scalar(beta, type, as: "beta")
    let inner = try node("Mul", [x, factor], as: "scaled")
    let soft = try node("Div", [node("Softplus", [inner], as: "softplus"), factor], as: "soft")
    let isLinear = try node("Greater", [inner, scalar(threshold, type, as: "threshold")], as: "linear")
    return try node("Where", [isLinear, x, soft])
  }

  fileprivate mutating func softmax(_ op: String, _ a: OperatorArguments) throws(Failure) -> TorchValue {
    var x = try a.tensor("input")
    if a.has("dtype") { x = try cast(x, to: type(named: a["dtype"])) }
    guard a.has("dim") else { throw unsupported("it does not say along which axis") }
    return .tensor(try node(op, [x], ["axis": .int(axis(a.int("dim"), of: x))]))
  }
}
