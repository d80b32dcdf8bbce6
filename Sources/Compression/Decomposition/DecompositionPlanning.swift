import ModelGraph
import Numerics

/// One layer's decomposition, for whoever reports it or proves it.
package struct LayerDecomposition: Sendable {
  let layer: DecomposableLayer
  let method: DecompositionMethod
  let ranks: [Int]
  /// Its entry among the plan's `replacements`.
  let replacement: NodeReplacement

  /// The factors among the plan's constants, in execution order.
  var constants: [Int] { replacement.stages.compactMap { $0.constant(layer.weightInput) } }

  /// The bias among the plan's constants; nil if it is the layer's own.
  var newBias: Int? { replacement.stages.last?.constant(2) }

  /// Whether factors are stored in a type so narrow that their product cannot be stored in it without rounding of its own.
  var isNarrow: Bool { [.float16, .bfloat16].contains(layer.weight.dtype) }

  /// The weight that the factors make, as the layer's node reads one; of narrow factors in float32.
  /// - Parameter constants: of the plan.
  func product(_ constants: [Tensor], _ algebra: LinearAlgebra, isRounded: Bool = false) -> Tensor {
    let factors = layer.factors(method, ranks: ranks, stored: self.constants.map { constants[$0] })
    var product = factors.product(kernel: layer.kernel, algebra)
    if isRounded {
      for element in product.indices { product[element] *= element % 2 == 0 ? 1 + 0x1p-24 : 1 - 0x1p-24 }
    }
    return .rounding(
      layer.arranged(product), shape: layer.weight.shape, to: isNarrow ? .float32 : layer.weight.dtype)
  }
}

extension LayerDecomposition {
  /// The same as the weight is stored: in its own axes.
  func storedProduct(_ constants: [Tensor], _ algebra: LinearAlgebra, isRounded: Bool) -> Tensor {
    let product = product(constants, algebra, isRounded: isRounded)
    return layer.weight.storing(
      product.realNumbers ?? [], order: Array(layer.weight.shape.indices), as: isNarrow ? .float32 : nil)
  }
}

extension NodeReplacement.Stage {
  /// Which of the plan's constants is read as an input; nil if none.
  func constant(_ input: Int) -> Int? {
    if input < inputs.count, case .constant(let index) = inputs[input] { index } else { nil }
  }
}

extension CompressibleModel {
  /// Computes the factors of all chosen weights and works out what takes the layers' places.
  func decompose(
    _ model: RankModel, _ choices: [RankChoice?], _ request: DecompositionRequest, work: Work
  ) throws(Failure) -> PlannedCompression {
    let algebra = try LinearAlgebra.loaded()
    struct Task: Sendable {
      let candidate: WeightCandidate
      let ranks: [Int]
    }
    let tasks = zip(model.candidates, choices).compactMap { candidate, choice in
      choice?.ranks.map { Task(candidate: candidate, ranks: $0) }
    }
    var building = DecompositionBuilding(graph)
    /// Layers of which the dataset says little, or nothing.
    var (starved, blind) = ([String](), [String]())
    func compute(_ tasks: [(weight: Task, inputs: WeightInputs?)], _ work: Work) throws(Failure) {
      let found = try work.concurrentMap(
        tasks, cost: { $0.weight.candidate.layer.factorFlops($0.weight.candidate.method, ranks: $0.weight.ranks) },
        naming: { "decomposed '\($0.weight.candidate.layer.name)'" }
      ) { task, work throws(Failure) in
        try task.weight.candidate.layer.factors(
          task.weight.candidate.method, ranks: task.weight.ranks, inputs: task.inputs,
          start: task.weight.candidate.spectra.start, algebra: algebra, work)
      }
      for (task, factors) in zip(tasks, found) {
        building.add(task.weight.candidate.members, factors)
        if let inputs = task.inputs, inputs.positionCount < 2 * task.weight.candidate.layer.inputChannels {
          starved.append(task.weight.candidate.layer.name)
        } else if task.inputs == nil, request.maps != nil, model.methods != [.cp] {
          blind.append(task.weight.candidate.layer.name)
        }
      }
    }
    let part = work.part(0...0.9)
    if let maps = request.maps, model.methods != [.cp] {
      try gathering(maps).forEach(
        tasks, members: \.candidate.members, patches: model.methods.contains(.tucker), work: part, compute)
    } else {
      try compute(tasks.map { ($0, nil) }, part)
    }
    let dataWarnings = [
      (starved, "the dataset has fewer than two positions for every input channel; more samples do better"),
      (blind, "the dataset says nothing of their inputs, so the weight's own error was kept small"),
      (
        request.maps != nil && model.methods == [.cp] ? tasks.map(\.candidate.layer.name) : [],
        "FD_CP keeps the weight's own error small and looks at no dataset"
      ),
    ].filter { !$0.0.isEmpty }.map { names, what in "\(names.summary): \(what)" }
    work.progress(0.95, "certifying")
    var planned = try planned(
      building, layers: model.settings(choices), skipped: model.skipped(choices),
      warnings: building.warnings + dataWarnings)
    if let bytes = try writtenBytes(planned.plan, work) { planned.compressed.sizeBytes = bytes }
    return planned
  }

  /// The finished plan with its certificate.
  func planned(
    _ building: DecompositionBuilding, layers: [LayerSetting], skipped: [SkippedLayer], warnings: [String]
  ) throws(Failure) -> PlannedCompression {
    let (plan, decompositions, replaced, adjusted) = building.finished()
    let rewritten = RewrittenGraph(graph, applying: plan).graph
    let certificate = try certify(rewritten)
    return PlannedCompression(
      plan: plan, original: cost.original,
      compressed: compressedSize(plan, rewritten), layers: layers, goal: nil, achievedRatio: nil,
      removed: [], copied: [], replaced: replaced, adjusted: adjusted, skipped: skipped, warnings: warnings,
      approximations: decompositions.map { decomposition in
        Approximation(
          node: decomposition.layer.node, name: decomposition.layer.name, op: graph[decomposition.layer.node].op,
          reason:
            "its weight is now a product of \(decomposition.replacement.stages.count) of ranks \(decomposition.ranks)")
      }, certificate: certificate, change: .decomposition(decompositions))
  }

  /// Every value that lives on must have the shape it had, under both choices of open lengths.
  private func certify(_ rewritten: Graph) throws(Failure) -> CertificateReport {
    var checked = 0
    for (lengths, before) in [(shapes.nominalLengths, shapes.nominal), (shapes.analysisLengths, shapes.analysis)] {
      let after: ShapeTable
      do {
        after = try rewritten.inferShapes(inputShapes: lengths.shapes, symbols: lengths.symbols)
      } catch {
        throw Certificate.fault("the rewritten graph's shapes contradict each other: \(error.message)", error.details)
      }
      for id in graph.valueIDs {
        guard let wanted = before[id], let found = after[id] else { continue }
        checked += 1
        guard wanted == found else {
          throw Certificate.fault(
            "'\(graph[id].name)' would have shape \(found) instead of \(wanted)", ["value": .string(graph[id].name)])
        }
      }
    }
    return CertificateReport(valuesChecked: checked, labelsCompared: 0)
  }

  /// `sizeBytes` from the tensors alone.
  private func compressedSize(_ plan: CompressionPlan, _ rewritten: Graph) -> ModelSize {
    let table = try? rewritten.inferShapes(
      inputShapes: shapes.nominalLengths.shapes, symbols: shapes.nominalLengths.symbols)
    let after = table.map { table in
      rewritten.nodes.reduce(0) { $0 + CostModel.macs(of: $1, in: rewritten, shapes: { table[$0] }) }
    }
    let gone = UnreadParts(graph, plan).values.reduce(0) { $0 + (graph[$1].tensor?.bytes.count ?? 0) }
    let come = plan.constants.reduce(0) { $0 + $1.tensor.bytes.count }
    return ModelSize(
      parameters: CostModel.parameters(of: rewritten), macs: after ?? cost.original.macs,
      sizeBytes: cost.original.sizeBytes - gone + come)
  }
}

extension [String] {
  /// The first, and how many more there are.
  var summary: String {
    guard let first else { return "" }
    return count == 1 ? "'\(first)'" : "'\(first)' and \(count - 1) more"
  }
}

/// Factors as they will be stored, and what they lose.
struct ComputedFactors: Sendable {
  let factors: LayerFactors
  let relativeError: Double
  let outputError: Double?
  /// What the outputs lose of the input's mean; nil where errors were weighed about zero.
  let lostMean: [Double]?
  let warning: String?

  init(
    factors: LayerFactors, relativeError: Double, outputError: Double? = nil, lostMean: [Double]? = nil,
    warning: String? = nil
  ) {
    (self.factors, self.relativeError, self.outputError) = (factors, relativeError, outputError)
    (self.lostMean, self.warning) = (lostMean, warning)
  }
}
