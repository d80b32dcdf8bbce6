/// The operators whose output shapes can be inferred: one table, put together from one table per operator family.
///
/// To add an operator, write its rule in the family's file and name it in the family's table. A rule returns one shape
/// per output, nil where it cannot tell (an input is unknown, or the length depends on data), and may return fewer
/// than the node has. It throws only where the inputs contradict each other.
typealias ShapeRule = @Sendable (OperatorCall) throws(Failure) -> [[Int]?]

package enum ShapeRules {
  /// The operators that have a rule.
  package static let operators: [String] = families.flatMap(\.keys).sorted()

  /// The rule of `node`, nil for an operator we do not know.
  static func rule(for node: Node) -> ShapeRule? {
    node.domain == Node.opaqueDomain ? OpaqueShapes.rule : rules[node.qualifiedOperator]
  }

  /// Inputs that an operator cannot do without, where a file that leaves them out would otherwise pass unnoticed.
  static let requiredInputs: [String: Int] = [
    "Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": 2, "BatchNormalization": 5, "InstanceNormalization": 3,
    "PRelu": 2, "Add": 2, "Sub": 2, "Mul": 2, "Div": 2, "Concat": 1, "Gather": 2, "Expand": 2,
  ]

  static let families: [[String: ShapeRule]] = [
    ElementwiseShapes.rules, NormalizationShapes.rules, ConvolutionShapes.rules, PoolingShapes.rules,
    MatrixProductShapes.rules, ReductionShapes.rules, ReshapingShapes.rules, JoiningShapes.rules,
    SelectionShapes.rules, ExtensionShapes.rules, CreationShapes.rules, ResamplingShapes.rules,
    QuantizationShapes.rules, RecurrentShapes.rules, AttentionShapes.rules, FusedShapes.rules,
  ]

  private static let rules: [String: ShapeRule] = families.reduce(into: [:]) { table, family in
    table.merge(family) { first, _ in first }
  }
}

extension [String: ShapeRule] {
  /// A table in which all `operators` have the same rule.
  init(_ operators: [String], all rule: @escaping ShapeRule) {
    self.init(minimumCapacity: operators.count)
    for name in operators { self[name] = rule }
  }
}
