import JSON
import ModelGraph

/// Turns entries into the program: models are replaced by the calls of their layers, once for every call of the model.
///
/// Invariant: the number of calls is bounded whatever models hold one another: twenty models, each of which calls the
/// next one twice, are a million.
struct KerasWiring {
  /// A place of the configuration that repeats the shape of a tensor.
  struct StatedShape: Sendable {
    let place: JSONElement
    let tensor: KerasArgument
  }

  /// One call of an entry, models included.
  struct Invocation: Sendable {
    let entry: KerasEntry
    let arguments: [KerasArgument]
    let keywords: [KerasCall.Keyword]
  }

  private(set) var inputs: [KerasProgram.Input] = []
  private(set) var calls: [KerasCall] = []
  private(set) var shapes: [StatedShape] = []
  private(set) var invocations: [Invocation] = []
  private let text: KerasText
  private let layers: [ObjectIdentifier: KerasLayer]
  private let work: Work
  private var callCounts: [ObjectIdentifier: Int] = [:]
  /// Of what wrappers apply.
  private var innerCallCount = 0

  static let callLimit = 100_000

  init(_ text: KerasText, layers: [ObjectIdentifier: KerasLayer], work: Work) {
    (self.text, self.layers, self.work) = (text, layers, work)
  }

  /// What a call returns.
  private enum Outcome {
    case call(Int)
    case tensors([KerasArgument])
  }

  // MARK: The model

  /// - Returns: what the model returns.
  mutating func wire(_ model: KerasEntry) throws(Failure) -> KerasArgument {
    guard let network = model.network else { throw text.malformed("there is no model", model.description) }
    if network.isSequential {
      inputs = [try KerasInputs.input(ofSequential: model, network, text)]
      return try runSequential(network, .input(0))
    }
    var given: [Int: KerasArgument] = [:]
    for reference in network.inputs.references {
      guard given.updateValue(.input(inputs.count), forKey: reference.entry) == nil else {
        throw text.malformed("an input of the model is listed twice", reference.nodePlace)
      }
      inputs.append(try KerasInputs.input(of: network.entries[reference.entry], text))
    }
    guard !inputs.isEmpty else { throw text.malformed("the model has no inputs", model.description) }
    return try run(network, given)
  }

  /// - Parameter given: what the input layers stand for, by entry.
  private mutating func run(_ network: KerasNetwork, _ given: [Int: KerasArgument]) throws(Failure) -> KerasArgument {
    var outcomes: [KerasNetwork.NodeID: Outcome] = [:]
    for id in network.order {
      let entry = network.entries[id.entry]
      let node = network.nodes[id.entry][id.node]
      var arguments: [KerasArgument] = []
      for operand in node.arguments { arguments.append(try argument(operand, network, given, outcomes)) }
      var keywords: [KerasCall.Keyword] = []
      for (name, operand) in node.keywords {
        keywords.append(.init(name: name, value: try argument(operand, network, given, outcomes)))
      }
      outcomes[id] = try invoke(entry, arguments, keywords)
    }
    return try argument(network.outputs, network, given, outcomes)
  }

  private mutating func runSequential(
    _ network: KerasNetwork, _ input: KerasArgument
  ) throws(Failure) -> KerasArgument {
    var current = input
    for entry in network.entries where !entry.isInput {
      switch try invoke(entry, [current], []) {
      case .call(let call): current = .result(call: call, index: 0)
      case .tensors(let tensors):
        guard let only = tensors.first, tensors.count == 1 else {
          throw text.malformed(
            "a layer of a Sequential returns \(tensors.count) tensors", entry.description, layer: entry.name)
        }
        current = only
      }
    }
    return current
  }

  private mutating func argument(
    _ operand: ConfiguredOperand, _ network: KerasNetwork, _ given: [Int: KerasArgument],
    _ outcomes: [KerasNetwork.NodeID: Outcome]
  ) throws(Failure) -> KerasArgument {
    switch operand {
    case .literal(let element): return .literal(element)
    case .list(let items):
      var values: [KerasArgument] = []
      for item in items { values.append(try argument(item, network, given, outcomes)) }
      return .list(values)
    case .dictionary(let items):
      var values: [KerasCall.Keyword] = []
      for (name, item) in items {
        values.append(.init(name: name, value: try argument(item, network, given, outcomes)))
      }
      return .dictionary(values)
    case .tensor(let reference):
      let tensor = try tensor(reference, network, given, outcomes)
      guard let shape = reference.shape else { return tensor }
      shapes.append(StatedShape(place: shape, tensor: tensor))
      return .stated(tensor, shape: shape)
    }
  }

  private func tensor(
    _ reference: ConfiguredOperand.Reference, _ network: KerasNetwork, _ given: [Int: KerasArgument],
    _ outcomes: [KerasNetwork.NodeID: Outcome]
  ) throws(Failure) -> KerasArgument {
    let name = network.entries[reference.entry].name.prefix(100)
    if network.entries[reference.entry].isInput {
      guard let value = given[reference.entry] else {
        throw text.malformed("'\(name)' is used and is no input of its model", reference.nodePlace)
      }
      return value
    }
    switch outcomes[.init(entry: reference.entry, node: reference.node)] {
    case .call(let call)?: return .result(call: call, index: reference.tensor)
    case .tensors(let tensors)?:
      guard tensors.indices.contains(reference.tensor) else {
        throw text.malformed(
          "it refers to tensor \(reference.tensor) of '\(name)', which returns \(tensors.count)", reference.nodePlace)
      }
      return tensors[reference.tensor]
    case nil: throw text.malformed("it refers to no call of '\(name)'", reference.nodePlace)
    }
  }

  // MARK: Calls

  private mutating func invoke(
    _ entry: KerasEntry, _ arguments: [KerasArgument], _ keywords: [KerasCall.Keyword]
  ) throws(Failure) -> Outcome {
    invocations.append(Invocation(entry: entry, arguments: arguments, keywords: keywords))
    let inner = try inner(of: entry)
    guard invocations.count + innerCallCount <= Self.callLimit else {
      throw Failure(
        .resourceLimit, "the model makes more than \(Self.callLimit) calls of layers, those of nested models counted",
        details: ["limit": .int(Self.callLimit)])
    }
    if invocations.count % 256 == 0 { try work.checkCancellation() }
    if let network = entry.network {
      guard !keywords.contains(where: { !$0.value.tensors.isEmpty }) else {
        throw Failure(
          .modelUnsupportedOperator,
          "the model '\(entry.path.prefix(100))' is called with tensors by name (a mask); give them as inputs",
          details: ["layer": .string(entry.path)])
      }
      if network.isSequential {
        let tensors = arguments.flatMap(\.tensors)
        guard let input = tensors.first, tensors.count == 1 else { throw misfit(entry, tensors.count, 1) }
        return .tensors(try runSequential(network, input).tensors)
      }
      return .tensors(try run(network, try given(entry, network, arguments)).tensors)
    }
    if entry.kind == .layer, Self.takesOneTensor(entry.className) {
      let count = arguments.reduce(0) { $0 + $1.tensors.count }
      guard count == 1 else {
        throw text.malformed("it is called with \(count) tensors and takes one", entry.description, layer: entry.path)
      }
    }
    guard let layer = layers[entry.id] else { throw text.malformed("a layer is missing", entry.description) }
    let count = callCounts[entry.id, default: 0]
    callCounts[entry.id] = count + 1
    let name = count == 0 ? entry.path : "\(entry.path)#\(count)"
    calls.append(KerasCall(layer: layer, arguments: arguments, keywords: keywords, name: name, inner: inner))
    return .call(calls.count - 1)
  }

  /// The calls of a Functional that a wrapper applies, if it holds no further models.
  private mutating func inner(of entry: KerasEntry) throws(Failure) -> KerasCall.Network? {
    guard entry.className == "TimeDistributed", let part = entry.parts.first(where: { $0.role == "layer" })?.entry,
      let network = part.network, !network.isSequential, !network.entries.contains(where: { $0.network != nil }),
      let input = network.inputs.references.first, network.inputs.references.count == 1
    else { return nil }
    var wiring = KerasWiring(text, layers: layers, work: work)
    let output = try wiring.run(network, [input.entry: .input(0)])
    innerCallCount += wiring.invocations.count
    return KerasCall.Network(calls: wiring.calls, output: output)
  }

  private static func takesOneTensor(_ className: String) -> Bool {
    className.hasPrefix("Conv") && !className.hasPrefix("ConvLSTM") || className.hasPrefix("Depthwise")
      || className.hasPrefix("Separable")
      || [
        "Dense", "EinsumDense", "BatchNormalization", "LayerNormalization", "GroupNormalization", "PReLU", "Embedding",
      ]
      .contains(className)
  }

  /// What the input layers of a model stand for when it is called with `arguments`.
  private func given(
    _ entry: KerasEntry, _ network: KerasNetwork, _ arguments: [KerasArgument]
  ) throws(Failure) -> [Int: KerasArgument] {
    let references = network.inputs.references
    var given: [Int: KerasArgument] = [:]
    // A dictionary goes by the names of the inputs, whether they are a dictionary themselves or a list.
    if arguments.count == 1, case .dictionary(let members) = arguments[0] {
      var names: [(name: String, entry: Int)] = references.map { (network.entries[$0.entry].name, $0.entry) }
      if case .dictionary(let items) = network.inputs {
        names = items.compactMap { item in item.value.references.first.map { (item.name, $0.entry) } }
      }
      for (name, index) in names {
        guard let tensor = members.first(where: { $0.name == name })?.value.tensors.first else {
          throw text.malformed(
            "it is called without its input '\(name.prefix(100))'", entry.description, layer: entry.path)
        }
        given[index] = tensor
      }
      return given
    }
    let tensors = arguments.flatMap(\.tensors)
    guard tensors.count == references.count else { throw misfit(entry, tensors.count, references.count) }
    for (reference, tensor) in zip(references, tensors) { given[reference.entry] = tensor }
    return given
  }

  private func misfit(_ entry: KerasEntry, _ found: Int, _ expected: Int) -> Failure {
    text.malformed(
      "the model is called with \(found) tensors and has \(expected) inputs", entry.description, layer: entry.path)
  }
}

extension KerasArgument {
  /// All tensors, without their shapes, in Keras's order: dictionaries by name.
  var tensors: [KerasArgument] {
    switch self {
    case .input, .result: [self]
    case .stated(let tensor, _): tensor.tensors
    case .list(let items): items.flatMap(\.tensors)
    case .dictionary(let items): items.sorted { $0.name < $1.name }.flatMap(\.value.tensors)
    case .literal: []
    }
  }
}
