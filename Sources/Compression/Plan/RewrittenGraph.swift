import ModelGraph

// The graph that a plan makes, without its weights: new shapes, attributes and settings, so that shape inference and
// the coupling rules can be run on the result before any byte is written.

/// A graph with a plan applied. Values of the original keep their ids; what the plan introduces follows them.
struct RewrittenGraph {
  let graph: Graph
  /// Per node of the result, the original node it is, nil for spliced ones.
  let origin: [NodeID?]

  /// - Parameter contents: what becomes of a stored tensor that is cut, nil for one that only has a shape.
  init<E: Error>(
    _ original: Graph, applying plan: CompressionPlan, contents: ((Tensor, TensorSlice) throws(E) -> Tensor)?
  ) throws(E) {
    var values = original.values
    var nodes: [Node] = []
    var origin: [NodeID?] = []
    let refilled = Set(contents == nil ? [] : plan.contents.map(\.value))
    for new in plan.contents where refilled.contains(new.value) {
      values[new.value.index] = values[new.value.index].replacing(new.tensor)
    }
    for slice in plan.slices where !refilled.contains(slice.value) {
      guard let tensor = values[slice.value.index].tensor else { continue }
      if let contents {
        values[slice.value.index] = values[slice.value.index].replacing(try contents(tensor, slice))
        continue
      }
      var shape = tensor.shape
      for axis in slice.axes {
        switch axis.kept {
        case .indices(let indices): shape[axis.axis] = indices.count
        case .perBlock(_, let blocks): shape[axis.axis] = blocks.map(\.count).max() ?? 0
        }
      }
      values[slice.value.index] = values[slice.value.index].replacing(Self.phantom(tensor.dtype, shape))
    }
    func constant(_ tensor: Tensor) -> ValueID {
      values.append(Value(name: "", tensor: tensor))
      return ValueID(values.count - 1)
    }
    let constants = plan.constants.map { name, tensor in
      values.append(Value(name: name, tensor: tensor))
      return ValueID(values.count - 1)
    }
    var editsOf: [NodeID: [NodeEdit]] = [:]
    for edit in plan.edits { editsOf[edit.node, default: []].append(edit) }
    let replacements = Dictionary(uniqueKeysWithValues: plan.replacements.map { ($0.node, $0) })
    let unread = UnreadParts(original, plan).nodes
    for id in original.nodeIDs where !unread.contains(id) {
      var node = original[id]
      if let replacement = replacements[id] {
        var previous: ValueID?
        for (k, stage) in replacement.stages.enumerated() {
          let isLast = k == replacement.stages.count - 1
          let inputs = stage.inputs.map { operand -> ValueID? in
            switch operand {
            case .previous: previous
            case .original(let input): node.input(input)
            case .constant(let index): constants[index]
            }
          }
          if !isLast {
            values.append(
              Value(name: stage.outputName, dtype: node.output(0).flatMap { original[$0].dtype }))
          }
          let output = isLast ? node.output(0) : ValueID(values.count - 1)
          nodes.append(
            Node(
              name: stage.name, op: stage.op, domain: stage.domain,
              opset: stage.domain == node.domain ? node.opset : original.definitions.opsets[stage.domain] ?? node.opset,
              inputs: inputs,
              outputs: [output], attributes: stage.attributes))
          origin.append(nil)
          previous = output
        }
        continue
      }
      for edit in editsOf[id] ?? [] {
        switch edit {
        case .setAttribute(_, let name, let value): node = node.with(attribute: name, value)
        case .removeAttribute(_, let name): node = node.with(attribute: name, nil)
        case .setInput(_, let input, let tensor): node = node.with(input: input, constant(tensor))
        case .readConstant(_, let input, let index): node = node.with(input: input, constants[index])
        case .adjustInput(_, let input, let multiplier, let divisor, let offset):
          guard var current = node.input(input) else { continue }
          for (op, tensor) in [("Mul", multiplier), ("Div", divisor), ("Add", offset)] {
            let operand = constant(tensor)
            values.append(Value(name: "", dtype: values[current.index].dtype))
            let result = ValueID(values.count - 1)
            nodes.append(Node(name: "", op: op, opset: node.opset, inputs: [current, operand], outputs: [result]))
            origin.append(nil)
            current = result
          }
          node = node.with(input: input, current)
        case .becomeGather(_, let axis, let indices):
          node = Node(
            name: node.name, op: "Gather", opset: node.opset,
            inputs: [node.input(0), constant(Tensor(int64: indices.map(Int64.init)))], outputs: node.outputs,
            attributes: ["axis": .int(axis)])
        case .gatherInput(_, let input, let axis, let indices):
          guard let data = node.input(input) else { continue }
          let positions = constant(Tensor(int64: indices.map(Int64.init)))
          values.append(Value(name: "", dtype: values[data.index].dtype))
          let result = ValueID(values.count - 1)
          nodes.append(
            Node(
              name: "", op: "Gather", opset: node.opset, inputs: [data, positions], outputs: [result],
              attributes: ["axis": .int(axis)]))
          origin.append(nil)
          node = node.with(input: input, result)
        }
      }
      nodes.append(node)
      origin.append(id)
    }
    graph = Graph(
      values: values, nodes: nodes, inputs: original.inputs, outputs: original.outputs,
      definitions: original.definitions, constraints: original.constraints)
    self.origin = origin
  }

  init(_ original: Graph, applying plan: CompressionPlan) {
    self.init(original, applying: plan, contents: Optional<(Tensor, TensorSlice) -> Tensor>.none)
  }

  /// A tensor with a shape only: its bytes are never read (weights are data to shape inference and rules). Small ones
  /// are zeros, because shape arithmetic looks at small tensors.
  private static func phantom(_ dtype: DType, _ shape: [Int]) -> Tensor {
    let count = shape.reduce(dtype.byteWidth ?? 0, *)
    return Tensor(
      dtype: dtype, shape: shape,
      bytes: TensorBytes(count: count) { bytes in
        if count <= ElementArray.limit * 16 { bytes.initializeMemory(as: UInt8.self, repeating: 0) }
      })
  }
}

extension Value {
  fileprivate func replacing(_ tensor: Tensor) -> Value {
    Value(name: name, dtype: dtype, declaredShape: nil, tensor: tensor, isImplied: isImplied)
  }
}

extension Node {
  func with(attribute name: String, _ value: Attribute?) -> Node {
    var attributes = attributes
    attributes[name] = value
    return Node(
      name: self.name, op: op, domain: domain, opset: opset, inputs: inputs, outputs: outputs, attributes: attributes,
      captures: captures)
  }

  func with(input position: Int, _ value: ValueID) -> Node {
    var inputs = inputs
    while inputs.count <= position { inputs.append(nil) }
    inputs[position] = value
    return Node(
      name: name, op: op, domain: domain, opset: opset, inputs: inputs, outputs: outputs, attributes: attributes,
      captures: captures)
  }
}
