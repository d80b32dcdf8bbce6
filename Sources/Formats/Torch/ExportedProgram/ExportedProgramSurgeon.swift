import JSON
import ModelGraph

/// Makes edits in an exported program.
///
/// Invariant: text that no edit concerns keeps its bytes and its place, entries of the archive that no edit concerns keep
/// their contents and their order, and every value's description (sizes, strides, offset) is that of the program as it
/// has become: PyTorch would not notice stale ones, but whatever compiles the program would.
struct ExportedProgramSurgeon {
  private let document: ExportedProgramDocument
  private let graph: JSONElement
  private let before: [EditedCall]
  private var calls: [EditedCall]
  private var weights: EditedWeights
  private var names: ExportedNames
  private var layouts: EditedLayouts
  private var replaced = ReplacedLayers()
  private var changes = JSONTextChanges()
  /// Calls that computed nothing but arguments of replaced ones.
  private var removed: Set<Int> = []
  /// Integers that are computed before a call, by its index.
  private var insertedIntegers: [Int: [InsertedInteger]] = [:]
  private let lengths: [String: [Int: Int]]

  private var exported: ExportedProgram { document.exported }
  private var text: ExportedText { document.archive.program }

  /// - Parameters:
  ///   - lengths: new lengths by axis, by the name of what a call binds.
  ///   - symbols: the open lengths under which those are given, by symbol.
  init(
    _ document: ExportedProgramDocument, lengths: [String: [Int: Int]], symbols: [String: Int]
  ) throws(Failure) {
    let (text, exported) = (document.archive.program, document.exported)
    self.document = document
    self.lengths = lengths
    graph = try text.object("graph", of: text.object("graph_module", of: text.root))
    before = zip(exported.program.calls, exported.nodes).map { EditedCall($0, $1) }
    calls = before
    weights = EditedWeights(document.archive, exported.weights)
    names = ExportedNames(exported, graph: graph)
    let expressions = SizeExpressions(text)
    try expressions.requireKnownExpressions(in: graph)
    layouts = EditedLayouts(exported, expressions, graph: graph, symbols: symbols)
  }

  /// The new archive.
  /// - Throws: `Failure` of kind certificateFailed if an edit does not fit the program, modelUnsupportedOperator if a program
  ///   cannot say it, or cancelled.
  mutating func operate(_ edits: [TorchEdit], work: Work) throws(Failure) -> ZipWriter {
    var replacements: [TorchReplacement] = []
    for edit in edits {
      if case .replace(let replacement) = edit { replacements.append(replacement) } else { try apply(edit) }
    }
    try followParameters()
    for (index, call) in exported.program.calls.enumerated() {
      if index % 64 == 0 { try work.checkCancellation() }
      for inserted in insertedIntegers[index] ?? [] { try follow(inserted) }
      try layouts.follow(calls[index], before: before[index], results: call.results, lengths: lengths)
      for replacement in replacements where replacement.call == index { try replace(replacement) }
    }
    removeUnread()
    try writeCalls()
    try writeTables()
    return try archive(work: work)
  }

  // MARK: Edits

  private mutating func apply(_ edit: TorchEdit) throws(Failure) {
    switch edit {
    case .setInteger(let place, let value):
      try edited(place.call) { call throws(Failure) in try call.set(place.path[...], to: .int(value)) }
    case .setKeyword(let call, let name, let value):
      try edited(call) { call throws(Failure) in call.setKeyword(name, to: value) }
    case .setArgument(let call, let index, let value):
      try edited(call) { call throws(Failure) in try call.set([index], to: value) }
    case .setFunction(let call, let name): try edited(call) { call throws(Failure) in call.setFunction(name) }
    case .adjustInteger(let place, let multiplier, let divisor, let offset):
      try adjust(place, multiplier, divisor, offset)
    case .cut(let parameter, let gather): try weights.cut(parameter, gather)
    case .setParameter(let name, let tensor): try weights.set(name, tensor)
    case .setAttribute(let module, let name, _):
      throw Failure(.certificateFailed, "an exported program has no module '\(module)' with a setting '\(name)'")
    case .replace: break
    }
  }

  private mutating func edited(_ call: Int, _ body: (inout EditedCall) throws(Failure) -> Void) throws(Failure) {
    guard calls.indices.contains(call) else {
      throw Failure(.certificateFailed, "the program has no call \(call)")
    }
    try body(&calls[call])
  }

  // MARK: Integers

  /// `_operator.mul` and the like, which computes `name` from `operand` and a number.
  private struct InsertedInteger {
    let name: String
    let function: String
    let operand: String
    let number: Int
  }

  /// Computes the integer at `place` from what it was.
  private mutating func adjust(
    _ place: ArgumentPlace, _ multiplier: Int, _ divisor: Int, _ offset: Int
  ) throws(Failure) {
    guard calls.indices.contains(place.call), divisor > 0 else {
      throw Failure(.certificateFailed, "the program has no call \(place.call)")
    }
    switch calls[place.call].value(at: place.path) {
    case .int(let value)?:
      try calls[place.call].set(place.path[...], to: .int(value * multiplier / divisor + offset))
    case .reference(var name)?:
      for (function, number, nothing) in [("mul", multiplier, 1), ("floordiv", divisor, 1), ("add", offset, 0)]
      where number != nothing {
        let result = names.makeInteger(function)
        insertedIntegers[place.call, default: []].append(
          InsertedInteger(name: result, function: function, operand: name, number: number))
        name = result
      }
      try calls[place.call].set(place.path[...], to: .reference(name))
    default: throw calls[place.call].misfit()
    }
  }

  private mutating func follow(_ inserted: InsertedInteger) throws(Failure) {
    guard let operand = try layouts.integer(.reference(inserted.operand)) else { return }
    switch inserted.function {
    case "mul": layouts.setInteger(inserted.name, operand * .number(inserted.number))
    case "add": layouts.setInteger(inserted.name, SizeExpression.sum(operand, .number(inserted.number)))
    default: layouts.setInteger(inserted.name, SizeExpression.floorDivision(operand, by: inserted.number))
    }
  }

  // MARK: Layers

  private mutating func followParameters() throws(Failure) {
    for (input, parameter) in exported.parameterNames.sorted(by: { $0.key < $1.key }) {
      if let layout = weights.layout(of: parameter) { try layouts.set(input, layout) }
    }
  }

  private mutating func replace(_ replacement: TorchReplacement) throws(Failure) {
    let call = calls[replacement.call]
    guard let result = exported.program.calls[replacement.call].results.first,
      let input = ReplacedLayers.inputName(of: call), let inputLayout = try layouts.current(input),
      let old = try layouts.current(result)
    else { throw call.misfit() }
    try replaced.add(
      replacement, call, result: result, input: inputLayout, old: old, probe: layouts.probe, &weights, &names)
  }

  /// The calls that turned or copied what replaced layers applied, and nothing else; in order.
  private func movingCalls() -> [Int] {
    let moving: Set = ["permute", "t", "transpose", "numpy_T", "alias", "detach", "to", "contiguous", "clone"]
    var result: [Int] = []
    var moved: Set<String> = []
    for index in calls.indices where replaced.rows[index] == nil && moving.contains(calls[index].function) {
      let parameters = calls[index].arguments.flatMap(\.value.parameters)
      let references = calls[index].arguments.flatMap(\.value.references)
      guard !(parameters.isEmpty && references.isEmpty),
        parameters.allSatisfy(replaced.replacedParameters.contains), references.allSatisfy(moved.contains)
      else { continue }
      result.append(index)
      moved.formUnion(exported.program.calls[index].results)
    }
    return result
  }

  /// Drops the parameters that replaced layers had and nobody else has, and the calls that only brought them there.
  private mutating func removeUnread() {
    guard !replaced.rows.isEmpty else { return }
    var readers: [String: Int] = [:]
    var parameterReaders: [String: Int] = [:]
    func count(_ argument: TorchArgument, _ difference: Int) {
      for name in argument.references { readers[name, default: 0] += difference }
      for name in argument.parameters { parameterReaders[name, default: 0] += difference }
    }
    count(exported.program.output, 1)
    for call in calls { for argument in call.arguments { count(argument.value, 1) } }
    for index in replaced.rows.keys.sorted() {
      for argument in calls[index].arguments { count(argument.value, -1) }
      for argument in replaced.rows[index]?.flatMap(\.arguments) ?? [] { count(argument.value, 1) }
    }
    for index in movingCalls().reversed()
    where exported.program.calls[index].results.allSatisfy({ readers[$0, default: 0] == 0 }) {
      removed.insert(index)
      for argument in calls[index].arguments { count(argument.value, -1) }
    }
    for name in replaced.replacedParameters where parameterReaders[name, default: 0] == 0 { weights.drop(name) }
  }

  // MARK: Text

  private mutating func writeCalls() throws(Failure) {
    var removedNodes: Set<Int> = []
    for (index, call) in calls.enumerated() {
      if removed.contains(index) {
        removedNodes.insert(index)
      } else if let row = replaced.rows[index] {
        var texts: [String] = []
        for member in row { texts.append(try node(member, instead: call.node)) }
        changes.replace(call.node, with: texts.joined(separator: ", "))
      } else {
        try call.write(to: &changes, names)
      }
      for inserted in insertedIntegers[index] ?? [] {
        changes.insert(try node(inserted, before: call.node) + ", ", at: call.node.range.lowerBound)
      }
    }
    changes.remove(removedNodes, of: calls.map(\.node.range))
  }

  private func node(_ call: ReplacedLayers.Call, instead old: JSONElement) throws(Failure) -> String {
    var inputs: [String] = []
    for (name, value) in call.arguments {
      inputs.append(
        "{\"name\": \"\(name)\", \"arg\": \(try names.json(value, like: nil)), \"kind\": \(ArgumentKind.positional)}")
    }
    let output = call.result.map { "[{\"as_tensor\": {\"name\": \(JSONEscapes.encoded($0.name))}}]" }
    return node(
      like: old, target: call.target, inputs: "[\(inputs.joined(separator: ", "))]", outputs: output,
      name: call.result?.name)
  }

  private func node(_ integer: InsertedInteger, before call: JSONElement) throws(Failure) -> String {
    let operand = try names.json(.reference(integer.operand), like: nil)
    let number = try names.json(.int(integer.number), like: nil)
    let kind = ArgumentKind.positional
    return node(
      like: call, target: "_operator.\(integer.function)",
      inputs: "[{\"name\": \"a\", \"arg\": \(operand), \"kind\": \(kind)}, "
        + "{\"name\": \"b\", \"arg\": \(number), \"kind\": \(kind)}]",
      outputs: "[{\"as_sym_int\": {\"as_name\": \(JSONEscapes.encoded(integer.name))}}]", name: integer.name)
  }

  /// A node with the members that nodes of this file have.
  /// - Parameters:
  ///   - outputs: nil for those of `old`.
  ///   - name: nil for that of `old`.
  private func node(
    like old: JSONElement, target: String, inputs: String, outputs: String?, name: String?
  ) -> String {
    var members: [String] = []
    for (key, value) in old.members {
      let text =
        if key.equals("target") {
          JSONEscapes.encoded(target)
        } else if key.equals("inputs") {
          inputs
        } else if key.equals("outputs"), let outputs {
          outputs
        } else if key.equals("name"), let name {
          JSONEscapes.encoded(name)
        } else {
          value.source
        }
      members.append("\(key.source): \(text)")
    }
    return "{\(members.joined(separator: ", "))}"
  }

  /// Writes the graph's inputs, the signature, and the descriptions of values.
  private mutating func writeTables() throws(Failure) {
    let module = try text.object("graph_module", of: text.root)
    let inputs = Array(try text.array("inputs", of: graph).elements)
    let specifications = Array(
      try text.array("input_specs", of: text.object("signature", of: module)).elements)
    let tensorValues = try text.object("tensor_values", of: graph)
    var removedInputs: Set<Int> = []
    /// Values that there are no longer.
    var gone: Set<String> = []
    for (index, input) in inputs.enumerated() where index < specifications.count {
      guard let name = input.onlyMember?.value["name"]?.string, let parameter = exported.parameterNames[name],
        let value = exported.tensorValues[name]
      else { continue }
      var new = (inputs: [String](), specifications: [String]())
      for addition in weights.additions(behind: parameter) {
        guard let added = names.input(of: addition.name) else { continue }
        let tensor = "{\"name\": \(JSONEscapes.encoded(added))}"
        new.inputs.append("{\"as_tensor\": \(tensor)}")
        new.specifications.append(specification(specifications[index], tensor, addition.name))
        changes.insert(
          member: added, try description(addition.layout, dtypeCode: addition.dtypeCode, like: value),
          into: tensorValues)
      }
      if weights.isDropped(parameter) {
        gone.insert(name)
        if new.inputs.isEmpty {
          removedInputs.insert(index)
        } else {
          changes.replace(input, with: new.inputs.joined(separator: ", "))
          changes.replace(specifications[index], with: new.specifications.joined(separator: ", "))
        }
        continue
      }
      for text in new.inputs { changes.insert(", " + text, at: input.range.upperBound) }
      for text in new.specifications { changes.insert(", " + text, at: specifications[index].range.upperBound) }
      if let code = weights.dtypeCode(of: parameter), let place = value["dtype"], place.int != code {
        changes.replace(place, with: String(code))
      }
    }
    changes.remove(removedInputs, of: inputs.map(\.range))
    changes.remove(removedInputs, of: specifications.map(\.range))
    for (index, row) in replaced.rows.sorted(by: { $0.key < $1.key }) {
      guard let result = exported.program.calls[index].results.first, let like = exported.tensorValues[result] else {
        continue
      }
      for (name, layout) in row.compactMap(\.result) {
        changes.insert(member: name, try description(layout, dtypeCode: nil, like: like), into: tensorValues)
      }
    }
    for index in removed { gone.formUnion(exported.program.calls[index].results) }
    let members = Array(tensorValues.members)
    changes.remove(
      Set(members.indices.filter { gone.contains(members[$0].name.string ?? "") }),
      of: members.map { $0.name.range.lowerBound..<$0.value.range.upperBound })
    try layouts.write(to: &changes, skipping: gone)
    if let table = graph["sym_int_values"] {
      for inserted in insertedIntegers.sorted(by: { $0.key < $1.key }).flatMap(\.value) {
        guard let expression = layouts.changedIntegers[inserted.name] else { continue }
        changes.insert(member: inserted.name, expression.json(exported.program.lengths), into: table)
      }
    }
  }

  /// The specification of a new parameter, of the kind that `old` has.
  private func specification(_ old: JSONElement, _ tensor: String, _ parameter: String) -> String {
    guard let (kind, value) = old.onlyMember else { return old.source }
    let members = value.members.map { key, value in
      let text =
        if key.equals("arg") {
          tensor
        } else if value.kind == .string {
          JSONEscapes.encoded(parameter)
        } else {
          value.source
        }
      return "\(key.source): \(text)"
    }
    return "{\(kind.source): {\(members.joined(separator: ", "))}}"
  }

  /// The description of a new value, which is like `old` but for what is given.
  private func description(
    _ layout: TensorLayout, dtypeCode: Int?, like old: JSONElement
  ) throws(Failure) -> String {
    var changes = JSONTextChanges()
    layout.write(
      over: old, old: try TensorLayout(old, SizeExpressions(text)), exported.program.lengths, to: &changes)
    if let dtypeCode, let place = old["dtype"] { changes.replace(place, with: String(dtypeCode)) }
    return String(decoding: changes.applied(to: text.bytes.buffer, within: old.range), as: UTF8.self)
  }

  // MARK: Archive

  private func archive(work: Work) throws(Failure) -> ZipWriter {
    let source = document.archive
    var writer = ZipWriter(alignment: ZipWriter.torchAlignment)
    let files = weights.files()
    let contents = Dictionary(uniqueKeysWithValues: files.map { ($0.entry, $0.contents) })
    for entry in source.zip.entries where !entry.isDirectory {
      try work.checkCancellation()
      for table in ExportedWeights.Table.allCases where source.text(of: table).name == entry.name {
        for (name, contents) in files
        where source.zip.entry(named: name) == nil && name.hasPrefix(source.root + table.folder) {
          if let contents { writer.add(name, contents.bytes, gather: contents.gather) }
        }
      }
      if let changed = contents[entry.name] {
        if let changed { writer.add(entry.name, changed.bytes, gather: changed.gather) }
      } else if entry.name == source.program.name, !changes.isEmpty {
        writer.add(entry.name, changes.applied(to: text.bytes.buffer))
      } else if let table = ExportedWeights.Table.allCases.first(where: { source.text(of: $0).name == entry.name }),
        let new = try weights.text(of: table)
      {
        writer.add(entry.name, new)
      } else {
        try writer.copy(entry, of: source.zip, limit: ExportedArchive.textLimit, work: work)
      }
    }
    return writer
  }
}

extension TorchArgument {
  /// The names that it refers to.
  fileprivate var references: [String] {
    switch self {
    case .reference(let name): [name]
    case .list(let elements), .tuple(let elements): elements.flatMap(\.references)
    case .dictionary(let entries): entries.flatMap(\.value.references)
    default: []
    }
  }

  fileprivate var parameters: [String] {
    switch self {
    case .parameter(let name): [name]
    case .list(let elements), .tuple(let elements): elements.flatMap(\.parameters)
    case .dictionary(let entries): entries.flatMap(\.value.parameters)
    default: []
    }
  }
}
