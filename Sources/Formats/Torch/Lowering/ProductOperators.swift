import ModelGraph

/// Matrix products: linear layers, products of activations, attention.
enum ProductOperators {
  static let functions: [String: TorchFunction] = [
    "linear": TorchFunction("input weight bias") { (l, a) throws(Failure) in
      .tensor(try l.linear(a.tensor("input"), a.tensor("weight"), a.optionalTensor("bias")))
    },
    "matmul": TorchFunction("input other") { (l, a) throws(Failure) in try l.product(a) },
    "bmm": TorchFunction("input other") { (l, a) throws(Failure) in try l.product(a) },
    "mm": TorchFunction("input other") { (l, a) throws(Failure) in try l.product(a) },
    "mv": TorchFunction("input other") { (l, a) throws(Failure) in try l.product(a) },
    "dot": TorchFunction("input other") { (l, a) throws(Failure) in try l.product(a) },
    "addmm": TorchFunction("input mat1 mat2 beta alpha") { (l, a) throws(Failure) in
      guard try a.float("beta", 1) == 1, try a.float("alpha", 1) == 1 else {
        throw l.unsupported("beta or alpha is not 1")
      }
      return .tensor(try l.node("Gemm", [a.tensor("mat1"), a.tensor("mat2"), a.tensor("input")]))
    },
    "baddbmm": TorchFunction("input batch1 batch2 beta alpha") { (l, a) throws(Failure) in
      var product = TorchValue.tensor(
        try l.node("MatMul", [a.tensor("batch1"), a.tensor("batch2")], as: "product"))
      if a.has("alpha") { product = try l.binary("Mul", product, a["alpha"]) }
      if try a.float("beta", 1) == 0 { return product }
      let addend = a.has("beta") ? try l.binary("Mul", a["input"], a["beta"]) : a["input"]
      return try l.binary("Add", addend, product)
    },
    "einsum": TorchFunction("equation *operands") { (l, a) throws(Failure) in
      .tensor(
        try l.node("Einsum", a.tensors("operands"), ["equation": .string(a.string("equation", ""))]))
    },
    "scaled_dot_product_attention": TorchFunction("query key value attn_mask dropout_p is_causal scale enable_gqa") {
      (l, a) throws(Failure) in
      .tensor(
        try l.attention(
          a.tensor("query"), a.tensor("key"), a.tensor("value"), mask: a.optionalTensor("attn_mask"),
          isCausal: a.bool("is_causal", false), scale: a.has("scale") ? a.float("scale") : nil,
          isGrouped: a.bool("enable_gqa", false)))
    },
    "multi_head_attention_forward": TorchFunction("input") { (l, _) throws(Failure) in
      throw l.unsupported("it is taken as a module (torch.nn.MultiheadAttention) only")
    },
  ]
}

extension TorchLowering {
  /// `x W^T + b`. As one Gemm where x is a matrix, since a bias then is part of the layer.
  mutating func linear(_ x: ValueID, _ weight: ValueID, _ bias: ValueID?) throws(Failure) -> ValueID {
    if let bias, !isParameter(bias) { indivisible[weight] = "its bias is computed" }
    if try rank(x) == 2, try rank(weight) == 2 {
      return try node("Gemm", bias.map { [x, weight, $0] } ?? [x, weight], ["transB": .int(1)])
    }
    let transposed = try node("Transpose", [weight], ["perm": .ints([1, 0])], as: "transposed")
    let product = try node("MatMul", [x, transposed])
    guard let bias else { return product }
    return try node("Add", [product, bias], as: "bias")
  }

  fileprivate mutating func product(_ a: OperatorArguments) throws(Failure) -> TorchValue {
    let (x, y) = try operands(a["input"], a["other"])
    return .tensor(try node("MatMul", [x, y]))
  }

  /// The last two axes exchanged.
  mutating func matrixTransposed(_ x: ValueID) throws(Failure) -> ValueID {
    let rank = try rank(x)
    guard rank >= 2 else { throw malformed("a vector is not transposed") }
    var order = Array(0..<rank)
    order.swapAt(rank - 1, rank - 2)
    return try node("Transpose", [x], ["perm": .ints(order)], as: "transposed")
  }

  /// softmax(Q K^T * scale + mask) V, as `torch.nn.functional.scaled_dot_product_attention` defines it.
  mutating func attention(
    _ query: ValueID, _ key: ValueID, _ value: ValueID, mask: ValueID?, isCausal: Bool, scale: Double?, isGrouped: Bool
  ) throws(Failure) -> ValueID {
    let (queryShape, keyShape) = (try shape(query), try shape(key))
    guard queryShape.count >= 2, keyShape.count == queryShape.count, let width = queryShape.last, width > 0 else {
      throw malformed("queries \(queryShape) do not meet keys \(keyShape)")
    }
    var (key, value) = (key, value)
    if isGrouped {
      guard queryShape.count == 4, keyShape[1] > 0, queryShape[1] % keyShape[1] == 0 else {
        throw malformed("\(queryShape) query heads are not shared out over \(keyShape) key heads")
      }
      let times = queryShape[1] / keyShape[1]
      if times > 1 {
        key = try repeated(heads: key, times: times)
        value = try repeated(heads: value, times: times)
      }
    }
    let factor = scale ?? 1 / Double(width).squareRoot()
    if scale == nil {
      impliedScales.append(ImpliedScale(call: call, queries: query, rank: queryShape.count, scale: factor))
    }
    let raw = try node("MatMul", [query, matrixTransposed(key)], as: "scores")
    var scores = try node("Mul", [raw, scalar(factor, dtype(raw), as: "scale")], as: "scaled")
    if isCausal {
      scores = try node("Where", [causalMask(query, key), scores, lowest(dtype(scores))], as: "causal")
    }
    if let mask {
      if dtype(mask) == .bool {
        scores = try node("Where", [mask, scores, lowest(dtype(scores))], as: "masked")
      } else {
        scores = try node("Add", [scores, cast(mask, to: dtype(scores))], as: "masked")
      }
    }
    let weights = try node("Softmax", [scores], ["axis": .int(-1)], as: "weights")
    return try node("MatMul", [weights, value])
  }

  private mutating func lowest(_ type: DType) throws(Failure) -> ValueID {
    try scalar(-Double.infinity, type, as: "lowest")
  }

  /// True where a key is not after its query: the lower triangle.
  private mutating func causalMask(_ query: ValueID, _ key: ValueID) throws(Failure) -> ValueID {
    let rank = try rank(query)
    let size = try vector([length(query, rank - 2), length(key, rank - 2)], as: "mask_shape")
    let one = Tensor(dtype: .bool, shape: [1], bytes: TensorBytes(copying: [UInt8(1)]))
    let ones = try node("ConstantOfShape", [size], ["value": .tensor(one)], as: "ones")
    return try node("Trilu", [ones], ["upper": .int(0)], as: "lower")
  }

  /// Every head of `[batch, heads, length, width]` `times` times in a row.
  private mutating func repeated(heads x: ValueID, times: Int) throws(Failure) -> ValueID {
    let shape = try shape(x)
    let single = try node("Unsqueeze", [x, integers([2], as: "axes")], as: "single")
    let target = integers([1, 1, times, 1, 1], as: "times")
    let expanded = try node("Expand", [single, target], as: "repeated")
    // Batch and length as they are; heads follow.
    let flat: [TorchInteger] = try [length(x, 0), TorchInteger(-1), length(x, 2), length(x, 3)]
    guard shape.count == 4 else { throw malformed("heads of \(shape)") }
    return try node("Reshape", [expanded, vector(flat, as: "heads")], as: "heads")
  }
}
