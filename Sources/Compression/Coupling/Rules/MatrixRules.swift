import ModelGraph

// Gemm and MatMul: an einsum over rows and columns, with right-aligned batch axes.

let matrixRules: [String: Rule] = ["Gemm": gemm, "MatMul": matMul]

/// Letters of the matrix axes; batch letters follow.
private enum L {
  static let (row, column, inner, batch) = (0, 1, 2, 3)
}

@Sendable private func gemm(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let a = call.input(0), let b = call.input(1), a.axes.count == 2, b.axes.count == 2 else { return nil }
  let transA = call.node.int("transA", default: 0) != 0
  let transB = call.node.int("transB", default: 0) != 0
  guard
    let product = call.facts.contract(
      [
        Operand(value: a, letters: transA ? [L.inner, L.row] : [L.row, L.inner]),
        Operand(value: b, letters: transB ? [L.column, L.inner] : [L.inner, L.column]),
      ], output: [L.row, L.column], at: call.id, roles: true)
  else { return nil }
  guard let c = call.input(2) else { return [product] }
  return call.facts.elementwise([product, c], rank: 2, at: call.id).map { [$0] }
}

@Sendable private func matMul(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let a = call.input(0), let b = call.input(1), !a.axes.isEmpty, !b.axes.isEmpty else { return nil }
  let batchRank = max(a.axes.count, b.axes.count) - 2
  func batch(_ count: Int) -> [Letter] { (0..<max(count, 0)).map { L.batch + batchRank - count + $0 } }
  // Operands of rank 1 are a row on the left, a column on the right, and leave no axis behind.
  let aLetters = a.axes.count == 1 ? [L.inner] : batch(a.axes.count - 2) + [L.row, L.inner]
  let bLetters = b.axes.count == 1 ? [L.inner] : batch(b.axes.count - 2) + [L.inner, L.column]
  let output =
    batch(batchRank) + (a.axes.count > 1 ? [L.row] : []) + (b.axes.count > 1 ? [L.column] : [])
  return call.facts.contract(
    [Operand(value: a, letters: aLetters), Operand(value: b, letters: bLetters)], output: output, at: call.id,
    roles: true
  ).map { [$0] }
}
