import JSON
import ModelGraph

/// What an exported program says, and where in its text it says it.
package struct ExportedProgram: Sendable {
  package let program: TorchProgram
  let weights: ExportedWeights
  /// Per call of `program`, its node.
  let nodes: [JSONElement]
  /// By name, what the text says of a tensor.
  let tensorValues: [String: JSONElement]
  /// The state-dict name behind a graph input's name.
  let parameterNames: [String: String]
}

/// Reads the program of an archive.
///
/// Invariant: text that does not have PyTorch's own form gives an error that says where; nothing is evaluated.
package struct ExportedProgramReader {
  private let archive: ExportedArchive
  private let text: ExportedText
  private let graph: JSONElement
  private let weights: ExportedWeights
  private let signature: ExportedSignature
  private let tensorValues: [String: JSONElement]
  private let sizes: SizeExpressions

  package static func read(_ archive: ExportedArchive, work: Work) throws(Failure) -> ExportedProgram {
    try ExportedProgramReader(archive, work: work).read(work: work)
  }

  private init(_ archive: ExportedArchive, work: Work) throws(Failure) {
    (self.archive, text) = (archive, archive.program)
    sizes = SizeExpressions(archive.program)
    graph = try text.object("graph", of: text.object("graph_module", of: text.root))
    weights = try ExportedWeights(archive, work: work)
    signature = try ExportedSignature(archive, graph: graph, weights: weights)
    var values: [String: JSONElement] = [:]
    for (name, value) in try text.object("tensor_values", of: graph).members {
      values[name.string ?? ""] = value
      // Of parameters too, whose sizes are nobody's but PyTorch's, which evaluates them.
      let meta = try TensorMeta(value, in: text)
      let shape = try meta.shape(sizes)
      let lengths = shape.compactMap { if case .fixed(let length) = $0 { length } else { nil } }
      guard signature.parameters[name.string ?? ""] == nil || lengths.count == shape.count else {
        throw text.malformed("a stored tensor has no fixed size", value)
      }
      guard
        lengths.reduce(1, { $0.multipliedReportingOverflow(by: max($1, 1)).overflow ? Int.max : $0 * max($1, 1) }) < 1
          << 60
      else { throw text.malformed("a tensor has more elements than there can be", value) }
      guard meta.isKnownType else { throw text.malformed("a tensor has an element type that PyTorch does not", value) }
    }
    tensorValues = values
  }

  private func read(work: Work) throws(Failure) -> ExportedProgram {
    try requireHarmlessText()
    var nodes: [Node] = []
    for (index, element) in try text.array("nodes", of: graph).elements.enumerated() {
      if index % 256 == 0 { try work.checkCancellation() }
      nodes.append(try Node(element, in: text))
    }
    var outputs: [JSONElement] = []
    for (output, isWanted) in zip(try text.array("outputs", of: graph).elements, signature.isUserOutput) where isWanted
    {
      outputs.append(output)
    }
    var returned: [String] = []
    for output in outputs { ExportedArguments.collectNames(output, into: &returned) }
    var forms = InPlaceForms(nodes.map(\.memoryUse), outputs: returned)

    var bound = Set(signature.userInputs).union(signature.parameters.keys)
    var calls: [TorchCall] = []
    calls.reserveCapacity(nodes.count)
    var mutated = signature.mutated.union(forms.mutatedInputs.compactMap { signature.parameters[$0] })
    for (index, node) in nodes.enumerated() {
      if index % 256 == 0 { try work.checkCancellation() }
      let call = try call(node, function: forms.functions[index], standIns: forms.standIns[index], bound: bound)
      for result in call.results where !result.isEmpty {
        guard bound.insert(result).inserted else { throw text.malformed("'\(result)' is computed twice", node.element) }
      }
      mutated.formUnion(updatedStatistics(call))
      calls.append(call)
    }
    let arguments = ExportedArguments(text: text) { name throws(Failure) in
      try reference(forms.current(name), bound: bound)
    }
    var leaves: [TorchArgument] = []
    for output in outputs { leaves.append(try arguments.argument(output)) }
    let program = TorchProgram(
      inputs: try signature.userInputs.map { name throws(Failure) in try declaration(of: name) }, calls: calls,
      output: OutputTree.nest(leaves, as: outputSpecification),
      parameters: weights.entries.mapValues(\.parameter), mutated: mutated, lengths: try exportedLengths())
    return ExportedProgram(
      program: program, weights: weights, nodes: nodes.map(\.element), tensorValues: tensorValues,
      parameterNames: signature.parameters)
  }

  // MARK: Calls

  /// A node before names are resolved.
  private struct Node {
    let element: JSONElement
    let function: String
    let inputs: JSONElement
    let memoryUse: InPlaceForms.Call
    let results: [String]
    let bindsElements: Bool

    init(_ element: JSONElement, in text: ExportedText) throws(Failure) {
      self.element = element
      function = Self.function(try text.string("target", of: element))
      inputs = try text.array("inputs", of: element)
      var reads: [String] = []
      for input in inputs.elements {
        ExportedArguments.collectNames(try text.member("arg", of: input), into: &reads)
      }
      (results, bindsElements) = try Self.results(try text.array("outputs", of: element), in: text)
      memoryUse = InPlaceForms.Call(function: function, reads: reads, results: results.filter { !$0.isEmpty })
    }

    /// "conv2d" of "torch.ops.aten.conv2d.default"; names of other namespaces than PyTorch's own keep theirs.
    private static func function(_ target: String) -> String {
      let parts = target.split(separator: ".", omittingEmptySubsequences: false)
      if parts.count >= 4, parts[0] == "torch", parts[1] == "ops" {
        let known = ["aten", "prim", "higher_order"].contains(parts[2])
        return known ? String(parts[3]) : "\(parts[2])::\(parts[3])"
      }
      if parts.count == 2, ["_operator", "math", "operator"].contains(parts[0]) { return String(parts[1]) }
      return target
    }

    /// The names that a node binds, empty for what it returns and nobody can name.
    private static func results(
      _ outputs: JSONElement, in text: ExportedText
    ) throws(Failure) -> (names: [String], bindsElements: Bool) {
      var names: [String] = []
      var isList = false
      for output in outputs.elements {
        let (kind, value) = try text.union(output)
        switch kind.string {
        case "as_tensor": names.append(try text.string("name", of: value))
        case "as_sym_int", "as_sym_float", "as_sym_bool": names.append(try text.string("as_name", of: value))
        case "as_none": names.append("")
        case "as_tensors":
          isList = true
          for tensor in value.elements { names.append(try text.string("name", of: tensor)) }
        default:
          throw Failure(
            .modelUnsupportedOperator,
            "the program has a call that returns '\(kind.string?.prefix(40) ?? "")', which is not read",
            details: ["entry": .string(text.name), "offset": .int(output.range.lowerBound)])
        }
      }
      let count = outputs.elements.reduce(0) { count, _ in count + 1 }
      guard !isList || count == 1 else {
        throw Failure(
          .modelUnsupportedOperator, "the program has a call that returns lists within a tuple, which is not read",
          details: ["entry": .string(text.name), "offset": .int(outputs.range.lowerBound)])
      }
      return (names, isList || count > 1)
    }
  }

  private func call(
    _ node: Node, function: String, standIns: [String: String], bound: Set<String>
  ) throws(Failure) -> TorchCall {
    let arguments = ExportedArguments(text: text) { name throws(Failure) in
      try reference(standIns[name] ?? name, bound: bound)
    }
    var positional: [TorchArgument] = []
    var keywords: [TorchCall.Keyword] = []
    for input in node.inputs.elements {
      let value = try arguments.argument(text.member("arg", of: input))
      let name = try text.string("name", of: input)
      if name.isEmpty { positional.append(value) } else { keywords.append(.init(name: name, value: value)) }
    }
    let stack = node.element["metadata"]?["nn_module_stack"]?.string ?? ""
    var declared: [TorchProgram.Input] = []
    for result in node.results where tensorValues[result] != nil { declared.append(try declaration(of: result)) }
    return TorchCall(
      target: .function(function), arguments: positional, keywords: keywords, results: node.results,
      bindsElements: node.bindsElements, scope: ModuleStack.innermostPath(stack), declared: declared)
  }

  private func reference(_ name: String, bound: Set<String>) throws(Failure) -> TorchArgument {
    if let parameter = signature.parameters[name] { return .parameter(parameter) }
    guard bound.contains(name) else {
      throw text.malformed("'\(name.prefix(100))' is used before anything has computed it", graph)
    }
    return .reference(name)
  }

  /// Buffers that batch normalization writes into when it trains.
  private func updatedStatistics(_ call: TorchCall) -> [String] {
    guard
      call.keywords.contains(where: { ["training", "use_input_stats"].contains($0.name) && $0.value == .bool(true) })
    else { return [] }
    return call.keywords.compactMap { keyword in
      guard ["running_mean", "running_var"].contains(keyword.name), case .parameter(let name) = keyword.value else {
        return nil
      }
      return name
    }
  }

  // MARK: Values

  private func declaration(of name: String) throws(Failure) -> TorchProgram.Input {
    // Integers among the inputs have no description.
    guard let value = tensorValues[name] else { return TorchProgram.Input(name: name, dtype: .int64, shape: []) }
    let meta = try TensorMeta(value, in: text)
    return TorchProgram.Input(name: name, dtype: meta.dtype, shape: try meta.shape(sizes))
  }

  /// The lengths that open axes had at the export, by symbol.
  private func exportedLengths() throws(Failure) -> [String: Int] {
    var lengths: [String: Int] = [:]
    for value in tensorValues.values {
      guard let shape = value["sizes"] else { continue }
      for size in shape.elements {
        guard case .symbol(let symbol, _) = try sizes.expression(size),
          lengths[symbol] == nil, let hint = size["as_expr"]?["hint"]?["as_int"]?.int, hint > 0
        else { continue }
        lengths[symbol] = hint
      }
    }
    return lengths
  }

  /// How the returned values are nested, as the call of the model itself says.
  private var outputSpecification: String? {
    let calls = text.root["graph_module"]?["module_call_graph"]
    return calls?.elements.first { $0["fqn"]?.equals("") ?? false }?["signature"]?["out_spec"]?.string
  }

  /// - Throws: `Failure(.modelUnsafe)` for text that PyTorch would evaluate as Python and that is more than arithmetic.
  private func requireHarmlessText() throws(Failure) {
    if let guards = text.root["guards_code"] {
      for condition in guards.elements {
        guard let source = condition.string, GuardText.isHarmless(source) else {
          throw Failure(
            .modelUnsafe,
            "the program has the condition '\(condition.source.prefix(200))', which PyTorch would run as Python",
            details: ["entry": .string(text.name), "offset": .int(condition.range.lowerBound)])
        }
      }
    }
    try sizes.requireKnownExpressions(in: text.root)
  }
}
