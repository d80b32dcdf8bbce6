import ModelGraph

/// Puts the bodies of a model's local functions in the place of their calls, before anything else looks at the graph.
///
/// Invariant: the new nodes' names are new to the model, values keep single assignment, and nodes that call nothing are
/// the file's own bytes. A function whose body is written for another version of an operator set than the model imports
/// means something else in the model's; its calls stay, and so does it. Specification: onnx/docs/IR.md, "Functions".
struct FunctionInliner {
  private var functions: [FunctionMessage.Key: FunctionMessage] = [:]
  /// Functions that stay although they are called.
  private var kept: Set<FunctionMessage.Key> = []
  private var names = UniqueNames(taken: [])
  private var opsets: [String: Int]
  private var nodeCount = 0
  private var byteCount = 0
  private let work: Work

  /// A body may call others, and they others: as in other languages, a few lines can stand for more than any memory.
  private static let byteLimit = 1 << 28

  /// The names and attributes of one call, as its function's body sees them; nil stands for the graph outside.
  private struct Scope {
    /// What the function's inputs and outputs are called outside.
    var actual: NameTable<String>
    let prefix: String
    /// AttributeProtos, without references.
    let attributes: NameTable<WireMessage>
    let calls: [FunctionMessage.Key]

    func name(_ name: ByteSpan) -> String {
      name.isEmpty ? "" : actual[name] ?? prefix + name.displayName
    }
  }

  /// Replaces the calls in `message`.
  /// - Returns: the buffers that the new fields of `message` are parts of.
  static func inline(_ message: inout ModelMessage, work: Work) throws(Failure) -> [TensorBytes] {
    guard !message.functions.isEmpty else { return [] }
    var inliner = FunctionInliner(opsets: message.opsets, work: work)
    for span in message.functions {
      let function = try FunctionMessage(span)
      inliner.functions[function.key] = function
    }
    return try inliner.run(&message)
  }

  private init(opsets: [String: Int], work: Work) { (self.opsets, self.work) = (opsets, work) }

  private mutating func run(_ message: inout ModelMessage) throws(Failure) -> [TensorBytes] {
    let taken = try Self.allNames(message.graphFields)
    names = UniqueNames(taken: taken)
    var buffers: [TensorBytes] = []
    var fields: [WireField] = []
    for field in message.graphFields {
      guard field.number == ONNXSchema.Graph.node, let nodes = try expanded(field.bytes(), in: nil, depth: 0) else {
        fields.append(field)
        continue
      }
      var part = WireMessage()
      for node in nodes { part.message(field.number, node) }
      let buffer = part.flattened
      buffers.append(buffer)
      fields += try ModelMessage.split(ByteSpan(base: buffer.base, count: buffer.count))
    }
    guard !buffers.isEmpty else { return [] }
    message.graphFields = fields
    message.hasOwnGraph = true
    buffers.append(try replaceImportsAndFunctions(of: &message))
    return buffers
  }

  /// Imports what the bodies need, and drops the functions that nobody calls any more.
  private mutating func replaceImportsAndFunctions(of message: inout ModelMessage) throws(Failure) -> TensorBytes {
    var reachable = kept
    var open = Array(kept)
    while let key = open.popLast() {
      for callee in functions[key]?.applied ?? [] where functions[callee] != nil && reachable.insert(callee).inserted {
        open.append(callee)
      }
    }
    var imports = WireMessage()
    for (domain, version) in opsets.sorted(by: { $0.key < $1.key }) where message.opsets[domain] == nil {
      var entry = WireMessage()
      entry.string(ONNXSchema.OperatorSet.domain, domain)
      entry.int(ONNXSchema.OperatorSet.version, version)
      imports.message(ONNXSchema.Model.opsetImport, entry)
    }
    let buffer = imports.flattened
    let added = try ModelMessage.split(ByteSpan(base: buffer.base, count: buffer.count))
    var fields: [WireField] = []
    let last = message.fields.lastIndex { $0.number == ONNXSchema.Model.opsetImport }
    for (index, field) in message.fields.enumerated() {
      if field.number == ONNXSchema.Model.functions {
        guard reachable.contains(try FunctionMessage(field.bytes()).key) else { continue }
      }
      fields.append(field)
      if index == last { fields += added }
    }
    message.fields = fields
    message.functions = try fields.filter { $0.number == ONNXSchema.Model.functions }.map { field throws(Failure) in
      try field.bytes()
    }
    message.opsets = opsets
    return buffer
  }

  // MARK: Nodes

  /// The nodes that stand for the NodeProto `span`; nil if it stays as it is.
  private mutating func expanded(
    _ span: ByteSpan, in scope: Scope?, depth: Int
  ) throws(Failure) -> [WireMessage]? {
    let node = try NodeMessage(span)
    let key = try FunctionMessage.Key(node)
    if let function = functions[key] {
      if try isInlinable(function) { return try body(of: function, calledBy: node, in: scope, depth: depth) }
      kept.insert(key)
    }
    guard let copy = try renamed(node, in: scope, depth: depth) else { return nil }
    try charge(copy.count)
    return [copy]
  }

  /// Whether the body means the same in the model. Operator sets that only the function imports become the model's.
  private mutating func isInlinable(_ function: FunctionMessage) throws(Failure) -> Bool {
    let domains = Set(function.applied.map(\.domain))
    for domain in domains {
      guard let version = function.opsets[domain] else {
        throw Failure(
          .modelMalformed,
          "the function '\(function.key.name)' uses the operator set '\(domain)' but does not import it")
      }
      if let other = opsets[domain], other != version { return false }
    }
    for domain in domains { opsets[domain] = function.opsets[domain] }
    return true
  }

  private mutating func body(
    of function: FunctionMessage, calledBy node: NodeMessage, in scope: Scope?, depth: Int
  ) throws(Failure) -> [WireMessage] {
    let calls = scope?.calls ?? []
    guard !calls.contains(function.key) else {
      throw .malformed("the function '\(function.key.name)' calls itself", at: node.span.offset)
    }
    guard depth < ONNXLimits.depth else {
      throw .malformed("functions and subgraphs are nested more than \(ONNXLimits.depth) deep", at: node.span.offset)
    }
    try charge(0)
    let outer = { (name: ByteSpan) in scope?.name(name) ?? name.displayName }
    var actual = NameTable<String>()
    for (position, formal) in function.inputs.enumerated() {
      actual[formal] = position < node.inputs.count ? outer(node.inputs[position]) : ""
    }
    var passedThrough: [(from: String, to: String)] = []
    for (formal, output) in zip(function.outputs, node.outputs) where !output.isEmpty {
      if let already = actual[formal] {
        passedThrough.append((already, outer(output)))
      } else {
        actual[formal] = outer(output)
      }
    }
    var attributes = function.defaults.mapValues { span in
      var message = WireMessage()
      message.append(span)
      return message
    }
    for span in node.attributes {
      let attribute = try AttributeMessage(span)
      if let value = try resolved(attribute, in: scope, depth: depth) { attributes[attribute.name] = value }
    }
    let label = node.name.isEmpty ? function.key.name : outer(node.name)
    let prefix = try uniquePrefix(label, for: function.bound)
    let inner = Scope(actual: actual, prefix: prefix, attributes: attributes, calls: calls + [function.key])
    var nodes: [WireMessage] = []
    for span in function.nodes { nodes += try expanded(span, in: inner, depth: depth + 1) ?? [] }
    for (from, to) in passedThrough {
      var identity = WireMessage()
      identity.string(ONNXSchema.Node.input, from)
      identity.string(ONNXSchema.Node.output, to)
      identity.string(ONNXSchema.Node.opType, "Identity")
      nodes.append(identity)
    }
    return nodes
  }

  /// The node with its names as `scope` has them and calls inside its subgraphs expanded; nil if it stays as it is.
  private mutating func renamed(_ node: NodeMessage, in scope: Scope?, depth: Int) throws(Failure) -> WireMessage? {
    typealias Field = ONNXSchema.Node
    var result = WireMessage()
    var isChanged = scope != nil
    var reader = WireReader(node.span, "NodeProto")
    while let field = try reader.next() {
      switch (field.number, scope) {
      case (Field.attribute, _):
        let attribute = try AttributeMessage(field.bytes())
        if attribute.referenceName.isEmpty, try attribute.graphs().isEmpty {
          result.copy(field)
        } else if scope == nil, try !callsFunctions(attribute, depth: depth) {
          result.copy(field)
        } else {
          isChanged = true
          if let value = try resolved(attribute, in: scope, depth: depth) { result.message(field.number, value) }
        }
      case (Field.input, let scope?), (Field.output, let scope?), (Field.name, let scope?):
        result.string(field.number, scope.name(try field.bytes()))
      // Placement on devices names values by their old names and is advice only.
      case (Field.deviceConfiguration, _?): break
      default: result.copy(field)
      }
    }
    return isChanged ? result : nil
  }

  /// Whether a subgraph of the attribute applies any function.
  private func callsFunctions(_ attribute: AttributeMessage, depth: Int) throws(Failure) -> Bool {
    guard depth < ONNXLimits.depth else {
      throw .malformed("subgraphs are nested more than \(ONNXLimits.depth) deep", at: attribute.span.offset)
    }
    for graph in try attribute.graphs() {
      for field in try ModelMessage.split(graph) where field.number == ONNXSchema.Graph.node {
        let node = try NodeMessage(field.bytes())
        if functions[try FunctionMessage.Key(node)] != nil { return true }
        for span in node.attributes where try callsFunctions(AttributeMessage(span), depth: depth + 1) { return true }
      }
    }
    return false
  }

  // MARK: Attributes and subgraphs

  /// The AttributeProto with what it refers to in its place; nil if it refers to an attribute that the call leaves out.
  private mutating func resolved(
    _ attribute: AttributeMessage, in scope: Scope?, depth: Int
  ) throws(Failure) -> WireMessage? {
    if !attribute.referenceName.isEmpty, let scope {
      guard let value = scope.attributes[attribute.referenceName] else { return nil }
      return try Self.renaming(value, to: attribute.name)
    }
    var result = WireMessage()
    var reader = WireReader(attribute.span, "AttributeProto")
    while let field = try reader.next() {
      switch field.number {
      case ONNXSchema.Attribute.graph, ONNXSchema.Attribute.graphs:
        result.message(field.number, try graph(field.bytes(), in: scope, depth: depth + 1))
      default: result.copy(field)
      }
    }
    return result
  }

  private static func renaming(_ attribute: WireMessage, to name: ByteSpan) throws(Failure) -> WireMessage {
    let buffer = attribute.flattened
    defer { withExtendedLifetime(buffer) {} }
    var result = WireMessage()
    result.string(ONNXSchema.Attribute.name, name.displayName)
    var reader = WireReader(ByteSpan(base: buffer.base, count: buffer.count), "AttributeProto")
    while let field = try reader.next() {
      if field.number != ONNXSchema.Attribute.name { result.copyBytes(of: field) }
    }
    return result
  }

  private mutating func graph(_ span: ByteSpan, in scope: Scope?, depth: Int) throws(Failure) -> WireMessage {
    typealias Field = ONNXSchema.Graph
    guard depth < ONNXLimits.depth else {
      throw .malformed("functions and subgraphs are nested more than \(ONNXLimits.depth) deep", at: span.offset)
    }
    let fields = try ModelMessage.split(span)
    var inner = scope
    // A name that the subgraph takes is its own, even where the function has an input of that name.
    if scope != nil {
      try Subgraph(span, depth: depth).bound.forEach { inner?.actual[$0] = nil }
    }
    var result = WireMessage()
    for field in fields {
      switch (field.number, inner) {
      case (Field.node, _):
        if let nodes = try expanded(field.bytes(), in: inner, depth: depth) {
          for node in nodes { result.message(field.number, node) }
        } else {
          result.copy(field)
        }
      case (Field.input, let inner?), (Field.output, let inner?), (Field.valueInfo, let inner?):
        result.message(field.number, try Self.renaming(ONNXSchema.ValueInfo.name, in: field.bytes(), inner))
      case (Field.initializer, let inner?):
        result.message(field.number, try Self.renaming(ONNXSchema.Tensor.name, in: field.bytes(), inner))
      default: result.copy(field)
      }
    }
    return result
  }

  private static func renaming(_ number: Int, in span: ByteSpan, _ scope: Scope) throws(Failure) -> WireMessage {
    var result = WireMessage()
    var reader = WireReader(span, "GraphProto")
    while let field = try reader.next() {
      if field.number == number {
        result.string(number, scope.name(try field.bytes()))
      } else {
        result.copy(field)
      }
    }
    return result
  }

  // MARK: Names and limits

  /// A prefix that makes all of `bound` new to the model; the names are taken from then on.
  private mutating func uniquePrefix(_ label: String, for bound: [ByteSpan]) throws(Failure) -> String {
    let prefix = names.make(label, followedBy: bound.map { "/" + $0.displayName }) + "/"
    try charge(bound.reduce(0) { $0 + $1.count + prefix.utf8.count })
    return prefix
  }

  private static func allNames(_ fields: [WireField]) throws(Failure) -> Set<String> {
    typealias Field = ONNXSchema.Graph
    var names: Set<String> = []
    for field in fields {
      switch field.number {
      case Field.input, Field.output: names.insert(try ValueInfoMessage.name(of: field.bytes()).displayName)
      case Field.initializer:
        if let name = try TensorMessage(field.bytes()).name { names.insert(name.displayName) }
      case Field.node:
        let node = try NodeMessage(field.bytes())
        names.formUnion(node.outputs.lazy.map(\.displayName))
        for span in node.attributes {
          for graph in try AttributeMessage(span).graphs() {
            names.formUnion(try Subgraph(graph, depth: 1).bound.displayNames)
          }
        }
      default: break
      }
    }
    return names
  }

  /// Counts one node or call and its bytes.
  private mutating func charge(_ count: Int) throws(Failure) {
    nodeCount += 1
    byteCount += count
    if nodeCount % 64 == 0 { try work.checkCancellation() }
    guard nodeCount <= ONNXLimits.nodes else { throw ModelMessage.tooLarge("nodes once inlined", ONNXLimits.nodes) }
    guard byteCount <= Self.byteLimit else { throw ModelMessage.tooLarge("bytes of inlined functions", Self.byteLimit) }
  }
}
