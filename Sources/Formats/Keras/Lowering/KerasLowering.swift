import JSON
import ModelGraph

/// Turns a program of Keras's layers and operations into the one graph, whose operators are ONNX's.
///
/// Every call is handed to the rule of its layer's class (`KerasRules`), which appends nodes. Tensors of Keras's have
/// their channels last where the graph's operators want them second; a tensor is held by a value in whichever order it
/// came about, and turned once for those who need another (`KerasLayouts`). What the model takes and returns keeps
/// Keras's order.
///
/// Invariant: the graph computes what the program predicts, under any lengths that the program takes; what a rule
/// cannot say in ONNX is refused, naming the layer.
struct KerasLowering: GraphLowering {
  /// The first operator set with group normalisation by channels; Gelu and LayerNormalization are in it.
  static let opset = 21
  static let irVersion = 10

  let program: KerasProgram
  var assembler: GraphAssembler
  /// By index of the tensor.
  var arrangements: [[ArrangedValue]] = []
  private var inputs: [KerasTensor] = []
  /// What calls returned, by call: every tensor in it, in order.
  private var returned: [[KerasTensor]] = []
  /// Which steps of a tensor count, where Keras says so by a mask that goes with it.
  var masks: [KerasTensor: KerasTensor] = [:]
  /// Index of the call that is lowered.
  private var call = 0
  /// What nodes are named after.
  var base = ""
  private(set) var layer: KerasLayer?
  /// The model that this layer applies, where that is a Functional.
  private(set) var inner: KerasCall.Network?

  private var calls: [Int] = []
  var variables: [ValueID: VariableView] = [:]
  var variableValues: [String: ValueID] = [:]
  var literals: [ValueID: [JSONElement?]] = [:]
  var settings: [NodeSetting: KerasSetting] = [:]
  private var results: [KerasResult: ArrangedValue] = [:]
  var fixed: [ValueID: String] = [:]
  /// Lengths that decide something that no edit can change.
  var decisive: [FormatConstraints.FixedAxis: String] = [:]
  /// Lengths that one setting stands for.
  var tied: [FormatConstraints.TiedAxes] = []
  /// Lengths that are the same of all heads.
  var even: [FormatConstraints.FixedAxis] = []
  /// Numbers that Keras works out from lengths.
  var roots: [ValueID: FormatConstraints.DerivedRoot] = [:]
  /// Weights of layers that no row of layers can replace.
  var indivisible: [ValueID: String] = [:]
  /// Whether an input leaves lengths besides the batch open, so that no other length is certain.
  let hasOpenLengths: Bool
  /// Whether the program is one of tf.keras 2.
  let isOfKeras2: Bool

  /// - Parameters:
  ///   - inputShapes: by input name, an override of what the program declares; open lengths have a number of ours where
  ///     there is none.
  /// - Throws: `modelUnsupportedOperator` naming the layer; `inputShapeMismatch` where shapes do not fit;
  ///   `modelMalformed` where the program contradicts itself.
  static func lower(_ program: KerasProgram, inputShapes: [String: [Int]], work: Work) throws(Failure) -> LoweredKeras {
    var refusal: Failure?
    for length in openLengths {
      var lowering = KerasLowering(program)
      let needsLengths = try lowering.bindInputs(inputShapes, openLength: length)
      do throws(Failure) {
        return try lowering.lowerCalls(work)
      } catch {
        // Windows may want more room than a small length gives.
        guard needsLengths, error.kind == .modelMalformed else { throw error }
        if refusal == nil { refusal = error }
      }
    }
    throw refusal ?? Failure(.modelMalformed, "no lengths of the inputs fit the model; pass input_shapes")
  }

  /// For lengths that are open and whose number does not matter to what is decided here: no other length's double. The
  /// later ones are for networks that halve their images often.
  private static let openLengths = [7, 131, 331]

  private init(_ program: KerasProgram) {
    self.program = program
    var reserved = Set(program.inputs.lazy.map(\.name))
    for call in program.calls { reserved.insert(call.name) }
    for layer in program.layers { for variable in layer.variables { reserved.insert(variable.name) } }
    // Names of calls are taken by what they compute.
    assembler = GraphAssembler(opset: Self.opset, reserved: reserved)
    hasOpenLengths = program.inputs.contains { input in
      input.shape.dropFirst().contains { if case .fixed = $0 { false } else { true } }
    }
    isOfKeras2 = program.layers.contains { $0.settings["batch_input_shape"] != nil || $0.className == "TFOpLambda" }
  }

  // MARK: Inputs

  /// - Returns: whether lengths had to be made up besides the batch.
  private mutating func bindInputs(_ given: [String: [Int]], openLength: Int) throws(Failure) -> Bool {
    var isMadeUp = false
    for input in program.inputs {
      var shape: [Int] = []
      if let own = given[input.name] {
        shape = own
      } else {
        for (axis, dimension) in input.shape.enumerated() {
          if case .fixed(let length) = dimension {
            shape.append(length)
          } else {
            shape.append(axis == 0 ? Self.openLengths[0] : openLength)
            if axis > 0 { isMadeUp = true }
          }
        }
      }
      guard input.shape.count == shape.count,
        zip(input.shape, shape).allSatisfy({ if case .fixed(let length) = $0 { length == $1 } else { $1 > 0 } })
      else {
        throw Failure(
          .inputShapeMismatch,
          "the input '\(input.name)' takes \(input.shape.count) axes, "
            + "\(input.shape.map(\.text).joined(separator: " x ")); given was \(shape)",
          details: ["input": .string(input.name)])
      }
      guard input.dtype != .string else {
        throw Failure(
          .modelUnsupportedOperator, "the input '\(input.name)' takes strings; leave text processing out of the model",
          details: ["node": .string(input.name), "op": .string("InputLayer")])
      }
      let id = assembler.input(input.name, dtype: input.dtype, declared: input.shape, shape: shape)
      inputs.append(tensor(id))
    }
    return isMadeUp
  }

  // MARK: Calls

  private mutating func lowerCalls(_ work: Work) throws(Failure) -> LoweredKeras {
    for index in program.calls.indices {
      if index % 64 == 0 { try work.checkCancellation() }
      try lower(call: index)
    }
    return try finish()
  }

  private mutating func lower(call index: Int) throws(Failure) {
    let call = program.calls[index]
    self.call = index
    (base, inner) = (call.name, call.inner)
    let nodesBefore = assembler.nodeCount
    let result = try apply(call.layer, given(to: call))
    base = call.name
    let tensors = result.tensors
    returned.append(tensors)
    for (k, tensor) in tensors.enumerated() {
      results[KerasResult(call: index, index: k)] = arrangements[tensor.index][0]
    }
    if tensors.count == 1, assembler.nodeCount > nodesBefore {
      name(arrangements[tensors[0].index][0].value, call.name, madeFrom: nodesBefore)
    }
    calls += [Int](repeating: index, count: assembler.nodeCount - calls.count)
  }

  private func given(to call: KerasCall) throws(Failure) -> GivenArguments {
    var given = GivenArguments()
    for argument in call.arguments { given.positional.append(try operand(argument)) }
    for keyword in call.keywords { given.keywords.append((keyword.name, try operand(keyword.value))) }
    return given
  }

  /// A model that a layer applies.
  mutating func run(_ network: KerasCall.Network, on x: KerasTensor) throws(Failure) -> LoweredOperand {
    let outer = (inputs: inputs, returned: returned, base: base, inner: inner)
    defer { (inputs, returned, base, inner) = outer }
    (inputs, returned) = ([x], [])
    for call in network.calls {
      (base, inner) = ("\(outer.base)/\(call.layer.name)", call.inner)
      returned.append(try apply(call.layer, given(to: call)).tensors)
    }
    return try operand(network.output)
  }

  /// What a call returns bears its name; what a layer computes before its activation does not.
  private mutating func name(_ value: ValueID, _ name: String, madeFrom firstNode: Int) {
    guard assembler.isComputed(value, from: firstNode) else { return }
    assembler.rename(value, name)
  }

  /// Applies a layer or operation: a call's own, or one that another is made of.
  mutating func apply(_ layer: KerasLayer, _ given: GivenArguments) throws(Failure) -> LoweredOperand {
    let outer = self.layer
    self.layer = layer
    defer { self.layer = outer }
    guard layer.kind != .foreign else { throw foreign(layer) }
    guard let rule = KerasRules.rule(for: layer) else {
      throw context.unsupported(
        layer.kind == .operation
          ? "there is no rule for this operation" : "there is no rule for layers of this class")
    }
    let given = layer.kind == .operation || layer.className.hasSuffix("OpLambda") ? given : try autocast(given, layer)
    let arguments = try KerasArguments(layer, parameters: rule.parameters, given, context: context)
    let result = try rule.lower(&self, arguments)
    if outer != nil {
      for variable in layer.variables {
        if let id = variableValues[variable.path] { keepWhole(id, "it belongs to a layer that is part of '\(base)'") }
      }
    }
    try passMasks(layer, arguments, given, to: result)
    return result
  }

  /// Real numbers come to a layer in its own type.
  private mutating func autocast(_ given: GivenArguments, _ layer: KerasLayer) throws(Failure) -> GivenArguments {
    guard let wanted = try variableType(layer) else { return given }
    func cast(_ operand: LoweredOperand, _ l: inout KerasLowering) throws(Failure) -> LoweredOperand {
      switch operand {
      case .tensor(let tensor):
        guard l.dtype(tensor).isFloat, l.dtype(tensor) != wanted else { return operand }
        return .tensor(try l.cast(tensor, to: wanted))
      case .list(let elements):
        var cast_: [LoweredOperand] = []
        for element in elements { cast_.append(try cast(element, &l)) }
        return .list(cast_)
      case .dictionary, .literal, .none: return operand
      }
    }
    var result = GivenArguments()
    for operand in given.positional { result.positional.append(try cast(operand, &self)) }
    for (name, operand) in given.keywords { result.keywords.append((name, try cast(operand, &self))) }
    return result
  }

  /// The type of a layer's variables, in which the graph computes: mixed policies store what they round for speed.
  func variableType(_ layer: KerasLayer) throws(Failure) -> DType? {
    guard let setting = layer.settings["dtype"], !setting.isNull else { return nil }
    let name = setting.string ?? setting["config"]?["name"]?.string ?? "float32"
    switch name {
    case "mixed_float16", "mixed_bfloat16", "float32": return .float32
    default: return DType(kerasName: name).flatMap { $0.isFloat ? $0 : nil }
    }
  }

  func foreign(_ layer: KerasLayer) -> Failure {
    guard !(layer.settings["dtype"].map(KerasTypes.isQuantized) ?? false) else {
      return context.unsupported(
        "its weights are quantized; compress the model before it is, and call quantize() on what comes of it")
    }
    return context.unsupported(
      layer.className == "Lambda"
        ? "it is code inside the file, which is never run; write it as operations of keras.ops or as Keras's own layers, "
          + Self.export
        : "it is a class of its own, whose code is not in the file; write it as Keras's own layers or operations of "
          + "keras.ops, " + Self.export)
  }

  private static let export = "or export the model as ONNX (model.export(..., format=\"onnx\"))"

  private func operand(_ argument: KerasArgument) throws(Failure) -> LoweredOperand {
    switch argument {
    case .input(let position):
      guard inputs.indices.contains(position) else { throw context.malformed("it reads an input that there is not") }
      return .tensor(inputs[position])
    case .result(let call, let index):
      guard returned.indices.contains(call), returned[call].indices.contains(index) else {
        throw context.malformed("it reads result \(index) of a call that returns none such")
      }
      return .tensor(returned[call][index])
    case .list(let elements):
      var operands: [LoweredOperand] = []
      for element in elements { operands.append(try operand(element)) }
      return .list(operands)
    case .dictionary(let entries):
      var operands: [LoweredOperand.Entry] = []
      for entry in entries {
        operands.append(LoweredOperand.Entry(name: entry.name, value: try operand(entry.value)))
      }
      return .dictionary(operands)
    case .literal(let element): return LoweredOperand(element)
    case .stated(let argument, shape: _): return try operand(argument)
    }
  }

  // MARK: The graph

  private mutating func finish() throws(Failure) -> LoweredKeras {
    call = program.calls.count
    base = "output"
    layer = nil
    let tensors = try operand(program.output).tensors
    guard !tensors.isEmpty else { throw Failure(.modelMalformed, "the model returns no tensor") }
    var outputs: [ValueID] = []
    for tensor in tensors {
      let primary = arrangements[tensor.index][0].value
      var id = try asWritten(tensor)
      if id != primary {
        // What the model returns bears its name.
        let name = assembler.name(primary)
        assembler.rename(primary, assembler.uniqueName("\(name).channels_first"))
        assembler.rename(id, name)
      }
      // What is returned twice, or as it came in, is copied: an output is a computed value of its own.
      if outputs.contains(id) || !assembler.isComputed(id) { id = try node("Identity", [id]) }
      outputs.append(id)
    }
    calls += [Int](repeating: call, count: assembler.nodeCount - calls.count)
    for (id, name) in zip(outputs, program.outputNames) where assembler.name(id) != name {
      assembler.rename(id, assembler.uniqueName(name))
    }
    for id in outputs { declareShape(of: id) }
    let graph = assembler.graph(
      outputs: outputs,
      definitions: OperatorDefinitions(opsets: ["": Self.opset], irVersion: Self.irVersion),
      constraints: FormatConstraints(
        fixed: fixed, fixedAxes: decisive, tiesVectors: true, undivided: indivisible,
        writable: Set(variables.keys), tiedAxes: tied, evenAxes: even, derivedRoots: roots))
    return LoweredKeras(
      graph: graph, calls: calls, variables: variables, literals: literals, settings: settings,
      results: results)
  }

  /// What the model returns has as many samples as what it takes, and its other lengths where no length is open.
  private mutating func declareShape(of id: ValueID) {
    guard let shape = assembler.shape(id), let batch = program.inputs.first?.shape.first,
      let samples = assembler.shape(primary(inputs[0]).value)?.first
    else { return }
    let isBatchOpen = if case .fixed = batch { false } else { true }
    let declared = shape.enumerated().map { axis, length -> Dimension in
      if axis == 0, isBatchOpen { return length == samples ? batch : .unknown }
      return hasOpenLengths ? .unknown : .fixed(length)
    }
    assembler.declare(id, shape: declared, dtype: nil)
  }

  // MARK: Failures

  var context: KerasContext { KerasContext(layer: layer, base: base) }
  func unsupported(_ why: String) -> Failure { context.unsupported(why) }
  func malformed(_ why: String) -> Failure { context.malformed(why) }
}

extension Dimension {
  fileprivate var text: String {
    switch self {
    case .fixed(let length): "\(length)"
    case .symbol, .unknown: "any"
    }
  }
}

extension DType {
  /// By the name that Keras, TensorFlow and NumPy give it.
  init?(kerasName name: String) {
    switch name {
    case "float32", "float": self = .float32
    case "float16", "half": self = .float16
    case "bfloat16": self = .bfloat16
    case "float64", "double": self = .float64
    case "int64", "int", "long": self = .int64
    case "int32": self = .int32
    case "int16": self = .int16
    case "int8": self = .int8
    case "uint8": self = .uint8
    case "uint16": self = .uint16
    case "uint32": self = .uint32
    case "uint64": self = .uint64
    case "bool": self = .bool
    case "string": self = .string
    default: return nil
    }
  }
}
