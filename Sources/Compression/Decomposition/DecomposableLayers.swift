import ModelGraph

/// All layers of a graph that have a stored weight, and which methods take them.
struct DecomposableLayers: Sendable {
  /// In node order.
  let layers: [DecomposableLayer]
  /// Layers with a weight that no method takes.
  let others: [SkippedLayer]
  /// By key: whether nothing but these layers reads the weight, so that it leaves the model with them.
  private let isFreed: Set<DecomposableLayer.Key>
  private let counts: [DecomposableLayer.Key: Int]
  private let byName: [String: Int]
  private let byNode: [NodeID: Int]
  /// Whether nodes that read one weight are calls of one layer, which is replaced at all of them or at none.
  let areModules: Bool

  init(_ graph: Graph, shapes: ShapeTable) {
    var layers: [DecomposableLayer] = []
    var others: [SkippedLayer] = []
    let isConstant = graph.constantValues()
    var taken: [String: Int] = [:]
    for id in graph.nodeIDs {
      guard let found = Self.layer(id, graph, shapes, isConstant) else { continue }
      // Files may give two nodes one name; a request has to tell them apart.
      let base = graph.displayName(id)
      taken[base, default: 0] += 1
      let name = taken[base] == 1 ? base : "\(base)#\(taken[base] ?? 0)"
      switch found {
      case .layer(let layer): layers.append(layer.named(name))
      case .unavailable(let reason): others.append(SkippedLayer(name: name, reason: reason))
      }
    }
    (self.layers, self.others) = (layers, others)
    areModules = graph.constraints.tiesVectors
    counts = Dictionary(layers.map { ($0.key, 1) }, uniquingKeysWith: +)
    byName = Dictionary(layers.enumerated().map { ($1.name, $0) }) { first, _ in first }
    // A reader of the weight is one of the layers, or leads to nothing but such.
    byNode = Dictionary(uniqueKeysWithValues: layers.enumerated().map { ($1.node, $0) })
    let keyOfReader = Dictionary(uniqueKeysWithValues: layers.map { ($0.node, $0.key) })
    let isOutput = Set(graph.outputs).union(graph.nodes.lazy.flatMap(\.captures))
    func leads(_ value: ValueID, onlyTo key: DecomposableLayer.Key) -> Bool {
      !isOutput.contains(value)
        && graph.uses(of: value).allSatisfy { use in
          if let reader = keyOfReader[use.node] { return reader == key }
          let node = graph[use.node]
          guard ["Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast"].contains(node.op),
            use.input == 0
          else { return false }
          return node.outputs.allSatisfy { $0.map { leads($0, onlyTo: key) } ?? true }
        }
    }
    isFreed = Set(layers.map(\.key).filter { leads($0.source, onlyTo: $0) })
  }

  /// How many layers apply the weight so.
  func count(of key: DecomposableLayer.Key) -> Int { counts[key] ?? 0 }

  /// Per layer the names it answers to: calls of one layer answer to one another's.
  var names: [[String]] {
    guard areModules else { return layers.map { [$0.name] } }
    let calls = Dictionary(grouping: layers, by: \.key)
    return layers.map { calls[$0.key]?.map(\.name) ?? [$0.name] }
  }

  func layer(named name: String) -> DecomposableLayer? { byName[name].map { layers[$0] } }

  /// Whether the stored weight leaves the model once all layers that apply it so are decomposed.
  func frees(_ key: DecomposableLayer.Key) -> Bool { isFreed.contains(key) }

  /// Why `method` does not take the layer, as a code and a sentence; nil if it does.
  static func reason(_ layer: DecomposableLayer, against method: DecompositionMethod) -> String? {
    switch method {
    case .svd where !layer.isPointwise:
      "spatial_kernel: FD_SVD takes pointwise convolutions and fully connected layers; FD_TK takes this one"
    case .tucker where layer.isPointwise, .cp where layer.isPointwise:
      "pointwise: its weight is a matrix, which FD_SVD takes"
    case .cp where layer.isTransposed: "transposed_convolution: FD_CP takes none; FD_TK does"
    default: layer.inputChannels == 1 || layer.outputChannels == 1 ? "single_channel: there is no rank to lower" : nil
    }
  }

  /// The methods that take the layer of `node`, with their ranks.
  func report(_ node: NodeID) -> [RankLimits] {
    guard let layer = byNode[node].map({ layers[$0] }) else { return [] }
    return CompressionMethod.allCases.compactMap { method in
      guard let decomposition = method.decomposition, Self.reason(layer, against: decomposition) == nil else {
        return nil
      }
      return RankLimits(
        method: method, full: layer.fullRanks(decomposition), breakEven: layer.breakEvenRanks(decomposition))
    }
  }

  // MARK: Finding

  private enum Found {
    case layer(DecomposableLayer)
    case unavailable(String)
  }

  private static func layer(
    _ id: NodeID, _ graph: Graph, _ shapes: ShapeTable, _ isConstant: [Bool]
  ) -> Found? {
    let node = graph[id]
    let place: (form: DecomposableLayer.Form, input: Int)
    switch node.qualifiedOperator {
    case "Conv", "com.microsoft.FusedConv": place = (.convolution, 1)
    case "ConvTranspose": place = (.transposedConvolution, 1)
    case "Gemm", "com.microsoft.FusedGemm", "MatMul", "com.microsoft.FusedMatMul":
      guard let product = product(node, graph, shapes, isConstant) else { return nil }
      place = product
    case "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "com.microsoft.QGemm",
      "com.microsoft.DynamicQuantizeMatMul", "com.microsoft.MatMulIntegerToFloat":
      return .unavailable("quantized_weight: its weight holds integers; decompose the model before it is quantized")
    default: return nil
    }
    guard let operand = node.input(place.input) else { return nil }
    guard let weight = StoredWeight(behind: operand, in: graph, shapes: shapes) else {
      return .unavailable(
        "computed_weight: its weight is computed from stored tensors (scaled, dequantized, rounded); store the result and ask again"
      )
    }
    if let reason = graph.constraints.fixed[weight.source] { return .unavailable("fixed: \(reason)") }
    if let reason = graph.constraints.undivided[weight.source] { return .unavailable("fixed: \(reason)") }
    guard node.domain.isEmpty || graph.definitions.opsets[""] != nil else {
      return .unavailable(
        "no_standard_operators: the model imports no standard operator set, to which the new nodes belong")
    }
    switch weight.tensor.dtype {
    case .float16, .bfloat16, .float32, .float64: break
    default: return .unavailable("quantized_weight: its weight holds \(weight.dtype), no real numbers")
    }
    if node.int("group", default: 1) != 1 {
      return .unavailable("grouped_convolution: each group is decomposed for itself at best, which saves little")
    }
    if ["transBatchA", "transBatchB"].contains(where: { node.int($0, default: 0) != 0 }) {
      return .unavailable("batch_transposition: it transposes batches")
    }
    guard weight.shape.count >= 2, !weight.shape.contains(0) else { return nil }
    var kernel: [Int] = []
    if case .product = place.form {
      guard weight.shape.count == 2 else {
        return .unavailable("batched_weight: its weight has \(weight.shape.count) axes, not 2")
      }
    } else {
      kernel = Array(weight.shape.dropFirst(2))
    }
    var layer = DecomposableLayer(
      node: id, name: graph.displayName(id), form: place.form, weight: weight, inputChannels: 0, outputChannels: 0,
      kernel: kernel, positions: (1, 1, 1))
    let (inputs, outputs) = (weight.shape[layer.inputAxis], weight.shape[layer.outputAxis])
    let data = node.input(layer.dataInput).flatMap { shapes[$0] }
    let result = node.output(0).flatMap { shapes[$0] }
    let macs = CostModel.macs(of: node, in: graph, shapes: { shapes[$0] })
    // Where a length is not known, positions count as one: then ranks are judged by parameters.
    layer = DecomposableLayer(
      node: id, name: layer.name, form: place.form, weight: weight, inputChannels: inputs, outputChannels: outputs,
      kernel: kernel,
      positions: (
        input: max(1, (data?.reduce(1, *) ?? 0) / inputs), weight: max(1, macs / (inputs * outputs * layer.taps)),
        output: max(1, (result?.reduce(1, *) ?? 0) / outputs)
      ))
    return .layer(layer)
  }

  /// Which operand of a matrix product is a weight, and where its input channels are.
  static func product(
    _ node: Node, _ graph: Graph, _ shapes: ShapeTable, _ isConstant: [Bool]
  ) -> (form: DecomposableLayer.Form, input: Int)? {
    func isWeight(_ input: Int) -> Bool {
      guard let value = node.input(input), isConstant[value.index] else { return false }
      // A vector is no weight.
      return shapes[value].map { $0.count >= 2 } ?? true
    }
    switch (isWeight(0), isWeight(1)) {
    case (false, true):
      return (.product(input: 1, inputAxis: node.int("transB", default: 0) != 0 ? 1 : 0), 1)
    case (true, false):
      return (.product(input: 0, inputAxis: node.int("transA", default: 0) != 0 ? 0 : 1), 0)
    default: return nil
    }
  }
}

extension DecomposableLayer {
  func named(_ name: String) -> DecomposableLayer {
    DecomposableLayer(
      node: node, name: name, form: form, weight: weight, inputChannels: inputChannels, outputChannels: outputChannels,
      kernel: kernel, positions: positions)
  }

  /// The input through which the node reads its weight, and that through which it reads data.
  var weightInput: Int { if case .product(let input, _) = form { input } else { 1 } }
  var dataInput: Int { 1 - weightInput }

  var isTransposed: Bool { if case .transposedConvolution = form { true } else { false } }
}

extension Graph {
  /// Per value, whether it is stored or computed from stored tensors alone.
  func constantValues() -> [Bool] {
    var isConstant = values.map(\.isStored)
    for node in nodes where !node.inputs.isEmpty && node.captures.isEmpty {
      guard node.inputs.allSatisfy({ $0.map { isConstant[$0.index] } ?? true }) else { continue }
      for case let output? in node.outputs { isConstant[output.index] = true }
    }
    return isConstant
  }
}
