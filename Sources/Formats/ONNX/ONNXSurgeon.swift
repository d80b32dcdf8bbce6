import Compression
import ModelGraph
import Numerics

/// Applies a plan to an ONNX document.
///
/// Invariant: every field of the model that no edit concerns comes out as the bytes it is in the file, in the same
/// place; with an empty plan, the whole file does.
struct ONNXSurgeon {
  private let document: ONNXDocument
  private let plan: CompressionPlan
  private var edits: [Int: [NodeEdit]] = [:]
  private var replacements: [Int: NodeReplacement] = [:]
  /// By value.
  private var cuts: [ValueID: TensorCut] = [:]
  private var stored: [Int: ValueID] = [:]
  /// What lost its last reader.
  private let unread: UnreadParts
  private var unreadNodes: Set<Int> = []
  private var unreadNames: Set<String> = []
  /// New lengths by axis, by the name of the value.
  private var lengths: [String: [Int: Int]] = [:]
  private var relocation: Relocation?
  private var layout: ExternalLayout?

  private var message: ModelMessage { document.message }
  private var graph: Graph { document.graph }

  /// - Throws: `Failure(.certificateFailed)` if the plan is not one for this document.
  init(_ document: ONNXDocument, _ plan: CompressionPlan) throws(Failure) {
    (self.document, self.plan) = (document, plan)
    unread = UnreadParts(document.graph, plan)
    for (index, place) in document.imported.places.enumerated() {
      switch place {
      case .initializer(let field)?, .constant(let field)?: stored[field] = ValueID(index)
      case nil: break
      }
    }
    let nodeFields = document.imported.nodeFields
    for edit in plan.edits { edits[nodeFields[edit.node.index], default: []].append(edit) }
    for replacement in plan.replacements { replacements[nodeFields[replacement.node.index]] = replacement }
    unreadNodes = Set(unread.nodes.map { nodeFields[$0.index] })
    unreadNames = Set(unread.values.map { document.graph[$0].name })
    for node in unread.nodes {
      unreadNames.formUnion(document.graph[node].outputs.compactMap { $0.map { document.graph[$0].name } })
    }
    try collectCuts(plan)
    try collectContents(plan)
    collectLengths(plan)
  }

  /// The new model file, and the data files that go with it.
  /// - Parameter path: of the model file.
  mutating func operate(path: String, work: Work) throws(Failure) -> (
    model: WireMessage, data: [ExternalLayout.DataFile]
  ) {
    if !document.imported.externalTensors.isEmpty {
      let layout = try ExternalLayout(
        document, modelPath: path, cuts: cuts, dropped: unread.values, added: plan.constants)
      (self.layout, relocation) = (layout, Relocation(layout: layout))
    }
    let newGraph = try encodeGraph(work: work)
    var model = WireMessage()
    for field in message.fields {
      if field.number == ONNXSchema.Model.graph, let newGraph {
        model.message(field.number, newGraph)
      } else if let relocation, let moved = try relocation.modelField(field) {
        model.message(field.number, moved)
      } else {
        model.copy(field)
      }
    }
    return (model, layout?.files ?? [])
  }

  // MARK: What changes

  private mutating func collectCuts(_ plan: CompressionPlan) throws(Failure) {
    for slice in plan.slices where !unread.values.contains(slice.value) {
      let value = graph[slice.value]
      guard let tensor = value.tensor, let width = tensor.dtype.byteWidth else {
        throw Failure(
          .certificateFailed, "the plan cuts '\(value.name)', which is no stored tensor of whole bytes",
          details: ["value": .string(value.name)])
      }
      let gather: Gather
      do throws(Gather.Misfit) {
        gather = try Gather(shape: tensor.shape, elementBytes: width, axes: slice.axes.map(Gather.Axis.init))
      } catch {
        throw Failure(
          .certificateFailed, "the plan does not fit '\(value.name)': \(error.reason)",
          details: ["value": .string(value.name)])
      }
      guard cuts.updateValue(TensorCut(axes: slice.axes, gather: gather), forKey: slice.value) == nil else {
        throw Failure(
          .certificateFailed, "the plan cuts '\(value.name)' twice", details: ["value": .string(value.name)])
      }
    }
  }

  private mutating func collectContents(_ plan: CompressionPlan) throws(Failure) {
    for new in plan.contents where !unread.values.contains(new.value) {
      let value = graph[new.value]
      let shape = cuts[new.value]?.gather.outputShape ?? value.tensor?.shape
      guard let tensor = value.tensor, let width = tensor.dtype.byteWidth, new.tensor.dtype == tensor.dtype,
        new.tensor.shape == shape, let whole = try? Gather(shape: new.tensor.shape, elementBytes: width, axes: [])
      else {
        throw Failure(
          .certificateFailed, "the plan's new numbers do not fit '\(value.name)'",
          details: ["value": .string(value.name)])
      }
      cuts[new.value] = TensorCut(axes: cuts[new.value]?.axes ?? [], gather: whole, contents: new.tensor)
    }
  }

  private mutating func collectLengths(_ plan: CompressionPlan) {
    for (value, axis, length) in plan.lengths { lengths[graph[value].name, default: [:]][axis] = length }
    for (value, cut) in cuts {
      for (axis, length) in cut.gather.outputShape.enumerated() {
        lengths[graph[value].name, default: [:]][axis] = length
      }
    }
  }

  // MARK: Encoding

  /// The GraphProto, nil if it is what it was.
  private func encodeGraph(work: Work) throws(Failure) -> WireMessage? {
    typealias Field = ONNXSchema.Graph
    var names = UniqueNames(taken: takenNames)
    let usesConstantNodes = message.irVersion < 4
    var replacing = NodeReplacing(plan.constants, usesConstantNodes: usesConstantNodes) { layout?.placement(ofNew: $0) }
    var initializers: [WireMessage] = replacing.initializers
    var result = WireMessage()
    var isChanged = message.hasOwnGraph
    var pieces: [WireMessage] = []
    for (index, field) in message.graphFields.enumerated() {
      if index % 64 == 0 { try work.checkCancellation() }
      var part = WireMessage()
      if unreadNodes.contains(index) || stored[index].map(unread.values.contains) ?? false {
        isChanged = true
      } else if field.number == Field.node, let nodeEdits = edits[index] {
        var rewriting = NodeRewriting(
          try NodeMessage(field.bytes()), usesConstantNodes: usesConstantNodes,
          constantNames: plan.constants.map(\.name))
        for case .readConstant(_, _, let index) in nodeEdits {
          for node in replacing.constantNodes([index]) { part.message(Field.node, node) }
        }
        for edit in nodeEdits { try rewriting.apply(edit, names: &names) }
        for node in rewriting.preceding { part.message(Field.node, node) }
        part.message(Field.node, try rewriting.encoded { span throws(Failure) in try relocation?.attribute(span) })
        initializers += rewriting.initializers
        isChanged = true
      } else if let replacement = replacements[index] {
        for node in try replacing.nodes(of: replacement, in: NodeMessage(field.bytes())) {
          part.message(Field.node, node)
        }
        isChanged = true
      } else if try isDeclarationOfUnread(field) {
        isChanged = true
      } else if let new = try rewritten(field, at: index) {
        part.message(field.number, new)
        isChanged = true
      } else {
        part.copy(field)
      }
      pieces.append(part)
    }
    let initializerPosition = message.graphFields.position(ofNew: Field.initializer)
    for (index, part) in (pieces + [WireMessage()]).enumerated() {
      if index == initializerPosition {
        for initializer in initializers { result.message(Field.initializer, initializer) }
      }
      for piece in part.pieces { result.append(piece) }
    }
    return isChanged ? result : nil
  }

  /// A field of the graph that changes without its node being edited.
  private func rewritten(_ field: WireField, at index: Int) throws(Failure) -> WireMessage? {
    typealias Field = ONNXSchema.Graph
    switch field.number {
    case Field.initializer:
      guard let value = stored[index], let tensor = graph[value].tensor else { return nil }
      let message = try TensorMessage(field.bytes())
      return try message.rewritten(tensor, cuts[value], placement: placement(of: message, value))
    case Field.node:
      guard let value = stored[index], let tensor = graph[value].tensor, let cut = cuts[value] else {
        return try relocation?.node(field.bytes())
      }
      return try WireMessage.rewriting(field.bytes(), "NodeProto") { number, payload throws(Failure) in
        guard number == ONNXSchema.Node.attribute else { return nil }
        let attribute = try AttributeMessage(payload)
        let held = try attribute.message(ONNXSchema.Attribute.tensor)
        let message = try held.map { span throws(Failure) in try TensorMessage(span) }
        return try attribute.rewritten(
          constant: tensor, cut, placement: message.flatMap { placement(of: $0, value) })
      }
    case Field.input, Field.output, Field.valueInfo:
      guard !lengths.isEmpty, let changed = lengths[try ValueInfoMessage.name(of: field.bytes()).displayName]
      else { return nil }
      return try ValueInfoMessage.rewritten(field.bytes(), lengths: changed)
    default: return nil
    }
  }

  private func placement(of message: TensorMessage, _ value: ValueID) -> ExternalPlacement? {
    guard case .external(let reference) = message.storage else { return nil }
    return layout?.placement(of: reference, value: value)
  }

  private func isDeclarationOfUnread(_ field: WireField) throws(Failure) -> Bool {
    typealias Field = ONNXSchema.Graph
    guard !unreadNames.isEmpty, field.number == Field.input || field.number == Field.valueInfo else { return false }
    return unreadNames.contains(try ValueInfoMessage.name(of: field.bytes()).displayName)
  }

  /// Every name of a value or node, those in subgraphs included.
  private var takenNames: Set<String> {
    var names = Set(graph.values.lazy.map(\.name))
    names.formUnion(graph.nodes.lazy.map(\.name))
    names.formUnion(plan.constants.lazy.map(\.name))
    for stage in plan.replacements.lazy.flatMap(\.stages) { names.formUnion([stage.name, stage.outputName]) }
    names.formUnion(graph.definitions.innerNames)
    return names
  }
}
