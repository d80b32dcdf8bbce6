import ModelGraph

/// Turns a program of PyTorch's operators into the one graph, whose operators are ONNX's.
///
/// Every call is bound to its operator's parameters (`OperatorArguments`) and handed to the operator's rule
/// (`TorchOperators`), which appends nodes. Modules are calls of the functions they apply (`TorchModules`).
///
/// Invariant: the graph computes what the program computes in evaluation mode, under any lengths that the program takes;
/// what a rule cannot say in ONNX is refused, naming the call.
struct TorchLowering: GraphLowering {
  /// The first operator set with group normalisation by channels; Gelu and LayerNormalization are in it.
  static let opset = 21
  static let irVersion = 10

  let program: TorchProgram
  var assembler: GraphAssembler
  /// What names are bound to.
  private var environment: [String: TorchValue] = [:]
  private var parameterValues: [TorchParameter.StorageView: ValueID] = [:]
  var sliceOrigins: [ValueID: SliceOrigin] = [:]
  /// Index of the call that is lowered.
  private(set) var call = 0
  /// What nodes of the call are named after.
  var base = ""

  private(set) var calls: [Int] = []
  private var parameters: [ValueID: String] = [:]
  var literals: [ValueID: LiteralSource] = [:]
  var settings: [NodeSetting: SettingSource] = [:]
  var repeated: [RepeatedLength] = []
  var impliedScales: [ImpliedScale] = []
  private var numbers: [ComputedNumber] = []
  var lists: [ValueID: [ArgumentPlace?]] = [:]
  var scalars: [ValueID: ComputedInteger] = [:]
  /// The lengths that enter truth values of the program, by the name of what binds these.
  private var conditions: [String: [LengthUse]] = [:]
  var assertions: [Assertion] = []
  private var moduleInputs: [Int: ValueID] = [:]
  /// Lengths that decide something that no edit can change.
  var decisive: [LengthUse: String] = [:]
  var fixed: [ValueID: String] = [:]
  /// Weights of layers that no row of layers can replace: with uneven padding, which modules say in a word, with a
  /// computed bias, or for what `noteLayers` finds.
  var indivisible: [ValueID: String] = [:]
  /// The convolution appended last.
  var lastConvolution = NodeID(0)
  private var results: [String: ValueID] = [:]
  /// Computed values that have the name of a result.
  private var named: Set<ValueID> = []

  /// - Parameters:
  ///   - inputShapes: by input name; needed where the program declares none, an override elsewhere.
  /// - Throws: `modelUnsupportedOperator` naming the call; `inputShapeMismatch` where shapes are missing or do not fit;
  ///   `modelMalformed` where the program contradicts itself.
  static func lower(_ program: TorchProgram, inputShapes: [String: [Int]], work: Work) throws(Failure) -> LoweredProgram
  {
    var lowering = TorchLowering(program)
    try lowering.bindInputs(inputShapes)
    for index in program.calls.indices {
      if index % 64 == 0 { try work.checkCancellation() }
      try lowering.lower(call: index)
    }
    return try lowering.finish()
  }

  private init(_ program: TorchProgram) {
    self.program = program
    var reserved = Set(program.parameters.keys)
    reserved.formUnion(program.inputs.lazy.map(\.name))
    for call in program.calls { reserved.formUnion(call.results) }
    assembler = GraphAssembler(opset: Self.opset, reserved: reserved)
  }

  // MARK: Inputs

  private mutating func bindInputs(_ given: [String: [Int]]) throws(Failure) {
    let missing = program.inputs.filter { given[$0.name] == nil && $0.shape == nil }
    guard missing.isEmpty else {
      throw Failure(
        .inputShapeMismatch,
        "the file does not say which shapes its inputs have (\(missing.map { "'\($0.name)'" }.joined(separator: ", "))); "
          + "pass input_shapes, for instance [{\"batch\": 1, \"channel\": 3, \"dimension\": [224, 224]}]",
        details: ["inputs": .strings(missing.map(\.name))])
    }
    let indices = program.inputsThatPickRows
    for input in program.inputs {
      let declared: [Dimension]
      let shape: [Int]
      if let own = given[input.name] {
        shape = own
        // Where the file leaves a length open it stays open.
        declared = input.shape ?? own.map(Dimension.fixed)
      } else {
        declared = input.shape ?? []
        shape = declared.map { if case .fixed(let length) = $0 { length } else { Self.openLength } }
      }
      guard declared.count == shape.count,
        zip(declared, shape).allSatisfy({ if case .fixed(let length) = $0 { length == $1 } else { $1 > 0 } })
      else {
        throw Failure(
          .inputShapeMismatch,
          "the input '\(input.name)' takes \(declared.count) axes, "
            + "\(declared.map(\.text).joined(separator: " x ")); given was \(shape)",
          details: ["input": .string(input.name)])
      }
      let dtype = input.dtype ?? (indices.contains(input.name) ? .int64 : .float32)
      let id = assembler.input(input.name, dtype: dtype, declared: declared, shape: shape)
      environment[input.name] = .tensor(id)
    }
  }

  /// For lengths that are open and whose number does not matter to what is decided here: no other length's double.
  private static let openLength = 7

  // MARK: Calls

  private mutating func lower(call index: Int) throws(Failure) {
    let call = program.calls[index]
    self.call = index
    base = call.results.first ?? "call_\(index)"
    let nodesBefore = assembler.nodeCount
    let value: TorchValue
    switch call.target {
    case .function(let name):
      value = try apply(name, call)
    case .module(let module):
      base = module.path
      let given = try arguments(of: call)
      if case .tensor(let input)? = given.positional.first { moduleInputs[index] = input }
      value = try TorchModules.apply(module, given, &self)
    }
    calls += [Int](repeating: index, count: assembler.nodeCount - nodesBefore)
    if case .bool = value { rememberCondition(of: call) }
    try bind(call, to: value, after: nodesBefore)
  }

  private mutating func apply(_ name: String, _ call: TorchCall) throws(Failure) -> TorchValue {
    guard let function = TorchOperators.function(name) else { throw unsupported("there is no rule for it") }
    if let owner = weightOwner(of: call) { base = owner }
    return try run(function, arguments(of: call))
  }

  /// Binds what is given to the function's parameters and appends what it computes.
  mutating func run(_ function: TorchFunction, _ given: Given) throws(Failure) -> TorchValue {
    let arguments = try OperatorArguments(parameters: function.parameters, given: given, context: context)
    let value = try function.lower(&self, arguments)
    note(arguments)
    return value
  }

  /// Lengths that decided what was appended cannot change.
  mutating func note(_ arguments: OperatorArguments) {
    hold(arguments.decisive, "'\(base)' is set up by this length")
  }

  func isParameter(_ value: ValueID) -> Bool { parameters[value] != nil }

  /// The path of the module that holds the parameter; nil for the model's own.
  func moduleName(of parameter: ValueID) -> String? {
    parameters[parameter].flatMap(Self.owner)
  }

  private static func owner(of parameter: String) -> String? {
    let owner = parameter.split(separator: ".").dropLast().joined(separator: ".")
    return owner.isEmpty ? nil : owner
  }

  /// The module whose weight the call applies: it is known by its path.
  private func weightOwner(of call: TorchCall) -> String? {
    let given = call.arguments.dropFirst() + call.keywords.lazy.filter { $0.name == "weight" }.map(\.value)
    for case .parameter(let name) in given {
      if let owner = Self.owner(of: name) { return owner }
    }
    return nil
  }

  private mutating func bind(_ call: TorchCall, to value: TorchValue, after nodesBefore: Int) throws(Failure) {
    if call.bindsElements {
      // Positions beside extremes are not computed; who reads them is told so.
      var value = value
      if case .tensor = value {
        value = .list([value] + [TorchValue](repeating: .none, count: max(call.results.count - 1, 0)))
      }
      guard case .list(let elements) = value, elements.count >= call.results.count else {
        throw malformed("it returns \(value.kind) where \(call.results.count) results are bound")
      }
      for (name, element) in zip(call.results, elements) { bind(name, to: element) }
    } else if let name = call.results.first {
      bind(name, to: value)
    }
    for declared in call.declared {
      guard case .tensor(let id)? = environment[declared.name], assembler.name(id) == declared.name,
        declared.fits(assembler.shape(id))
      else { continue }
      assembler.declare(id, shape: declared.shape, dtype: declared.dtype)
    }
  }

  private mutating func bind(_ name: String, to value: TorchValue) {
    environment[name] = value
    if case .tensor(let id) = value {
      results[name] = id
      // The first name a computed value gets is its own; later ones are aliases.
      if assembler.isComputed(id), !named.contains(id) {
        named.insert(id)
        assembler.rename(id, name)
      }
    }
  }

  /// Every name of `old` means `new` from now on.
  mutating func rebind(_ old: ValueID, to new: ValueID) {
    for (name, value) in environment {
      if case .tensor(old) = value { environment[name] = .tensor(new) }
    }
  }

  // MARK: Arguments

  struct Given {
    var positional: [TorchValue]
    var keywords: [(name: String, value: TorchValue)]
  }

  private mutating func arguments(of call: TorchCall) throws(Failure) -> Given {
    var given = Given(positional: [], keywords: [])
    for (k, argument) in call.arguments.enumerated() {
      given.positional.append(try value(argument, ArgumentPlace(call: self.call, path: [k])))
    }
    for (k, keyword) in call.keywords.enumerated() {
      let place = ArgumentPlace(call: self.call, path: [call.arguments.count + k])
      given.keywords.append((keyword.name, try value(keyword.value, place)))
    }
    return given
  }

  private mutating func value(_ argument: TorchArgument, _ place: ArgumentPlace) throws(Failure) -> TorchValue {
    func inner(_ k: Int) -> ArgumentPlace { ArgumentPlace(call: place.call, path: place.path + [k]) }
    switch argument {
    case .reference(let name):
      guard let value = environment[name] else { throw malformed("it reads '\(name)', which nothing binds") }
      switch value {
      case .integer(var integer):
        integer.readAt = place
        return .integer(integer)
      case .computed(let number, let uses):
        if place.isWholeArgument {
          numbers.append(ComputedNumber(place: place, number: number, uses: uses))
        } else {
          hold(uses, "'\(base)' has a number in a list that follows from this length")
        }
        return value
      default: return value
      }
    case .parameter(let name): return .tensor(try parameter(name))
    case .none: return .none
    case .bool(let value): return .bool(value)
    case .int(let value): return .integer(TorchInteger(value, .literal(place)))
    case .float(let value): return .float(value)
    case .string(let value): return .string(value)
    case .symbol(let name): return .symbol(name)
    case .list(let elements), .tuple(let elements):
      var values: [TorchValue] = []
      for (k, element) in elements.enumerated() { values.append(try value(element, inner(k))) }
      return .list(values)
    case .dictionary(let entries):
      var values: [TorchValue.Entry] = []
      for (k, entry) in entries.enumerated() {
        values.append(TorchValue.Entry(key: entry.key, value: try value(entry.value, inner(k))))
      }
      return .dictionary(values)
    case .slice(let start, let end, let step):
      return .slice(
        start: try value(start, inner(0)), end: try value(end, inner(1)), step: try value(step, inner(2)))
    case .ellipsis: return .ellipsis
    }
  }

  /// The stored tensor behind a state-dict name; tied names give one.
  mutating func parameter(_ name: String) throws(Failure) -> ValueID {
    guard let parameter = program.parameters[name] else {
      throw malformed("it reads the parameter '\(name)', which the file does not hold")
    }
    if let known = parameterValues[parameter.storage] { return known }
    let id = assembler.stored(name, parameter.tensor)
    parameterValues[parameter.storage] = id
    parameters[id] = name
    return id
  }

  // MARK: The graph

  private mutating func finish() throws(Failure) -> LoweredProgram {
    call = program.calls.count
    base = "output"
    let returned = try value(program.output, ArgumentPlace(call: call, path: []))
    var outputs: [ValueID] = []
    try collect(returned, &outputs)
    guard !outputs.isEmpty else { throw Failure(.modelMalformed, "the program returns no tensor") }
    calls += [Int](repeating: call, count: assembler.nodeCount - calls.count)
    declareShapes(of: outputs)
    let definitions = OperatorDefinitions(opsets: ["": Self.opset], irVersion: Self.irVersion)
    if program.appliesWeights {
      noteLayers(of: assembler.graph(outputs: outputs, definitions: definitions, constraints: FormatConstraints()))
    }
    let graph = assembler.graph(
      outputs: outputs, definitions: definitions,
      constraints: FormatConstraints(
        fixed: fixed,
        fixedAxes: decisive.reduce(into: [:]) { axes, entry in
          axes[FormatConstraints.FixedAxis(value: entry.key.value, axis: entry.key.axis)] = entry.value
        }, tiesVectors: true, undivided: undivided, writable: Set(parameters.keys), hasLinearFactors: true))
    return LoweredProgram(
      graph: graph, calls: calls, parameters: parameters, literals: literals, lists: lists, settings: settings,
      repeated: repeated, numbers: numbers, scalars: scalars, assertions: assertions, impliedScales: impliedScales,
      results: results, inputs: moduleInputs)
  }

  /// Where all lengths are given, those of what is returned are known as well.
  private mutating func declareShapes(of outputs: [ValueID]) {
    guard program.inputs.allSatisfy({ $0.shape?.allSatisfy { if case .fixed = $0 { true } else { false } } ?? true })
    else { return }
    for id in outputs {
      guard let shape = assembler.shape(id) else { continue }
      assembler.declare(id, shape: shape.map(Dimension.fixed), dtype: nil)
    }
  }

  /// Weights that several layers read, which a row of layers in the place of one would take from the others.
  private var undivided: [ValueID: String] {
    var readers: [TorchParameter.StorageView: Int] = [:]
    func note(_ name: String) {
      if let storage = program.parameters[name]?.storage { readers[storage, default: 0] += 1 }
    }
    var seen: Set<String> = []
    func note(_ module: TorchModule) {
      guard seen.insert(module.path).inserted else { return }
      for case let name? in module.parameters.values { note(name) }
      module.children.forEach(note)
    }
    for call in program.calls {
      if case .module(let module) = call.target { note(module) }
      for case .parameter(let name) in call.arguments + call.keywords.map(\.value) { note(name) }
    }
    var reasons = indivisible
    for (storage, value) in parameterValues where readers[storage, default: 0] > 1 {
      reasons[value] = "several layers read its weight, which are one"
    }
    return reasons
  }

  /// Every tensor that the program returns, as a value of its own.
  private mutating func collect(_ value: TorchValue, _ outputs: inout [ValueID]) throws(Failure) {
    switch value {
    case .tensor(let id):
      // What is returned twice, or as it came in, is copied: an output is a computed value of its own.
      if outputs.contains(id) || !assembler.isComputed(id) {
        outputs.append(try node("Identity", [id]))
      } else {
        outputs.append(id)
      }
    case .list(let values): for value in values { try collect(value, &outputs) }
    case .dictionary(let entries): for entry in entries { try collect(entry.value, &outputs) }
    // Numbers beside tensors are no business of the graph's.
    case .none, .integer, .float, .computed, .bool, .string, .symbol, .slice, .ellipsis: break
    }
  }

  // MARK: Lengths that decide

  /// These lengths stay as they are.
  mutating func hold(_ uses: [LengthUse], _ why: String) {
    for use in uses where decisive[use] == nil { decisive[use] = why }
  }

  private mutating func rememberCondition(of call: TorchCall) {
    var uses: [LengthUse] = []
    for argument in call.arguments + call.keywords.map(\.value) {
      guard case .reference(let name) = argument else { continue }
      uses += conditions[name] ?? []
      if case .integer(let integer)? = environment[name] { uses += integer.uses }
    }
    if !uses.isEmpty, let name = call.results.first { conditions[name] = uses }
  }

  /// The call asserts what the lengths make true today.
  mutating func rememberAssertion() {
    guard call < program.calls.count, case .reference(let name)? = program.calls[call].arguments.first,
      let uses = conditions[name]
    else { return }
    assertions.append(Assertion(call: call, uses: uses))
  }

  // MARK: Failures

  var context: CallContext {
    guard call < program.calls.count else {
      return CallContext(call: call, base: base, what: "what the model returns", name: "output")
    }
    switch program.calls[call].target {
    case .function(let name):
      return CallContext(call: call, base: base, what: "the call '\(base)' of \(name)", name: name)
    case .module(let module):
      let what = "the module '\(module.path)' (\(module.className))"
      return CallContext(
        call: call, base: base, what: what, name: module.className, instead: "with torch.export, or as ONNX,")
    }
  }

  func unsupported(_ why: String) -> Failure { context.unsupported(why) }
  func malformed(_ why: String) -> Failure { context.malformed(why) }
}

/// The call that is lowered, for messages.
struct CallContext {
  let call: Int
  let base: String
  let what: String
  let name: String
  /// How the model could be written where this cannot be taken.
  var instead = "as ONNX"

  func unsupported(_ why: String) -> Failure {
    Failure(
      .modelUnsupportedOperator, "\(what) cannot be taken: \(why). Export the model \(instead) instead, if PyTorch can",
      details: ["node": .string(base), "op": .string(name)])
  }

  func malformed(_ why: String) -> Failure {
    Failure(.modelMalformed, "\(what): \(why)", details: ["node": .string(base)])
  }
}

extension TorchProgram {
  /// Inputs without a declared type that pick rows of a table by themselves, or are told apart by number: only integers
  /// can.
  fileprivate var inputsThatPickRows: Set<String> {
    var names: Set<String> = []
    func note(_ argument: TorchArgument?) { if case .reference(let name)? = argument { names.insert(name) } }
    for call in calls {
      switch call.target {
      case .module(let module) where module.className == "Embedding":
        note(call.arguments.first ?? call.keywords.first?.value)
      case .function("embedding"):
        for argument in call.arguments.prefix(2) { note(argument) }
        for keyword in call.keywords where ["input", "indices"].contains(keyword.name) { note(keyword.value) }
      case .function("one_hot"): note(call.arguments.first ?? call.keywords.first?.value)
      default: break
      }
    }
    return names
  }
}

extension TorchProgram.Input {
  /// Whether a value of this shape can be what is declared: one that stands for more than a view does not.
  fileprivate func fits(_ found: [Int]?) -> Bool {
    guard let found, let shape else { return true }
    return found.count == shape.count
      && zip(shape, found).allSatisfy { if case .fixed(let length) = $0 { length == $1 } else { true } }
  }
}

extension ArgumentPlace {
  /// Whether it is an argument itself rather than a part of one.
  var isWholeArgument: Bool { path.count == 1 }
}

extension Dimension {
  fileprivate var text: String {
    switch self {
    case .fixed(let length): "\(length)"
    case .symbol(let name): name
    case .unknown: "?"
    }
  }
}
