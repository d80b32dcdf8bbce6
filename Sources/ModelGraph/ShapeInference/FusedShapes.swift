/// Shapes of the operators that ONNX Runtime's optimizer and quantizer put in place of standard ones.
enum FusedShapes {
  static let rules: [String: ShapeRule] = [
    "com.microsoft.Gelu": ElementwiseShapes.sameAsFirst, "com.microsoft.QuickGelu": ElementwiseShapes.sameAsFirst,
    "com.microsoft.FastGelu": ElementwiseShapes.sameAsFirst, "com.microsoft.BiasGelu": ElementwiseShapes.sameAsFirst,
    "com.microsoft.BiasAdd": ElementwiseShapes.sameAsFirst, "com.microsoft.BiasSplitGelu": gated,
    "com.microsoft.QuantizeLinear": ElementwiseShapes.sameAsFirst,
    "com.microsoft.DequantizeLinear": ElementwiseShapes.sameAsFirst,
    "com.microsoft.QLinearSigmoid": ElementwiseShapes.sameAsFirst,
    "com.microsoft.QLinearLeakyRelu": ElementwiseShapes.sameAsFirst,
    "com.microsoft.QLinearSoftmax": ElementwiseShapes.sameAsFirst,
    "com.microsoft.FusedConv": { call throws(Failure) in
      try ConvolutionShapes.convolution(call, input: 0, weight: 1, bias: 2)
    },
    "com.microsoft.FusedGemm": { call throws(Failure) in try MatrixProductShapes.gemm(call, 0, 1, addend: 2) },
    "com.microsoft.QGemm": { call throws(Failure) in try MatrixProductShapes.gemm(call, 0, 3, addend: 6) },
    "com.microsoft.FusedMatMul": fusedMatMul,
    "com.microsoft.DynamicQuantizeMatMul": { call throws(Failure) in try MatrixProductShapes.matmul(call, 0, 1) },
    "com.microsoft.MatMulIntegerToFloat": { call throws(Failure) in try MatrixProductShapes.matmul(call, 0, 1) },
    "com.microsoft.QLinearAdd": { call throws(Failure) in try broadcast(call, [0, 3]) },
    "com.microsoft.QLinearMul": { call throws(Failure) in try broadcast(call, [0, 3]) },
    "com.microsoft.QLinearWhere": { call throws(Failure) in try broadcast(call, [0, 1, 4]) },
    "com.microsoft.QLinearConcat": concat, "com.microsoft.QLinearGlobalAveragePool": globalPool,
    "com.microsoft.QLinearAveragePool": averagePool,
  ]

  @Sendable private static func gated(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let last = x.last else { return [nil] }
    return [x.dropLast() + [last / 2]]
  }

  @Sendable private static func fusedMatMul(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard call.node.int("transBatchA", default: 0) == 0, call.node.int("transBatchB", default: 0) == 0 else {
      return [nil]
    }
    return try MatrixProductShapes.matmul(call, 0, 1)
  }

  @Sendable private static func averagePool(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard call.node.int("channels_last", default: 0) == 0 else { return [nil] }
    return try PoolingShapes.pool(call)
  }

  private static func broadcast(_ call: OperatorCall, _ positions: [Int]) throws(Failure) -> [[Int]?] {
    let shapes = positions.compactMap(call.shape)
    return shapes.count == positions.count ? [try call.broadcast(shapes)] : [nil]
  }

  /// Scale and zero point of the result, then each part with its own.
  @Sendable private static func concat(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    let positions = stride(from: 2, to: call.shapes.count, by: 3)
    let parts = positions.compactMap(call.shape)
    guard var shape = parts.first, parts.count == Array(positions).count, let stated = call.node.int("axis")
    else { return [nil] }
    let axis = try call.axis(stated, rank: shape.count)
    guard parts.allSatisfy({ $0.count == shape.count }) else {
      throw call.malformed("the parts \(parts) differ in their number of axes")
    }
    shape[axis] = try call.length(parts.reduce(Int128(0)) { $0 + Int128($1[axis]) }, "axis \(axis)")
    return [shape]
  }

  @Sendable private static func globalPool(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard var shape = call.shape(0) else { return [nil] }
    try call.requireRank(atLeast: 2, shape, of: "the input")
    let last = call.node.int("channels_last", default: 0) != 0
    for axis in shape.indices.dropFirst() where axis != (last ? shape.count - 1 : 1) { shape[axis] = 1 }
    return [shape]
  }
}
