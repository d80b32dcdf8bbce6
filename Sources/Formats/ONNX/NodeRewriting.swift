import Compression
import ModelGraph

/// What a plan does to one node: other inputs, other attributes, another operator, nodes before it.
///
/// Invariant: names and outputs of the node, fields nobody knows, and the order of all fields stay.
struct NodeRewriting {
  /// By position; empty where absent.
  private(set) var inputs: [InputName]
  /// New nodes that go before this one.
  private(set) var preceding: [WireMessage] = []
  /// New constants that the graph keeps as initializers.
  private(set) var initializers: [WireMessage] = []
  private let message: NodeMessage
  private var attributes: [(name: String, value: Attribute)] = []
  private var removedAttributes: Set<String> = []
  private var isGather = false
  private let usesConstantNodes: Bool
  private let constantNames: [String]

  enum InputName {
    case original(ByteSpan)
    case new(String)
  }

  /// - Parameter usesConstantNodes: new constants become nodes: in files of IR versions before 4 every initializer is
  ///   an input of the graph, and a new input would change the model's signature.
  /// - Parameter constantNames: of the plan's constants.
  init(_ message: NodeMessage, usesConstantNodes: Bool, constantNames: [String]) {
    (self.message, self.usesConstantNodes, self.constantNames) = (message, usesConstantNodes, constantNames)
    inputs = message.inputs.map(InputName.original)
  }

  mutating func apply(_ edit: NodeEdit, names: inout UniqueNames) throws(Failure) {
    switch edit {
    case .setAttribute(_, let name, let value):
      attributes.removeAll { $0.name == name }
      attributes.append((name, value))
    case .removeAttribute(_, let name): removedAttributes.insert(name)
    case .setInput(_, let input, let tensor):
      set(input, constant(tensor, "input\(input)", &names))
    case .readConstant(_, let input, let index): set(input, constantNames[index])
    case .adjustInput(_, let input, let multiplier, let divisor, let offset):
      guard input < inputs.count else {
        throw Failure(.certificateFailed, "the plan adjusts input \(input) of \(message.label), which has none")
      }
      let operations: [(op: String, operand: Tensor, neutral: Int64)] = [
        ("Mul", multiplier, 1), ("Div", divisor, 1), ("Add", offset, 0),
      ]
      for (op, operand, neutral) in operations where !operand.isFilled(with: neutral) {
        try splice(op, operand, before: input, [:], &names)
      }
    case .becomeGather(_, let axis, let indices):
      guard let data = inputs.first else {
        throw Failure(.certificateFailed, "the plan makes a Gather of \(message.label), which has no inputs")
      }
      inputs = [data, .new(constant(Tensor(int64: indices.map(Int64.init)), "indices", &names))]
      attributes = [("axis", .int(axis))]
      isGather = true
    case .gatherInput(_, let input, let axis, let indices):
      guard input < inputs.count else {
        throw Failure(.certificateFailed, "the plan picks from input \(input) of \(message.label), which has none")
      }
      try splice("Gather", Tensor(int64: indices.map(Int64.init)), before: input, ["axis": .int(axis)], &names)
    }
  }

  /// The node as it is now.
  /// - Parameter relocated: gives an untouched attribute's new form where its tensors move to other files.
  func encoded(_ relocated: (ByteSpan) throws(Failure) -> WireMessage?) throws(Failure) -> WireMessage {
    typealias Field = ONNXSchema.Node
    var result = WireMessage()
    var missing = attributes
    let fields = try [WireField](message.span, "NodeProto")
    let inputPosition = fields.firstIndex { $0.number == Field.input } ?? fields.position(ofNew: Field.input)
    let attributePosition = fields.position(ofNew: Field.attribute)
    for (position, field) in fields.enumerated() {
      if position == inputPosition { appendInputs(to: &result) }
      if position == attributePosition { try append(&missing, to: &result) }
      switch field.number {
      case Field.input: break
      case Field.opType where isGather: result.string(Field.opType, "Gather")
      case Field.attribute:
        let attribute = try AttributeMessage(field.bytes())
        let name = attribute.name.displayName
        if let index = missing.firstIndex(where: { $0.name == name }) {
          result.message(Field.attribute, try attribute.rewritten(missing.remove(at: index).value))
        } else if isGather || removedAttributes.contains(name) {
          continue
        } else if let moved = try relocated(attribute.span) {
          result.message(Field.attribute, moved)
        } else {
          result.copy(field)
        }
      default: result.copy(field)
      }
    }
    if inputPosition == fields.count { appendInputs(to: &result) }
    try append(&missing, to: &result)
    return result
  }

  // MARK: Parts

  /// Appends the attributes that the node did not have.
  private func append(
    _ missing: inout [(name: String, value: Attribute)], to message: inout WireMessage
  ) throws(Failure) {
    for (name, value) in missing {
      message.message(ONNXSchema.Node.attribute, try AttributeMessage.encode(name, value))
    }
    missing = []
  }

  private func appendInputs(to message: inout WireMessage) {
    for input in inputs {
      switch input {
      case .original(let span): message.bytes(ONNXSchema.Node.input, span)
      case .new(let name): message.string(ONNXSchema.Node.input, name)
      }
    }
  }

  private mutating func set(_ input: Int, _ name: String) {
    while inputs.count <= input { inputs.append(.new("")) }
    inputs[input] = .new(name)
  }

  /// Has the input go through a new node, which reads a constant besides.
  private mutating func splice(
    _ op: String, _ operand: Tensor, before input: Int, _ attributes: [String: Attribute], _ names: inout UniqueNames
  ) throws(Failure) {
    let right = constant(operand, "input\(input)_\(op.lowercased())_by", &names)
    let output = names.make("\(label)_input\(input)_\(op.lowercased())")
    var node = WireMessage()
    switch inputs[input] {
    case .original(let span): node.bytes(ONNXSchema.Node.input, span)
    case .new(let name): node.string(ONNXSchema.Node.input, name)
    }
    node.string(ONNXSchema.Node.input, right)
    node.string(ONNXSchema.Node.output, output)
    node.string(ONNXSchema.Node.name, output)
    node.string(ONNXSchema.Node.opType, op)
    for (name, value) in attributes {
      node.message(ONNXSchema.Node.attribute, try AttributeMessage.encode(name, value))
    }
    preceding.append(node)
    set(input, output)
  }

  /// Adds a constant of the node's own.
  private mutating func constant(_ tensor: Tensor, _ purpose: String, _ names: inout UniqueNames) -> String {
    let name = names.make("\(label)_\(purpose)")
    guard usesConstantNodes else {
      initializers.append(TensorMessage.encode(tensor, name: name))
      return name
    }
    preceding.append(.constantNode(tensor, name: name))
    return name
  }

  private var label: String {
    let name = message.name.isEmpty ? message.outputs.first { !$0.isEmpty } ?? message.op : message.name
    return name.displayName
  }
}

extension Tensor {
  fileprivate func isFilled(with number: Int64) -> Bool {
    guard dtype == .int64 else { return false }
    return (0..<elementCount).allSatisfy {
      bytes.buffer.loadUnaligned(fromByteOffset: 8 * $0, as: Int64.self) == number
    }
  }
}
