/// Shapes of operators that work element by element: unary ones keep the shape, the others broadcast.
enum ElementwiseShapes {
  static let rules: [String: ShapeRule] =
    [String: ShapeRule](unary, all: sameAsFirst)
    .merging([String: ShapeRule](variadic, all: broadcastAll)) { first, _ in first }
    .merging(["Dropout": dropout, "PRelu": parametricRelu]) { first, _ in first }

  /// Operators whose first output has the shape of the first input, whatever the other inputs are.
  private static let unary = [
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Bernoulli", "BitCast", "BitwiseNot", "Cast",
    "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "CumProd", "CumSum", "Elu", "Erf", "Exp", "EyeLike", "Floor",
    "Gelu", "HardSigmoid", "HardSwish", "Hardmax", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "LogSoftmax",
    "Mish", "Neg", "Not", "RandomNormalLike", "RandomUniformLike", "Reciprocal", "Relu", "ReverseSequence",
    "RotaryEmbedding", "Round", "Scatter", "ScatterElements", "ScatterND", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "TensorScatter",
    "ThresholdedRelu", "Trilu",
  ]

  private static let variadic = [
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual",
    "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor",
  ]

  @Sendable static func sameAsFirst(_ call: OperatorCall) throws(Failure) -> [[Int]?] { [call.shape(0)] }

  @Sendable private static func broadcastAll(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let shapes = call.allShapes else { return [nil] }
    return [try call.broadcast(shapes)]
  }

  /// Output and mask.
  @Sendable private static func dropout(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    [call.shape(0), call.shape(0)]
  }

  /// The slope broadcasts to the input, never the other way round.
  @Sendable private static func parametricRelu(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let input = call.shape(0) else { return [nil] }
    if let slope = call.shape(1), try call.broadcast([input, slope]) != input {
      throw call.malformed("the slope \(slope) does not broadcast to the input \(input)")
    }
    return [input]
  }
}
