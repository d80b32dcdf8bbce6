import JSON
import ModelGraph

/// Reads how the layers of a Functional are called, in either dialect: Keras 3 has arguments with tensors where they
/// stand (`{"class_name": "__keras_tensor__", ...}`), tf.keras lists of `[layer, call, tensor, keywords]`.
struct KerasNodeReader {
  let text: KerasText
  let isKeras3: Bool
  let entries: [KerasEntry]
  let indices: [String: Int]
  /// Its name.
  let model: String

  private typealias Node = KerasNetwork.Node
  private typealias NodeID = KerasNetwork.NodeID

  /// - Parameter settings: of the Functional.
  func network(_ settings: JSONElement, work: Work) throws(Failure) -> KerasNetwork {
    var nodes: [[KerasNetwork.Node]] = []
    for entry in entries {
      var calls: [KerasNetwork.Node] = []
      if let list = entry.description["inbound_nodes"] {
        guard list.kind == .array else { throw text.malformed("'inbound_nodes' is no array", list, layer: entry.name) }
        if !entry.isInput {
          for node in list.elements { calls.append(try self.node(node, of: entry)) }
        }
      }
      nodes.append(calls)
    }
    try work.checkCancellation()
    let inputs = try structure("input_layers", of: settings)
    let outputs = try structure("output_layers", of: settings)
    for reference in inputs.references where !entries[reference.entry].isInput {
      throw text.malformed(
        "'\(entries[reference.entry].name.prefix(100))' is an input of '\(model.prefix(100))' and no InputLayer",
        reference.nodePlace)
    }
    guard outputs.holdsTensors else { throw text.malformed("'\(model.prefix(100))' returns nothing", settings) }
    let order = try order(nodes, outputs)
    return KerasNetwork(
      isSequential: false, entries: entries, nodes: nodes, order: order, inputs: inputs, outputs: outputs)
  }

  // MARK: Calls

  private func node(_ node: JSONElement, of entry: KerasEntry) throws(Failure) -> KerasNetwork.Node {
    switch node.kind {
    case .object where isKeras3 || node["args"]?.kind == .array && node["kwargs"] != nil:
      var keywords: [(name: String, value: ConfiguredOperand)] = []
      let arguments = try text.array("args", of: node)
      if let members = node["kwargs"] {
        guard members.kind == .object else { throw text.malformed("'kwargs' is no object", node, layer: entry.name) }
        for (name, value) in members.members { keywords.append((name.string ?? "", try operand(value))) }
      }
      var operands: [ConfiguredOperand] = []
      for argument in arguments.elements { operands.append(try operand(argument)) }
      return KerasNetwork.Node(arguments: operands, keywords: keywords)
    case .array, .object:
      var members: JSONElement?
      let input = try listed(node, &members)
      var keywords: [(name: String, value: ConfiguredOperand)] = []
      for (name, value) in members?.members ?? node.members { keywords.append((name.string ?? "", try operand(value))) }
      // Where one tensor stands in a list, the layer gets the tensor; operators get what they were given.
      if case .list(let items) = input, items.count == 1, entry.kind != .operation {
        return KerasNetwork.Node(arguments: items, keywords: keywords)
      }
      return KerasNetwork.Node(arguments: [input], keywords: keywords)
    default: throw text.malformed("a call is neither an object nor an array", node, layer: entry.name)
    }
  }

  /// What tf.keras lists: tensors with the call's keywords behind them.
  private func listed(_ element: JSONElement, _ keywords: inout JSONElement?) throws(Failure) -> ConfiguredOperand {
    if let reference = parts(ofReference: element) {
      if let members = reference.keywords, members.kind == .object { keywords = members }
      return try operand(element)
    }
    switch element.kind {
    case .array:
      var items: [ConfiguredOperand] = []
      for item in element.elements { items.append(try listed(item, &keywords)) }
      return .list(items)
    case .object:
      var items: [(name: String, value: ConfiguredOperand)] = []
      for (name, value) in element.members { items.append((name.string ?? "", try listed(value, &keywords))) }
      return .dictionary(items)
    default: throw text.malformed("there is no reference to a tensor", element)
    }
  }

  /// An argument: a tensor, a literal, or either nested in lists and dictionaries.
  private func operand(_ element: JSONElement) throws(Failure) -> ConfiguredOperand {
    switch element.kind {
    case .object:
      if let className = element["class_name"] {
        guard className.equals("__keras_tensor__") else { return .literal(element) }
        let config = try text.object("config", of: element)
        let history = try text.array("keras_history", of: config)
        guard let reference = parts(ofReference: history) else {
          throw text.malformed("'keras_history' is no layer, call and tensor", history)
        }
        return .tensor(try resolve(reference, shape: config["shape"], shift: .none))
      }
      var items: [(name: String, value: ConfiguredOperand)] = []
      for (name, value) in element.members { items.append((name.string ?? "", try operand(value))) }
      return items.contains { $0.value.holdsTensors } ? .dictionary(items) : .literal(element)
    case .array:
      if let reference = parts(ofReference: element), !isKeras3 || indices[reference.name] != nil {
        if reference.name == "_CONSTANT_VALUE" { return .literal(reference.tensor) }
        return .tensor(try resolve(reference, shape: nil, shift: .nested))
      }
      var items: [ConfiguredOperand] = []
      for item in element.elements { items.append(try operand(item)) }
      return items.contains(where: \.holdsTensors) ? .list(items) : .literal(element)
    default: return .literal(element)
    }
  }

  /// `input_layers` and `output_layers`.
  private func structure(_ name: StaticString, of settings: JSONElement) throws(Failure) -> ConfiguredOperand {
    guard let element = settings[name] else { throw text.malformed("'\(name)' is missing", settings) }
    let structure = try structure(element)
    // tf.keras writes a single tensor as a list of one.
    if !isKeras3, case .list(let items) = structure, items.count == 1 { return items[0] }
    return structure
  }

  private func structure(_ element: JSONElement) throws(Failure) -> ConfiguredOperand {
    if let reference = parts(ofReference: element) {
      return .tensor(try resolve(reference, shape: nil, shift: isKeras3 ? .functional : .nested))
    }
    switch element.kind {
    case .array:
      var items: [ConfiguredOperand] = []
      for item in element.elements { items.append(try structure(item)) }
      return .list(items)
    case .object:
      var items: [(name: String, value: ConfiguredOperand)] = []
      for (name, value) in element.members { items.append((name.string ?? "", try structure(value))) }
      return .dictionary(items)
    default: throw text.malformed("there is no layer, call and tensor", element)
    }
  }

  // MARK: References

  private struct ReferenceParts {
    let name: String
    let node: JSONElement
    let tensor: JSONElement
    let keywords: JSONElement?
  }

  /// Models count the call that made them as their first, in some dialects.
  private enum Shift { case none, functional, nested }

  private func parts(ofReference element: JSONElement) -> ReferenceParts? {
    guard element.kind == .array else { return nil }
    var iterator = element.elements
    guard let name = iterator.next()?.string, let node = iterator.next(), node.int != nil,
      let tensor = iterator.next()
    else { return nil }
    let keywords = iterator.next()
    guard iterator.next() == nil, name == "_CONSTANT_VALUE" || tensor.int != nil else { return nil }
    return ReferenceParts(name: name, node: node, tensor: tensor, keywords: keywords)
  }

  private func resolve(
    _ parts: ReferenceParts, shape: JSONElement?, shift: Shift
  ) throws(Failure) -> ConfiguredOperand.Reference {
    guard let index = indices[parts.name] else {
      throw text.malformed("it refers to a layer '\(parts.name.prefix(100))', which is not there", parts.node)
    }
    let entry = entries[index]
    var node = parts.node.int ?? -1
    if let network = entry.network {
      switch shift {
      case .none: break
      case .functional: if !network.isSequential { node -= 1 }
      case .nested: if !network.isSequential || network.entries.first?.isInput ?? false { node -= 1 }
      }
    }
    guard let tensor = parts.tensor.int, node >= 0, tensor >= 0, tensor < 1 << 20 else {
      throw text.malformed("it refers to no call of '\(parts.name.prefix(100))'", parts.node)
    }
    return ConfiguredOperand.Reference(
      entry: index, node: entry.isInput ? 0 : node, tensor: tensor, shape: shape, nodePlace: parts.node)
  }

  // MARK: Order

  /// All calls that the outputs need, each behind those it needs; otherwise as the file has them.
  private func order(
    _ nodes: [[KerasNetwork.Node]], _ outputs: ConfiguredOperand
  ) throws(Failure) -> [KerasNetwork.NodeID] {
    func needs(_ node: KerasNetwork.Node) throws(Failure) -> [NodeID] {
      try needed(node.arguments.flatMap(\.references) + node.keywords.flatMap(\.value.references))
    }
    func needed(_ references: [ConfiguredOperand.Reference]) throws(Failure) -> [NodeID] {
      var result: [NodeID] = []
      for reference in references where !entries[reference.entry].isInput {
        guard reference.node < nodes[reference.entry].count else {
          throw text.malformed(
            "it refers to call \(reference.node) of '\(entries[reference.entry].name.prefix(100))', which has "
              + "\(nodes[reference.entry].count)", reference.nodePlace)
        }
        result.append(NodeID(entry: reference.entry, node: reference.node))
      }
      return result
    }

    var isNeeded: Set<KerasNetwork.NodeID> = []
    var pending = try needed(outputs.references)
    while let next = pending.popLast() {
      if isNeeded.insert(next).inserted { pending += try needs(nodes[next.entry][next.node]) }
    }
    // Depth first, with a stack of its own: a chain may be as long as the file.
    var order: [NodeID] = []
    var isOpen: [NodeID: Bool] = [:]
    for (entry, calls) in nodes.enumerated() {
      for node in calls.indices {
        let start = NodeID(entry: entry, node: node)
        guard isNeeded.contains(start), isOpen[start] == nil else { continue }
        isOpen[start] = true
        var stack = [(id: start, rest: try needs(calls[node])[...])]
        while let top = stack.last {
          guard let next = top.rest.first else {
            isOpen[top.id] = false
            order.append(top.id)
            stack.removeLast()
            continue
          }
          stack[stack.count - 1].rest.removeFirst()
          switch isOpen[next] {
          case nil:
            isOpen[next] = true
            stack.append((next, try needs(nodes[next.entry][next.node])[...]))
          case true?:
            throw text.malformed(
              "a call of '\(entries[next.entry].name.prefix(100))' needs its own result",
              entries[next.entry].description)
          case false?: break
          }
        }
      }
    }
    return order
  }
}
