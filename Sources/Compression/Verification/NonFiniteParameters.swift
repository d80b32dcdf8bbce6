import ModelGraph

// What running a model cannot see past: silenced channels are multiplied by zero, which makes no zero of NaN or
// infinity.

extension Graph {
  /// The first stored tensor that holds NaN or infinity and of which the plan removes a part; nil if there is none.
  package func firstNonFinite(of plan: CompressionPlan) -> String? {
    let copied = plan.edits.compactMap { edit -> ValueID? in
      if case .setInput(let node, let input, _) = edit { self[node].input(input) } else { nil }
    }
    let concerned = Set(plan.slices.map(\.value) + copied).sorted()
    return concerned.first { self[$0].tensor?.realNumbers?.contains { !$0.isFinite } ?? false }.map { self[$0].name }
  }

  /// The first stored tensor that holds NaN or positive infinity (masks hold negative); nil if there is none.
  package var firstNotNumber: String? {
    valueIDs.first { self[$0].tensor?.realNumbers?.contains { $0.isNaN || $0 == .infinity } ?? false }
      .map { self[$0].name }
  }
}
