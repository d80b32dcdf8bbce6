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
      if let fixed = node.fixedResultType { return fixed }
      guard let source = node.input(node.typeGivingInput) else {
        return node.op == "QuantizeLinear" ? .uint8 : nil
      }
      id = source
    }
  }
}

extension Node {
  /// The type of what the node computes where its inputs' types do not matter.
  var fixedResultType: DType? {
    switch op {
    case "Cast": return int("to").flatMap(DType.init(rawValue:))
    case "Shape", "Size", "ArgMax", "ArgMin", "NonZero": return .int64
    case "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf":
      return .bool
    case "ConstantOfShape":
      if case .tensor(let value) = attributes["value"] { return value.dtype }
      return .float32
    default: return nil
    }
  }

  /// The input whose type the results have otherwise.
  var typeGivingInput: Int {
    switch op {
    case "Where", "CastLike", "DequantizeLinear": 1
    case "QuantizeLinear": 2
    case "EmbedLayerNormalization": 2
    default: 0
    }
  }
}
