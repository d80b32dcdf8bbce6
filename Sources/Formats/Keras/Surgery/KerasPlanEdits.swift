import Compression
import JSON
import ModelGraph
import Numerics

/// A plan for the graph that a model of Keras's became, as edits of the model.
///
/// Invariant: every edit of the plan is carried out by one here or follows by itself; one that Keras's configuration
/// cannot say is refused, naming the layer.
struct KerasPlanEdits {
  private(set) var edits: [KerasEdit] = []
  /// New lengths by axis, in Keras's order, of what calls return.
  private(set) var lengths: [KerasResult: [Int: Int]] = [:]

  private let program: KerasProgram
  private let lowered: LoweredKeras
  private let plan: CompressionPlan
  private let variables: [String: KerasVariable]
  /// By path: the shapes of variables that change.
  private var newShapes: [String: [Int]] = [:]
  private var cuts: [String: [AxisSlice]] = [:]
  /// By path: what is left of variables that change.
  private var left: [String: () -> Tensor] = [:]
  /// By path: what happens to variables.
  private var changed: [String: KerasEdit] = [:]
  private let replacedNodes: Set<NodeID>
  /// By value: the new lengths of its axes that change.
  private var changes: [ValueID: [Int: Int]] = [:]

  private var graph: Graph { lowered.graph }

  /// - Throws: `certificateFailed` if the plan is not one for this model, `modelUnsupportedOperator` for what its
  ///   configuration cannot say.
  init(_ program: KerasProgram, _ lowered: LoweredKeras, _ plan: CompressionPlan) throws(Failure) {
    (self.program, self.lowered, self.plan) = (program, lowered, plan)
    var variables: [String: KerasVariable] = [:]
    for layer in program.layers { for variable in layer.variables { variables[variable.path] = variable } }
    self.variables = variables
    replacedNodes = Set(plan.replacements.map(\.node))
    collectLengths()
    try collectCuts()
    try collectContents()
    for edit in plan.edits { try translate(edit) }
    try multiplyCarriers()
    edits += changed.sorted { $0.key < $1.key }.map(\.value)
    for layer in program.layers { collectSettings(of: layer) }
    try collectReplacements()
  }

  private mutating func collectLengths() {
    for (value, axis, length) in plan.lengths { changes[value, default: [:]][axis] = length }
    for (result, arranged) in lowered.results {
      guard let changed = changes[arranged.value] else { continue }
      for (axis, length) in changed { lengths[result, default: [:]][arranged.axes[axis]] = length }
    }
  }

  // MARK: Variables

  private mutating func collectCuts() throws(Failure) {
    let unread = UnreadParts(graph, plan)
    let refilled = Set(plan.contents.map(\.value))
    for slice in plan.slices where !unread.values.contains(slice.value) {
      guard let view = lowered.variables[slice.value], let variable = variables[view.path] else {
        throw misfit("it cuts '\(graph[slice.value].name)', which is no variable")
      }
      // A variable that the graph has twice is cut twice in the same way, or not at all.
      if let before = cuts.updateValue(slice.axes, forKey: view.path) {
        guard before == slice.axes else {
          throw unsayable(slice.value, "'\(view.path)' would be cut in two ways")
        }
        continue
      }
      let cut = try VariableCut(slice, graph[slice.value], variable, view)
      newShapes[view.path] = cut.shape
      left[view.path] = { cut.tensor(of: variable) }
      // What is written anew says what is left by itself.
      guard !refilled.contains(slice.value) else { continue }
      switch cut.form {
      case .gather(let gather): changed[view.path] = .cut(variable: view.path, gather)
      case .contents(let tensor): changed[view.path] = .setVariable(view.path, tensor)
      }
    }
  }

  private mutating func collectContents() throws(Failure) {
    let unread = UnreadParts(graph, plan)
    for new in plan.contents where !unread.values.contains(new.value) {
      guard let view = lowered.variables[new.value], let variable = variables[view.path] else {
        throw misfit("it has new numbers for '\(graph[new.value].name)', which is no variable")
      }
      set(variable, try view.variable(of: new.tensor, like: newShapes[view.path] ?? variable.tensor.shape))
    }
  }

  private mutating func set(_ variable: KerasVariable, _ tensor: Tensor) {
    left[variable.path] = { tensor }
    changed[variable.path] = .setVariable(variable.path, tensor)
  }

  /// What Keras works out from a new length stays as it was by a factor of these.
  private mutating func multiplyCarriers() throws(Failure) {
    for (value, factor) in plan.carriedFactors(in: graph).sorted(by: { $0.key < $1.key }) {
      guard let variable = lowered.variables[value].flatMap({ variables[$0.path] }) else {
        throw misfit("it multiplies '\(graph[value].name)', which is no variable")
      }
      set(variable, (left[variable.path]?() ?? variable.tensor).multiplied(by: factor))
    }
  }

  // MARK: Edits

  private mutating func translate(_ edit: NodeEdit) throws(Failure) {
    switch edit {
    case .setAttribute(let node, let name, let value):
      switch (lowered.settings[NodeSetting(node: node, attribute: name)], value) {
      case (.literal(let place), .int(let number)): edits.append(.setInteger(place, number))
      case (.literal(let place), .ints(let numbers)): edits.append(.setIntegers(place, numbers))
      case (.follows, _): break
      default: throw unsayable(node, "its \(name) would change")
      }
    case .setInput(let node, 1, let tensor) where parts(of: node) != nil:
      // Parts that were of one length and are no more.
      guard let (place, areSizes) = parts(of: node), let sizes = ElementArray(reading: tensor)?.integers else { break }
      var (bounds, end): ([Int], Int) = ([], 0)
      for size in sizes.dropLast() {
        end += Int(size)
        bounds.append(end)
      }
      edits.append(.setIntegers(place, areSizes ? sizes.map(Int.init) : bounds))
    // Its operands make up for it.
    case .setInput(let node, let input, _) where graph[node].input(input).map(lowered.isDerived) ?? false: break
    case .removeAttribute(let node, "num_outputs") where parts(of: node) != nil: break
    case .setInput(let node, let input, let tensor):
      guard let value = graph[node].input(input), let places = lowered.literals[value],
        let old = graph[value].tensor.flatMap(ElementArray.init(reading:))?.integers,
        let new = ElementArray(reading: tensor)?.integers, old.count == new.count, places.count == old.count
      else { throw unsayable(node, "a number that it reads would become a constant") }
      let becomes = SliceEnds.open(
        graph[node], input, old: old.map(Int.init), new: new.map(Int.init), in: graph, changes)
      for k in old.indices where Int(old[k]) != becomes[k] {
        guard let place = places[k] else { throw unsayable(node, "a number that nobody wrote would change") }
        edits.append(.setInteger(place, becomes[k]))
      }
    case .readConstant(let node, let input, let constant):
      // A layer's bias goes with the layer where that is replaced.
      guard !isReplaced(node) else { return }
      guard let value = graph[node].input(input) else { throw unsayable(node, "it would read something more") }
      guard let view = lowered.variables[value], let variable = variables[view.path] else {
        throw unsayable(node, "what it reads is no variable")
      }
      set(
        variable,
        try view.variable(
          of: plan.constants[constant].tensor, like: newShapes[view.path] ?? variable.tensor.shape))
    case .removeAttribute(let node, _): throw unsayable(node, "a setting would have to go")
    case .adjustInput(let node, _, _, _, _):
      throw unsayable(node, "a length that it is given would have to be computed differently")
    case .becomeGather(let node, _, _), .gatherInput(let node, _, _, _):
      throw unsayable(node, "the channels it takes would no longer lie in a row")
    }
  }

  /// Where the number of equal parts that the node makes is written.
  private func parts(of node: NodeID) -> (place: JSONElement, areSizes: Bool)? {
    guard case .parts(let place, let areSizes)? = lowered.settings[NodeSetting(node: node, attribute: "num_outputs")]
    else { return nil }
    return (place, areSizes)
  }

  /// Whether the node is part of a layer that goes.
  private func isReplaced(_ node: NodeID) -> Bool {
    let call = lowered.calls[node.index]
    return replacedNodes.contains { lowered.calls[$0.index] == call }
  }

  // MARK: Settings

  private mutating func collectSettings(of layer: KerasLayer) {
    var shapes: [String: [Int]] = [:]
    for variable in layer.variables { shapes[variable.role] = newShapes[variable.path] }
    guard !shapes.isEmpty else { return }
    for (name, value) in LayerSizes.settings(of: layer.className, shapes)
    where layer.settings.member(name)?.int != value {
      edits.append(.setSetting(layer, name: name, value))
    }
    if layer.className == "EinsumDense" { collectOutputShape(of: layer) }
    if layer.className == "MultiHeadAttention" { collectImpliedWidths(of: layer) }
  }

  /// Attention gives back as many channels as its queries have, and its values are as wide as its keys, unless it says
  /// otherwise.
  private mutating func collectImpliedWidths(of layer: KerasLayer) {
    func shape(_ role: String) -> [Int] {
      layer.variable(role).map { newShapes[$0.path] ?? $0.tensor.shape } ?? []
    }
    func set(_ name: StaticString, _ width: Int?, impliedBy other: Int?) {
      let stated = layer.settings[name].map { LoweredOperand($0) } ?? .none
      let number = if case .list(let widths) = stated { widths.first?.integer } else { stated.integer }
      if let width, width != (stated.isNone ? other : number?.value) {
        edits.append(.setSetting(layer, name: name.description, width))
      }
    }
    set("value_dim", shape("value/kernel").last, impliedBy: shape("query/kernel").last)
    set("output_shape", shape("attention_output/kernel").last, impliedBy: shape("query/kernel").first)
  }

  /// EinsumDense states its output without the batch, and without what an ellipsis stands for.
  private mutating func collectOutputShape(of layer: KerasLayer) {
    guard let stated = layer.settings.member("output_shape"),
      let call = program.calls.firstIndex(where: { $0.layer === layer }),
      let changed = lengths[KerasResult(call: call, index: 0)]
    else { return }
    let lengths = stated.int == nil ? Array(stated.elements) : [stated]
    for (axis, element) in zip(statedAxes(of: layer, call, count: lengths.count), lengths) where !element.isNull {
      if let length = changed[axis] { edits.append(.setInteger(element, length)) }
    }
  }

  /// Those that an EinsumDense's equation names, the batch not counted: the last ones where it begins with an ellipsis.
  private func statedAxes(of layer: KerasLayer, _ call: Int, count: Int) -> Range<Int> {
    let equation = layer.settings["equation"]?.string ?? ""
    guard equation.contains("->..."), let rank = lowered.results[KerasResult(call: call, index: 0)]?.axes.count else {
      return 1..<1 + count
    }
    return max(0, rank - count)..<rank
  }

  // MARK: Replacements

  private mutating func collectReplacements() throws(Failure) {
    var replaced: Set<ObjectIdentifier> = []
    for nodes in plan.replacements {
      let layer = program.calls[lowered.calls[nodes.node.index]].layer
      // A layer that is called twice is one layer.
      guard replaced.insert(ObjectIdentifier(layer)).inserted else { continue }
      let weight = graph[nodes.node].inputs.compactMap { $0 }.first { lowered.variables[$0] != nil }
      if let weight, let other = graph.uses(of: weight).first(where: { !replacedNodes.contains($0.node) }) {
        throw unsayable(other.node, "one call of the layer would be decomposed and another not")
      }
      edits.append(.replace(try LayerRow(layer, plan, lowered, left: left).replacement(nodes)))
    }
  }

  // MARK: Failures

  private func misfit(_ what: String) -> Failure {
    Failure(.certificateFailed, "the plan is none for this model: \(what)")
  }

  private func unsayable(_ node: NodeID, _ what: String) -> Failure {
    .unsayable(program.calls[lowered.calls[node.index]].layer.path, what)
  }

  private func unsayable(_ value: ValueID, _ what: String) -> Failure { .unsayable(graph[value].name, what) }
}

extension Failure {
  /// What Keras's configuration cannot say of a layer.
  static func unsayable(_ layer: String, _ what: String) -> Failure {
    Failure(
      .modelUnsupportedOperator,
      "\(what) at '\(layer)', which Keras's configuration cannot say; exclude the layers that feed it, or compress the "
        + "model as ONNX", details: ["node": .string(layer)])
  }
}
