import ModelGraph

/// Statements of code that change a tensor in place, as calls that compute another (`InPlaceForms`): `y = x.relu_()`,
/// `relu(x, inplace = True)`, and modules that were made with `inplace=True`.
///
/// The text stays what it is; only what the calls say they read changes.
enum InPlaceStatements {
  /// - Parameter changed: the calls, by index, that change their first argument.
  /// - Returns: the parameters and buffers that a run of the program changes.
  static func resolve(
    _ calls: inout [TorchCall], _ output: inout TorchArgument, changed: Set<Int>
  ) throws(Failure) -> Set<String> {
    guard !changed.isEmpty else { return [] }
    var returned: [String] = []
    output.appendTensors(to: &returned)
    var forms = InPlaceForms(
      calls.enumerated().map { index, call in described(call, isChange: changed.contains(index)) }, outputs: returned)
    for index in calls.indices {
      if changed.contains(index), forms.functions[index].utf8.last == Ascii.underscore {
        throw Failure(
          .modelUnsupportedOperator,
          "'\(calls[index].results[0])' changes a tensor in place that is read later under another name; use the"
            + " operator that does not work in place (inplace=False)",
          details: ["node": .string(calls[index].results[0])])
      }
      let standIns = forms.standIns[index]
      if !standIns.isEmpty { calls[index] = calls[index].reading(standIns) }
    }
    output = output.reading(returned.reduce(into: [:]) { $0[$1] = forms.current($1) })
    return Set(
      forms.mutatedInputs.filter { $0.hasPrefix(parameterMark) }.map { String($0.dropFirst(parameterMark.count)) })
  }

  /// Tells parameters' names from values'.
  fileprivate static let parameterMark = "parameter "

  /// Modules of torch.nn that can return what they were given, or a view of it.
  private static let viewModules: Set<String> = [
    "Identity", "Flatten", "Unflatten", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout",
  ]

  /// Functions that can return a view, by the name of one that does the same to memory.
  private static let views = [
    "getitem": "select", "getattr": "alias", "dropout1d": "dropout", "dropout2d": "dropout", "dropout3d": "dropout",
    "float": "to", "half": "to", "bfloat16": "to", "double": "to", "type": "to", "cpu": "to", "cuda": "to",
    "pos": "positive", "torchvision_ops_stochastic_depth_stochastic_depth": "dropout",
  ]

  private static func described(_ call: TorchCall, isChange: Bool) -> InPlaceForms.Call {
    var reads: [String] = []
    for argument in call.arguments { argument.appendTensors(to: &reads) }
    for keyword in call.keywords { keyword.value.appendTensors(to: &reads) }
    let function: String
    switch call.target {
    case .function(let name): function = isChange ? name + "_" : views[name] ?? name
    case .module(let module):
      function = isChange ? "module_" : viewModules.contains(module.className) ? "alias" : "module"
    }
    return InPlaceForms.Call(function: function, reads: reads, results: call.results)
  }
}

extension TorchCall {
  /// The same call with other values in the place of some.
  fileprivate func reading(_ standIns: [String: String]) -> TorchCall {
    TorchCall(
      target: target, arguments: arguments.map { $0.reading(standIns) },
      keywords: keywords.map { Keyword(name: $0.name, value: $0.value.reading(standIns)) }, results: results,
      bindsElements: bindsElements, scope: scope, declared: declared)
  }
}

extension TorchArgument {
  /// The names of the tensors in it, in order.
  fileprivate func appendTensors(to names: inout [String]) {
    switch self {
    case .reference(let name): names.append(name)
    case .parameter(let name): names.append(InPlaceStatements.parameterMark + name)
    case .list(let elements), .tuple(let elements): for element in elements { element.appendTensors(to: &names) }
    case .dictionary(let entries): for entry in entries { entry.value.appendTensors(to: &names) }
    case .slice(let start, let end, let step): for part in [start, end, step] { part.appendTensors(to: &names) }
    case .none, .bool, .int, .float, .string, .symbol, .ellipsis: break
    }
  }

  fileprivate func reading(_ standIns: [String: String]) -> TorchArgument {
    switch self {
    case .reference(let name): .reference(standIns[name] ?? name)
    case .parameter(let name): standIns[InPlaceStatements.parameterMark + name].map { .reference($0) } ?? self
    case .list(let elements): .list(elements.map { $0.reading(standIns) })
    case .tuple(let elements): .tuple(elements.map { $0.reading(standIns) })
    case .dictionary(let entries): .dictionary(entries.map { Entry(key: $0.key, value: $0.value.reading(standIns)) })
    case .slice(let start, let end, let step):
      .slice(start: start.reading(standIns), end: end.reading(standIns), step: step.reading(standIns))
    case .none, .bool, .int, .float, .string, .symbol, .ellipsis: self
    }
  }
}
