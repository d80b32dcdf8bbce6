import ModelGraph

/// Functions of TensorFlow that tf.keras 2 keeps as layers, by their names there: the operations of Keras 3 under other
/// names.
enum TensorFlowOperations {
  /// Arguments of a function, "tensorflow's=ours" where they are called otherwise, and the operation that it is.
  private static let functions: [String: (arguments: String, operation: String)] = {
    var table: [String: (String, String)] = [
      "nn.leaky_relu": ("features=x alpha=negative_slope", "LeakyRelu"), "nn.gelu": ("features=x approximate", "Gelu"),
      "nn.softmax": ("logits=x axis", "Softmax"), "nn.log_softmax": ("logits=x axis", "LogSoftmax"),
      "math.softmax": ("logits=x axis", "Softmax"), "math.log_softmax": ("logits=x axis", "LogSoftmax"),
      "reshape": ("tensor=x shape=newshape", "Reshape"), "transpose": ("a=x perm=axes", "Transpose"),
      "concat": ("values=xs axis", "Concatenate"), "stack": ("values=x axis", "Stack"),
      "unstack": ("value=x num axis", "Unstack"), "expand_dims": ("input=x axis", "ExpandDims"),
      "squeeze": ("input=x axis", "Squeeze"), "tile": ("input=x multiples=repeats", "Tile"),
      "repeat": ("input=x repeats axis", "Repeat"), "roll": ("input=x shift axis", "Roll"),
      "reverse": ("tensor=x axis", "Flip"), "broadcast_to": ("input=x shape", "BroadcastTo"),
      "pad": ("tensor=x paddings=pad_width mode constant_values", "Pad"), "cast": ("x dtype", "Cast"),
      "where": ("condition x=x1 y=x2", "Where"),
      "clip_by_value": ("t=x clip_value_min=x_min clip_value_max=x_max", "Clip"),
      "gather": ("params=x indices validate_indices axis", "Take"),
      "slice": ("input_=inputs begin=start_indices size=shape", "Slice"),
      "image.resize": ("images size method=interpolation", "Resize"),
      "image.resize_bilinear": ("images size", "Resize"),
      "nn.depth_to_space": ("input=x block_size data_format", "DepthToSpace"),
      "nn.space_to_depth": ("input=x block_size data_format", "SpaceToDepth"),
      "linalg.l2_normalize": ("x axis epsilon", "L2Normalize"), "math.l2_normalize": ("x axis epsilon", "L2Normalize"),
      "nn.l2_normalize": ("x axis epsilon", "L2Normalize"),
      "math.cumsum": ("x axis", "Cumsum"), "cumsum": ("x axis", "Cumsum"), "ones_like": ("input=x dtype", "OnesLike"),
      "zeros_like": ("input=x dtype", "ZerosLike"), "one_hot": ("indices=x depth=num_classes", "OneHot"),
      "math.argmax": ("input=x axis", "Argmax"), "argmax": ("input=x axis", "Argmax"),
      "math.argmin": ("input=x axis", "Argmin"), "range": ("start limit=stop delta=step dtype", "Arange"),
      "__operators__.getitem": ("x slice_spec=key", "GetItem"), "convert_to_tensor": ("value=x", "ConvertToTensor"),
      "identity": ("input=x", "Copy"), "stop_gradient": ("input=variable", "StopGradient"),
      "linalg.matmul": ("a=x1 b=x2 transpose_a transpose_b", "Matmul"),
      "matmul": ("a=x1 b=x2 transpose_a transpose_b", "Matmul"),
      "keras.backend.mean": ("x axis keepdims", "Mean"), "shape": ("input=x", "Shape"),
      "compat.v1.shape": ("input=x", "Shape"), "split": ("value=x num_or_size_splits=sizes axis", "SplitSizes"),
      "einsum": ("equation *inputs", "TensorFlowEinsum"),
    ]
    for (name, operation) in [
      "add": "Add", "subtract": "Subtract", "multiply": "Multiply", "divide": "Divide", "truediv": "TrueDivide",
      "pow": "Power", "maximum": "Maximum", "minimum": "Minimum", "equal": "Equal", "not_equal": "NotEqual",
      "greater": "Greater", "greater_equal": "GreaterEqual", "less": "Less", "less_equal": "LessEqual",
      "logical_and": "LogicalAnd", "logical_or": "LogicalOr", "floordiv": "FloorDivide",
    ] {
      for prefix in ["math.", "__operators__.", ""] { table[prefix + name] = ("x=x1 y=x2", operation) }
    }
    table["math.logical_not"] = ("x", "LogicalNot")
    for (name, operation) in [
      "square": "Square", "sqrt": "Sqrt", "rsqrt": "Rsqrt", "exp": "Exp", "log": "Log", "log1p": "Log1p",
      "abs": "Abs", "negative": "Negative", "tanh": "Tanh", "sigmoid": "Sigmoid", "sin": "Sin", "cos": "Cos",
      "erf": "Erf", "floor": "Floor", "ceil": "Ceil", "round": "Round", "sign": "Sign", "reciprocal": "Reciprocal",
      "softplus": "Softplus",
    ] {
      for prefix in ["math.", "nn.", ""] { table[prefix + name] = ("x", operation) }
    }
    table["nn.softplus"] = ("features=x", "Softplus")
    for (name, operation) in [
      "relu": "Relu", "relu6": "Relu6", "selu": "Selu", "elu": "Elu", "softsign": "Softsign", "silu": "Silu",
      "swish": "Silu",
    ] {
      table["nn.\(name)"] = ("features=x", operation)
    }
    for (name, operation) in [
      "reduce_mean": "Mean", "reduce_sum": "Sum", "reduce_max": "Max", "reduce_min": "Min", "reduce_prod": "Prod",
      "reduce_logsumexp": "Logsumexp", "reduce_variance": "Var", "reduce_std": "Std", "reduce_any": "Any",
      "reduce_all": "All",
    ] {
      for prefix in ["math.", ""] { table[prefix + name] = ("input_tensor=x axis keepdims", operation) }
    }
    return table
  }()

  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [:]
    for (name, function) in functions {
      guard let operation = own[function.operation] ?? KerasRules.operation(function.operation) else { continue }
      let pairs = function.arguments.split(separator: " ").map { $0.split(separator: "=") }
      let renamed = Dictionary(
        pairs.compactMap { $0.count == 2 ? (String($0[0]), String($0[1])) : nil },
        uniquingKeysWith: { first, _ in first })
      let rule = KerasRule(pairs.map { String($0[0]) }.joined(separator: " ")) { (l, a) throws(Failure) in
        try operation.lower(&l, a.renamed(renamed))
      }
      for prefix in ["", "tf."] { table[prefix + name] = rule }
    }
    return table
  }()

  /// What has no counterpart there.
  private static let own: [String: KerasRule] = [
    "Shape": KerasRule("x") { (l, a) throws(Failure) in
      let shape = try l.node("Shape", [l.asWritten(a.tensor("x"))], as: "lengths")
      return .tensor(l.tensor(try l.cast(shape, to: .int32)))
    },
    "L2Normalize": KerasRule("x axis epsilon") { (l, a) throws(Failure) in
      let x = try a.tensor("x")
      // The sum of squares is bounded, not its root.
      let bound = try a.float("epsilon", 1e-12).squareRoot()
      return .tensor(try l.normalized(x, axes: l.reducedAxes("axis", a, of: x), order: 2, epsilon: bound))
    },
    "Matmul": KerasRule("x1 x2") { (l, a) throws(Failure) in
      var both = try l.promoted([a["x1"], a["x2"]])
      for (k, isTurned) in [try a.bool("transpose_a", false), try a.bool("transpose_b", false)].enumerated()
      where isTurned {
        var order = Array(0..<l.rank(both[k]))
        guard order.count >= 2 else { throw l.malformed("a vector is not transposed") }
        order.swapAt(order.count - 1, order.count - 2)
        both[k] = try l.transposed(both[k], order)
      }
      return .tensor(l.tensor(try l.node("MatMul", [l.asWritten(both[0]), l.asWritten(both[1])])))
    },
    "SplitSizes": KerasRule("x sizes axis") { (l, a) throws(Failure) in
      let x = try a.tensor("x")
      let axis = try l.axis(a.int("axis", 0), of: x)
      if let count = a["sizes"].integer {
        return try l.equalParts(of: x, axis: axis, count: count, areSizes: true)
      }
      let source = l.primary(x)
      let sizes = try a.integers("sizes")
      let values = try l.nodes(
        "Split", [source.value, l.integers(sizes, as: "sizes")], ["axis": .int(l.place(of: axis, in: x))],
        count: sizes.count, as: "part")
      return .list(values.map { .tensor(l.tensor($0, source.axes)) })
    },
    "TensorFlowEinsum": KerasRule("equation *inputs") { (l, a) throws(Failure) in
      var values: [ValueID] = []
      for tensor in try l.promoted(a.tensors("inputs").map(LoweredOperand.tensor)) {
        values.append(try l.asWritten(tensor))
      }
      let equation = String(try a.string("equation", "").filter { $0 != " " })
      return .tensor(l.tensor(try l.node("Einsum", values, ["equation": .string(equation)])))
    },
  ]
}
