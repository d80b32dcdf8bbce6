import JSON
import ModelGraph

/// Activation functions, as layers have them for a setting and as operations apply them.
enum Activations {
  typealias Function = @Sendable (inout KerasLowering, KerasTensor) throws(Failure) -> KerasTensor

  /// By the name that `keras.activations` has them under, with the defaults they have there.
  static func function(_ name: String) -> Function? { table[name] }

  private static let table: [String: Function] = {
    var table: [String: Function] = [
      "linear": { _, x in x },
      "relu6": { (l, x) throws(Failure) in try l.clip(x, 0, 6) },
      "leaky_relu": { (l, x) throws(Failure) in try l.unary("LeakyRelu", x, ["alpha": .float(0.2)]) },
      "elu": { (l, x) throws(Failure) in try l.unary("Elu", x, ["alpha": .float(1)]) },
      "celu": { (l, x) throws(Failure) in try l.unary("Celu", x, ["alpha": .float(1)]) },
      "silu": { (l, x) throws(Failure) in try l.silu(x) },
      "gelu": { (l, x) throws(Failure) in try l.gelu(x, approximate: false) },
      "softmax": { (l, x) throws(Failure) in try l.softmax(x, axis: -1) },
      "log_softmax": { (l, x) throws(Failure) in try l.softmax(x, axis: -1, op: "LogSoftmax") },
      "hard_sigmoid": { (l, x) throws(Failure) in try l.hardSigmoid(x) },
      "hard_silu": { (l, x) throws(Failure) in
        try l.product(x, l.unary("HardSigmoid", x, ["alpha": .float(1.0 / 6), "beta": .float(0.5)], as: "gate"))
      },
      "hard_tanh": { (l, x) throws(Failure) in try l.clip(x, -1, 1) },
      "exponential": { (l, x) throws(Failure) in try l.unary("Exp", x) },
      "log_sigmoid": { (l, x) throws(Failure) in
        // The logarithm of a sigmoid loses what is close to nothing.
        try l.unary("Neg", l.unary("Softplus", l.unary("Neg", x, as: "neg"), as: "softplus"))
      },
      "glu": { (l, x) throws(Failure) in try l.glu(x, axis: -1) },
      "squareplus": { (l, x) throws(Failure) in try l.squareplus(x, b: 4) },
      "tanh_shrink": { (l, x) throws(Failure) in try l.binary("Sub", x, l.unary("Tanh", x, as: "tanh")) },
      "hard_shrink": { (l, x) throws(Failure) in try l.unary("Shrink", x, ["lambd": .float(0.5)]) },
      "soft_shrink": { (l, x) throws(Failure) in
        try l.unary("Shrink", x, ["lambd": .float(0.5), "bias": .float(0.5)])
      },
      "sparse_plus": { (l, x) throws(Failure) in try l.sparsePlus(x) },
      "sparse_sigmoid": { (l, x) throws(Failure) in
        try l.unary("HardSigmoid", x, ["alpha": .float(0.5), "beta": .float(0.5)])
      },
    ]
    for (name, op) in [
      "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "selu": "Selu", "softplus": "Softplus",
      "softsign": "Softsign", "mish": "Mish",
    ] {
      let apply: Function = { (l, x) throws(Failure) in try l.unary(op, x) }
      table[name] = apply
    }
    table["swish"] = table["silu"]
    table["hard_swish"] = table["hard_silu"]
    return table
  }()
}

extension KerasLowering {
  /// `x` through the activation that setting `name` tells of.
  mutating func activated(
    _ x: KerasTensor, _ a: KerasArguments, _ name: StaticString = "activation"
  ) throws(Failure) -> KerasTensor {
    guard let setting = a.layer.settings[name], !setting.isNull else { return x }
    return try activated(x, setting)
  }

  /// Appends under names of its own what `setting`, a name or an object, stands for.
  mutating func activated(_ x: KerasTensor, _ setting: JSONElement) throws(Failure) -> KerasTensor {
    let outer = base
    base = "\(outer).activation"
    defer { base = outer }
    if let function = Self.functionName(setting) {
      guard let apply = Activations.function(function) else {
        throw unsupported("there is no rule for its activation '\(function)'")
      }
      return try apply(&self, x)
    }
    // A layer stands for the function that it applies.
    guard let className = setting["class_name"]?.string, let settings = setting["config"],
      setting["registered_name"]?.string.map({ $0 == className || $0.hasPrefix("keras") }) ?? true,
      ["ReLU", "LeakyReLU", "ELU", "Softmax", "Activation"].contains(className)
    else { throw unsupported("its activation \(setting.source.prefix(80)) is no function that is known") }
    let layer = KerasLayer(
      kind: .layer, className: className, module: "keras.layers", name: base, path: base, settings: settings,
      description: setting, variables: [], parts: [])
    guard let result = try apply(layer, GivenArguments(positional: [.tensor(x)])).tensor else {
      throw unsupported("its activation returns no tensor")
    }
    return result
  }

  /// The function's name, where it is no layer.
  private static func functionName(_ setting: JSONElement) -> String? {
    if let name = setting.string { return name }
    // {"class_name": "function", "config": "relu", "registered_name": "relu"}
    guard setting["class_name"]?.equals("function") == true else { return nil }
    let module = setting["module"]?.string ?? ""
    let isOwn = module.isEmpty || module == "builtins" || module.hasPrefix("keras")
    return isOwn ? setting["config"]?.string : nil
  }

  // MARK: Functions

  mutating func clip(_ x: KerasTensor, _ low: Double?, _ high: Double?) throws(Failure) -> KerasTensor {
    let source = primary(x)
    let type = dtype(source.value)
    let least: ValueID? = if let low { try scalar(low, type, as: "min") } else { nil }
    let most: ValueID? = if let high { try scalar(high, type, as: "max") } else { nil }
    return tensor(try node("Clip", most == nil ? [source.value, least] : [source.value, least, most]), source.axes)
  }

  mutating func silu(_ x: KerasTensor) throws(Failure) -> KerasTensor {
    try product(x, unary("Sigmoid", x, as: "sigmoid"))
  }

  mutating func product(_ x: KerasTensor, _ y: KerasTensor) throws(Failure) -> KerasTensor { try binary("Mul", x, y) }

  mutating func gelu(_ x: KerasTensor, approximate: Bool) throws(Failure) -> KerasTensor {
    try unary("Gelu", x, ["approximate": .string(approximate ? "tanh" : "none")])
  }

  mutating func softmax(_ x: KerasTensor, axis: Int, op: String = "Softmax") throws(Failure) -> KerasTensor {
    let axis = try self.axis(axis, of: x)
    return try unary(op, x, ["axis": .int(place(of: axis, in: x))])
  }

  /// Where the value that the tensor came about as has its axis.
  func place(of axis: Int, in x: KerasTensor) -> Int { primary(x).axes.firstIndex(of: axis) ?? axis }

  /// relu6(x + 3) / 6; in tf.keras 2 what is between 0 and 1 of 0.2 x + 0.5.
  mutating func hardSigmoid(_ x: KerasTensor) throws(Failure) -> KerasTensor {
    try unary("HardSigmoid", x, ["alpha": .float(isOfKeras2 ? 0.2 : 1.0 / 6), "beta": .float(0.5)])
  }

  mutating func glu(_ x: KerasTensor, axis: Int) throws(Failure) -> KerasTensor {
    let halves = try parts(of: x, axis: self.axis(axis, of: x), count: 2)
    return try product(halves[0], unary("Sigmoid", halves[1], as: "sigmoid"))
  }

  /// (x + sqrt(x^2 + b)) / 2
  mutating func squareplus(_ x: KerasTensor, b: Double) throws(Failure) -> KerasTensor {
    let root = try unary("Sqrt", binary("Add", binary("Mul", x, x, as: "square"), b, as: "sum"), as: "root")
    return try binary("Mul", binary("Add", x, root, as: "both"), 0.5)
  }

  /// 0 up to -1, x from 1 on, (x + 1)^2 / 4 between.
  mutating func sparsePlus(_ x: KerasTensor) throws(Failure) -> KerasTensor {
    let shifted = try binary("Add", clip(x, -1, 1), 1, as: "shifted")
    let parabola = try binary("Mul", binary("Mul", shifted, shifted, as: "square"), 0.25, as: "parabola")
    // Where x exceeds 1 the parabola has come to 1, and the rest is added.
    return try binary("Add", parabola, unary("Relu", binary("Sub", x, 1, as: "beyond"), as: "rest"))
  }
}
