import ModelGraph

/// A network that computes in float32 what another computes in half, bfloat16 or double precision: for runtimes that
/// lack operators for these types. Two networks that are equal stay equal, and rounding hides less.
extension Graph {
  /// Whether anything in the graph is of such a type.
  package var hasOtherFloats: Bool { values.contains { $0.dtype?.isOtherFloat == true } }

  /// - Throws: `verifyImpossible` where subgraphs would have to be changed too.
  package func widened(work: Work) throws(Failure) -> Graph {
    var values: [Value] = []
    values.reserveCapacity(self.values.count)
    for value in self.values {
      try work.checkCancellation()
      values.append(
        Value(
          name: value.name, dtype: value.dtype?.widened, declaredShape: value.declaredShape,
          tensor: value.tensor?.widened))
    }
    var nodes: [Node] = []
    nodes.reserveCapacity(self.nodes.count)
    for node in self.nodes {
      var attributes = node.attributes
      for (name, attribute) in attributes {
        switch attribute {
        case .tensor(let tensor): attributes[name] = .tensor(tensor.widened)
        case .int(let code) where ["to", "dtype", "output_dtype", "stash_type"].contains(name):
          if let dtype = DType(rawValue: code) { attributes[name] = .int(dtype.widened.rawValue) }
        case .graph:
          throw Failure(
            .verifyImpossible,
            "the runtime cannot run this model's element types, and \(node.op) '\(node.name)' has a subgraph of them",
            details: ["node": .string(node.name)])
        default: break
        }
      }
      nodes.append(
        Node(
          name: node.name, op: node.op, domain: node.domain, opset: node.opset, inputs: node.inputs,
          outputs: node.outputs, attributes: attributes, captures: node.captures))
    }
    return Graph(values: values, nodes: nodes, inputs: inputs, outputs: outputs, definitions: definitions)
  }
}

extension DType {
  fileprivate var isOtherFloat: Bool { isFloat && self != .float32 }
  fileprivate var widened: DType { isOtherFloat ? .float32 : self }
}

extension Tensor {
  /// The same numbers in float32; double ones rounded.
  package var widened: Tensor {
    let source = bytes.buffer
    func converted<Stored: BitwiseCopyable>(_ type: Stored.Type, _ number: (Stored) -> Float) -> Tensor {
      let width = MemoryLayout<Stored>.size
      return Tensor(
        dtype: .float32, shape: shape,
        bytes: TensorBytes(count: elementCount * 4) { target in
          for k in 0..<elementCount {
            let stored = source.loadUnaligned(fromByteOffset: k * width, as: type)
            target.storeBytes(of: number(stored), toByteOffset: 4 * k, as: Float.self)
          }
        })
    }
    return switch dtype {
    case .float16: converted(Float16.self) { Float($0) }
    case .bfloat16: converted(UInt16.self) { Float(bitPattern: UInt32($0) << 16) }
    case .float64: converted(Double.self) { Float($0) }
    default: self
    }
  }
}
