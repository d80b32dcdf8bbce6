import ModelGraph
import Numerics

/// Fits the weights of a compressed network anew, in forward order, so that each layer, fed with what the compressed
/// network itself computes, comes as close as it can to what the original layer computes of the outputs that are left
/// (ThiNet, Luo et al., ICCV 2017; He, Zhang and Sun, ICCV 2017; ridge toward the old weight).
///
/// Data are only ever run through the two networks; what is kept of them are sums of products and, where there is room,
/// what the layers of the next stage read. Results depend neither on the number of threads nor on what there is room for.
struct LeastSquaresReconstruction {
  let original: Graph
  let runner: any NetworkRunner
  let split: SampleSplit
  let layers: [RefitLayer]
  private let algebra: LinearAlgebra

  /// Bytes of sums that are held at a time; a stage with more goes through the data several times.
  private static let momentBudget = 512 << 20
  /// Bytes of computed values that are kept from stage to stage, of either network.
  private static let checkpointBudget = 256 << 20

  init(original: Graph, layers: [RefitLayer], runner: any NetworkRunner, split: SampleSplit) throws(Failure) {
    (self.original, self.layers, self.runner, self.split) = (original, layers, runner, split)
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
    var tensors: [ValueID: Tensor] = [:]
    var fitted: [Fitted] = []
    for (depth, stage) in stages.stages.enumerated() where !stage.isEmpty {
      let part = work.part(
        Double(depth) / Double(stages.stages.count)...Double(depth + 1) / Double(stages.stages.count))
      let passes = passes(stage)
      for (k, pass) in passes.enumerated() {
        let isLast = k == passes.count - 1
        let found = try gather(
          pass, reference, walk,
          frontiers: isLast ? (stages.frontier(depth + 1, of: original), stages.frontier(depth, of: compressed)) : nil,
          work: part.part(Double(k) / Double(passes.count)...Double(k + 1) / Double(passes.count)))
        for fit in found {
          for (id, tensor) in fit.layer.tensors(fit.solution, in: compressed) { tensors[id] = tensor }
        }
        fitted += found
      }
      walk.store(tensors)
      part.progress(1, "fitted \(stage.map { "'\($0.name)'" }.joined(separator: ", "))")
    }
    return (walk.graph, tensors, fitted.sorted { $0.layer.node < $1.layer.node })
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

  /// One pass over the data.
  private func gather(
    _ layers: [RefitLayer], _ reference: NetworkWalk, _ walk: NetworkWalk,
    frontiers: (original: [ValueID], compressed: [ValueID])?, work: Work
  ) throws(Failure) -> [Fitted] {
    let probes = layers.map { RefitProbe($0, sampleCount: runner.sampleCount, walk.graph, algebra) }
    let shortcuts = layers.compactMap { $0.shortcut?.value }
    let wantedReference = Set(layers.map(\.output) + shortcuts).union(frontiers?.original ?? [])
    let wanted = Set(layers.map(\.input) + shortcuts).union(frontiers?.compressed ?? [])
    let referenceStep = try reference.step(to: wantedReference.sorted(), work: work)
    let step = try walk.step(to: wanted.sorted(), work: work)
    var (batches, index) = (0, 0)
    var keeps = (reference: false, walk: false)
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      try work.checkCancellation()
      let before = try referenceStep.run(batch, index, work: work)
      let after = try step.run(batch, index, work: work)
      if index == 0 {
        batches = (runner.sampleCount + batch.samples.count - 1) / max(1, batch.samples.count)
        if let frontiers {
          keeps.reference =
            reference.bytes(frontiers.original, before) <= Self.checkpointBudget / max(1, batches)
          keeps.walk = walk.bytes(frontiers.compressed, after) <= Self.checkpointBudget / max(1, batches)
        }
      }
      try add(batch, before, after, to: probes, walk.graph, work)
      if let frontiers {
        if keeps.reference { reference.keep(frontiers.original, before, batch: index) }
        if keeps.walk { walk.keep(frontiers.compressed, after, batch: index) }
      }
      index += 1
      work.progress(
        0.9 * Double(batch.samples.upperBound) / Double(max(1, runner.sampleCount)),
        "fitting '\(layers[0].name)'\(layers.count > 1 ? " and \(layers.count - 1) more" : "")")
    }
    if keeps.reference { reference.advance() }
    if keeps.walk { walk.advance() }
    return try work.part(0.9...1).concurrentMap(
      probes, cost: { Double($0.layer.length * $0.layer.length) * Double($0.layer.length + $0.layer.outputCount) },
      naming: { "fitted '\($0.layer.name)'" }
    ) { [algebra, graph = walk.graph] probe, work throws(Failure) in
      let (fitting, choosing) = probe.moments
      let solution = try RidgeRegression.solve(
        fitting, choosing: choosing, old: probe.layer.rows, oldConstants: probe.layer.constants(in: graph), algebra,
        work)
      return Fitted(layer: probe.layer, solution: solution, positions: fitting.count + choosing.count)
    }
  }

  private func add(
    _ batch: NetworkBatch, _ before: [ValueID: Tensor], _ after: [ValueID: Tensor], to probes: [RefitProbe],
    _ graph: Graph, _ work: Work
  ) throws(Failure) {
    struct Task: Sendable {
      let probe: RefitProbe
      let input: FeatureMap
      let output: FeatureMap
      let shortcut: (original: FeatureMap, compressed: FeatureMap)?
    }
    func map(_ id: ValueID, _ tensors: [ValueID: Tensor]) throws(Failure) -> FeatureMap {
      guard let map = tensors[id].flatMap({ FeatureMap(value: id, tensor: $0) }) else {
        throw Failure(
          .runtimeFailed, "the runtime gives no real numbers for '\(graph[id].name)'",
          details: ["value": .string(graph[id].name)])
      }
      return map
    }
    var tasks: [Task] = []
    for probe in probes {
      var shortcut: (FeatureMap, FeatureMap)?
      if let value = probe.layer.shortcut?.value { shortcut = (try map(value, before), try map(value, after)) }
      tasks.append(
        Task(
          probe: probe, input: try map(probe.layer.input, after), output: try map(probe.layer.output, before),
          shortcut: shortcut))
    }
    let role = split.role(batch.samples.lowerBound)
    let samples = batch.samples.count
    let isWorthThreads = tasks.reduce(0) { $0 + $1.probe.flops($1.input) } > Self.flopsWorthThreads
    _ = try Work(cancellation: work.cancellation, threads: isWorthThreads ? work.threads : 1).concurrentMap(
      tasks, cost: { $0.probe.flops($0.input) }, naming: { $0.probe.layer.name }
    ) { task, work throws(Failure) in
      try task.probe.add(task.input, task.output, shortcut: task.shortcut, samples: samples, role, work)
      return true
    }
  }

  /// Starting threads takes as long as this.
  private static let flopsWorthThreads = 2e6
}

extension RefitLayer {
  /// What the node adds to its outputs; nil if nothing can be added to them.
  func constants(in graph: Graph) -> [Double]? {
    switch intercept {
    case .none: nil
    case .bias(let id, let scale): graph[id].tensor?.realNumbers?.map { $0 * scale }
    case .sum, .mean: [Double](repeating: 0, count: outputCount)
    }
  }

  /// What is stored for a solution: the weight, and what holds the constants.
  func tensors(_ solution: RefitSolution, in graph: Graph) -> [ValueID: Tensor] {
    let rows = weightScale == 1 ? solution.rows : solution.rows.map { $0 / weightScale }
    var tensors: [ValueID: Tensor] = [:]
    if solution.ridge != nil { tensors[weight.source] = weight.storing(rows, order: weightOrder) }
    guard let constants = solution.constants else { return tensors }
    func set(_ id: ValueID, _ change: (_ old: Double, _ constant: Double) -> Double) {
      guard let tensor = graph[id].tensor, let old = tensor.realNumbers else { return }
      tensors[id] = .rounding(zip(old, constants).map(change), shape: tensor.shape, to: tensor.dtype)
    }
    switch intercept {
    case .none: break
    case .bias(let id, let scale): set(id) { $1 / scale }
    case .sum(let id): set(id) { $0 + $1 }
    case .mean(let id): set(id) { $0 - $1 }
    }
    return tensors
  }
}
