import ModelGraph

/// Some of another runner's batches, taken evenly: what is measured many times needs no more.
struct SomeSamples: NetworkRunner {
  private let whole: any NetworkRunner
  private let wanted: Int

  /// For what a choice depends on.
  static let enough = 384

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

/// The feature maps of a graph that was made of a model, on samples for that model.
struct NetworkFeatureMaps: FeatureMapSource {
  let graph: Graph
  let runner: any NetworkRunner
  /// Whoever keeps what is measured keeps it with the graph.
  let identity: String
  var sampleCount: Int { runner.sampleCount }

  init(graph: Graph, data: AutomaticRequest.Data) {
    self.graph = graph
    runner = SomeSamples(data.runner, count: SomeSamples.enough)
    identity = "\(SomeSamples.enough) of \(data.maps.identity)"
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

/// How far a model with other numbers in some stored tensors comes to be from itself, on a few samples.
struct DeviationMeter {
  private let graph: Graph
  private let runner: any NetworkRunner
  private var batches: [(inputs: [Tensor], outputs: [Tensor])] = []

  init(_ graph: Graph, _ runner: any NetworkRunner, work: Work) throws(Failure) {
    (self.graph, self.runner) = (graph, runner)
    let network = try runner.load(graph, work: work)
    var batches: [(inputs: [Tensor], outputs: [Tensor])] = []
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      let inputs = graph.inputs.compactMap { batch.inputs[graph[$0].name] }
      batches.append((inputs, try network.run(inputs, work: work)))
    }
    self.batches = batches
  }

  /// The squared relative distance of the outputs; finite.
  func deviation(storing tensors: [ValueID: Tensor], work: Work) throws(Failure) -> Double {
    let network = try runner.load(graph.storing(tensors), work: work)
    var deviation = OutputDeviation(outputs: graph.outputs.count)
    for batch in batches {
      try work.checkCancellation()
      for (k, found) in try network.run(batch.inputs, work: work).enumerated() {
        guard deviation.add(k, batch.outputs[k], found) else { throw graph.notFinite(graph.outputs[k]) }
      }
    }
    let relative = deviation.relative
    return relative.isFinite ? relative * relative : Self.most
  }

  /// Stands for what is no number.
  private static let most = 1e6
}
