import ModelGraph

/// Layers that multiply by a matrix of theirs, and tables of rows.
enum ProductLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Dense": KerasRule { (l, a, x) throws(Failure) in
        guard !a.has("lora_rank") || a.layer.variable("lora_kernel_a") == nil else {
          throw l.unsupported("its kernel is being adapted (lora_rank)")
        }
        let kernel = try l.variable("kernel", a)
        let y = try l.dense(x, kernel, l.bias(a))
        return try l.activated(y, a)
      },
      "EinsumDense": KerasRule { (l, a, x) throws(Failure) in try l.activated(l.einsumDense(x, a), a) },
      "Embedding": KerasRule { (l, a, x) throws(Failure) in
        let table = try l.variable("embeddings", a)
        let y = try l.picked(table, x)
        if try a.bool("mask_zero", false) {
          let isThere = try l.unary("Not", l.binary("Equal", x, 0, as: "is_zero", dtype: .bool), as: "mask")
          l.masks[y] = isThere
        }
        return y
      },
    ]
    table["ReversibleEmbedding"] = KerasRule("inputs reverse") { (l, a) throws(Failure) in
      guard try !a.bool("reverse", false) else { throw l.unsupported("it is applied in reverse") }
      let table = try l.variable("embeddings", a)
      let y = try l.picked(table, a.tensor("inputs"))
      return .tensor(y)
    }
    return table
  }()
}

extension KerasLowering {
  /// `x kernel + bias`: as one Gemm where x is a matrix, since a bias then is part of the layer.
  mutating func dense(_ x: KerasTensor, _ kernel: ValueID, _ bias: ValueID?) throws(Failure) -> KerasTensor {
    let weight = try shape(kernel)
    guard weight.count == 2, rank(x) >= 2, try shape(x).last == weight[0] else {
      throw malformed("its kernel \(weight) does not fit \(try shape(x))")
    }
    let value = try asWritten(cast(x, to: dtype(kernel)))
    if rank(x) == 2 { return tensor(try node("Gemm", bias.map { [value, kernel, $0] } ?? [value, kernel])) }
    let product = try node("MatMul", [value, kernel])
    guard let bias else { return tensor(product) }
    return tensor(try node("Add", [product, bias], as: "bias"))
  }

  /// Rows of a table.
  mutating func picked(_ table: ValueID, _ x: KerasTensor) throws(Failure) -> KerasTensor {
    let indices = primary(x)
    let value =
      [.int32, .int64].contains(dtype(indices.value)) ? try asWritten(x) : try cast(asWritten(x), to: .int32)
    return tensor(try node("Gather", [table, value], ["axis": .int(0)]))
  }

  fileprivate mutating func einsumDense(_ x: KerasTensor, _ a: KerasArguments) throws(Failure) -> KerasTensor {
    let equation = String(try a.string("equation", "").filter { $0 != " " })
    let sides = equation.components("->")
    let operands = sides.first?.components(",") ?? []
    guard sides.count == 2, operands.count == 2 else { throw malformed("its equation is '\(equation)'") }
    let (input, weight, output) = (operands[0], operands[1], sides[1])
    let kernel = try variable("kernel", a)
    let bias = a.layer.variable("bias") == nil ? nil : try variable("bias", a)
    let isVector = if let bias { try rank(bias) == 1 } else { true }
    let y: KerasTensor
    // The last axis against a matrix: a dense layer.
    if let summed = input.last, weight.count == 2, weight.first == summed, let made = weight.last, made != summed,
      output == input.dropLast() + String(made), !input.dropLast().contains(made), isVector
    {
      y = try dense(x, kernel, bias)
    } else {
      let value = try asWritten(cast(x, to: dtype(kernel)))
      let product = try node("Einsum", [value, kernel], ["equation": .string(equation)])
      keepWhole(kernel, "Einsum layers are not replaced")
      if let bias { y = tensor(try node("Add", [product, bias], as: "bias")) } else { y = tensor(product) }
    }
    return y
  }
}

extension String {
  /// What lies between occurrences of `separator`.
  func components(_ separator: String) -> [String] {
    var parts: [String] = []
    var rest = self[...]
    while let found = rest.firstRange(of: separator) {
      parts.append(String(rest[..<found.lowerBound]))
      rest = rest[found.upperBound...]
    }
    return parts + [String(rest)]
  }
}

extension Substring {
  fileprivate func firstRange(of other: String) -> Range<Index>? {
    var position = startIndex
    while position < endIndex {
      if self[position...].hasPrefix(other) { return position..<index(position, offsetBy: other.count) }
      position = index(after: position)
    }
    return nil
  }
}
