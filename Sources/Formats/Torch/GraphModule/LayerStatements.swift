import ModelGraph

/// A row of layers in the place of a functional call, `torch._C._nn.linear(x, weight, bias)` or
/// `torch.conv2d(x, weight, bias, ...)`: new statements, and new parameters where the weight was.
///
/// Where calls turn the weight around before it is applied, `weight.transpose(0, 1)`, the first new parameter goes by
/// their names, as it is.
///
/// Invariant: the weight is read by this call alone, so that nothing misses it.
struct LayerStatements {
  private let document: GraphModuleDocument
  private let replacement: TorchReplacement
  private let operands: AppliedOperands?

  init(_ document: GraphModuleDocument, _ replacement: TorchReplacement) {
    (self.document, self.replacement) = (document, replacement)
    operands = AppliedOperands(document.program.calls[replacement.call])
  }

  func apply(
    code: inout CodeEdits, modules: inout ModuleEdits, storage: inout StorageEdits
  ) throws(Failure) {
    let weight = replacement.weight
    guard let stored = document.tree.tensors[weight], !replacement.layers.isEmpty, let operands,
      let input = try code.argumentText(call: replacement.call, operands.input),
      let weightName = try code.argumentText(call: replacement.call, operands.weight)
    else { throw refused("it is no plain call with a weight of its own") }
    try checkReaders(of: weight)
    var readName = weightName
    for call in try route() {
      guard let moved = try code.argumentText(call: call, AppliedOperands.moved) else {
        throw refused("its weight is computed")
      }
      try code.setValue(of: call, to: moved)
      readName = moved
    }
    guard document.code.reads[readName] != nil else { throw refused("its weight is computed") }

    let (owner, name) = Self.split(weight)
    let names = names(for: name, taken: takenNames(owner))
    var parameters: [(name: String, node: PickleNode)] = []
    var previous = input
    var temporary: String?
    for (index, layer) in replacement.layers.enumerated() {
      parameters.append((names[index], try storage.newParameter(layer.weight, like: stored.node)))
      let path = owner.isEmpty ? names[index] : owner + "." + names[index]
      var local = weightName
      if index == 0 {
        try code.setPath(of: readName, to: path)
      } else {
        local = code.newName(CodeEdits.localName(path))
        code.insert("\(local) = \(CodeEdits.reference(to: path))", before: replacement.call)
      }
      let bias = try bias(
        of: layer, name: names[index] + "_bias", owner: owner, &parameters, code: &code, storage: &storage,
        like: stored.node)
      let text = try Self.call(layer.kind, input: previous, weight: local, bias: bias)
      if index == replacement.layers.count - 1 {
        try code.setValue(of: replacement.call, to: text)
      } else {
        let result = code.newName(CodeEdits.localName(path) + "_out")
        code.insert("\(result) = \(text)" + (temporary.map { ";  \($0) = None" } ?? ""), before: replacement.call)
        (previous, temporary) = (result, result)
      }
    }
    try modules.replaceParameter(name, of: owner, by: parameters)
  }

  /// The calls that turn the weight around.
  private func route() throws(Failure) -> [Int] {
    if case .parameter? = operands?.weight.value(in: document.program.calls[replacement.call]) { return [] }
    guard let route = WeightRoutes(document.program).route(of: replacement.call) else {
      throw refused("its weight is computed")
    }
    return route
  }

  private func bias(
    of layer: TorchReplacement.Layer, name: String, owner: String,
    _ parameters: inout [(name: String, node: PickleNode)], code: inout CodeEdits, storage: inout StorageEdits,
    like pattern: PickleNode
  ) throws(Failure) -> String {
    switch layer.bias {
    case .none: return "None"
    case .original:
      guard let bias = operands?.bias else { return "None" }
      return try code.argumentText(call: replacement.call, bias) ?? "None"
    case .new(let tensor):
      parameters.append((name, try storage.newParameter(tensor, like: pattern)))
      let path = owner.isEmpty ? name : owner + "." + name
      let local = code.newName(CodeEdits.localName(path))
      code.insert("\(local) = \(CodeEdits.reference(to: path))", before: replacement.call)
      return local
    }
  }

  // MARK: Names

  private static func split(_ path: String) -> (owner: String, name: String) {
    guard let dot = path.utf8.lastIndex(of: Ascii.dot) else { return ("", path) }
    return (String(path[..<dot]), String(path[path.utf8.index(after: dot)...]))
  }

  private func takenNames(_ owner: String) -> Set<String> {
    let module = owner.isEmpty ? document.object.body : document.tree.nodes[owner]?.state
    var names: Set<String> = []
    for (key, value) in module?.dictionaryEntries ?? [] {
      key.string.map { _ = names.insert($0) }
      for (inner, _) in value.dictionaryEntries ?? [] { inner.string.map { _ = names.insert($0) } }
    }
    return names
  }

  /// "weight_in", "weight_core", "weight_out": which factor of the weight it is.
  private func names(for name: String, taken: Set<String>) -> [String] {
    var unique = UniqueNames(taken: taken)
    return replacement.layers.map { unique.make(name + "_" + $0.name) }
  }

  // MARK: Text

  private static func call(
    _ kind: TorchReplacement.Layer.Kind, input: String, weight: String, bias: String
  ) throws(Failure) -> String {
    func tuple(_ values: [Int]) -> String { CodeEdits.python(literal: .tuple(values.map { .int($0) })) }
    switch kind {
    case .linear: return "torch._C._nn.linear(\(input), \(weight), \(bias))"
    case .convolution(let rank, let stride, let padding, let dilation, let groups):
      return
        "torch.conv\(rank)d(\(input), \(weight), \(bias), \(tuple(stride)), \(tuple(padding)), \(tuple(dilation)), "
        + "\(groups))"
    case .transposedConvolution(let rank, let stride, let padding, let outputPadding, let dilation, let groups):
      return "torch.conv_transpose\(rank)d(\(input), \(weight), \(bias), \(tuple(stride)), \(tuple(padding)), "
        + "\(tuple(outputPadding)), \(groups), \(tuple(dilation)))"
    }
  }

  // MARK: Refusals

  /// The weight must be this call's alone: by whatever name, and not of a module that is called.
  private func checkReaders(of weight: String) throws(Failure) {
    guard let storage = document.tree.tensors[weight]?.parameter.storage else { throw refused("it has no weight") }
    guard document.tree.tensors.values.count(where: { $0.parameter.storage == storage }) == 1 else {
      throw refused("its weight is tied to another")
    }
    guard document.program.readers(of: storage) == 1 else { throw refused("its weight is read elsewhere as well") }
  }

  private func refused(_ why: String) -> Failure {
    let name = document.program.calls[replacement.call].results.first ?? ""
    return Failure(
      .modelUnsupportedOperator,
      "the call '\(name)' cannot be replaced by a row of layers: \(why); exclude it, or compress the model as ONNX",
      details: ["node": .string(name), "parameter": .string(replacement.weight)])
  }
}
