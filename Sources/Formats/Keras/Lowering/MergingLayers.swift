import ModelGraph

/// Layers that make one tensor of several.
enum MergingLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Average": KerasRule("inputs") { (l, a) throws(Failure) in
        let tensors = try l.merged(a)
        let sum = try l.chained("Add", tensors, as: "sum")
        return .tensor(try l.binary("Div", sum, Double(tensors.count)))
      },
      "Concatenate": KerasRule("inputs") { (l, a) throws(Failure) in
        .tensor(try l.concatenated(a.tensors("inputs"), axis: a.int("axis", -1)))
      },
      "Dot": KerasRule("inputs") { (l, a) throws(Failure) in .tensor(try l.dot(a)) },
    ]
    for (name, op) in ["Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Maximum": "Max", "Minimum": "Min"] {
      table[name] = KerasRule("inputs") { (l, a) throws(Failure) in .tensor(try l.chained(op, l.merged(a))) }
    }
    return table
  }()
}

extension KerasLowering {
  /// The inputs of a merging layer, of one type and as many axes each: those of fewer get more behind the batch.
  fileprivate mutating func merged(_ a: KerasArguments) throws(Failure) -> [KerasTensor] {
    let tensors = try promoted(a.tensors("inputs").map(LoweredOperand.tensor))
    guard !tensors.isEmpty else { throw malformed("it merges nothing") }
    let rank = tensors.map { self.rank($0) }.max() ?? 0
    var result: [KerasTensor] = []
    for tensor in tensors {
      let own = self.rank(tensor)
      if own == rank || own == 0 {
        result.append(tensor)
      } else {
        let axes = integers(Array(1..<1 + rank - own), as: "axes")
        result.append(self.tensor(try node("Unsqueeze", [asWritten(tensor), axes], as: "wide")))
      }
    }
    return result
  }

  /// One after the other.
  mutating func chained(_ op: String, _ tensors: [KerasTensor], as suffix: String = "") throws(Failure) -> KerasTensor {
    guard var result = tensors.first else { throw malformed("it combines nothing") }
    for (k, tensor) in tensors.enumerated().dropFirst() {
      result = try binary(op, result, tensor, as: k == tensors.count - 1 ? suffix : "part")
    }
    return result
  }

  mutating func concatenated(_ tensors: [KerasTensor], axis: Int) throws(Failure) -> KerasTensor {
    let tensors = try promoted(tensors.map(LoweredOperand.tensor))
    guard let first = tensors.first, tensors.allSatisfy({ rank($0) == rank(first) }) else {
      throw malformed("it joins tensors of different ranks")
    }
    if tensors.count == 1 { return first }
    let axis = try self.axis(axis, of: first)
    let order = commonOrder(tensors, rank: rank(first))
    var values: [ValueID] = []
    for tensor in tensors { values.append(try arranged(tensor, order)) }
    let y = try node("Concat", values, ["axis": .int(order.firstIndex(of: axis) ?? axis)])
    return tensor(y, order)
  }

  /// Products of samples, summed over one axis of each.
  fileprivate mutating func dot(_ a: KerasArguments) throws(Failure) -> KerasTensor {
    let tensors = try a.tensors("inputs")
    guard tensors.count == 2 else { throw malformed("it takes \(tensors.count) tensors") }
    var operands = try promoted(tensors.map(LoweredOperand.tensor))
    let stated = try a.ints("axes", count: 2)
    var axes: [Int] = []
    for (tensor, axis) in zip(operands, stated) { axes.append(try self.axis(axis, of: tensor)) }
    guard !axes.contains(0) else { throw malformed("it sums over samples") }
    if try a.bool("normalize", false) {
      for k in 0..<2 {
        operands[k] = try normalized(operands[k], axes: [axes[k]], order: 2, epsilon: isOfKeras2 ? 1e-6 : 1e-12)
      }
    }
    let (left, right) = (rank(operands[0]), rank(operands[1]))
    guard left + right <= 26 else { throw unsupported("its tensors have too many axes") }
    // b for the batch, s for what is summed.
    var free = Array("acdefghijklmnopqrtuvwxyz")[...]
    func letters(_ count: Int, _ summed: Int) -> [Character] {
      (0..<count).map { $0 == 0 ? "b" : $0 == summed ? "s" : free.popFirst() ?? "z" }
    }
    let (x, y) = (letters(left, axes[0]), letters(right, axes[1]))
    let output = "b" + String(x.dropFirst().filter { $0 != "s" } + y.dropFirst().filter { $0 != "s" })
    let values = [try asWritten(operands[0]), try asWritten(operands[1])]
    let isScalar = output == "b"
    let product = try node(
      "Einsum", values, ["equation": .string("\(String(x)),\(String(y))->\(output)")], as: isScalar ? "product" : "")
    guard isScalar else { return tensor(product) }
    return tensor(try node("Unsqueeze", [product, integers([1], as: "axes")]))
  }
}
