import ModelGraph

// Gemm and MatMul: an einsum over rows and columns, with right-aligned batch axes.

let matrixRules: [String: Rule] = [
  "Gemm": { call in gemm(&call, b: 1, c: 2) }, "com.microsoft.FusedGemm": { call in gemm(&call, b: 1, c: 2) },
  "com.microsoft.QGemm": { call in gemm(&call, b: 3, c: 6, perColumn: [4, 5]) },
  "MatMul": { call in matMul(&call, Product()) },
  "MatMulInteger": { call in matMul(&call, Product(perRow: [2], perColumn: [3])) },
  "QLinearMatMul": { call in matMul(&call, Product(right: 3, perRow: [1, 2], perColumn: [4, 5])) },
  "com.microsoft.FusedMatMul": fusedMatMul,
  "com.microsoft.MatMulIntegerToFloat": { call in
    matMul(&call, Product(perRow: [2, 4], perColumn: [3, 5, 6]))
  },
  "com.microsoft.DynamicQuantizeMatMul": { call in
    guard let x = call.input(0) else { return nil }
    // The left operand is quantized by the range it turns out to have.
    call.approximate(x, axes: x.axes.indices)
    return matMul(&call, Product(perColumn: [2, 3, 4]))
  },
]

/// Where a product of matrices has its operands.
private struct Product {
  var right = 1
  /// Inputs with one number per row or column of the result, or one for all: scales, zero points, bias.
  var perRow: [Int] = []
  var perColumn: [Int] = []
  var transLeft = false
  var transRight = false
}

/// Letters of the matrix axes; batch letters follow.
private enum L {
  static let (row, column, inner, batch) = (0, 1, 2, 3)
}

private func gemm(_ call: inout RuleCall, b: Int, c: Int, perColumn: [Int] = []) -> [LabelledValue]? {
  guard let a = call.input(0), let b = call.input(b), a.axes.count == 2, b.axes.count == 2 else { return nil }
  let transA = call.node.int("transA", default: 0) != 0
  let transB = call.node.int("transB", default: 0) != 0
  guard
    let product = call.facts.contract(
      [
        Operand(value: a, letters: transA ? [L.inner, L.row] : [L.row, L.inner]),
        Operand(value: b, letters: transB ? [L.column, L.inner] : [L.inner, L.column]),
      ], output: [L.row, L.column], at: call.id, roles: true),
    let scaled = call.scaled(product, by: perColumn, axis: 1)
  else { return nil }
  guard let c = call.input(c) else { return [scaled] }
  return call.facts.elementwise([scaled, c], rank: 2, at: call.id).map { [$0] }
}

private func matMul(_ call: inout RuleCall, _ operands: Product) -> [LabelledValue]? {
  guard let a = call.input(0), let b = call.input(operands.right), !a.axes.isEmpty, !b.axes.isEmpty else { return nil }
  let batchRank = max(a.axes.count, b.axes.count) - 2
  func batch(_ count: Int) -> [Letter] { (0..<max(count, 0)).map { L.batch + batchRank - count + $0 } }
  // Operands of rank 1 are a row on the left, a column on the right, and leave no axis behind.
  let (left, right) =
    (
      operands.transLeft ? [L.inner, L.row] : [L.row, L.inner],
      operands.transRight ? [L.column, L.inner] : [L.inner, L.column]
    )
  let aLetters = a.axes.count == 1 ? [L.inner] : batch(a.axes.count - 2) + left
  let bLetters = b.axes.count == 1 ? [L.inner] : batch(b.axes.count - 2) + right
  let output =
    batch(batchRank) + (a.axes.count > 1 ? [L.row] : []) + (b.axes.count > 1 ? [L.column] : [])
  guard
    let product = call.facts.contract(
      [Operand(value: a, letters: aLetters), Operand(value: b, letters: bLetters)], output: output, at: call.id,
      roles: true)
  else { return nil }
  let row = b.axes.count > 1 ? output.count - 2 : output.count - 1
  return call.scaled(product, by: operands.perRow, axis: row)
    .flatMap { call.scaled($0, by: operands.perColumn, axis: output.count - 1) }
    .map { [$0] }
}

/// ONNX Runtime's: operands may be transposed, the result scaled.
@Sendable private func fusedMatMul(_ call: inout RuleCall) -> [LabelledValue]? {
  guard call.node.int("transBatchA", default: 0) == 0, call.node.int("transBatchB", default: 0) == 0 else { return nil }
  return matMul(
    &call,
    Product(
      transLeft: call.node.int("transA", default: 0) != 0, transRight: call.node.int("transB", default: 0) != 0))
}

extension RuleCall {
  /// `value` with one number per index of axis `axis`, or one for all, from each of the inputs `vectors`.
  /// - Returns: nil if an input is no vector, or the value has no such axis.
  mutating func scaled(_ value: LabelledValue, by vectors: [Int], axis: Int) -> LabelledValue? {
    var result = value
    let letters = Array(0..<value.axes.count)
    for k in vectors {
      guard let vector = input(k), vector.axes.contains(where: { !$0.isEmpty }) else { continue }
      guard vector.axes.count == 1, letters.contains(axis),
        let next = facts.contract(
          [Operand(value: result, letters: letters), Operand(value: vector, letters: [axis])], output: letters,
          at: id, roles: true)
      else { return nil }
      result = next
    }
    return result
  }
}
