import ModelGraph

/// One pass over the graph in topological order: every value gets its labelled form, every operator's rule adds its
/// facts. Soundness is local: a rule is right iff, given the facts it recorded, restricting its inputs to what is kept
/// restricts its outputs to what their labels keep.
struct Propagation: Sendable {
  let ground: PropagationGround
  var facts = Facts()
  /// Per value; nil where its shape is unknown.
  private(set) var values: [LabelledValue?]
  /// Nodes that no rule spoke for.
  private(set) var barriers: [NodeID] = []

  /// How stored tensors enter the pass.
  typealias StoredLabelling = (ValueID, Tensor, inout Facts) -> LabelledValue
  /// The form a stored vector has for one use alone, nil where all uses share one.
  typealias UseLabelling = (Use, ValueID, inout Facts) -> LabelledValue?

  init(
    graph: Graph, shapes: ShapeTable, originalShapes: ShapeTable? = nil,
    originalNode: (@Sendable (NodeID) -> Node?)? = nil
  ) {
    ground = PropagationGround(
      graph: graph, shapes: shapes, originalShapes: originalShapes ?? shapes,
      originalNode: originalNode ?? { graph[$0] })
    values = Array(repeating: nil, count: graph.values.count)
  }

  private var graph: Graph { ground.graph }

  /// Runs the pass.
  mutating func run(
    work: Work, labelling: StoredLabelling, labellingUse: UseLabelling
  ) throws(Failure) {
    for input in graph.inputs { values[input.index] = fixed(input, .graphInput, nil) }
    for id in graph.nodeIDs {
      if id.index % 64 == 0 { try work.checkCancellation() }
      let node = graph[id]
      for input in node.inputs + node.captures {
        guard let input, values[input.index] == nil, let tensor = graph[input].tensor else { continue }
        values[input.index] = labelling(input, tensor, &facts)
      }
      propagate(id, node, labellingUse)
    }
    for tie in graph.constraints.tiedAxes { relate(tie) }
    for place in graph.constraints.evenAxes { levelOut(place) }
    let output = facts.reason(.modelOutput, nil)
    for id in graph.outputs { freeze(id, output) }
    for id in graph.constraints.fixed.keys.sorted() { freeze(id, facts.reason(.fixedByFormat(id), nil)) }
    for fixed in graph.constraints.fixedAxes.keys.sorted() {
      let reason = facts.reason(.axisFixedByFormat(fixed), nil)
      guard let value = values[fixed.value.index], fixed.axis < value.axes.count else { continue }
      // What is labelled along other axes too can go along those.
      _ = facts.mix(value, value.axes[fixed.axis], reason: reason)
    }
    for id in graph.nodeIDs where !graph[id].captures.isEmpty {
      let reason = facts.reason(.subgraphCapture, id)
      for value in graph[id].captures { freeze(value, reason) }
    }
  }

  /// Axes that share a letter run along with each other, the others each by itself.
  private mutating func relate(_ tie: FormatConstraints.TiedAxes) {
    guard let node = graph[tie.second].producer ?? graph[tie.first].producer, let first = values[tie.first.index],
      let second = values[tie.second.index]
    else { return }
    facts.current = node
    let others = first.axes.count
    let operands = [
      Operand(value: first, letters: Array(first.axes.indices)),
      Operand(
        value: second,
        letters: second.axes.indices.map { axis in
          tie.axes.first { $0.second == axis }?.first ?? others + axis
        }),
    ]
    if let aligned = facts.align(operands, at: node) {
      facts.relate(aligned, at: node)
    } else {
      let reason = facts.reason(.formWithoutRule, node)
      for set in first.sets + second.sets { facts.freeze(set.labels, reason) }
    }
  }

  /// What is left of the value when only this axis is seen is one list.
  private mutating func levelOut(_ place: FormatConstraints.FixedAxis) {
    guard let node = graph[place.value].producer, let value = values[place.value.index], place.axis < value.axes.count
    else { return }
    facts.current = node
    for set in value.sets {
      let visible = set.factors.indices.filter { value.axes[place.axis].contains(set.factors[$0]) }
      guard !visible.isEmpty, visible.count < set.factors.count else { continue }
      let alone = facts.freshArray(shape: visible.map { set.factors[$0].size })
      facts.project(set, visible: visible, onto: alone, at: node)
    }
  }

  private mutating func propagate(_ id: NodeID, _ node: Node, _ labellingUse: UseLabelling) {
    if node.op == "Constant", node.domain.isEmpty, let output = node.output(0), graph[output].isStored { return }
    var call = RuleCall(ground: ground, id: id, node: node, values: values)
    for (k, input) in node.inputs.enumerated() {
      if let input, let own = labellingUse(Use(node: id, input: k), input, &facts) { call.inputs[k] = own }
    }
    if call.inputsAreKnown, let rule = RuleTable.rule(for: node) {
      // The rule works on the pass's own facts; they come back with its outputs.
      swap(&facts, &call.facts)
      call.facts.current = id
      let outputs = rule(&call)
      swap(&facts, &call.facts)
      if let outputs, fit(outputs, node) {
        for (output, value) in zip(node.outputs, outputs) {
          guard let output else { continue }
          var value = value
          for (axis, length) in (ground.originalShapes[output] ?? []).enumerated() where length == 1 {
            value.dropUnits(ofAxis: axis)
          }
          values[output.index] = value
          for set in value.sets { facts.keepRectangular(set.labels, at: id) }
        }
        return
      }
    }
    barrier(
      call, RuleTable.rule(for: node) == nil ? .noRule : call.inputsAreKnown ? .formWithoutRule : .unknownShape)
  }

  /// Whether a rule's outputs have the lengths that shape inference found.
  private func fit(_ outputs: [LabelledValue], _ node: Node) -> Bool {
    for (output, value) in zip(node.outputs, outputs) {
      if let output, let shape = ground.shapes[output], shape != value.shape { return false }
    }
    return outputs.count >= node.outputs.lastIndex { $0 != nil }.map { $0 + 1 } ?? 0
  }

  /// An operator without a channel rule: what reaches it stays as it is.
  private mutating func barrier(_ call: RuleCall, _ kind: Reason.Kind) {
    barriers.append(call.id)
    let reason = facts.reason(kind, call.id)
    for case let input? in call.inputs { for set in input.sets { facts.freeze(set.labels, reason) } }
    for output in call.node.outputs {
      guard let output, !graph[output].isStored else { continue }
      values[output.index] = fixed(output, .outputOfBarrier, call.id)
    }
  }

  private mutating func freeze(_ id: ValueID, _ reason: ReasonID) {
    for set in values[id.index]?.sets ?? [] { facts.freeze(set.labels, reason) }
  }

  private mutating func fixed(_ id: ValueID, _ kind: Reason.Kind, _ node: NodeID?) -> LabelledValue? {
    guard let shape = ground.shapes[id] else { return nil }
    let reason = facts.reason(kind, node)
    let original = ground.originalShapes[id] ?? shape
    return LabelledValue(
      axes: shape.indices.map { a in
        shape[a] != 1 || (a < original.count && original[a] > 1) ? [facts.factor(size: shape[a], reason: reason)] : []
      }, sets: [])
  }
}

/// What a pass runs on and never changes.
final class PropagationGround: Sendable {
  let graph: Graph
  let shapes: ShapeTable
  /// The lengths of the uncompressed model, which tell axes that shrank to 1 from axes that always were; equal to
  /// `shapes` in an analysis.
  let originalShapes: ShapeTable
  /// The node of the uncompressed model that a node was, nil for one that a plan introduced.
  let originalNode: @Sendable (NodeID) -> Node?

  init(
    graph: Graph, shapes: ShapeTable, originalShapes: ShapeTable, originalNode: @escaping @Sendable (NodeID) -> Node?
  ) {
    (self.graph, self.shapes, self.originalShapes) = (graph, shapes, originalShapes)
    self.originalNode = originalNode
  }
}

/// What a rule sees of the pass: its node, its inputs, the lengths around it, and the facts it adds to.
struct RuleCall {
  let id: NodeID
  let node: Node
  private let ground: PropagationGround
  fileprivate(set) var inputs: [LabelledValue?]
  var facts = Facts()

  init(ground: PropagationGround, id: NodeID, node: Node, values: [LabelledValue?]) {
    (self.id, self.node, self.ground) = (id, node, ground)
    inputs = node.inputs.map { $0.flatMap { values[$0.index] } }
  }

  var graph: Graph { ground.graph }
  var shapes: ShapeTable { ground.shapes }
  /// The node as it was in the uncompressed model: counts of heads and groups that a certificate's node no longer has.
  var originalNode: Node { ground.originalNode(id) ?? node }

  /// Whether every present input has a shape.
  var inputsAreKnown: Bool { zip(node.inputs, inputs).allSatisfy { $0 == nil || $1 != nil } }

  func input(_ k: Int) -> LabelledValue? { k < inputs.count ? inputs[k] : nil }
  func shape(_ k: Int) -> [Int]? { node.input(k).flatMap { ground.shapes[$0] } }
  func originalShape(_ k: Int) -> [Int]? { node.input(k).flatMap { ground.originalShapes[$0] } }
  func outputShape(_ k: Int = 0) -> [Int]? { node.output(k).flatMap { ground.shapes[$0] } }
  func originalOutputShape(_ k: Int = 0) -> [Int]? {
    node.output(k).flatMap { ground.originalShapes[$0] } ?? outputShape(k)
  }
  /// The elements of input `k`, if they are known integers.
  func integers(_ k: Int) -> [Int]? {
    node.input(k).flatMap { shapes.contents(of: $0)?.integers }.map { $0.map(Int.init(clamping:)) }
  }

  /// The node with what is known of its inputs, for settings that are attributes in some operator sets and inputs in
  /// others.
  var settings: OperatorCall {
    OperatorCall(
      node: node, shapes: node.inputs.map { $0.flatMap { shapes[$0] } },
      contents: node.inputs.map { $0.flatMap { shapes.contents(of: $0) } })
  }

  /// The extents of output `k`.
  func outputExtents(_ k: Int = 0) -> [Extent]? {
    guard let shape = outputShape(k), let original = originalOutputShape(k), shape.count == original.count
    else { return nil }
    return zip(shape, original).map { Extent($0, original: $1) }
  }

  /// Whether axis `axis` of output `k` had more than one entry in the original model.
  func wasLonger(_ axis: Int, ofOutput k: Int = 0) -> Bool {
    guard let original = originalOutputShape(k), axis < original.count else { return false }
    return original[axis] > 1
  }

  /// An axis of length `length` that nobody may cut; empty if it has length 1 and always had.
  mutating func fixedAxis(_ length: Int, original: Int? = nil, _ kind: Reason.Kind) -> [Factor] {
    guard length != 1 || (original ?? length) > 1 else { return [] }
    return [facts.factor(size: length, reason: facts.reason(kind, id))]
  }

  /// `axis`, negative from the end, within `rank`.
  func normalized(_ axis: Int, rank: Int) -> Int? {
    let positive = axis < 0 ? axis + rank : axis
    return (0..<rank).contains(positive) ? positive : nil
  }

  /// Freezes what reaches the inputs at `positions`: they are settings, not data.
  mutating func freezeSettings(_ positions: some Sequence<Int>) {
    let reason = facts.reason(.settings, id)
    for k in positions { for set in input(k)?.sets ?? [] { facts.freeze(set.labels, reason) } }
  }

  /// The spatial axes of input `k` (2 and up), mixed.
  mutating func mixedSpatially(_ value: LabelledValue, _ kind: Reason.Kind = .spatial) -> LabelledValue {
    guard value.axes.count > 2 else { return value }
    return facts.mix(value, value.axes[2...].flatMap { $0 }, reason: facts.reason(kind, id))
  }
}

/// A rule gives the outputs' labelled forms, or nil where the node is none it can speak for; the pass then makes it a
/// barrier.
typealias Rule = @Sendable (inout RuleCall) -> [LabelledValue]?

/// Which operator has which rule. Families live in `Rules/`, one file each.
package enum RuleTable {
  static func rule(for node: Node) -> Rule? { rules[node.qualifiedOperator] }

  private static let rules: [String: Rule] = [
    elementwiseRules, convolutionRules, matrixRules, einsumRules, recurrentRules, attentionRules, normalizationRules,
    quantizationRules, poolingRules, samplingRules, reductionRules, indexingRules, reshapeRules, movementRules,
    fusedRules,
  ].reduce(into: [:]) { table, family in table.merge(family) { first, _ in first } }

  /// Operators that have a channel rule.
  package static var operators: [String] { rules.keys.sorted() }
}
