import Compression
import ModelGraph
import Numerics

/// A plan for the graph that a program became, as edits of the program.
///
/// Invariant: every edit of the plan is carried out by one here or follows by itself; one that the program cannot say is
/// refused, naming the call.
struct ProgramEdits {
  /// In order of the calls they concern.
  private(set) var edits: [TorchEdit] = []
  /// New lengths by axis, by the name of what a call binds.
  private(set) var lengths: [String: [Int: Int]] = [:]

  private let program: TorchProgram
  private let lowered: LoweredProgram
  private let plan: CompressionPlan
  private var graph: Graph { lowered.graph }
  /// By value: the new lengths of its axes that change.
  private var changes: [ValueID: [Int: Int]] = [:]
  /// New shapes of what is cut, by state-dict name.
  private var newShapes: [String: [Int]] = [:]
  private var setAttributes: Set<String> = []
  /// The names of each parameter.
  private let tied: [TorchParameter.StorageView: [String]]
  private var givenArguments: Set<ArgumentPlace> = []

  /// - Throws: `certificateFailed` if the plan is not one for this program, `modelUnsupportedOperator` for what the program
  ///   cannot say.
  init(_ program: TorchProgram, _ lowered: LoweredProgram, _ plan: CompressionPlan) throws(Failure) {
    (self.program, self.lowered, self.plan) = (program, lowered, plan)
    tied = program.parameters.reduce(into: [:]) { $0[$1.value.storage, default: []].append($1.key) }
    for (value, axis, length) in plan.lengths { changes[value, default: [:]][axis] = length }
    for (name, id) in lowered.results { lengths[name] = changes[id] }
    try collectCuts()
    for edit in plan.edits { try translate(edit) }
    collectRepeatedLengths()
    try collectReplacements()
    collectModuleSettings()
  }

  // MARK: Parameters

  private mutating func collectCuts() throws(Failure) {
    let unread = UnreadParts(graph, plan)
    for slice in plan.slices where !unread.values.contains(slice.value) {
      let value = graph[slice.value]
      guard let name = lowered.parameters[slice.value], let tensor = value.tensor, let width = tensor.dtype.byteWidth
      else { throw misfit("it cuts '\(value.name)', which is no parameter") }
      let gather: Gather
      do throws(Gather.Misfit) {
        gather = try Gather(shape: tensor.shape, elementBytes: width, axes: slice.axes.map(Gather.Axis.init))
      } catch {
        throw misfit("it does not fit '\(name)': \(error.reason)")
      }
      edits.append(.cut(parameter: name, gather))
      newShapes[name] = gather.outputShape
      for alias in aliases(of: name) { newShapes[alias] = gather.outputShape }
    }
    for new in plan.contents where !unread.values.contains(new.value) {
      let shape = lowered.parameters[new.value].flatMap { newShapes[$0] } ?? graph[new.value].tensor?.shape
      guard let name = lowered.parameters[new.value], new.tensor.shape == shape else {
        throw misfit("it has new numbers for '\(graph[new.value].name)', which is no parameter of their shape")
      }
      edits.append(.setParameter(name: name, new.tensor))
    }
  }

  private func aliases(of name: String) -> [String] {
    guard let storage = program.parameters[name]?.storage else { return [] }
    return tied[storage] ?? []
  }

  // MARK: Edits

  private mutating func translate(_ edit: NodeEdit) throws(Failure) {
    let call = lowered.calls[edit.node.index]
    switch edit {
    case .setAttribute(let node, let name, let value):
      switch (lowered.settings[NodeSetting(node: node, attribute: name)], value) {
      case (.literal(let place), .int(let number)): edits.append(.setInteger(place, number))
      case (.attribute(let module, let attribute), .int(let number)): set(module, attribute, .int(number))
      case (.follows, _): break
      default: throw unsayable(call, "its \(name) would change")
      }
    case .setInput(let node, let input, let tensor):
      if let value = graph[node].input(input), let computed = lowered.scalars[value] {
        set(computed.place, .int(computed.value))
        return
      }
      guard let value = graph[node].input(input), let source = lowered.literals[value],
        let old = graph[value].tensor.flatMap(ElementArray.init(reading:))?.integers,
        let new = ElementArray(reading: tensor)?.integers
      else { throw unsayable(call, "a number that it reads would become a constant") }
      let (was, becomes) = (
        old.map(Int.init),
        SliceEnds.open(graph[node], input, old: old.map(Int.init), new: new.map(Int.init), in: graph, changes)
      )
      if case .end(let start, let length) = source {
        try rewrite(end: becomes, start: start, length: length, of: node, call)
      } else {
        try rewrite(source, was, becomes, call)
      }
    case .readConstant(let node, let input, let constant):
      guard let value = graph[node].input(input), let name = lowered.parameters[value] else {
        throw unsayable(call, "what it reads is no parameter")
      }
      // A layer's bias goes with the layer where that is replaced.
      if !replacedCalls.contains(call) {
        edits.append(.setParameter(name: name, plan.constants[constant].tensor))
      }
    case .adjustInput(let node, let input, let multiplier, let divisor, let offset):
      guard let value = graph[node].input(input), let places = lowered.lists[value],
        let m = ElementArray(reading: multiplier)?.integers, let d = ElementArray(reading: divisor)?.integers,
        let o = ElementArray(reading: offset)?.integers, places.count == m.count
      else { throw unsayable(call, "a length that it is given would have to be computed differently") }
      for (k, place) in places.enumerated() where m[k] != 1 || d[k] != 1 || o[k] != 0 {
        guard let place else {
          throw unsayable(call, "a length that it is given would have to be computed differently")
        }
        edits.append(.adjustInteger(place, multiplier: Int(m[k]), divisor: Int(d[k]), offset: Int(o[k])))
      }
    case .removeAttribute: throw unsayable(call, "a setting would have to go")
    case .becomeGather, .gatherInput:
      throw unsayable(call, "the channels it takes would no longer lie in a row")
    }
  }

  private mutating func rewrite(
    _ source: LiteralSource, _ old: [Int], _ new: [Int], _ call: Int
  ) throws(Failure) {
    switch source {
    case .follows: break
    case .elements(let places):
      guard old.count == new.count, places.count == old.count else {
        throw unsayable(call, "a list of numbers would change its length")
      }
      for k in old.indices where old[k] != new[k] {
        guard let place = places[k] else { throw unsayable(call, "a number that nobody wrote would change") }
        edits.append(.setInteger(place, new[k]))
      }
    case .parts(let call): try rewriteParts(call, new)
    case .end: throw unsayable(call, "where a range ends would change")
    }
  }

  /// A range that the program gives by its start and its length: the length that leads to the new end.
  private mutating func rewrite(
    end: [Int], start: ValueID, length: ArgumentPlace, of node: NodeID, _ call: Int
  ) throws(Failure) {
    var starts = graph[start].tensor.flatMap(ElementArray.init(reading:))?.integers
    for case .setInput(node, 1, let tensor) in plan.edits { starts = ElementArray(reading: tensor)?.integers }
    guard let first = starts?.first, let last = end.first else {
      throw unsayable(call, "where a range ends would change")
    }
    edits.append(.setInteger(length, last - Int(first)))
  }

  /// A `split` into parts of one size, or a `chunk`: the same again if it comes out so, else the sizes one by one.
  private mutating func rewriteParts(_ call: Int, _ sizes: [Int]) throws(Failure) {
    guard case .function(let name) = program.calls[call].target else { throw unsayable(call, "its parts would change") }
    let total = sizes.reduce(0, +)
    func even(_ size: Int) -> [Int] {
      guard size > 0 else { return [] }
      return stride(from: 0, to: total, by: size).map { min(size, total - $0) }
    }
    if name == "chunk" {
      if even((total + sizes.count - 1) / sizes.count) == sizes { return }
    } else if let first = sizes.first, even(first) == sizes, let place = place(of: "split_size", at: 1, in: call) {
      edits.append(.setInteger(place, first))
      return
    }
    edits.append(.setFunction(call: call, name: "split_with_sizes"))
    let keyword = program.calls[call].keywords.first {
      ["chunks", "split_size", "split_size_or_sections"].contains($0.name)
    }
    let list = TorchArgument.list(sizes.map(TorchArgument.int))
    if let keyword {
      edits.append(.setKeyword(call: call, name: keyword.name, value: list))
    } else {
      edits.append(.setArgument(call: call, index: 1, value: list))
    }
  }

  private func place(of keyword: String, at position: Int, in call: Int) -> ArgumentPlace? {
    let target = program.calls[call]
    if position < target.arguments.count { return ArgumentPlace(call: call, path: [position]) }
    guard let k = target.keywords.firstIndex(where: { $0.name.hasPrefix(keyword) }) else { return nil }
    return ArgumentPlace(call: call, path: [target.arguments.count + k])
  }

  /// What repeats a length without any node reading it, and what followed from one and must not.
  private mutating func collectRepeatedLengths() {
    for repeated in lowered.repeated {
      if let length = changes[repeated.value]?[repeated.axis] { edits.append(.setInteger(repeated.place, length)) }
    }
    for implied in lowered.impliedScales {
      guard changes[implied.queries]?[implied.rank - 1] != nil else { continue }
      edits.append(.setKeyword(call: implied.call, name: "scale", value: .float(implied.scale)))
    }
    for number in lowered.numbers where isChanged(number.uses) { set(number.place, .float(number.number)) }
    // What held of the old lengths need not hold of the new ones, and checks nothing that the graph computes.
    for assertion in lowered.assertions where isChanged(assertion.uses) {
      edits.append(.setArgument(call: assertion.call, index: 0, value: .bool(true)))
    }
  }

  private func isChanged(_ uses: [LengthUse]) -> Bool { uses.contains { changes[$0.value]?[$0.axis] != nil } }

  /// Gives a whole argument, positional or by keyword, once.
  private mutating func set(_ place: ArgumentPlace, _ value: TorchArgument) {
    guard let index = place.path.first, place.isWholeArgument, givenArguments.insert(place).inserted else { return }
    let call = program.calls[place.call]
    if index < call.arguments.count {
      edits.append(.setArgument(call: place.call, index: index, value: value))
    } else {
      let keyword = call.keywords[index - call.arguments.count]
      edits.append(.setKeyword(call: place.call, name: keyword.name, value: value))
    }
  }

  // MARK: Modules

  private mutating func set(_ module: String, _ name: String, _ value: TorchArgument) {
    if setAttributes.insert("\(module).\(name)").inserted {
      edits.append(.setAttribute(module: module, name: name, value: value))
    }
  }

  /// Sizes that modules state besides having parameters of them.
  private mutating func collectModuleSettings() {
    for (index, call) in program.calls.enumerated() {
      guard case .module(let module) = call.target else { continue }
      collectSettings(of: module, inputs: lowered.inputs[index].flatMap { changes[$0] } ?? [:])
    }
  }

  private mutating func collectSettings(of module: TorchModule, inputs: [Int: Int]) {
    for child in module.children { collectSettings(of: child, inputs: inputs) }
    for (name, value) in ModuleSettings.settings(
      of: module, newShapes: newShapes, newInputLengths: inputs, groups: groups(of: module))
    {
      set(module.path, name, value)
    }
  }

  /// A module's number of groups as the edits make it.
  private func groups(of module: TorchModule) -> Int {
    for case .setAttribute(module.path, "groups", .int(let groups)) in edits { return groups }
    if case .int(let groups)? = module.attributes["groups"] { return groups }
    return 1
  }

  // MARK: Replacements

  private var replacedCalls: Set<Int> { Set(plan.replacements.map { lowered.calls[$0.node.index] }) }

  private mutating func collectReplacements() throws(Failure) {
    var replacedWeights: Set<String> = []
    for nodes in plan.replacements {
      let replacement = try LayerReplacement(nodes, plan, program, lowered).replacement
      // A module that is called twice is one module; one call of a row of layers applies several.
      let isNew = replacedWeights.insert(replacement.weight).inserted
      if isNew || !program.calls[replacement.call].isOfModule { edits.append(.replace(replacement)) }
    }
  }

  // MARK: Failures

  private func misfit(_ what: String) -> Failure {
    Failure(.certificateFailed, "the plan is none for this model: \(what)")
  }

  private func unsayable(_ call: Int, _ what: String) -> Failure {
    let name = call < program.calls.count ? program.calls[call].results.first ?? "" : "output"
    return Failure(
      .modelUnsupportedOperator,
      "\(what) at '\(name)', which the file's own language cannot say in its place; exclude the layers that feed it, or "
        + "compress the model as ONNX", details: ["node": .string(name)])
  }
}
