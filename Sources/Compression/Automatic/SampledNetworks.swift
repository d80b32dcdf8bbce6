import ModelGraph

/// Some of another runner's batches, taken evenly: what is measured many times needs no more.
struct SomeSamples: NetworkRunner {
  private let whole: any NetworkRunner
  private let wanted: Int

  /// For what a choice depends on.
  static let enough = 384
  /// To tell which of several networks is nearer.
  static let enoughToCompare = 192

  init(_ whole: any NetworkRunner, count: Int) { (self.whole, wanted) = (whole, min(count, whole.sampleCount)) }

  var sampleCount: Int { wanted }

  /// Samples are numbered anew, without gaps.
  func forEachBatch(work: Work, _ body: (NetworkBatch) throws(Failure) -> Void) throws(Failure) {
    var taken = 0
    let total = max(1, whole.sampleCount)
    try whole.forEachBatch(work: work) { batch throws(Failure) in
      guard taken < wanted, taken * total < batch.samples.upperBound * wanted else { return }
      let count = batch.samples.count
      try body(NetworkBatch(samples: taken..<taken + count, inputs: batch.inputs))
      taken += count
    }
  }

  func load(_ graph: Graph, work: Work) throws(Failure) -> any LoadedNetwork { try whole.load(graph, work: work) }
}

extension CompressibleModel {
  /// On the data of a joint choice, with all that both methods ask of them: found in one pass, and kept. nil without data.
  func featureMaps(for means: JointMeans, work: Work) throws(Failure) -> NetworkFeatureMaps? {
    guard let data = means.data else { return nil }
    let some = SomeSamples(data.runner, count: SomeSamples.enough)
    let runner = try StackedSamples.of(some, for: graph, shapes: shapes.nominal, work: work)
    let maps = NetworkFeatureMaps(graph: graph, runner: runner, of: data)
    let coupling = try coupling(means.pruning.couplingOptions, work)
    let moments = try DamageCriterion(coupling, shapes: shapes.nominal).moments(
      with: decomposableLayers.layers, from: maps, known: moments(of: maps), work)
    keep(moments, of: maps)
    return maps.on(graph, known: moments ?? ChannelMoments())
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

  fileprivate init(graph: Graph, runner: any NetworkRunner, of data: JointMeans.Data) {
    (self.graph, self.runner, known) = (graph, runner, ChannelMoments())
    identity = "\(SomeSamples.enough) of \(data.maps.identity)"
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
