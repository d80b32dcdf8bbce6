import ModelGraph

/// Writes any graph as an ONNX model: what a model of another format becomes for ONNX Runtime, and what a graph becomes
/// that was made here to be run once.
///
/// Invariant: the model means what the graph means. Values keep their names, nodes their names, operators and
/// attributes (subgraphs as they were read); nameless values get names that are new. What a graph does not hold
/// (metadata, documentation) is not written: a file that exists is changed by its surgeon, not by this.
package struct ONNXWriter {
  /// Protocol Buffers ends at 2 GB, and readers do before that.
  package static let largestMessage = 1 << 31 - 1 << 20
  /// The version of the file format for graphs that come from none: the first with 4-bit types, opset 21 and below.
  private static let irVersion = 10
  /// Initializers need not be inputs from this version on, and here they never are.
  private static let oldestIRVersion = 4
  /// For graphs that use the standard operators nowhere.
  private static let standardOpset = 17
  /// Tensors in a data file start at multiples of this, as ONNX's own writer has them.
  private static let dataAlignment = 4096
  /// Smaller tensors stay in the model file when the others get a file of their own.
  private static let inlineLimit = 1024

  private let messageLimit: Int
  private let graph: Graph
  private let outputs: [ValueID]
  private let names: [String]
  /// The model as one message, tensors and all.
  private var whole = WireMessage()

  /// - Parameters:
  ///   - additionalOutputs: values that are to be outputs besides the graph's own, after them.
  ///   - messageLimit: bytes beyond which tensors get a file of their own.
  /// - Throws: `modelUnsupportedOperator` for a graph with inputs that are no tensors, or parts that have no form in
  ///   ONNX.
  package init(
    _ graph: Graph, additionalOutputs: [ValueID] = [], messageLimit: Int = largestMessage
  ) throws(Failure) {
    (self.graph, self.messageLimit) = (graph, messageLimit)
    if let node = graph.nodes.first(where: { $0.domain == Node.opaqueDomain }) {
      throw Failure(
        .modelUnsupportedOperator,
        "'\(node.name)' (\(node.op)) has no form in ONNX, so that the model can be neither written as ONNX nor run: leave "
          + "out onnx_output_path and verify, and take a method that looks at weights alone",
        details: ["node": .string(node.name), "op": .string(node.op)])
    }
    var listed = Set(graph.outputs)
    outputs = graph.outputs + additionalOutputs.filter { listed.insert($0).inserted }
    // The empty name means absence.
    var unique = UniqueNames(taken: Set(graph.values.lazy.map(\.name)).union([""]))
    names = graph.values.map { $0.name.isEmpty ? unique.make("value") : $0.name }
    whole = try message(dataFile: nil).model
  }

  /// Bytes of the model with its tensors.
  package var byteCount: Int { whole.count }
  package var fitsOneMessage: Bool { byteCount <= messageLimit }

  /// The name a value has in the model; its own unless that is empty.
  package func name(of id: ValueID) -> String { names[id.index] }

  // MARK: Bytes

  /// The model in memory, tensors and all.
  /// - Throws: `resourceLimit` beyond what one message can hold (write a file then), or cancelled.
  package func bytes(work: Work) throws(Failure) -> TensorBytes {
    guard fitsOneMessage else {
      throw Failure(
        .resourceLimit,
        "the model takes \(byteCount) bytes as one message; \(messageLimit) is the most that can be read",
        details: ["needed_bytes": .int(byteCount), "limit_bytes": .int(messageLimit)])
    }
    return try whole.encoded(work: work)
  }

  /// Writes the model to `path`, whole or not at all; beyond what one message can hold, with its tensors in
  /// `path` + ".data".
  /// - Returns: the files written, the model file first.
  package func write(to path: String, overwrite: Bool, work: Work) throws(Failure) -> [WrittenFile] {
    let staged = try stage(path, overwrite: overwrite, work: work)
    try OutputFile.publish(staged.map(\.file), overwrite: overwrite)
    return staged.reversed().map { WrittenFile(path: $0.file.path, sizeBytes: $0.sizeBytes) }
  }

  /// The same, complete and on the disk, but without their names yet: the model file last.
  package func stage(
    _ path: String, overwrite: Bool, work: Work
  ) throws(Failure) -> [(file: OutputFile, sizeBytes: Int)] {
    let modelFile = try OutputFile(path: path, overwrite: overwrite)
    var parts = [(modelFile, whole)]
    if !fitsOneMessage {
      let dataFile = try OutputFile(path: modelFile.path + ".data", overwrite: overwrite)
      let (model, data) = try message(dataFile: splitPath(dataFile.path).name)
      parts = [(dataFile, data), (modelFile, model)]
    }
    let total = max(1, parts.reduce(0) { $0 + $1.1.count })
    var done = 0
    var staged: [(file: OutputFile, sizeBytes: Int)] = []
    for (file, message) in parts {
      try file.reserve(message.count)
      try file.append(message, work: work) { work.progress(Double(done + $0) / Double(total), "writing \(file.path)") }
      done += message.count
      staged.append((file, try file.finish(work: work)))
    }
    return staged
  }

  // MARK: Messages

  /// The ModelProto, and the contents of the data file if there is one.
  private func message(dataFile: String?) throws(Failure) -> (model: WireMessage, data: WireMessage) {
    typealias Field = ONNXSchema.Model
    var data = WireMessage()
    let graphMessage = try graphMessage(dataFile: dataFile, &data)
    var model = WireMessage()
    model.int(Field.irVersion, max(graph.definitions.irVersion ?? Self.irVersion, Self.oldestIRVersion))
    model.string(Field.producerName, "espalier")
    model.message(Field.graph, graphMessage)
    for (domain, version) in opsets.sorted(by: { $0.key < $1.key }) {
      var entry = WireMessage()
      entry.string(ONNXSchema.OperatorSet.domain, domain)
      entry.int(ONNXSchema.OperatorSet.version, version)
      model.message(Field.opsetImport, entry)
    }
    for function in graph.definitions.functions { model.encodedMessage(Field.functions, function) }
    return (model, data)
  }

  /// What the file imports, and what nodes say that is not in it.
  private var opsets: [String: Int] {
    var opsets = graph.definitions.opsets
    for node in graph.nodes { opsets[node.domain] = opsets[node.domain] ?? node.opset }
    if opsets[""] == nil { opsets[""] = Self.standardOpset }
    return opsets
  }

  private func graphMessage(dataFile: String?, _ data: inout WireMessage) throws(Failure) -> WireMessage {
    typealias Field = ONNXSchema.Graph
    var message = WireMessage()
    let outputSet = Set(outputs)
    for node in graph.nodes where isWritten(node, outputs: outputSet) {
      message.message(Field.node, try nodeMessage(node))
    }
    message.string(Field.name, "graph")
    for id in graph.valueIDs where isInitializer(id, outputs: outputSet) {
      guard let tensor = graph[id].tensor else { continue }
      message.message(Field.initializer, try tensorMessage(tensor, named: names[id.index], dataFile, &data))
    }
    for id in graph.inputs {
      guard graph[id].dtype != nil else {
        throw Failure(
          .modelUnsupportedOperator,
          "the input '\(graph[id].name)' is no tensor of a known type, and a model with such an input is not written",
          details: ["input": .string(graph[id].name)])
      }
      message.message(Field.input, valueInfo(id))
    }
    for id in outputs { message.message(Field.output, valueInfo(id)) }
    // Readers find types by themselves, except behind operators they know only by name.
    for id in graph.valueIDs
    where graph[id].producer != nil && !graph[id].isStored && graph[id].dtype != nil && !outputSet.contains(id) {
      message.message(Field.valueInfo, valueInfo(id))
    }
    return message
  }

  /// Constant nodes become initializers, which is what every runtime makes of them first; except where the node alone
  /// has the contents (strings), or where the value is an output.
  private func isWritten(_ node: Node, outputs: Set<ValueID>) -> Bool {
    guard node.op == "Constant", node.domain.isEmpty, let output = node.output(0), graph[output].isStored else {
      return true
    }
    return !isInitializer(output, outputs: outputs)
  }

  private func isInitializer(_ id: ValueID, outputs: Set<ValueID>) -> Bool {
    guard let tensor = graph[id].tensor else { return false }
    guard graph[id].producer != nil else { return true }
    return !outputs.contains(id) && (tensor.dtype != .string || !tensor.bytes.buffer.isEmpty)
  }

  private func nodeMessage(_ node: Node) throws(Failure) -> WireMessage {
    typealias Field = ONNXSchema.Node
    var message = WireMessage()
    for input in node.inputs { message.string(Field.input, input.map { names[$0.index] } ?? "") }
    for output in node.outputs { message.string(Field.output, output.map { names[$0.index] } ?? "") }
    if !node.name.isEmpty { message.string(Field.name, node.name) }
    message.string(Field.opType, node.op)
    for (name, value) in node.attributes.sorted(by: { $0.key < $1.key }) {
      message.message(Field.attribute, try AttributeMessage.encode(name, value))
    }
    if !node.domain.isEmpty { message.string(Field.domain, node.domain) }
    return message
  }

  private func tensorMessage(
    _ tensor: Tensor, named name: String, _ dataFile: String?, _ data: inout WireMessage
  ) throws(Failure) -> WireMessage {
    if tensor.dtype == .string { return try TensorMessage.encode(strings: tensor, name: name) }
    guard let dataFile, tensor.bytes.count > Self.inlineLimit else { return TensorMessage.encode(tensor, name: name) }
    data.pad(to: Self.dataAlignment)
    let placement = ExternalPlacement(
      location: dataFile, offset: data.count, length: tensor.bytes.count, isCopy: false)
    data.append(TensorMessage.rawPiece(tensor, nil))
    return TensorMessage.encode(tensor, name: name, at: placement)
  }

  private func valueInfo(_ id: ValueID) -> WireMessage {
    ValueInfoMessage.encode(names[id.index], dtype: graph[id].dtype, shape: graph[id].declaredShape)
  }
}
