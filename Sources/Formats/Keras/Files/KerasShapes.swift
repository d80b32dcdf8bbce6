import JSON

/// Writes new lengths of what calls return wherever the configuration repeats a shape: beside tensors, in
/// `build_config`, in input layers of nested models, in what a Sequential was built with.
///
/// Keras ignores the first and fails on the others where they are wrong. A `build_config` whose structure is not known
/// is taken away: Keras then builds the layer when it is first called.
struct KerasShapes {
  private let model: KerasModel
  private let lengths: [KerasResult: [Int: Int]]
  /// Paths of variables that are not what they were.
  private let edited: Set<String>

  init(_ model: KerasModel, _ lengths: [KerasResult: [Int: Int]], edited: Set<String>) {
    (self.model, self.lengths, self.edited) = (model, lengths, edited)
  }

  func write(to changes: inout KerasTextChanges) {
    for stated in model.shapes { write(new(stated.tensor), stated.place, &changes) }
    var visited: Set<ObjectIdentifier> = []
    for invocation in model.invocations where visited.insert(invocation.entry.id).inserted {
      write(invocation, &changes)
    }
  }

  /// New lengths of a tensor, by axis.
  func new(_ tensor: KerasArgument) -> [Int: Int] {
    switch tensor {
    case .result(let call, let index): lengths[KerasResult(call: call, index: index)] ?? [:]
    case .stated(let tensor, _): new(tensor)
    case .input, .list, .dictionary, .literal: [:]
    }
  }

  private func write(_ new: [Int: Int], _ shape: JSONElement, _ changes: inout KerasTextChanges) {
    guard !new.isEmpty, shape.kind == .array else { return }
    for (axis, element) in shape.elements.enumerated() {
      if let length = new[axis], element.int != nil { changes.replace(element, with: length) }
    }
  }

  // MARK: What layers were built with

  private func write(_ invocation: KerasWiring.Invocation, _ changes: inout KerasTextChanges) {
    let entry = invocation.entry
    let tensors = invocation.arguments.flatMap(\.tensors)
    let isConcerned =
      tensors.contains { !new($0).isEmpty }
      || invocation.keywords.contains { $0.value.tensors.contains { !new($0).isEmpty } }
    if isConcerned, let config = entry.description["build_config"], !write(invocation, config, &changes) {
      changes.remove("build_config", of: entry.description)
    }
    guard let first = tensors.first else { return }
    for name in ["batch_input_shape", "batch_shape"] {
      if let shape = entry.settings.member(name) { write(new(first), shape, &changes) }
    }
    // tf.keras keeps what the projections of an attention were built with among the settings.
    for (role, tensor) in named(invocation) {
      if let shape = entry.settings.member("\(role)_shape") { write(new(tensor), shape, &changes) }
    }
    if let network = entry.network { write(network, of: entry, invocation, tensors, &changes) }
    let isEdited = model.layer(of: entry)?.variables.contains { edited.contains($0.path) } ?? false
    if isConcerned || isEdited {
      for part in entry.parts { writePart(part.entry, of: entry, first, &changes) }
    }
  }

  private func write(
    _ network: KerasNetwork, of entry: KerasEntry, _ invocation: KerasWiring.Invocation, _ tensors: [KerasArgument],
    _ changes: inout KerasTextChanges
  ) {
    if network.isSequential {
      guard let input = tensors.first else { return }
      if let shape = entry.settings["build_input_shape"] { write(new(input), shape, &changes) }
      if let first = network.entries.first, first.isInput { write(new(input), inputLayer: first, &changes) }
      return
    }
    let references = network.inputs.references
    if case .dictionary(let members)? = invocation.arguments.first {
      for reference in references {
        let layer = network.entries[reference.entry]
        var name = layer.name
        if case .dictionary(let items) = network.inputs {
          name = items.first { $0.value.references.first?.entry == reference.entry }?.name ?? name
        }
        guard let tensor = members.first(where: { $0.name == name })?.value.tensors.first else { continue }
        write(new(tensor), inputLayer: layer, &changes)
      }
      return
    }
    for (reference, tensor) in zip(references, tensors) {
      write(new(tensor), inputLayer: network.entries[reference.entry], &changes)
    }
  }

  private func write(_ new: [Int: Int], inputLayer: KerasEntry, _ changes: inout KerasTextChanges) {
    for name in ["batch_shape", "batch_input_shape"] {
      if let shape = inputLayer.settings.member(name) { write(new, shape, &changes) }
    }
  }

  /// A wrapper's layer is not called by itself: what it was built with is taken away with that of all its parts.
  private func writePart(
    _ part: KerasEntry, of wrapper: KerasEntry, _ input: KerasArgument, _ changes: inout KerasTextChanges
  ) {
    for entry in part.all { changes.remove("build_config", of: entry.description) }
    guard wrapper.className == "TimeDistributed", let network = part.network else { return }
    // It gets one step at a time.
    var step: [Int: Int] = [:]
    for (axis, length) in new(input) where axis != 1 { step[axis > 1 ? axis - 1 : axis] = length }
    if let shape = part.settings["build_input_shape"] { write(step, shape, &changes) }
    let inputs =
      network.isSequential
      ? network.entries.prefix(1).filter(\.isInput)
      : network.inputs.references.map { network.entries[$0.entry] }
    for layer in inputs { write(step, inputLayer: layer, &changes) }
  }

  /// - Returns: whether the structure was understood.
  private func write(
    _ invocation: KerasWiring.Invocation, _ config: JSONElement, _ changes: inout KerasTextChanges
  ) -> Bool {
    for (key, value) in config.members {
      switch key.string {
      case "input_shape":
        guard write(invocation.arguments, shape: value, &changes) else { return false }
      case "shapes_dict":
        let tensors = named(invocation)
        for (name, shape) in value.members {
          guard let name = name.string, name.hasSuffix("_shape"),
            let tensor = tensors.first(where: { $0.role + "_shape" == name })?.tensor
          else { return false }
          write(new(tensor), shape, &changes)
        }
      default: return false
      }
    }
    return true
  }

  private func write(_ arguments: [KerasArgument], shape: JSONElement, _ changes: inout KerasTextChanges) -> Bool {
    let tensors = arguments.flatMap(\.tensors)
    switch shape.kind {
    case .null: return true
    case .array:
      let shapes = Array(shape.elements)
      if shapes.allSatisfy({ $0.kind == .array }) {
        guard shapes.count == tensors.count else { return false }
        for (shape, tensor) in zip(shapes, tensors) { write(new(tensor), shape, &changes) }
      } else if let tensor = tensors.first {
        write(new(tensor), shape, &changes)
      }
      return true
    case .object:
      guard case .dictionary(let members)? = arguments.first else { return false }
      for (name, shape) in shape.members {
        guard let tensor = members.first(where: { $0.name == name.string })?.value.tensors.first else { return false }
        write(new(tensor), shape, &changes)
      }
      return true
    case .bool, .number, .string: return false
    }
  }

  /// The tensors of a call by the names that the layer's `call` has for them.
  private func named(_ invocation: KerasWiring.Invocation) -> [(role: String, tensor: KerasArgument)] {
    let names: [String]
    switch invocation.entry.className {
    case "MultiHeadAttention", "GroupQueryAttention": names = ["query", "value", "key"]
    case "LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D":
      names = ["sequences", "initial_state"]
    default: names = ["inputs"]
    }
    var result: [(role: String, tensor: KerasArgument)] = []
    for (name, argument) in zip(names, invocation.arguments) {
      if let tensor = argument.tensors.first { result.append((name, tensor)) }
    }
    for keyword in invocation.keywords {
      if let tensor = keyword.value.tensors.first { result.append((keyword.name, tensor)) }
    }
    // An attention that is given no key takes the values.
    let isAttention = names.count == 3
    if isAttention, !result.contains(where: { $0.role == "key" }),
      let value = result.first(where: { $0.role == "value" })
    {
      result.append(("key", value.tensor))
    }
    return result
  }
}
