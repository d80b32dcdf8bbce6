/// Shape inference over a whole graph: every length is a concrete integer before it starts, so one pass in topological
/// order is simple and exact. Symbolic lengths are `InputLengths`' affair.
///
/// Invariant: every shape in the resulting table passed `ShapeLimits`. The elements of small integer tensors are
/// computed in the same pass (`ShapeArithmetic`), since the target of a Reshape may come out of a Shape before it.
extension Graph {
  /// Concrete shape inference.
  ///
  /// What an operator without a rule produces, or one whose result depends on data, has the file's declared shape if
  /// all its axes are fixed or named in `symbols`, else none. A declared shape never overrules an inferred one.
  /// - Parameters:
  ///   - inputShapes: every graph input's concrete shape; an input left out is unknown.
  ///   - symbols: the lengths that the file's symbolic axes have in `inputShapes`.
  /// - Throws: `modelMalformed`, naming node, operator and the shapes, where shapes contradict each other;
  ///   `inputShapeMismatch` where an input's shape is no shape.
  package func inferShapes(inputShapes: [ValueID: [Int]], symbols: [String: Int]) throws(Failure) -> ShapeTable {
    var budget = ControlFlowShapes.budget
    return try inferShapes(
      given: inputShapes.mapValues { ControlFlowShapes.Known(shape: $0) }, symbols: symbols, budget: &budget)
  }

  /// The same of a graph that may be a body.
  /// - Parameters:
  ///   - given: what is known of inputs.
  ///   - budget: of nodes in bodies.
  func inferShapes(
    given: [ValueID: ControlFlowShapes.Known], symbols: [String: Int], budget: inout Int
  ) throws(Failure) -> ShapeTable {
    var shapes = [[Int]?](repeating: nil, count: values.count)
    for (index, value) in values.enumerated() {
      guard let tensor = value.tensor else { continue }
      guard ShapeLimits.allow(tensor.shape) else {
        throw Failure(.modelMalformed, "the stored tensor '\(value.name)' claims the shape \(tensor.shape)")
      }
      shapes[index] = tensor.shape
    }
    for input in inputs {
      guard let shape = given[input]?.shape else { continue }
      guard ShapeLimits.allow(shape) else {
        throw Failure(.inputShapeMismatch, "input '\(self[input].name)' cannot have the shape \(shape)")
      }
      shapes[input.index] = shape
    }
    var arithmetic = ShapeArithmetic(graph: self) { id in self[id].tensor.flatMap(ElementArray.init(reading:)) }
    for (input, known) in given { arithmetic.know(known.contents, dtype: known.dtype, of: input) }

    for node in nodes {
      let call = OperatorCall(
        node: node, shapes: node.inputs.map { $0.flatMap { shapes[$0.index] } },
        contents: node.inputs.map { $0.flatMap { arithmetic.contents[$0.index] } })
      if node.domain.isEmpty, let required = ShapeRules.requiredInputs[node.op],
        !(0..<required).allSatisfy(call.isPresent)
      {
        throw call.malformed("it needs \(required) inputs and does not have them all")
      }
      let inferred =
        ControlFlowShapes.takes(node)
        ? shapesOfBodies(call, shapes, arithmetic, &budget) : try ShapeRules.rule(for: node)?(call) ?? []
      for (position, output) in node.outputs.enumerated() {
        guard let output, !self[output].isStored else { continue }
        if position < inferred.count, let shape = inferred[position] {
          guard ShapeLimits.allow(shape) else { throw call.malformed("an output would have the shape \(shape)") }
          shapes[output.index] = shape
        } else {
          shapes[output.index] = self[output].declaredShape.flatMap { resolve($0, symbols) }
        }
      }
      arithmetic.evaluate(call, outputShapes: inferred)
    }
    return ShapeTable(shapes: shapes, contents: arithmetic.contents)
  }

  /// What a node with graphs inside computes, as far as these tell.
  private func shapesOfBodies(
    _ call: OperatorCall, _ shapes: [[Int]?], _ arithmetic: ShapeArithmetic, _ budget: inout Int
  ) -> [[Int]?] {
    let captures = Dictionary(call.node.captures.map { (self[$0].name, $0) }) { first, _ in first }
    return ControlFlowShapes.infer(call, budget: &budget) { name in
      captures[name].map { id in
        ControlFlowShapes.Known(
          shape: shapes[id.index], contents: arithmetic.contents[id.index], dtype: arithmetic.dtype(of: id))
      }
    }
  }

  /// A declared shape under the given symbols; nil if an axis stays open.
  private func resolve(_ declared: [Dimension], _ symbols: [String: Int]) -> [Int]? {
    var shape: [Int] = []
    shape.reserveCapacity(declared.count)
    for dimension in declared {
      switch dimension {
      case .fixed(let length): shape.append(length)
      case .symbol(let name):
        guard let length = symbols[name] ?? SymbolicLength(name)?.value(symbols) else { return nil }
        shape.append(length)
      case .unknown: return nil
      }
    }
    return ShapeLimits.allow(shape) ? shape : nil
  }
}
