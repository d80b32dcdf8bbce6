import ModelGraph

/// Attention without projections: products or sums of queries and keys, weighted means of values.
enum ScoreLayers {
  static let rules: [String: KerasRule] = [
    "Attention": KerasRule("inputs mask") { (l, a) throws(Failure) in
      try l.scoredAttention(a) { (l, query, key) throws(Failure) in
        guard try a.string("score_mode", "dot") == "dot" else {
          let sum = try l.sums(query, key)
          let scaled =
            try a.layer.variable("scale") == nil ? sum : l.node("Mul", [l.variable("scale", a), sum], as: "scaled")
          let total = try l.summed(l.node("Tanh", [scaled], as: "tanh"))
          guard a.layer.variable("concat_score_weight") != nil else { return total }
          return try l.node("Mul", [l.variable("concat_score_weight", a), total], as: "weighted")
        }
        var order = Array(0..<(try l.rank(key)))
        order.swapAt(order.count - 1, order.count - 2)
        let turned = try l.node("Transpose", [key], ["perm": .ints(order)], as: "transposed")
        let product = try l.node("MatMul", [query, turned], as: "scores")
        return try a.layer.variable("scale") == nil
          ? product : l.node("Mul", [product, l.variable("scale", a)], as: "scaled")
      }
    },
    "AdditiveAttention": KerasRule("inputs mask") { (l, a) throws(Failure) in
      try l.scoredAttention(a) { (l, query, key) throws(Failure) in
        let tanh = try l.node("Tanh", [l.sums(query, key)], as: "tanh")
        return try l.summed(
          a.layer.variable("scale") == nil ? tanh : l.node("Mul", [l.variable("scale", a), tanh], as: "scaled"))
      }
    },
  ]
}

extension KerasLowering {
  /// Inputs are query, value, and key where that is not the value.
  fileprivate mutating func scoredAttention(
    _ a: KerasArguments, _ scores: (inout KerasLowering, ValueID, ValueID) throws(Failure) -> ValueID
  ) throws(Failure) -> LoweredOperand {
    let inputs = try a.tensors("inputs")
    guard (2...3).contains(inputs.count), inputs.allSatisfy({ rank($0) == 3 }) else {
      throw unsupported("it takes \(inputs.count) tensors of \(inputs.map { rank($0) }) axes")
    }
    let (query, value) = (try asWritten(inputs[0]), try asWritten(inputs[1]))
    var result = try scores(&self, query, asWritten(inputs.last ?? inputs[1]))
    var given: [KerasTensor?] = inputs.prefix(2).map { masks[$0] }
    if case .list(let stated) = a["mask"] { for k in 0..<min(2, stated.count) { given[k] = stated[k].tensor } }
    var mask: ValueID?
    if let steps = given[1] {
      mask = try node("Unsqueeze", [cast(asWritten(steps), to: .bool), integers([1], as: "axes")], as: "mask")
    }
    if try a.bool("use_causal_mask", a.bool("causal", false)) {
      let causal = try causalMask(result)
      if let steps = mask { mask = try node("And", [steps, causal], as: "both", dtype: .bool) } else { mask = causal }
    }
    if let mask {
      let low = try node("Sub", [result, scalar(1e9, dtype(result), as: "large")], as: "low")
      result = try node("Where", [mask, result, low], as: "masked")
    }
    let weights = try node("Softmax", [result], ["axis": .int(-1)], as: "weights")
    var output = try node("MatMul", [weights, value])
    if let steps = given[0] {
      let counts = try node("Unsqueeze", [cast(asWritten(steps), to: .bool), integers([2], as: "axes")], as: "counts")
      output = try node("Where", [counts, output, scalar(0, dtype(output), as: "zero")], as: "counted")
    }
    guard try a.bool("return_attention_scores", false) else { return .tensor(tensor(output)) }
    return .list([.tensor(tensor(output)), .tensor(tensor(weights))])
  }

  /// Every query plus every key: (batch, queries, keys, width).
  fileprivate mutating func sums(_ query: ValueID, _ key: ValueID) throws(Failure) -> ValueID {
    let rows = try node("Unsqueeze", [query, integers([2], as: "axes")], as: "rows")
    return try node("Add", [rows, node("Unsqueeze", [key, integers([1], as: "axes")], as: "columns")], as: "sums")
  }

  fileprivate mutating func summed(_ x: ValueID) throws(Failure) -> ValueID {
    try node("ReduceSum", [x, integers([3], as: "axes")], ["keepdims": .int(0)], as: "total")
  }
}
