import ModelGraph

/// A function of PyTorch's as lowering knows it: the names of its parameters, and the rule that appends what it computes.
struct TorchFunction: Sendable {
  typealias Rule = @Sendable (inout TorchLowering, OperatorArguments) throws(Failure) -> TorchValue
  let parameters: [Substring]
  let lower: Rule

  /// - Parameter parameters: names separated by spaces, in order; see `OperatorArguments`.
  init(_ parameters: String, _ lower: @escaping Rule) {
    (self.parameters, self.lower) = (parameters.split(separator: " "), lower)
  }
}

/// The functions that can be lowered: one table, put together from one table per family.
enum TorchOperators {
  static func function(_ name: String) -> TorchFunction? { table[name] }
  static var names: [String] { table.keys.sorted() }

  private static let families: [[String: TorchFunction]] = [
    ElementwiseOperators.functions, ActivationOperators.functions, ProductOperators.functions,
    ConvolutionOperators.functions, NormalizationOperators.functions, PoolingOperators.functions,
    ShapeOperators.functions, JoiningOperators.functions, SelectionOperators.functions, ReductionOperators.functions,
    CreationOperators.functions, LanguageOperators.functions, RecurrentOperators.functions,
    WindowAttentionOperators.functions, UnfoldingOperators.functions,
  ]

  private static let table: [String: TorchFunction] = families.reduce(into: [:]) { table, family in
    table.merge(family) { first, _ in first }
  }
}
