import ModelGraph

/// A class of layers or an operation as lowering knows it: the names of what it is called with, and the rule that
/// appends what it computes.
struct KerasRule: Sendable {
  typealias Rule = @Sendable (inout KerasLowering, KerasArguments) throws(Failure) -> LoweredOperand
  let parameters: [Substring]
  let lower: Rule

  /// - Parameter parameters: names separated by spaces, in order; see `KerasArguments`.
  init(_ parameters: String, _ lower: @escaping Rule) {
    (self.parameters, self.lower) = (parameters.split(separator: " "), lower)
  }

  /// A layer of one tensor.
  init(_ lower: @escaping @Sendable (inout KerasLowering, KerasArguments, KerasTensor) throws(Failure) -> KerasTensor) {
    self.init("inputs mask training") { (l, a) throws(Failure) in .tensor(try lower(&l, a, a.tensor("inputs"))) }
  }
}

extension String {
  fileprivate func removing(prefix: String) -> String { hasPrefix(prefix) ? String(dropFirst(prefix.count)) : self }
}

/// What can be lowered: one table of layers and one of operations, put together from one table per family.
enum KerasRules {
  static func rule(for layer: KerasLayer) -> KerasRule? {
    switch layer.className {
    case "TFOpLambda", "SlicingOpLambda":
      guard let name = layer.settings["function"]?.string else { return nil }
      return TensorFlowOperations.rules[name] ?? TensorFlowOperations.rules[name.removing(prefix: "compat.v1.")]
    default: return layer.kind == .operation ? operations[layer.className] : layers[layer.className]
    }
  }

  static func operation(_ name: String) -> KerasRule? { operations[name] }

  static var classes: [String] { layers.keys.sorted() }

  private static let layers: [String: KerasRule] = joined([
    ActivationLayers.rules, ConvolutionLayers.rules, PoolingLayers.rules,
    NormalizationLayers.rules, ScalingLayers.rules, ReshapingLayers.rules, ResizingLayers.rules, MergingLayers.rules,
    ProductLayers.rules, AttentionLayers.rules, ScoreLayers.rules, RecurrentLayers.rules, WrapperLayers.rules,
    OpaqueLayers.rules,
  ])

  private static let operations: [String: KerasRule] = joined([
    ElementwiseOperations.rules, ActivationOperations.rules, ReductionOperations.rules, MovementOperations.rules,
    SelectionOperations.rules, NetworkOperations.rules,
  ])

  private static func joined(_ families: [[String: KerasRule]]) -> [String: KerasRule] {
    families.reduce(into: [:]) { table, family in table.merge(family) { first, _ in first } }
  }
}
