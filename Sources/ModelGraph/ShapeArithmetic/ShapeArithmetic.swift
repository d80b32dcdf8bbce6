/// The part of a network that computes with lengths: everything that follows from `Shape`, `Size` and small constants
/// alone. It is evaluated exactly, element by element, while the rest of the network is only looked at for its shapes.
///
/// Invariant: an array is either exactly what a runtime would compute (a real Pow may differ in the last bit) or
/// absent; what would overflow, divide by zero or grow beyond a limit is absent. Weights never enter: only what
/// `ElementArray.init(reading:)` reads of stored tensors.
struct ShapeArithmetic {
  /// Elements that one evaluation computes at most, so that a chain of many operators cannot exhaust memory. The
  /// largest real networks use a few hundred thousand.
  private static let budget = 1 << 22

  /// Per value; nil where the elements are not known before the network runs.
  private(set) var contents: [ElementArray?]
  /// The element types of what is known.
  private var dtypes: [DType?]
  private var remaining = Self.budget
  private let graph: Graph

  /// - Parameter stored: the elements of stored tensors, nil where they are to count as data.
  init(graph: Graph, stored: (ValueID) -> ElementArray?) {
    self.graph = graph
    contents = [ElementArray?](repeating: nil, count: graph.values.count)
    dtypes = [DType?](repeating: nil, count: graph.values.count)
    for (index, value) in graph.values.enumerated() where value.isStored {
      contents[index] = stored(ValueID(index))
      dtypes[index] = value.dtype
    }
  }

  /// Elements of an input.
  mutating func know(_ array: ElementArray?, dtype: DType?, of input: ValueID) {
    guard let array else { return }
    (contents[input.index], dtypes[input.index]) = (array, dtype)
  }

  func dtype(of id: ValueID) -> DType? { dtypes[id.index] ?? graph[id].dtype }

  /// Computes the outputs of `call` where its inputs are known and its operator takes part in shape arithmetic.
  /// - Parameter outputShapes: what the operator's shape rule gave for `call`.
  mutating func evaluate(_ call: OperatorCall, outputShapes: [[Int]?]) {
    guard let rule = ElementRules.rule(for: call) else { return }
    for case let shape? in outputShapes {
      guard ShapeLimits.allow(shape), shape.reduce(1, *) <= ElementArray.limit else { return }
    }
    let dtype = resultType(of: call)
    for (position, array) in rule(call, outputShapes).enumerated() {
      guard let output = call.node.output(position), !graph[output].isStored,
        let array = array?.rounded(to: dtype), array.count <= remaining
      else { continue }
      remaining -= array.count
      contents[output.index] = array
      dtypes[output.index] = dtype
    }
  }

  /// The element type of what `call` computes.
  private func resultType(of call: OperatorCall) -> DType? {
    func input(_ position: Int) -> DType? { call.node.input(position).flatMap(dtype(of:)) }
    switch call.node.op {
    case "Shape", "Size", "NonZero": return .int64
    case "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Not": return .bool
    case "Where", "CastLike": return input(1)
    case "Cast": return call.node.int("to").flatMap(DType.init(rawValue:))
    case "ConstantOfShape":
      if case .tensor(let value) = call.node.attributes["value"] { return value.dtype }
      return .float32
    default: return input(0)
    }
  }
}

extension Graph {
  /// The shape arithmetic alone, under other lengths than the file's: what a Reshape's target and the like become.
  /// - Parameters:
  ///   - lengths: the shape of each value as `Shape` and `Size` shall see it; nil makes what they compute unknown.
  ///   - stored: the elements of each stored tensor (`ElementArray(reading:)` unless they change); nil makes it data.
  /// - Returns: per value, the elements that can be computed.
  package func evaluateShapeArithmetic(
    lengths: (ValueID) -> [Int]?, stored: (ValueID) -> ElementArray?
  ) -> [ElementArray?] {
    var arithmetic = ShapeArithmetic(graph: self, stored: stored)
    for node in nodes {
      let contents = node.inputs.map { $0.flatMap { arithmetic.contents[$0.index] } }
      let readsLengths = ElementRules.readsLengths(node)
      guard readsLengths || contents.contains(where: { $0 != nil }) else { continue }
      // Inside the arithmetic an operand's shape is that of its elements; only Shape and Size look at other values.
      let shapes = zip(node.inputs, contents).map { input, array in
        readsLengths ? input.flatMap(lengths) ?? array?.shape : array?.shape
      }
      let call = OperatorCall(node: node, shapes: shapes, contents: contents)
      guard ElementRules.rule(for: call) != nil, let rule = ShapeRules.rule(for: node),
        shapes.allSatisfy({ $0.map(ShapeLimits.allow) ?? true }),
        // Lengths that contradict each other make the result unknown: the caller asks "what would become", not "may I".
        let outputs = try? rule(call)
      else { continue }
      arithmetic.evaluate(call, outputShapes: outputs)
    }
    return arithmetic.contents
  }
}
