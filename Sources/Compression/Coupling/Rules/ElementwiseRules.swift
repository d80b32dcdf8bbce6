import ModelGraph

// Operators that work element by element: unary ones hand their value on; the others relate their operands over
// right-aligned axes, with every broadcast.

let elementwiseRules: [String: Rule] = {
  var rules: [String: Rule] = [:]
  for op in [
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSigmoid", "HardSwish",
    "Mish", "Gelu", "Swish", "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round",
    "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "ThresholdedRelu",
    "Shrink", "IsNaN", "IsInf", "Not", "BitwiseNot", "Cast", "Identity",
  ] { rules[op] = passThrough }
  rules["Clip"] = clip
  // Of its second operand it reads the type alone.
  rules["CastLike"] = passThrough
  rules["Dropout"] = dropout
  for op in broadcastingOperators { rules[op] = broadcast }
  return rules
}()

/// Operators that relate their operands element by element, with broadcasting.
let broadcastingOperators: Set = [
  "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Mod", "PRelu", "Where", "Equal", "Greater",
  "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
]

@Sendable private func passThrough(_ call: inout RuleCall) -> [LabelledValue]? { call.input(0).map { [$0] } }

/// Bounds are numbers for the whole tensor.
@Sendable private func clip(_ call: inout RuleCall) -> [LabelledValue]? {
  call.freezeSettings([1, 2])
  return passThrough(&call)
}

/// The mask has the data's labels too.
@Sendable private func dropout(_ call: inout RuleCall) -> [LabelledValue]? {
  call.freezeSettings([1, 2])
  return call.input(0).map { [$0, $0] }
}

@Sendable private func broadcast(_ call: inout RuleCall) -> [LabelledValue]? {
  let operands = call.inputs.compactMap { $0 }
  guard operands.count == call.inputs.count, let rank = operands.map(\.axes.count).max(),
    var result = operands.first
  else { return nil }
  // Two at a time: what all operands demand of each other follows from what each demands of those before it.
  for operand in operands.dropFirst() {
    guard let joined = call.facts.elementwise([result, operand], rank: rank, at: call.id) else { return nil }
    result = joined
  }
  call.noteJoin(operands, result)
  return [result]
}

extension RuleCall {
  /// A join of two activations gives the group they form its name.
  mutating func noteJoin(_ operands: [LabelledValue], _ result: LabelledValue) {
    guard operands.filter({ !$0.isStored && !$0.sets.isEmpty }).count > 1 else { return }
    for set in result.sets { facts.noteActivationJoin(id, label: set.labels.first) }
  }
}
