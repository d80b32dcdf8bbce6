/// Puts a graph together node by node, knowing at every step the shapes, types and small contents of what there is so
/// far: what an importer needs whose format says less than ONNX operators want to know.
///
/// Invariant: every value is defined before it is read; shapes are those under the lengths the inputs were given.
package struct GraphAssembler {
  package let opset: Int
  private var values: [Draft] = []
  private var nodes: [Node] = []
  private var inputs: [ValueID] = []
  private var shapes: [[Int]?] = []
  private var contents: [ElementArray?] = []
  private var names: UniqueNames
  /// Nodes and values may bear the same names.
  private var nodeNames = UniqueNames(taken: [""])

  private struct Draft {
    let name: String
    var dtype: DType?
    var declaredShape: [Dimension]?
    var producer: NodeID?
    var tensor: Tensor?
    var storedAxes: StoredAxes?
    var isImplied = false
  }

  /// - Parameters:
  ///   - opset: of the standard operators.
  ///   - reserved: names that nothing made here may get by itself.
  package init(opset: Int, reserved: Set<String> = []) {
    self.opset = opset
    // The empty name means absence.
    names = UniqueNames(taken: reserved.union([""]))
  }

  // MARK: Values

  /// - Parameter shape: under nominal lengths.
  package mutating func input(_ name: String, dtype: DType, declared: [Dimension], shape: [Int]) -> ValueID {
    let id = define(name, dtype: dtype, shape: shape)
    values[id.index].declaredShape = declared
    inputs.append(id)
    return id
  }

  /// A stored tensor.
  /// - Parameter axes: how the file has its axes, where otherwise.
  package mutating func stored(_ name: String, _ tensor: Tensor, as axes: StoredAxes? = nil) -> ValueID {
    let id = define(name, dtype: tensor.dtype, shape: tensor.shape)
    values[id.index].tensor = tensor
    values[id.index].storedAxes = axes
    contents[id.index] = ElementArray(reading: tensor)
    return id
  }

  /// A stored tensor of our own making, named after `base`.
  package mutating func constant(_ base: String, _ tensor: Tensor) -> ValueID {
    let id = stored(names.make(base), tensor)
    values[id.index].isImplied = true
    return id
  }

  private mutating func define(_ name: String, dtype: DType?, shape: [Int]?) -> ValueID {
    values.append(Draft(name: name, dtype: dtype, producer: nil))
    shapes.append(shape)
    contents.append(nil)
    return ValueID(values.count - 1)
  }

  package func shape(_ id: ValueID) -> [Int]? { shapes[id.index] }
  package func dtype(_ id: ValueID) -> DType? { values[id.index].dtype }
  package func contents(_ id: ValueID) -> ElementArray? { contents[id.index] }
  package func name(_ id: ValueID) -> String { values[id.index].name }
  package func tensor(_ id: ValueID) -> Tensor? { values[id.index].tensor }
  /// Whether a node computes it.
  package func isComputed(_ id: ValueID) -> Bool { values[id.index].producer != nil }
  /// Whether node `first` or a later one computes it.
  package func isComputed(_ id: ValueID, from first: Int) -> Bool {
    values[id.index].producer.map { $0.index >= first } ?? false
  }
  package var nodeCount: Int { nodes.count }

  /// A name that nothing has yet.
  package mutating func uniqueName(_ wanted: String) -> String { names.make(wanted) }

  /// What the file says of a value, for readers of the graph.
  package mutating func declare(_ id: ValueID, shape: [Dimension]?, dtype: DType?) {
    values[id.index].declaredShape = shape
    if let dtype { values[id.index].dtype = dtype }
  }

  /// Gives a computed value the name by which it is to be known.
  package mutating func rename(_ id: ValueID, _ name: String) {
    let old = values[id.index]
    values[id.index] = Draft(
      name: name, dtype: old.dtype, declaredShape: old.declaredShape, producer: old.producer, tensor: old.tensor)
  }

  // MARK: Nodes

  /// Appends a node whose results are named after it.
  /// - Parameters:
  ///   - name: made unique.
  ///   - outputCount: its results.
  /// - Throws: `modelMalformed` where the shapes contradict each other.
  package mutating func node(
    _ op: String, domain: String = "", _ operands: [ValueID?], _ attributes: [String: Attribute] = [:], name: String,
    outputCount: Int = 1, dtype: DType? = nil
  ) throws(Failure) -> [ValueID] {
    let id = NodeID(nodes.count)
    let outputNames = (0..<outputCount).map { names.make(outputCount == 1 ? name : "\(name).\($0)") }
    let name = nodeNames.make(name)
    let node = Node(
      name: name, op: op, domain: domain, opset: domain.isEmpty ? opset : 1, inputs: operands,
      outputs: (0..<outputCount).map { ValueID(values.count + $0) }, attributes: attributes)
    let call = OperatorCall(
      node: node, shapes: operands.map { $0.flatMap { shapes[$0.index] } },
      contents: operands.map { $0.flatMap { contents[$0.index] } })
    let inferred = try ShapeRules.rule(for: node)?(call) ?? []
    let given = dtype ?? node.input(node.typeGivingInput).flatMap { values[$0.index].dtype }
    let types = (0..<outputCount).map { dtype ?? node.fixedResultType($0) ?? given }
    for k in 0..<outputCount {
      let shape = k < inferred.count ? inferred[k] : nil
      if let shape, !ShapeLimits.allow(shape) { throw call.malformed("an output would have the shape \(shape)") }
      let output = define(outputNames[k], dtype: types[k], shape: shape)
      values[output.index].producer = id
    }
    evaluate(call, inferred, types)
    nodes.append(node)
    return node.outputs.compactMap { $0 }
  }

  /// The contents of what is computed from lengths and small constants.
  private mutating func evaluate(_ call: OperatorCall, _ inferred: [[Int]?], _ types: [DType?]) {
    guard let rule = ElementRules.rule(for: call) else { return }
    for case let shape? in inferred where shape.reduce(1, *) > ElementArray.limit { return }
    for (k, array) in rule(call, inferred).enumerated() where k < types.count {
      if let output = call.node.outputs[k] { contents[output.index] = array?.rounded(to: types[k]) }
    }
  }

  // MARK: The graph

  package func graph(
    outputs: [ValueID], definitions: OperatorDefinitions, constraints: FormatConstraints
  ) -> Graph {
    Graph(
      values: values.map {
        Value(
          name: $0.name, dtype: $0.dtype, declaredShape: $0.declaredShape, producer: $0.producer, tensor: $0.tensor,
          storedAxes: $0.storedAxes, isImplied: $0.isImplied)
      }, nodes: nodes, inputs: inputs, outputs: outputs, definitions: definitions,
      constraints: constraints)
  }
}
