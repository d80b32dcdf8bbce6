import ModelGraph

/// Some of another runner's batches, taken evenly: what is measured many times needs no more.
struct SomeSamples: NetworkRunner {
  private let whole: any NetworkRunner
  private let wanted: Int

  init(_ whole: any NetworkRunner, count: Int) { (self.whole, wanted) = (whole, min(count, whole.sampleCount)) }

  var sampleCount: Int { wanted }

  func forEachBatch(work: Work, _ body: (NetworkBatch) throws(Failure) -> Void) throws(Failure) {
    let total = max(1, whole.sampleCount)
    try whole.forEachBatch(
      where: { _, samples, taken in taken < wanted && taken * total < samples.upperBound * wanted }, work: work, body)
  }

  func load(_ graph: Graph, work: Work) throws(Failure) -> any LoadedNetwork { try whole.load(graph, work: work) }
}

/// Those of another runner's samples that have some of the roles among all of them, so that what judges a choice had no
/// part in it. Where there are too few to hold any out, all are everything.
///
/// Invariant: with all roles, samples keep theirs by their new numbers, too.
struct RoleSamples: NetworkRunner {
  private let whole: any NetworkRunner
  /// By batch.
  private let isTaken: [Bool]
  let sampleCount: Int

  /// For what a choice depends on.
  static let enough = 384
  /// To tell which of several networks is nearer.
  static let enoughToCompare = 192

  /// - Parameter most: about how many at most, taken evenly.
  init(_ whole: any NetworkRunner, _ split: SampleSplit, _ roles: Set<SampleSplit.Role>, most: Int) {
    self.whole = whole
    let hasRole = split.batches.map { !split.holdsOut || roles.contains(split.role($0.lowerBound)) }
    let suitable = zip(split.batches, hasRole).reduce(0) { $1.1 ? $0 + $1.0.count : $0 }
    // Whole periods, so that a number goes on telling the role.
    let periods = (split.batches.count + SampleSplit.period - 1) / SampleSplit.period
    let wanted = suitable <= most ? periods : max(1, periods * most / suitable)
    isTaken = hasRole.indices.map { batch in
      let period = batch / SampleSplit.period
      return hasRole[batch] && (period + 1) * wanted / periods > period * wanted / periods
    }
    sampleCount = zip(split.batches, isTaken).reduce(0) { $1.1 ? $0 + $1.0.count : $0 }
  }

  func forEachBatch(work: Work, _ body: (NetworkBatch) throws(Failure) -> Void) throws(Failure) {
    try whole.forEachBatch(where: { index, _, _ in index < isTaken.count && isTaken[index] }, work: work, body)
  }

  func load(_ graph: Graph, work: Work) throws(Failure) -> any LoadedNetwork { try whole.load(graph, work: work) }
}

extension NetworkRunner {
  /// Some of the batches, their samples numbered anew, without gaps.
  /// - Parameter isWanted: given the batch's index and samples, and how many samples were taken before it.
  fileprivate func forEachBatch(
    where isWanted: (_ index: Int, _ samples: Range<Int>, _ taken: Int) -> Bool, work: Work,
    _ body: (NetworkBatch) throws(Failure) -> Void
  ) throws(Failure) {
    var (index, taken) = (0, 0)
    try forEachBatch(work: work) { batch throws(Failure) in
      defer { index += 1 }
      guard isWanted(index, batch.samples, taken) else { return }
      let count = batch.samples.count
      try body(NetworkBatch(samples: taken..<taken + count, inputs: batch.inputs))
      taken += count
    }
  }
}

extension CompressibleModel {
  /// On the data of a joint choice but for those that judge it, with all that both methods ask of them: found in one
  /// pass, and kept. nil without data.
  func featureMaps(for means: JointMeans, work: Work) throws(Failure) -> NetworkFeatureMaps? {
    guard let data = means.data else { return nil }
    let some = RoleSamples(
      data.runner, try SampleSplit(data.runner, work: work), [.fitting, .choosing], most: RoleSamples.enough)
    let runner = try StackedSamples.of(some, for: graph, shapes: shapes.nominal, work: work)
    let maps = NetworkFeatureMaps(
      graph: graph, runner: runner, identity: "\(RoleSamples.enough) of \(data.maps.identity)")
    let coupling = try coupling(means.pruning.couplingOptions, work)
    let moments = try DamageCriterion(coupling, shapes: shapes.nominal).moments(
      with: decomposableLayers.layers, from: maps, known: moments(of: maps), work)
    keep(moments, of: maps)
    return maps.on(graph, known: moments ?? ChannelMoments())
  }

  /// What factors are made on once everything is chosen, and nothing has to be judged any more: all data. Where weights
  /// will be fitted anew, the same that it was chosen on, for then the fit is judged.
  func factorMaps(
    for means: JointMeans, _ maps: NetworkFeatureMaps?, work: Work
  ) throws(Failure) -> NetworkFeatureMaps? {
    guard let data = means.data, !means.refits else { return maps }
    let runner = try StackedSamples.of(data.runner, for: graph, shapes: shapes.nominal, work: work)
    return NetworkFeatureMaps(graph: graph, runner: runner, identity: data.maps.identity)
  }
}

extension CompressibleModel {
  /// The groups, ranked as a joint choice has it: those of which samples tell nothing, since no layer whose weight
  /// could be fitted reads them, by what is stored.
  func ranking(for means: JointMeans, _ maps: NetworkFeatureMaps?, _ work: Work) throws(Failure) -> RankedModel {
    let ranked = try ranking(means.criterion, means.pruning, maps: maps, work.part(0...0.8))
    guard ranked.scored.groups.indices.contains(where: ranked.scored.isUnmeasured) else { return ranked }
    let stored = try scores(ScoreKey(.groupL2, means.pruning, data: nil), maps: nil, work.part(0.8...1))
    return try RankedModel(ranked.scored.filled(by: stored), options: means.pruning, work: work)
  }
}

/// The feature maps of a graph that was made of a model, on samples for that model.
struct NetworkFeatureMaps: FeatureMapSource {
  let graph: Graph
  let runner: any NetworkRunner
  /// Whoever keeps what is measured keeps it with the graph.
  let identity: String
  var sampleCount: Int { runner.sampleCount }
  let known: ChannelMoments?

  fileprivate init(graph: Graph, runner: any NetworkRunner, identity: String) {
    (self.graph, self.runner, self.identity, known) = (graph, runner, identity, ChannelMoments())
  }

  private init(_ graph: Graph, _ other: NetworkFeatureMaps, known: ChannelMoments) {
    (self.graph, runner, identity, self.known) = (graph, other.runner, other.identity, known)
  }

  /// On the same samples.
  /// - Parameter known: measured before on them.
  func on(_ graph: Graph, known: ChannelMoments) -> NetworkFeatureMaps {
    NetworkFeatureMaps(graph, self, known: known)
  }

  func run(
    _ values: [ValueID], work: Work, _ body: ([FeatureMap]) throws(Failure) -> Void
  ) throws(Failure) {
    let fed = Set(graph.inputs)
    let computed = Set(values).subtracting(fed).sorted()
    let segment = computed.isEmpty ? nil : GraphSegment(graph, computing: computed, given: [:]).graph
    let network = try segment.map { segment throws(Failure) in try runner.load(segment, work: work) }
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      try work.checkCancellation()
      var tensors: [ValueID: Tensor] = [:]
      for id in graph.inputs { tensors[id] = batch.inputs[graph[id].name] }
      if let segment, let network {
        let found = try network.run(segment.inputs.compactMap { tensors[$0] }, work: work)
        for (id, tensor) in zip(computed, found) { tensors[id] = tensor }
      }
      var maps: [FeatureMap] = []
      for id in values {
        guard let map = tensors[id].flatMap({ FeatureMap(value: id, tensor: $0) }) else {
          throw Failure(
            .runtimeFailed, "the runtime gives no real numbers for '\(graph[id].name)'",
            details: ["value": .string(graph[id].name)])
        }
        maps.append(map)
      }
      try body(maps)
      work.progress(
        Double(batch.samples.upperBound) / Double(max(1, sampleCount)), "running the model on samples")
    }
  }
}
