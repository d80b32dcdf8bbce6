/// The element type of values for which a file declares none: what a node computes has, but for a few operators, the
/// type of its first input.
extension Graph {
  /// nil where nothing behind the value says it.
  package func elementType(of id: ValueID) -> DType? {
    var id = id
    // Nodes are in topological order, so the walk ends; it needs no memory of where it was.
    while true {
      if let dtype = self[id].dtype { return dtype }
      guard let producer = self[id].producer else { return nil }
      let node = self[producer]
      switch node.op {
      case "Cast": return node.int("to").flatMap(DType.init(rawValue:))
      case "Shape", "Size", "ArgMax", "ArgMin", "NonZero": return .int64
      case "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf":
        return .bool
      case "ConstantOfShape":
        if case .tensor(let value) = node.attributes["value"] { return value.dtype }
        return .float32
      default: break
      }
      guard let source = node.input(Self.typeGivingInput(of: node)) else {
        return node.op == "QuantizeLinear" ? .uint8 : nil
      }
      id = source
    }
  }

  private static func typeGivingInput(of node: Node) -> Int {
    switch node.op {
    case "Where", "CastLike", "DequantizeLinear": 1
    case "QuantizeLinear": 2
    case "EmbedLayerNormalization": 2
    default: 0
    }
  }
}
