import ModelGraph
import Numerics

extension CompressibleModel {
  /// Has the biases of what a plan makes of the model take up what it lost on average, by stored statistics alone.
  /// - Returns: the plan with new contents of stored tensors, and what is to be told of them.
  package func compensate(_ planned: PlannedCompression, work: Work) throws(Failure) -> PlannedCompression {
    let (compressed, found) = try refitLayers(planned, work: work)
    let compensated = try BiasCompensation(
      original: graph, shapes: shapes.nominal, planned: planned, layers: found.layers, kept: kept(planned)
    ).run(on: compressed, work: work)
    var result = planned
    result.reconstruction = ReconstructionReport(
      mode: .bias, sampleCount: 0, heldOutCount: 0, isKept: !compensated.isEmpty, layers: [], skipped: found.others)
    if compensated.isEmpty {
      result.warnings.append(
        "no bias was changed: what removed channels or ranks add on average is read off batch normalizations, and no layer with a bias, or a normalization behind it, reads what one of them leads to; least_squares needs inputs instead"
      )
    }
    let tensors = compensated.reduce(into: [ValueID: Tensor]()) { $0.merge($1.tensors) { first, _ in first } }
    try result.store(
      tensors, of: compensated.map { ChangedNode($0.layer) }, in: self,
      reason: "it takes up what the layer no longer computes of its mean input",
      summary: "its bias takes up what it lost on average")
    return result
  }

  /// Fits the weights of what a plan makes of the model anew, by least squares on samples, and keeps them if the model
  /// then comes nearer to the original on samples held out.
  /// - Returns: the plan with new contents of stored tensors, and what is to be told of them.
  package func reconstruct(
    _ planned: PlannedCompression, on runner: any NetworkRunner, work: Work
  ) throws(Failure) -> PlannedCompression {
    let (compressed, found) = try refitLayers(planned, work: work)
    let split = try SampleSplit(runner, work: work)
    var result = planned
    var report = ReconstructionReport(
      mode: .leastSquares, sampleCount: split.sampleCount, heldOutCount: split.heldOut, isKept: false, layers: [],
      skipped: found.others)
    guard split.holdsOut else {
      report.heldOutCount = 0
      result.reconstruction = report
      result.warnings.append(
        "the dataset's \(split.sampleCount) inputs are \(split.different == 1 ? "all the same" : "of \(split.different) kinds"): nothing could tell what fitting weights to fewer than \(SampleSplit.least) is worth; the weights stay as they were. Give a few hundred"
      )
      return result
    }
    let stacked = try StackedSamples.of(
      runner, for: graph, shapes: shapes.nominal, role: { split.role($0) }, work: work)
    let (after, tensors, fitted) = try LeastSquaresReconstruction(
      original: graph, shapes: shapes.nominal, layers: found.layers, runner: stacked, split: split
    ).run(on: compressed, work: work.part(0...0.8))
    let statistics = NormalizationStatistics(
      after, runner: stacked, split: split, changeable: changeable(planned.plan))
    let normalized = try statistics.run(
      on: after, shapes: shapes.nominal, of: graph.values.count, work: work.part(0.8...0.9))
    let networks = [compressed, after] + (normalized.tensors.isEmpty ? [] : [normalized.graph])
    let errors = try OutputDeviation.of(
      networks, from: graph, runner: stacked, uses: { split.role($0) == .judging }, work: work.part(0.9...1))
    // What is not a number is no better than anything.
    let isNormalized = errors.count > 2 && errors[2] < min(errors[0], errors[1])
    let isBetter = isNormalized || errors[1] <= errors[0]
    (report.errorBefore, report.errorAfter, report.isKept) = (errors[0], errors[isNormalized ? 2 : 1], isBetter)
    report.normalizations = isNormalized ? statistics.normalizations.count : 0
    report.layers = fitted.map(\.report)
    result.reconstruction = report
    result.warnings += warnings(fitted, split, isBetter: isBetter)
    if isNormalized {
      try result.store(
        normalized.tensors, of: statistics.normalizations.map(ChangedNode.init), in: self,
        reason: "it was measured anew on what the layer is now fed",
        summary: "its statistics were measured anew on samples")
    }
    if isBetter {
      try result.store(
        tensors.filter { !isNormalized || normalized.tensors[$0.key] == nil },
        of: fitted.filter(\.isChanged).map { ChangedNode($0.layer) }, in: self,
        reason: "it was fitted so that the layer computes what the original does",
        summary: "its weights were fitted anew on samples")
    }
    return result
  }

  func refitLayers(
    _ planned: PlannedCompression, work: Work
  ) throws(Failure) -> (compressed: Graph, found: RefitLayers) {
    let compressed = try graph.applying(planned.plan, work: work)
    let lengths = shapes.nominalLengths
    let table = try compressed.inferShapes(inputShapes: lengths.shapes, symbols: lengths.symbols)
    return (
      compressed,
      RefitLayers(
        compressed, original: graph, originalShapes: shapes.nominal, shapes: table, kept: kept(planned),
        changeable: changeable(planned.plan))
    )
  }

  private func warnings(
    _ fitted: [LeastSquaresReconstruction.Fitted], _ split: SampleSplit, isBetter: Bool
  ) -> [String] {
    var warnings: [String] = []
    if split.different < SampleSplit.leastChoosing {
      warnings.append(
        "the dataset has \(split.different) different inputs, which is little to fit weights to; a few hundred do far better"
      )
    }
    let starved = fitted.filter { $0.positions < 2 * $0.layer.length }.map(\.layer.name)
    if !starved.isEmpty {
      warnings.append(
        "\(starved.summary): the dataset has fewer than two positions for every number that an output sums; more samples do better"
      )
    }
    if !isBetter {
      warnings.append(
        "on inputs held out the model with weights fitted anew is no nearer to the original than without; its weights stay as they were"
      )
    }
    return warnings
  }

  /// What is left of values along an axis.
  private func kept(_ planned: PlannedCompression) -> (ValueID, Int) -> [Int]? {
    guard let removal = planned.change.removal else { return { _, _ in nil } }
    return { value, axis in
      removal.keptPositions(of: value, axis: axis).map { kept in kept.indices.filter { kept[$0] } }
    }
  }

  /// Which stored tensors a plan can give other contents: the model's own that the file can say something else of, and
  /// what the plan itself introduces under a name.
  private func changeable(_ plan: CompressionPlan) -> (ValueID) -> Bool {
    let graph = graph
    return { value in
      guard value.index < graph.values.count else { return value.index < graph.values.count + plan.constants.count }
      return graph.constraints.fixed[value] == nil && graph.constraints.writable?.contains(value) ?? true
    }
  }
}

extension LeastSquaresReconstruction.Fitted {
  /// Whether anything of the layer is other than it was.
  var isChanged: Bool { solution.ridge != nil || solution.constants != nil }

  var report: ReconstructionReport.Layer {
    ReconstructionReport.Layer(
      name: layer.name, positions: positions, ridge: solution.ridge, errorBefore: solution.errorBefore,
      errorAfter: solution.errorAfter)
  }
}

extension PlannedCompression {
  /// Puts new tensors into the plan, and tells of them.
  /// - Parameters:
  ///   - tensors: by value of the compressed graph.
  ///   - nodes: whose they are.
  ///   - reason: of an adjusted parameter.
  ///   - summary: of a layer that is only approximately what it was.
  fileprivate mutating func store(
    _ tensors: [ValueID: Tensor], of nodes: [ChangedNode], in model: CompressibleModel, reason: String, summary: String
  ) throws(Failure) {
    let graph = model.graph
    var owners: [ValueID: String] = [:]
    for node in nodes { for id in node.stored { owners[id] = node.name } }
    for (id, tensor) in tensors.sorted(by: { $0.key < $1.key }) {
      guard id.index < graph.values.count else {
        plan.constants[id.index - graph.values.count].tensor = tensor
        continue
      }
      plan.contents.append(TensorContents(value: id, tensor: tensor))
      let name = graph[id].name
      adjusted.append(
        AdjustedParameter(layer: owners[id] ?? name, parameter: name, original: name, reason: reason))
    }
    let known = Set(approximations.map(\.node))
    for output in nodes.flatMap(\.outputs) {
      guard output.index < graph.values.count, let node = graph[output].producer, !known.contains(node) else {
        continue
      }
      approximations.append(
        Approximation(node: node, name: graph.displayName(node), op: graph[node].op, reason: summary))
    }
    approximations.sort { $0.node < $1.node }
    try measureProducts()
  }

  /// Products of factors that were fitted anew miss their weights by more than before.
  private mutating func measureProducts() throws(Failure) {
    let decompositions = change.decompositions
    guard !decompositions.isEmpty else { return }
    let algebra = try LinearAlgebra.loaded()
    for (k, decomposition) in decompositions.enumerated() where k < replaced.count {
      let layer = decomposition.layer
      let factors = layer.factors(
        decomposition.method, ranks: decomposition.ranks,
        stored: decomposition.constants.map { plan.constants[$0].tensor })
      replaced[k].relativeError = try layer.relativeError(factors.product(kernel: layer.kernel, algebra), Work())
    }
  }
}

/// What has something new stored: a layer, a normalization.
private struct ChangedNode {
  let name: String
  let stored: [ValueID]
  /// Of all nodes that read what is stored.
  let outputs: [ValueID]

  init(_ layer: RefitLayer) { (name, stored, outputs) = (layer.name, layer.stored, layer.places.map(\.output)) }

  init(_ normalization: StoredNormalization) {
    (name, outputs) = (normalization.name, [normalization.output])
    stored = [normalization.mean, normalization.variance]
  }
}

extension RefitLayer {
  /// The stored tensors that a solution changes.
  var stored: [ValueID] {
    switch intercept {
    case .none: [weight.source]
    case .bias(let id, _), .sum(let id), .mean(let id): [weight.source, id]
    }
  }
}
