/// A graph written down node by node, for tests: values are named by the builder or by the test, shapes and attributes
/// are literals.
///
///     let g = GraphBuilder()
///     let x = g.input("x", ["N", 3, 32, 32])
///     let y = g("Relu", g("Conv", x, g.weight([8, 3, 3, 3]), with: ["pads": [1, 1, 1, 1]]))
///     g.output(y)
///     let graph = g.build()
import ModelGraph

package final class GraphBuilder {
  private var values: [Value] = []
  private var nodes: [Node] = []
  private var inputs: [ValueID] = []
  private var outputs: [ValueID] = []
  private let opset: Int
  private var seed: UInt32 = 1

  package init(opset: Int = 17) { self.opset = opset }

  // MARK: Values

  /// A graph input. `nil` as shape: the file declares none.
  package func input(_ name: String, _ shape: [Dimension]?, dtype: DType = .float32) -> ValueID {
    let id = add(Value(name: name, dtype: dtype, declaredShape: shape))
    inputs.append(id)
    return id
  }

  /// A stored tensor.
  package func stored(_ tensor: Tensor, name: String? = nil) -> ValueID {
    add(Value(name: name ?? "stored_\(values.count)", tensor: tensor))
  }

  /// Stored int64 elements; a list unless `shape` says otherwise.
  package func ints(_ elements: [Int64], shape: [Int]? = nil, name: String? = nil) -> ValueID {
    stored(Tensor(int64: elements, shape: shape), name: name)
  }

  /// Stored float32 elements.
  package func floats(_ elements: [Float], shape: [Int]? = nil, name: String? = nil) -> ValueID {
    stored(Tensor(float32: elements, shape: shape), name: name)
  }

  /// A stored float32 tensor of pseudo-random elements in -0.5 ..< 0.5, the same on every run.
  package func weight(_ shape: [Int], name: String? = nil) -> ValueID {
    let elements = (0..<shape.reduce(1, *)).map { _ in
      // Numerical Recipes' linear congruential generator.
      seed = seed &* 1_664_525 &+ 1_013_904_223
      return Float(seed >> 8) * 0x1p-24 - 0.5
    }
    return floats(elements, shape: shape, name: name)
  }

  // MARK: Nodes

  /// A node with one output.
  package func callAsFunction(
    _ op: String, _ inputs: ValueID?..., with attributes: [String: Attribute] = [:], name: String? = nil
  ) -> ValueID {
    node(op, inputs, attributes, name: name)[0]
  }

  /// A node. Its outputs are called like the node, numbered from the second on, unless `outputNames` says otherwise.
  /// - Parameter declared: the shape the file declares for the first output.
  package func node(
    _ op: String, _ inputs: [ValueID?], _ attributes: [String: Attribute] = [:], outputs count: Int = 1,
    name: String? = nil, outputNames: [String]? = nil, domain: String = "", declared: [Dimension]? = nil,
    captures: [ValueID] = []
  ) -> [ValueID] {
    let name = name ?? "\(op)_\(nodes.count)"
    let id = NodeID(nodes.count)
    let results = (0..<count).map { position in
      add(
        Value(
          name: outputNames?[position] ?? (position == 0 ? "\(name)_out" : "\(name)_out\(position)"),
          declaredShape: position == 0 ? declared : nil, producer: id))
    }
    nodes.append(
      Node(
        name: name, op: op, domain: domain, opset: opset, inputs: inputs, outputs: results, attributes: attributes,
        captures: captures))
    return results
  }

  /// A Constant node.
  package func constant(_ tensor: Tensor, name: String? = nil) -> ValueID {
    let name = name ?? "Constant_\(nodes.count)"
    let id = add(Value(name: "\(name)_out", producer: NodeID(nodes.count), tensor: tensor))
    nodes.append(
      Node(
        name: name, op: "Constant", opset: opset, inputs: [], outputs: [id], attributes: ["value": .tensor(tensor)]))
    return id
  }

  package func output(_ ids: ValueID...) { outputs += ids }

  package func build(constraints: FormatConstraints = FormatConstraints()) -> Graph {
    Graph(values: values, nodes: nodes, inputs: inputs, outputs: outputs, constraints: constraints)
  }

  private func add(_ value: Value) -> ValueID {
    values.append(value)
    return ValueID(values.count - 1)
  }
}

// MARK: Literals

extension Dimension: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral, ExpressibleByNilLiteral {
  package init(integerLiteral length: Int) { self = .fixed(length) }
  package init(stringLiteral name: String) { self = .symbol(name) }
  package init(nilLiteral: ()) { self = .unknown }
}

extension Attribute: ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral, ExpressibleByStringLiteral,
  ExpressibleByArrayLiteral
{
  package init(integerLiteral value: Int) { self = .int(value) }
  package init(floatLiteral value: Float) { self = .float(value) }
  package init(stringLiteral value: String) { self = .string(value) }
  package init(arrayLiteral elements: Int...) { self = .ints(elements) }
}
