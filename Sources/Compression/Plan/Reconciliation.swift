import ModelGraph

/// Makes every number in the graph that encodes a length agree with the lengths that the labels require.
///
/// What a node reads as a setting is evaluated under the new lengths (numbers derived from `Shape` follow by
/// themselves) and compared with what the labels demand; only where the two differ something is written, in the form
/// (attribute or input) that the node already uses. A number derived from a length that meets data instead (an
/// attention scale) must keep its old value.
struct Reconciliation {
  let removal: Removal
  let graph: Graph
  /// Under the analysis's lengths, and under nominal ones: an element that differs between the two is dynamic.
  let old: Lengths
  let new: Lengths
  /// Per value, whether it is computed from a length; other constants are data.
  private let dependsOnLengths: [Bool]
  private(set) var edits: [NodeEdit] = []
  /// Real numbers that the edits introduce as constants.
  private(set) var bakedNumbers: [Tensor] = []

  /// Shapes and known contents of all values under both instantiations of symbolic lengths.
  struct Lengths {
    var analysis: ShapeTable
    /// nil where nothing is symbolic.
    var nominal: ShapeTable?
  }

  init(removal: Removal, shapes: GraphShapes, newShapes: [[Int]?]) {
    let graph = removal.coupling.graph
    let old = Lengths(analysis: shapes.analysis, nominal: shapes.isStatic ? nil : shapes.nominal)
    (self.removal, self.graph, self.old) = (removal, graph, old)
    var dependsOnLengths = [Bool](repeating: false, count: graph.values.count)
    for node in graph.nodes
    where node.op == "Shape" || node.op == "Size"
      || node.inputs.contains(where: { $0.map { dependsOnLengths[$0.index] } ?? false })
    {
      for output in node.outputs { if let output { dependsOnLengths[output.index] = true } }
    }
    self.dependsOnLengths = dependsOnLengths
    let cut = Set(removal.slices.map(\.value))
    func table(_ shapes: [[Int]?]) -> ShapeTable {
      ShapeTable(
        shapes: shapes,
        contents: graph.evaluateShapeArithmetic(
          lengths: { shapes[$0.index] },
          stored: { cut.contains($0) ? nil : old.analysis.contents(of: $0) }))
    }
    let analysis = table(newShapes)
    var nominal: ShapeTable?
    if let oldNominal = old.nominal {
      nominal = table(
        graph.values.indices.map { v in
          Self.scaled(oldNominal.shapes[v], from: old.analysis.shapes[v], to: newShapes[v])
        })
    }
    new = Lengths(analysis: analysis, nominal: nominal)
  }

  /// The nominal shape that loses what the analysed one loses: pruned factors do not depend on symbols.
  static func scaled(_ nominal: [Int]?, from: [Int]?, to: [Int]?) -> [Int]? {
    guard let nominal, let from, let to, nominal.count == from.count, from.count == to.count else { return nominal }
    return nominal.indices.map { from[$0] == to[$0] ? nominal[$0] : nominal[$0] * to[$0] / max(from[$0], 1) }
  }

  /// Goes through the nodes in order.
  mutating func run() throws(Failure) {
    for id in graph.nodeIDs {
      let node = graph[id]
      let handled = try reconcileSettings(id, node)
      try keepOtherNumbers(id, node, except: handled)
    }
    for output in graph.outputs where changes(output) {
      throw refusal(
        graph[output].producer, "the model output '\(graph[output].name)' is computed from a length that would change")
    }
  }

  mutating func add(_ edit: NodeEdit) { edits.append(edit) }

  // MARK: What is known of an input

  func contents(_ lengths: Lengths, _ id: ValueID?) -> [Int]? {
    id.flatMap { lengths.analysis.contents(of: $0)?.integers }.map { $0.map(Int.init(clamping:)) }
  }

  private func nominalContents(_ lengths: Lengths, _ id: ValueID) -> [Int]? {
    (lengths.nominal ?? lengths.analysis).contents(of: id)?.integers.map { $0.map(Int.init(clamping:)) }
  }

  private func changes(_ id: ValueID) -> Bool {
    guard dependsOnLengths[id.index], let before = old.analysis.contents(of: id) else { return false }
    return new.analysis.contents(of: id) != before
  }

  func refusal(_ node: NodeID?, _ what: String) -> Failure {
    let place = node.map { " at \(graph[$0].op) '\(graph.displayName($0))'" } ?? ""
    return Failure(
      .modelUnsupportedOperator,
      "\(what)\(place), and the graph cannot be rewritten to keep it; exclude the layers that feed it",
      details: node.map { ["node": .string(graph.displayName($0)), "op": .string(graph[$0].op)] } ?? [:])
  }

  // MARK: Writing a setting

  /// Input `input` of the node must be `required` (and `nominal` under nominal lengths).
  mutating func require(_ id: NodeID, _ input: Int, _ required: [Int], nominal: [Int]? = nil) throws(Failure) {
    guard let value = graph[id].input(input) else {
      return add(.setInput(node: id, input: input, tensor: Tensor(int64: required.map(Int64.init))))
    }
    guard let current = contents(new, value) else {
      throw refusal(id, "input \(input) cannot be evaluated")
    }
    if current == required { return }
    if let tensor = graph[value].tensor {
      let shape = tensor.shape.isEmpty ? [] : [required.count]
      return add(.setInput(node: id, input: input, tensor: Self.integers(required, dtype: tensor.dtype, shape: shape)))
    }
    if required.count != current.count { throw refusal(id, "input \(input) changes its own length") }
    if try patchLeaves(id, value, current, required) { return }
    try adjust(id, input, value, current, required, nominal ?? required)
  }

  static func integers(_ elements: [Int], dtype: DType, shape: [Int]? = nil) -> Tensor {
    let shape = shape ?? [elements.count]
    return dtype == .int32
      ? Tensor(dtype: .int32, shape: shape, bytes: TensorBytes(copying: elements.map(Int32.init(clamping:))))
      : Tensor(int64: elements.map(Int64.init), shape: shape)
  }

  /// Where every differing element is a constant of its own inside a Concat that only this node reads, changes these.
  private mutating func patchLeaves(
    _ id: NodeID, _ value: ValueID, _ current: [Int], _ required: [Int]
  ) throws(Failure) -> Bool {
    guard let producer = graph[value].producer, graph[producer].op == "Concat", graph.uses(of: value).count == 1,
      !graph.outputs.contains(value)
    else { return false }
    var patches: [(input: Int, elements: [Int], tensor: Tensor)] = []
    var start = 0
    for (k, part) in graph[producer].inputs.enumerated() {
      guard let part, let elements = contents(new, part), start + elements.count <= required.count else { return false }
      let wanted = Array(required[start..<start + elements.count])
      if wanted != elements {
        guard let tensor = constant(behind: part) else { return false }
        patches.append((k, wanted, tensor))
      }
      start += elements.count
    }
    for patch in patches {
      add(
        .setInput(
          node: producer, input: patch.input, tensor: Self.integers(patch.elements, dtype: patch.tensor.dtype)))
    }
    return true
  }

  /// The stored tensor that `value` is, or is an Unsqueeze or Identity of.
  private func constant(behind value: ValueID) -> Tensor? {
    var value = value
    while true {
      if let tensor = graph[value].tensor { return tensor }
      guard let producer = graph[value].producer, ["Unsqueeze", "Identity"].contains(graph[producer].op),
        let input = graph[producer].input(0)
      else { return nil }
      value = input
    }
  }

  /// Splices `old * multiplier / divisor + offset` before the input: dynamic elements are scaled, others replaced.
  private mutating func adjust(
    _ id: NodeID, _ input: Int, _ value: ValueID, _ current: [Int], _ required: [Int], _ nominal: [Int]
  ) throws(Failure) {
    let currentNominal = nominalContents(new, value) ?? current
    var (multiplier, divisor, offset) = (current.map { _ in 1 }, current.map { _ in 1 }, current.map { _ in 0 })
    for k in current.indices where current[k] != required[k] {
      if current[k] == currentNominal[k] && required[k] == nominal[k] {
        (multiplier[k], offset[k]) = (0, required[k])
      } else {
        let g = Self.gcd(current[k], required[k])
        guard g > 0 else { throw refusal(id, "input \(input) depends on a symbolic length") }
        (multiplier[k], divisor[k]) = (required[k] / g, current[k] / g)
        guard currentNominal[k] * multiplier[k] == nominal[k] * divisor[k] else {
          throw refusal(id, "input \(input) depends on a symbolic length in a way that does not scale")
        }
      }
    }
    let dtype = graph[value].dtype ?? .int64
    let shape = old.analysis[value] ?? [current.count]
    func tensor(_ elements: [Int]) -> Tensor { Self.integers(elements, dtype: dtype, shape: shape) }
    add(
      .adjustInput(
        node: id, input: input, multiplier: tensor(multiplier), divisor: tensor(divisor), offset: tensor(offset)))
  }

  private static func gcd(_ a: Int, _ b: Int) -> Int {
    var (x, y) = (a.magnitude, b.magnitude)
    while y != 0 { (x, y) = (y, x % y) }
    return Int(x)
  }

  // MARK: Numbers that must stay

  /// Inputs computed from lengths that change, where the node reads them as numbers: they keep their old values.
  private mutating func keepOtherNumbers(_ id: NodeID, _ node: Node, except handled: Set<Int>) throws(Failure) {
    // A node inside the shape arithmetic only passes numbers on; who reads its result decides.
    let passesOn = node.outputs.contains { $0.map { old.analysis.contents(of: $0) != nil } ?? false }
    guard !passesOn, node.op != "Shape", node.op != "Size" else { return }
    for (k, input) in node.inputs.enumerated() where !handled.contains(k) {
      // What loses entries itself is data that follows its labels, not a number.
      guard let input, changes(input), old.analysis[input] == new.analysis[input],
        let before = old.analysis.contents(of: input)
      else { continue }
      let nominal = (old.nominal ?? old.analysis).contents(of: input)
      switch before.elements {
      case .integers(let elements):
        try require(
          id, k, elements.map(Int.init(clamping:)), nominal: nominal?.integers.map { $0.map(Int.init(clamping:)) })
      case .reals(let elements):
        guard nominal == before else {
          throw refusal(id, "input \(k) is computed from a length that would change and from a symbolic one")
        }
        // One number for all elements is a scalar, which no one mistakes for a parameter.
        let isScalar = elements.count == 1 && Self.broadcasting.contains(node.op)
        let shape = isScalar ? [] : before.shape
        guard let tensor = Self.reals(elements, graph.elementType(of: input), shape: shape) else {
          throw refusal(id, "input \(k) is computed from a length that would change")
        }
        bakedNumbers.append(tensor)
        add(.setInput(node: id, input: k, tensor: tensor))
      }
    }
    for capture in node.captures where changes(capture) {
      throw refusal(id, "the subgraph reads '\(graph[capture].name)', computed from a length that would change,")
    }
  }

  /// Operators whose result has the data's rank whatever the rank of a number beside it.
  private static let broadcasting: Set = ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"]

  private static func reals(_ elements: [Double], _ dtype: DType?, shape: [Int]) -> Tensor? {
    switch dtype {
    case .float64: Tensor(dtype: .float64, shape: shape, bytes: TensorBytes(copying: elements))
    case .float32: Tensor(float32: elements.map(Float.init), shape: shape)
    case .float16:
      Tensor(dtype: .float16, shape: shape, bytes: TensorBytes(copying: elements.map { Float16($0).bitPattern }))
    case .bfloat16:
      // The evaluator already rounded to the type: the upper half of the float is the whole number.
      Tensor(
        dtype: .bfloat16, shape: shape,
        bytes: TensorBytes(copying: elements.map { UInt16(truncatingIfNeeded: Float($0).bitPattern >> 16) }))
    default: nil
    }
  }
}
