import Compression
import ModelGraph

/// Writes the nodes that take another's place, and the constants they share.
///
/// Invariant: a constant is written once, before its first reader where it is a node.
struct NodeReplacing {
  /// The constants that the graph keeps as initializers.
  let initializers: [WireMessage]
  private let constants: [(name: String, tensor: Tensor)]
  private let usesConstantNodes: Bool
  private var written: Set<Int> = []

  /// - Parameters:
  ///   - usesConstantNodes: see `NodeRewriting`.
  ///   - placement: of a constant, by name, that another file holds; nil if the model itself does.
  init(
    _ constants: [(name: String, tensor: Tensor)], usesConstantNodes: Bool,
    placement: (String) -> ExternalPlacement?
  ) {
    (self.constants, self.usesConstantNodes) = (constants, usesConstantNodes)
    initializers =
      usesConstantNodes
      ? []
      : constants.map { name, tensor in
        if let placement = placement(name) { return TensorMessage.encode(tensor, name: name, at: placement) }
        return TensorMessage.encode(tensor, name: name)
      }
  }

  /// Constant nodes for what is not written yet; none where constants are initializers.
  mutating func constantNodes(_ indices: [Int]) -> [WireMessage] {
    guard usesConstantNodes else { return [] }
    return indices.filter { written.insert($0).inserted }.map {
      .constantNode(constants[$0].tensor, name: constants[$0].name)
    }
  }

  /// The stages of `replacement`, and Constant nodes before them where these are to be.
  /// - Parameter original: the node that they replace.
  mutating func nodes(of replacement: NodeReplacement, in original: NodeMessage) throws(Failure) -> [WireMessage] {
    typealias Field = ONNXSchema.Node
    var result = constantNodes(
      replacement.stages.flatMap(\.inputs).compactMap { if case .constant(let index) = $0 { index } else { nil } })
    for (k, stage) in replacement.stages.enumerated() {
      var node = WireMessage()
      for operand in stage.inputs {
        switch operand {
        case .previous: node.string(Field.input, k > 0 ? replacement.stages[k - 1].outputName : "")
        case .original(let input):
          if input < original.inputs.count { node.bytes(Field.input, original.inputs[input]) }
        case .constant(let index): node.string(Field.input, constants[index].name)
        }
      }
      if k == replacement.stages.count - 1 {
        for output in original.outputs { node.bytes(Field.output, output) }
      } else {
        node.string(Field.output, stage.outputName)
      }
      node.string(Field.name, stage.name)
      node.string(Field.opType, stage.op)
      for (name, value) in stage.attributes.sorted(by: { $0.key < $1.key }) {
        node.message(Field.attribute, try AttributeMessage.encode(name, value))
      }
      if !stage.domain.isEmpty { node.string(Field.domain, stage.domain) }
      result.append(node)
    }
    return result
  }
}

extension WireMessage {
  /// A Constant node that bears the name of its value.
  static func constantNode(_ tensor: Tensor, name: String) -> WireMessage {
    var attribute = WireMessage()
    attribute.string(ONNXSchema.Attribute.name, "value")
    attribute.message(ONNXSchema.Attribute.tensor, TensorMessage.encode(tensor, name: nil))
    attribute.int(ONNXSchema.Attribute.type, ONNXSchema.AttributeType.tensor.rawValue)
    var node = WireMessage()
    node.string(ONNXSchema.Node.output, name)
    node.string(ONNXSchema.Node.name, name)
    node.string(ONNXSchema.Node.opType, "Constant")
    node.message(ONNXSchema.Node.attribute, attribute)
    return node
  }
}
