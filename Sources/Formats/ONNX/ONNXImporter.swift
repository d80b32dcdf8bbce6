import ModelGraph

/// Turns the fields of a GraphProto into a `Graph`.
///
/// Invariant: the graph is valid whatever the bytes are, or a `Failure` says which node, value or byte is wrong: every
/// value has one definition, nodes are in topological order, and tensors fill their shapes. Tensors stay where they are
/// in the file unless their encoding is not the one used in memory.
struct ONNXImporter {
  private let message: ModelMessage
  private let owner: AnyObject
  private let external: ExternalFiles
  private let work: Work

  private var ids = NameTable<ValueID>()
  private var drafts: [DraftValue] = []
  private var nodes: [DraftNode] = []
  private var innerNames: Set<String> = []
  private var inputs: [ValueID] = []
  private var outputs: [ValueID] = []
  private var declarations = NameTable<ValueInfoMessage>()
  private var externalTensors: [ExternalTensor] = []
  /// Per name of a node the last number that a node of this name was given.
  private var nodeNames: [String: Int] = [:]

  private struct DraftValue {
    let name: String
    var tensor: Tensor?
    var place: TensorPlace?
    /// Index into `nodes`, in file order.
    var producer: Int?
  }

  fileprivate struct DraftNode {
    let message: NodeMessage
    let field: Int
    var name = ""
    var op = ""
    var domain = ""
    var opset = 0
    var attributes: [String: Attribute] = [:]
    var inputs: [ValueID?] = []
    var outputs: [ValueID?] = []
    var captures: [ValueID] = []
    var capturedNames: [ByteSpan] = []
  }

  /// - Parameters:
  ///   - captured: of a graph inside another, the names it reads from there; they become its last inputs.
  ///   - owner: keeps the bytes of all of `message` alive.
  static func run(
    _ message: ModelMessage, captured: [ByteSpan] = [], owner: AnyObject, external: ExternalFiles, work: Work
  ) throws(Failure) -> ImportedGraph {
    var importer = ONNXImporter(message: message, owner: owner, external: external, work: work)
    try importer.readInitializersAndDeclarations()
    try importer.readInputs()
    for name in captured { importer.inputs.append(try importer.define(name) { DraftValue(name: $0) }) }
    try importer.readNodes()
    try importer.connect()
    try importer.readOutputs()
    try importer.readTensorsOutsideGraph()
    return try importer.finish()
  }

  private init(message: ModelMessage, owner: AnyObject, external: ExternalFiles, work: Work) {
    (self.message, self.owner, self.external, self.work) = (message, owner, external, work)
    // Most nodes have one output, and a name.
    var (nodeCount, valueCount) = (0, 0)
    for field in message.graphFields {
      if field.number == ONNXSchema.Graph.node { nodeCount += 1 }
      if [ONNXSchema.Graph.node, ONNXSchema.Graph.initializer].contains(field.number) { valueCount += 1 }
    }
    nodes.reserveCapacity(min(nodeCount, Self.mostReserved))
    nodeNames.reserveCapacity(min(nodeCount, Self.mostReserved))
    drafts.reserveCapacity(min(valueCount, Self.mostReserved))
    ids.reserveCapacity(min(valueCount, Self.mostReserved))
  }

  /// Files whose fields say nothing are not to take memory for it.
  private static let mostReserved = 1 << 17

  // MARK: Definitions

  private mutating func define(_ name: ByteSpan, _ make: (String) -> DraftValue) throws(Failure) -> ValueID {
    let id = ValueID(drafts.count)
    guard ids.updateValue(id, forKey: name) == nil else {
      throw .malformed(
        "the value '\(name.displayText)' is defined twice", at: name.offset,
        details: ["value": .string(name.displayText)])
    }
    drafts.append(make(try name.name()))
    return id
  }

  private mutating func readInitializersAndDeclarations() throws(Failure) {
    typealias Field = ONNXSchema.Graph
    for (index, field) in message.graphFields.enumerated() {
      switch field.number {
      case Field.initializer:
        try work.checkCancellation()
        let tensorMessage = try TensorMessage(field.bytes(), "an initializer")
        guard let name = tensorMessage.name, !name.isEmpty else {
          throw .malformed("an initializer has no name", at: field.whole.offset)
        }
        let tensor = try tensorMessage.tensor(owner: owner, external: external)
        let id = try define(name) {
          DraftValue(name: $0, tensor: tensor, place: .initializer(field: index), producer: nil)
        }
        try note(tensorMessage, value: id)
      case Field.sparseInitializer:
        throw Failure(
          .modelUnsupportedOperator,
          "the model has sparse initializers; store them dense (onnx's SparseTensorProto to TensorProto) and try again")
      case Field.input, Field.output, Field.valueInfo:
        let info = try ValueInfoMessage(field.bytes())
        // Inputs and outputs come before value_info in what they say; a file lists a value once among all three.
        if field.number != Field.valueInfo || declarations[info.name] == nil { declarations[info.name] = info }
      default: break
      }
    }
  }

  private mutating func readInputs() throws(Failure) {
    for field in message.graphFields where field.number == ONNXSchema.Graph.input {
      let name = try ValueInfoMessage.name(of: field.bytes())
      guard !name.isEmpty else { throw .malformed("an input of the graph has no name", at: field.whole.offset) }
      if let id = ids[name], drafts[id.index].tensor != nil { continue }
      inputs.append(try define(name) { DraftValue(name: $0) })
    }
  }

  /// Remembers the tensor if its bytes are in another file, where they must be.
  private mutating func note(_ tensor: TensorMessage, value: ValueID?) throws(Failure) {
    guard case .external(let reference) = tensor.storage else { return }
    _ = try external.bytes(reference, expected: tensor.byteCount, what: "a tensor")
    externalTensors.append(ExternalTensor(reference: reference, byteCount: tensor.byteCount, value: value))
  }

  // MARK: Nodes

  /// Files may give several nodes one name, and requests have to tell them apart: all but the first get a number.
  private mutating func distinctNodeName(_ name: String) -> String {
    guard !name.isEmpty else { return name }
    guard var number = nodeNames.updateValue(1, forKey: name) else { return name }
    var distinct: String
    repeat {
      number += 1
      distinct = "\(name)#\(number)"
    } while nodeNames[distinct] != nil
    nodeNames[name] = number
    nodeNames[distinct] = 1
    return distinct
  }

  private mutating func readNodes() throws(Failure) {
    for (index, field) in message.graphFields.enumerated() where field.number == ONNXSchema.Graph.node {
      guard nodes.count < ONNXLimits.nodes else { throw ModelMessage.tooLarge("nodes", ONNXLimits.nodes) }
      if nodes.count % 64 == 0 { try work.checkCancellation() }
      let nodeMessage = try NodeMessage(field.bytes())
      var node = DraftNode(message: nodeMessage, field: index)
      node.name = distinctNodeName(try nodeMessage.name.name())
      node.op = try nodeMessage.op.name()
      node.domain = try nodeMessage.domain.normalizedDomain()
      guard let opset = message.opsets[node.domain] else {
        throw .malformed(
          "\(nodeMessage.label) is of the operator set '\(node.domain.isEmpty ? "ai.onnx" : node.domain)', which the "
            + "model does not import", at: nodeMessage.span.offset, details: ["node": .string(node.name)])
      }
      node.opset = opset
      try readAttributes(of: &node)
      let number = nodes.count
      let constant = node.op == "Constant" && node.domain.isEmpty ? node.storedTensor : nil
      for (position, name) in nodeMessage.outputs.enumerated() {
        guard !name.isEmpty else {
          node.outputs.append(nil)
          continue
        }
        let tensor = position == 0 ? constant : nil
        let id = try define(name) {
          DraftValue(
            name: $0, tensor: tensor, place: tensor == nil ? nil : .constant(field: index), producer: number)
        }
        node.outputs.append(id)
      }
      nodes.append(node)
    }
    guard !nodes.isEmpty else {
      throw Failure(.modelMalformed, "the graph has no nodes, so there is nothing in it to compress")
    }
  }

  private mutating func readAttributes(of node: inout DraftNode) throws(Failure) {
    for span in node.message.attributes {
      let attributeMessage = try AttributeMessage(span)
      guard attributeMessage.referenceName.isEmpty else {
        throw .malformed(
          "\(node.message.label) refers to an attribute of a function but is in none", at: span.offset)
      }
      let name = try attributeMessage.name.name()
      var attribute = try attributeMessage.attribute(owner: owner, external: external)
      for graph in try attributeMessage.graphs() {
        let subgraph = try Subgraph(graph, depth: 1)
        node.capturedNames += subgraph.captured
        innerNames.formUnion(subgraph.bound.displayNames)
        for tensor in subgraph.externalTensors { try note(tensor, value: nil) }
        if case .graph(let encoded, _) = attribute { attribute = .graph(encoded, try body(graph, subgraph.captured)) }
      }
      guard node.attributes.updateValue(attribute, forKey: name) == nil else {
        throw .malformed("\(node.message.label) has the attribute '\(name)' twice", at: span.offset)
      }
      for tensor in try attributeMessage.externalCandidates() {
        try note(try TensorMessage(tensor), value: nil)
      }
    }
  }

  /// A graph inside a node. One that cannot be read as such is none that anything is to be said of.
  /// - Parameter captured: the names that it reads from around it.
  private func body(_ span: ByteSpan, _ captured: [ByteSpan]) throws(Failure) -> GraphBody? {
    var body = message
    (body.fields, body.functions, body.graphFields) = ([], [], try ModelMessage.split(span))
    do throws(Failure) {
      let graph = try Self.run(body, captured: captured, owner: owner, external: external, work: work).graph
      return GraphBody(graph: graph, ownInputCount: graph.inputs.count - captured.count)
    } catch {
      if error.kind == .cancelled { throw error }
      return nil
    }
  }

  // MARK: Edges

  /// Resolves what nodes read, now that everything is defined.
  private mutating func connect() throws(Failure) {
    for index in nodes.indices {
      let message = nodes[index].message
      nodes[index].inputs.reserveCapacity(message.inputs.count)
      for name in message.inputs {
        nodes[index].inputs.append(name.isEmpty ? nil : try resolve(name, readBy: message))
      }
      var captured = Set<ValueID>()
      for name in nodes[index].capturedNames {
        let id = try resolve(name, readBy: message)
        if captured.insert(id).inserted { nodes[index].captures.append(id) }
      }
    }
  }

  private func resolve(_ name: ByteSpan, readBy node: NodeMessage) throws(Failure) -> ValueID {
    guard let id = ids[name] else {
      throw .malformed(
        "\(node.label) reads the value '\(name.displayText)', which nothing in the graph provides",
        at: node.span.offset,
        details: ["node": .string(node.name.displayText), "value": .string(name.displayText)])
    }
    return id
  }

  private mutating func readOutputs() throws(Failure) {
    var listed: Set<ValueID> = []
    for field in message.graphFields where field.number == ONNXSchema.Graph.output {
      let name = try ValueInfoMessage.name(of: field.bytes())
      guard let id = ids[name] else {
        throw .malformed(
          "the graph's output '\(name.displayText)' is computed by no node", at: field.whole.offset,
          details: ["value": .string(name.displayText)])
      }
      guard listed.insert(id).inserted else {
        throw .malformed("the graph's output '\(name.displayText)' is listed twice", at: field.whole.offset)
      }
      outputs.append(id)
    }
    guard !outputs.isEmpty else { throw Failure(.modelMalformed, "the graph has no outputs") }
  }

  /// Finds external tensors in functions that stay and in training graphs; they are carried along.
  private mutating func readTensorsOutsideGraph() throws(Failure) {
    for field in message.fields {
      switch field.number {
      case ONNXSchema.Model.functions:
        let function = try Subgraph(functionNodes: FunctionMessage(field.bytes()).nodes)
        for tensor in function.externalTensors { try note(tensor, value: nil) }
      case ONNXSchema.Model.trainingInfo:
        var reader = WireReader(try field.bytes(), "TrainingInfoProto")
        while let part = try reader.next() {
          guard ONNXSchema.TrainingInfo.graphs.contains(part.number) else { continue }
          for tensor in try Subgraph(part.bytes(), depth: 1).externalTensors { try note(tensor, value: nil) }
        }
      default: break
      }
    }
  }

  // MARK: Order

  /// Node indices so that every node comes after those it reads from: the file's order where it is one already.
  private func topologicalOrder() throws(Failure) -> [Int] {
    var isOrdered = true
    for (index, node) in nodes.enumerated() where isOrdered {
      isOrdered = node.reads.allSatisfy { (drafts[$0.index].producer ?? -1) < index }
    }
    if isOrdered { return Array(nodes.indices) }

    enum State { case new, open, done }
    var states = [State](repeating: .new, count: nodes.count)
    var order: [Int] = []
    // Depth first with a stack of our own: a chain of nodes in reverse order would overflow the thread's.
    for root in nodes.indices where states[root] == .new {
      var stack = [(node: root, reads: nodes[root].reads, next: 0)]
      states[root] = .open
      while let top = stack.last {
        guard top.next < top.reads.count else {
          states[top.node] = .done
          order.append(top.node)
          stack.removeLast()
          continue
        }
        stack[stack.count - 1].next += 1
        let value = top.reads[top.next]
        guard let producer = drafts[value.index].producer else { continue }
        switch states[producer] {
        case .done: continue
        case .new:
          states[producer] = .open
          stack.append((producer, nodes[producer].reads, 0))
        case .open:
          let message = nodes[top.node].message
          throw .malformed(
            "\(message.label) reads the value '\(drafts[value.index].name)', which is computed from its own result",
            at: message.span.offset,
            details: ["node": .string(nodes[top.node].name), "value": .string(drafts[value.index].name)])
        }
      }
    }
    return order
  }

  private func finish() throws(Failure) -> ImportedGraph {
    let order = try topologicalOrder()
    var position = [Int](repeating: 0, count: nodes.count)
    for (index, node) in order.enumerated() { position[node] = index }
    // By name in the file, hence looked up by the spans that named the values.
    var shapes = [ValueInfoMessage?](repeating: nil, count: drafts.count)
    declarations.forEach { name, info in
      if let id = ids[name] { shapes[id.index] = info }
    }
    let values = drafts.enumerated().map { index, draft in
      Value(
        name: draft.name, dtype: draft.tensor?.dtype ?? shapes[index]?.dtype, declaredShape: shapes[index]?.shape,
        producer: draft.producer.map { NodeID(position[$0]) }, tensor: draft.tensor)
    }
    let sorted = order.map { index in
      let node = nodes[index]
      return Node(
        name: node.name, op: node.op, domain: node.domain, opset: node.opset, inputs: node.inputs,
        outputs: node.outputs,
        attributes: node.attributes, captures: node.captures)
    }
    return ImportedGraph(
      graph: Graph(
        values: values, nodes: sorted, inputs: inputs, outputs: outputs,
        definitions: OperatorDefinitions(
          opsets: message.opsets,
          functions: message.functions.map { TensorBytes(base: $0.base, count: $0.count, owner: owner) },
          irVersion: message.irVersion, innerNames: innerNames)),
      nodeFields: order.map { nodes[$0].field }, places: drafts.map(\.place), externalTensors: externalTensors)
  }
}

/// A graph, and where each of its parts stands in the document it was read from.
struct ImportedGraph: Sendable {
  let graph: Graph
  /// By node: index into `ModelMessage.graphFields`.
  let nodeFields: [Int]
  /// By value.
  let places: [TensorPlace?]
  /// Every tensor whose bytes are in another file, those in subgraphs included.
  let externalTensors: [ExternalTensor]
}

/// The graph field that holds a stored tensor.
enum TensorPlace: Sendable {
  case initializer(field: Int)
  /// The attribute of a Constant node.
  case constant(field: Int)
}

struct ExternalTensor: Sendable {
  let reference: ExternalReference
  let byteCount: Int
  /// nil for tensors that the graph does not know as values (attributes, subgraphs), which no plan touches.
  let value: ValueID?
}

extension ONNXImporter.DraftNode {
  fileprivate var reads: [ValueID] { inputs.compactMap { $0 } + captures }

  /// The output of a Constant node, in whichever of its attributes it is given.
  fileprivate var storedTensor: Tensor? {
    for (name, attribute) in attributes {
      switch (name, attribute) {
      case ("value", .tensor(let tensor)): return tensor
      case ("value_float", .float(let value)): return Tensor(float32: [value], shape: [])
      case ("value_floats", .floats(let values)): return Tensor(float32: values)
      case ("value_int", .int(let value)): return Tensor(int64: [Int64(value)], shape: [])
      case ("value_ints", .ints(let values)): return Tensor(int64: values.map(Int64.init))
      case ("value_string", .string): return Tensor(strings: [])
      case ("value_strings", .strings(let values)): return Tensor(strings: [values.count])
      default: continue
      }
    }
    return nil
  }
}

extension Tensor {
  /// Strings, whose contents nobody reads.
  fileprivate init(strings shape: [Int]) {
    self.init(dtype: .string, shape: shape, bytes: TensorBytes(copying: [UInt8]()))
  }
}
