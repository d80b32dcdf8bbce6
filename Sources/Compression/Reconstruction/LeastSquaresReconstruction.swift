import ModelGraph
import Numerics

/// Fits the weights of a compressed network anew, in forward order, so that each layer, fed with what the compressed
/// network itself computes, comes as close as it can to what the original layer computes of the outputs that are left
/// (ThiNet, Luo et al., ICCV 2017; He, Zhang and Sun, ICCV 2017; ridge toward the old weight).
///
/// Data are only ever run through the two networks; what is kept of them are sums of products and, where there is room,
/// what the layers of the next stage read. Results do not depend on the number of threads.
struct LeastSquaresReconstruction {
  let original: Graph
  /// Of the original.
  let shapes: ShapeTable
  let runner: any NetworkRunner
  let split: SampleSplit
  let layers: [RefitLayer]
  private let algebra: LinearAlgebra

  /// Bytes of sums that are held at a time; a stage with more goes through the data several times.
  private static let momentBudget = 512 << 20

  init(
    original: Graph, shapes: ShapeTable, layers: [RefitLayer], runner: any NetworkRunner, split: SampleSplit
  ) throws(Failure) {
    (self.original, self.shapes, self.layers) = (original, shapes, layers)
    (self.runner, self.split) = (runner, split)
    algebra = try LinearAlgebra.loaded()
  }

  struct Fitted {
    let layer: RefitLayer
    let solution: RefitSolution
    /// Positions that the weight was fitted to.
    let positions: Int
  }

  /// - Parameter compressed: the network whose layers these are.
  /// - Returns: the network with the new weights, what was stored, and what was found of each layer.
  func run(
    on compressed: Graph, work: Work
  ) throws(Failure) -> (graph: Graph, tensors: [ValueID: Tensor], fitted: [Fitted]) {
    let stages = RefitStages(layers, in: compressed)
    let (reference, walk) = (NetworkWalk(original, runner: runner), NetworkWalk(compressed, runner: runner))
    let length = try length(work)
    var tensors: [ValueID: Tensor] = [:]
    var fitted: [Fitted] = []
    for (depth, stage) in stages.stages.enumerated() where !stage.isEmpty {
      let part = work.part(
        Double(depth) / Double(stages.stages.count)...Double(depth + 1) / Double(stages.stages.count))
      let frontiers = (
        original: stages.order.frontier(depth + 1, of: original),
        compressed: stages.order.frontier(depth, of: compressed)
      )
      let portion = SamplePortion(
        of: runner.sampleCount, bytes: Int(length * Double(bytes(Set(frontiers.original + frontiers.compressed)))),
        layers: stage.map { ($0, Int(length * Double(positions($0)))) })
      let passes = passes(stage)
      for (k, pass) in passes.enumerated() {
        let found = try gather(
          pass, reference, walk, portion, frontiers: k == passes.count - 1 ? frontiers : nil,
          work: part.part(Double(k) / Double(passes.count)...Double(k + 1) / Double(passes.count)))
        for fit in found {
          for (id, tensor) in fit.layer.tensors(fit.solution, in: compressed, algebra) { tensors[id] = tensor }
        }
        fitted += found
      }
      walk.store(tensors)
      part.progress(1, "fitted \(stage.map { "'\($0.name)'" }.joined(separator: ", "))")
    }
    return (walk.graph, tensors, fitted.sorted { $0.layer.node < $1.layer.node })
  }

  // MARK: How much there is to look at

  /// Samples that one run at nominal lengths takes.
  private var nominalBatch: Int { max(1, original.inputs.compactMap { shapes[$0]?.first }.min() ?? 1) }

  /// How large samples are, on average and over what they are at nominal lengths: sentences are mostly shorter.
  private func length(_ work: Work) throws(Failure) -> Double {
    let nominal = original.inputs.compactMap { shapes[$0]?.reduce(1, *) }.max() ?? 0
    guard nominal > 0, runner.sampleCount > 0 else { return 1 }
    var elements = 0
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      elements += batch.inputs.values.map { $0.shape.reduce(1, *) }.max() ?? 0
    }
    return Double(elements) / Double(runner.sampleCount) / (Double(nominal) / Double(nominalBatch))
  }

  /// Of one sample at nominal lengths, of both networks.
  private func bytes(_ values: Set<ValueID>) -> Int {
    let fed = Set(original.inputs)
    // What a plan brings along is no larger than what it replaces.
    return values.reduce(0) { sum, value in
      guard !fed.contains(value), value.index < original.values.count else { return sum }
      return sum + 2 * 4 * (shapes[value]?.reduce(1, *) ?? 0)
    } / nominalBatch
  }

  private func positions(_ layer: RefitLayer) -> Int {
    layer.places.reduce(0) { sum, place in
      let axis: Int
      switch place.form {
      case .convolution: axis = 1
      case .product(_, let output), .mixing(_, let output, _): axis = output
      }
      guard place.target.index < original.values.count, let shape = shapes[place.target], !shape.isEmpty else {
        return sum
      }
      let channels = shape.indices.contains(axis) ? shape[axis] : shape[max(0, shape.count + axis)]
      return sum + shape.reduce(1, *) / max(1, channels) / nominalBatch
    }
  }

  /// As many layers at a time as there is room for.
  private func passes(_ stage: [RefitLayer]) -> [[RefitLayer]] {
    var (passes, bytes) = ([[RefitLayer]](), 0)
    for layer in stage {
      let size = RefitProbe.byteCount(layer)
      if passes.isEmpty || bytes + size > Self.momentBudget {
        passes.append([])
        bytes = 0
      }
      passes[passes.count - 1].append(layer)
      bytes += size
    }
    return passes
  }

  // MARK: One pass over the data

  private func gather(
    _ layers: [RefitLayer], _ reference: NetworkWalk, _ walk: NetworkWalk, _ portion: SamplePortion,
    frontiers: (original: [ValueID], compressed: [ValueID])?, work: Work
  ) throws(Failure) -> [Fitted] {
    let probes = layers.map { RefitProbe($0, walk.graph, algebra) }
    let places = layers.flatMap(\.places)
    let shortcuts = places.compactMap { $0.shortcut?.value }
    let referenceStep = reference.step(
      to: Set(places.map(\.target) + shortcuts).union(frontiers?.original ?? []).sorted())
    let step = walk.step(to: Set(places.map(\.input) + shortcuts).union(frontiers?.compressed ?? []).sorted())
    let all = portion.count(of: runner.sampleCount)
    var index = 0
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      defer { index += 1 }
      guard portion.holds(batch.samples.lowerBound) else { return }
      try work.checkCancellation()
      let before = try referenceStep.run(batch, index, work: work)
      let after = try step.run(batch, index, work: work)
      try add(batch, of: all, before, after, to: probes, walk.graph, work)
      if let frontiers {
        reference.keep(frontiers.original, before, batch: index)
        walk.keep(frontiers.compressed, after, batch: index)
      }
      work.progress(
        0.9 * Double(batch.samples.upperBound) / Double(max(1, runner.sampleCount)),
        "fitting '\(layers[0].name)'\(layers.count > 1 ? " and \(layers.count - 1) more" : "")")
    }
    if frontiers != nil {
      reference.advance()
      walk.advance()
    }
    return try work.part(0.9...1).concurrentMap(
      probes, cost: { Double($0.layer.length * $0.layer.length) * Double($0.layer.length + $0.layer.outputCount) },
      naming: { "fitted '\($0.layer.name)'" }
    ) { [algebra, graph = walk.graph] probe, work throws(Failure) in
      var (fitting, choosing) = try probe.finish()
      let positions = fitting.count + choosing.count
      // Handed over: they may be large.
      let empty = RegressionMoments(groups: 0, inputs: 0, outputs: 0)
      let solution = try RidgeRegression.solve(
        exchange(&fitting, with: empty), choosing: exchange(&choosing, with: empty), old: probe.layer.rows,
        oldConstants: probe.layer.constants(in: graph), algebra, work)
      return Fitted(layer: probe.layer, solution: solution, positions: positions)
    }
  }

  private struct Reading: Sendable {
    let probe: RefitProbe
    let place: RefitLayer
    let input: FeatureMap
    let output: FeatureMap
    let shortcut: (original: FeatureMap, compressed: FeatureMap)?
  }

  private func add(
    _ batch: NetworkBatch, of sampleCount: Int, _ before: [ValueID: Tensor], _ after: [ValueID: Tensor],
    to probes: [RefitProbe], _ graph: Graph, _ work: Work
  ) throws(Failure) {
    func map(_ id: ValueID, _ tensors: [ValueID: Tensor]) throws(Failure) -> FeatureMap {
      guard let map = tensors[id].flatMap({ FeatureMap(value: id, tensor: $0) }) else {
        throw Failure(
          .runtimeFailed, "the runtime gives no real numbers for '\(graph[id].name)'",
          details: ["value": .string(graph[id].name)])
      }
      return map
    }
    var tasks: [[Reading]] = []
    for probe in probes {
      var readings: [Reading] = []
      for place in probe.layer.places {
        var shortcut: (FeatureMap, FeatureMap)?
        if let value = place.shortcut?.value { shortcut = (try map(value, before), try map(value, after)) }
        readings.append(
          Reading(
            probe: probe, place: place, input: try map(place.input, after), output: try map(place.target, before),
            shortcut: shortcut))
      }
      tasks.append(readings)
    }
    let role = split.role(batch.samples.lowerBound)
    let samples = (here: batch.samples.count, all: sampleCount)
    func flops(_ readings: [Reading]) -> Double {
      readings.reduce(0) { $0 + $1.probe.flops($1.input, sampleCount: sampleCount) }
    }
    let isWorthThreads = tasks.reduce(0) { $0 + flops($1) } > Self.flopsWorthThreads
    _ = try Work(cancellation: work.cancellation, threads: isWorthThreads ? work.threads : 1).concurrentMap(
      tasks, cost: flops, naming: { $0[0].place.name }
    ) { readings, work throws(Failure) in
      for reading in readings {
        try reading.probe.add(
          reading.place, reading.input, reading.output, shortcut: reading.shortcut, samples: samples, role, work)
      }
      return true
    }
  }

  /// Starting threads takes as long as this.
  private static let flopsWorthThreads = 2e6
}

private func exchange<T>(_ place: inout T, with other: T) -> T {
  let value = place
  place = other
  return value
}

extension RefitLayer {
  /// What the node adds to its outputs; nil if nothing can be added to them.
  func constants(in graph: Graph) -> [Double]? {
    if case .none = intercept { return nil }
    if case .mixing = form { return [Double](repeating: 0, count: outputCount) }
    return switch intercept {
    case .bias(let id, let scale): graph[id].tensor?.realNumbers?.map { $0 * scale }
    default: [Double](repeating: 0, count: outputCount)
    }
  }

  /// What is stored for a solution: the weight, and what holds the constants.
  /// - Parameter algebra: asked for of mixtures.
  func tensors(_ solution: RefitSolution, in graph: Graph, _ algebra: LinearAlgebra? = nil) -> [ValueID: Tensor] {
    var (rows, constants, isMixed) = (solution.rows, solution.constants, false)
    if case .mixing(_, _, let mixing) = form {
      guard let algebra, solution.ridge != nil || constants != nil else { return [:] }
      (rows, constants) = mixing.composed(rows, constants, algebra)
      isMixed = true
    }
    if weightScale != 1 { for k in rows.indices { rows[k] /= weightScale } }
    var tensors: [ValueID: Tensor] = [:]
    if solution.ridge != nil { tensors[weight.source] = weight.storing(rows, order: weightOrder) }
    guard let constants else { return tensors }
    func set(_ id: ValueID, _ change: (_ old: Double, _ constant: Double) -> Double) {
      guard let tensor = graph[id].tensor, let old = tensor.realNumbers, old.count == constants.count else { return }
      tensors[id] = .rounding(zip(old, constants).map(change), shape: tensor.shape, to: tensor.dtype)
    }
    switch intercept {
    case .none: break
    case .bias(let id, let scale): set(id) { isMixed ? $0 + $1 / scale : $1 / scale }
    case .sum(let id): set(id) { $0 + $1 }
    case .mean(let id): set(id) { $0 - $1 }
    }
    return tensors
  }
}
