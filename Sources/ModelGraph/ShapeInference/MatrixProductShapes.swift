/// Shapes of matrix products: Gemm, MatMul with broadcast batch axes and rank-1 operands, Einsum.
enum MatrixProductShapes {
  static let rules: [String: ShapeRule] = [
    "Gemm": { call throws(Failure) in try gemm(call, 0, 1, addend: 2) },
    "MatMul": { call throws(Failure) in try matmul(call, 0, 1) },
    "MatMulInteger": { call throws(Failure) in try matmul(call, 0, 1) },
    "QLinearMatMul": { call throws(Failure) in try matmul(call, 0, 3) },
    "Einsum": einsum,
  ]

  static func gemm(_ call: OperatorCall, _ left: Int, _ right: Int, addend: Int) throws(Failure) -> [[Int]?] {
    guard let a = call.shape(left), let b = call.shape(right) else { return [nil] }
    guard a.count == 2, b.count == 2 else { throw call.malformed("needs matrices, found \(a) and \(b)") }
    let (m, k) = call.node.int("transA", default: 0) == 0 ? (a[0], a[1]) : (a[1], a[0])
    let (k2, n) = call.node.int("transB", default: 0) == 0 ? (b[0], b[1]) : (b[1], b[0])
    guard k == k2 else { throw call.malformed("cannot multiply \(m)x\(k) by \(k2)x\(n) (shapes \(a) and \(b))") }
    if let c = call.shape(addend), try call.broadcast([[m, n], c]) != [m, n] {
      throw call.malformed("the addend \(c) does not broadcast to \([m, n])")
    }
    return [[m, n]]
  }

  /// With `transA` and `transB` as ONNX Runtime's fused form has them.
  static func matmul(_ call: OperatorCall, _ left: Int, _ right: Int) throws(Failure) -> [[Int]?] {
    guard var a = call.shape(left), var b = call.shape(right) else { return [nil] }
    if call.node.int("transA", default: 0) != 0, a.count > 1 { a.swapAt(a.count - 1, a.count - 2) }
    if call.node.int("transB", default: 0) != 0, b.count > 1 { b.swapAt(b.count - 1, b.count - 2) }
    guard let k = a.last, !b.isEmpty, k == (b.count == 1 ? b[0] : b[b.count - 2]) else {
      throw call.malformed("cannot multiply \(a) by \(b)")
    }
    var shape = try call.broadcast([Array(a.dropLast(2)), Array(b.dropLast(2))])
    if a.count > 1 { shape.append(a[a.count - 2]) }
    if b.count > 1 { shape.append(b[b.count - 1]) }
    return [shape]
  }

  @Sendable private static func einsum(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    let text = call.node.string("equation") ?? ""
    guard let equation = EinsumEquation(text) else { throw call.malformed("'\(text)' is no Einsum equation") }
    guard let shapes = call.allShapes else { return [nil] }
    guard let (letters, ellipsis) = equation.lengths(shapes) else {
      throw call.malformed("the shapes \(shapes) do not fit the equation '\(text)'")
    }
    var shape: [Int] = []
    for label in equation.output {
      switch label {
      case .ellipsis: shape += ellipsis
      case .letter(let letter): shape.append(letters[letter] ?? 1)
      }
    }
    return [shape]
  }
}
