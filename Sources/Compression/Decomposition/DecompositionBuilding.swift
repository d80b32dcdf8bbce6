import ModelGraph

/// Collects replacements, each weight's factors once.
struct DecompositionBuilding {
  private let graph: Graph
  private var names: UniqueNames
  private var plan = CompressionPlan()
  private var decompositions: [LayerDecomposition] = []
  private var replaced: [(node: NodeID, layer: ReplacedLayer)] = []
  private var adjusted: [AdjustedParameter] = []
  private(set) var warnings: [String] = []

  init(_ graph: Graph) {
    self.graph = graph
    names = UniqueNames(
      taken: Set(graph.values.lazy.map(\.name)).union(graph.nodes.lazy.map(\.name)).union(graph.definitions.innerNames))
  }

  /// - Parameters:
  ///   - members: the layers that apply the weight, in node order.
  ///   - biases: new ones that are known already, by layer.
  mutating func add(
    _ members: [DecomposableLayer], _ computed: ComputedFactors, biases: [NodeID: Tensor] = [:]
  ) {
    if let warning = computed.warning { warnings.append(warning) }
    var shared: [Int]?
    for layer in members {
      let new = biases[layer.node] ?? computed.lostMean.flatMap { newBias(of: layer, $0) }
      let bias = layer.addsBias(in: graph) ? new : nil
      if let new, bias == nil { moveToSum(layer, new, lastStage: computed.factors.parts.last?.stage) }
      let (replacement, indices) = layer.replacement(
        by: computed.factors, bias: bias, in: graph, names: &names, constants: &plan.constants, shared: shared)
      shared = indices
      if bias != nil, let index = replacement.stages.last?.constant(2) {
        noteBias(layer, index, original: graph[layer.node].input(2))
      }
      plan.replacements.append(replacement)
      decompositions.append(
        LayerDecomposition(
          layer: layer, method: computed.factors.method, ranks: computed.factors.ranks, replacement: replacement))
      let parts = zip(replacement.stages, indices).map { stage, index in
        ReplacedLayer.Part(
          name: stage.name, op: stage.op, parameter: plan.constants[index].name,
          shape: fileShape(plan.constants[index].tensor.shape, of: stage, for: layer))
      }
      replaced.append(
        (
          layer.node,
          ReplacedLayer(
            layer: layer.name, parameter: graph[layer.weight.source].name, method: computed.factors.method,
            ranks: computed.factors.ranks, by: parts, relativeError: computed.relativeError,
            outputError: computed.outputError)
        ))
    }
  }

  /// The shape that a factor has in the file.
  private func fileShape(
    _ shape: [Int], of stage: NodeReplacement.Stage, for layer: DecomposableLayer
  ) -> [Int] {
    if graph.constraints.hasLinearFactors, layer.readsInputsFirst { return shape.reversed() }
    return FileAxes(graph[layer.weight.source]).fileShape(shape, of: stage)
  }

  /// The bias of the layer, its own or that of a following sum, with what its new weight loses of the input's mean.
  private func newBias(of layer: DecomposableLayer, _ lost: [Double]) -> Tensor? {
    let (old, scale): (Tensor?, Double)
    switch layer.inputMean(in: graph) {
    case .included: return nil
    case .movedToBias(let bias, let factor): (old, scale) = (bias, factor)
    case .movedToSum(_, let bias): (old, scale) = (bias, 1)
    }
    let before = old?.realNumbers ?? [Double](repeating: 0, count: lost.count)
    return .rounding(
      zip(before, lost).map { $0 + $1 * scale }, shape: old?.shape ?? [lost.count], to: layer.weight.dtype)
  }

  /// Where the bias is what a following Add reads: that reads a new one.
  private mutating func moveToSum(_ layer: DecomposableLayer, _ bias: Tensor, lastStage: String?) {
    guard case .movedToSum(let use, _) = layer.inputMean(in: graph) else { return }
    let original = graph[use.node].input(use.input)
    let name = names.make(
      layer.biasName(insteadOf: original.map { graph[$0].name } ?? layer.name, lastStage: lastStage, in: graph))
    plan.edits.append(.readConstant(node: use.node, input: use.input, constant: plan.constants.count))
    noteBias(layer, plan.constants.count, name: name, original: original)
    plan.constants.append((name, bias))
  }

  private mutating func noteBias(
    _ layer: DecomposableLayer, _ constant: Int, name: String? = nil, original: ValueID?
  ) {
    adjusted.append(
      AdjustedParameter(
        layer: layer.name, parameter: name ?? plan.constants[constant].name, original: original.map { graph[$0].name },
        reason: "it makes up for what the smaller weight loses of the mean input"))
  }

  func finished() -> (
    plan: CompressionPlan, decompositions: [LayerDecomposition], replaced: [ReplacedLayer],
    adjusted: [AdjustedParameter]
  ) {
    var plan = plan
    plan.replacements.sort { $0.node < $1.node }
    plan.edits.sort { $0.node < $1.node }
    return (
      plan, decompositions.sorted { $0.layer.node < $1.layer.node },
      replaced.sorted { $0.node < $1.node }.map(\.layer), adjusted
    )
  }
}
