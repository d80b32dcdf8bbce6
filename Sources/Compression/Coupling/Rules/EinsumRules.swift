import ModelGraph

// Einsum: the equation's letters are the labels' own.

let einsumRules: [String: Rule] = ["Einsum": einsum]

/// A letter that occurs twice in one operand reads a diagonal, which no label set can say.
@Sendable private func einsum(_ call: inout RuleCall) -> [LabelledValue]? {
  let values = call.inputs.compactMap { $0 }
  guard let equation = call.node.string("equation").flatMap(EinsumEquation.init), values.count == call.inputs.count,
    equation.operands.count == values.count,
    let hidden = zip(equation.operands, values).map({ $1.axes.count - $0.count + 1 }).max()
  else { return nil }
  // The axes under an ellipsis are aligned at their ends, as broadcasting has it.
  let firstHidden = 256
  func letters(_ labels: [EinsumEquation.Label], rank: Int) -> [Letter] {
    labels.flatMap { label -> [Letter] in
      switch label {
      case .letter(let letter): return [Int(letter)]
      case .ellipsis:
        let count = max(rank - labels.count + 1, 0)
        return (0..<count).map { firstHidden + hidden - count + $0 }
      }
    }
  }
  let operands = zip(equation.operands, values).map { Operand(value: $1, letters: letters($0, rank: $1.axes.count)) }
  let widest =
    equation.operands.indices.filter { equation.operands[$0].contains(.ellipsis) }
    .map { values[$0].axes.count - equation.operands[$0].count + 1 }.max() ?? 0
  let output = letters(equation.output, rank: equation.output.count - 1 + widest)
  guard operands.allSatisfy({ $0.letters.count == $0.value.axes.count && Set($0.letters).count == $0.letters.count })
  else { return nil }
  // What only one operand has and the output has not is summed, like a reduction.
  for k in operands.indices {
    let summed = operands[k].letters.indices.filter { axis in
      let letter = operands[k].letters[axis]
      return !output.contains(letter)
        && !operands.indices.contains { other in
          other != k
            && zip(operands[other].letters, operands[other].value.axes).contains { $0 == letter && !$1.isEmpty }
        }
    }
    let factors = summed.flatMap { operands[k].value.axes[$0] }
    for set in operands[k].value.sets {
      call.facts.approximate(set, over: factors, call.facts.reason(.reduced, call.id))
    }
  }
  return call.facts.contract(operands, output: output, at: call.id, roles: true).map { [$0] }
}
