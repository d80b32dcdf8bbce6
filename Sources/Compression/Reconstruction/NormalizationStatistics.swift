import ModelGraph

/// A batch normalization whose mean and variance are stored for it alone.
struct StoredNormalization: Sendable {
  let node: NodeID
  let name: String
  /// What it normalizes, by axis 1, and what it computes.
  let input: ValueID
  let output: ValueID
  let mean: ValueID
  let variance: ValueID
}

/// Has batch normalizations store the mean and variance of what a compressed network itself gives them, in forward
/// order: those that training left are of the maps of the network as it was.
struct NormalizationStatistics {
  let normalizations: [StoredNormalization]
  let runner: any NetworkRunner
  let split: SampleSplit

  /// Of the variance that was stored: what varies less says nothing, and keeps it.
  private static let silence = 1e-6

  /// - Parameter changeable: which stored tensors a plan can give other contents.
  init(_ graph: Graph, runner: any NetworkRunner, split: SampleSplit, changeable: (ValueID) -> Bool) {
    (self.runner, self.split) = (runner, split)
    let held = Set(graph.outputs).union(graph.nodes.lazy.flatMap(\.captures))
    normalizations = graph.nodeIDs.compactMap { id in
      let node = graph[id]
      guard node.qualifiedOperator == "BatchNormalization", node.int("training_mode", default: 0) == 0,
        let input = node.input(0), let output = node.output(0), let mean = node.input(3), let variance = node.input(4),
        [mean, variance].allSatisfy({ value in
          changeable(value) && !held.contains(value) && graph.uses(of: value).count == 1
            && graph[value].tensor.map { $0.dtype.isFloat && $0.shape.count == 1 } ?? false
        })
      else { return nil }
      return StoredNormalization(
        node: id, name: graph.displayName(id), input: input, output: output, mean: mean, variance: variance)
    }
  }

  /// - Parameters:
  ///   - shapes: of the original network, whose values are no smaller.
  ///   - originalCount: how many values it has.
  /// - Returns: the network with its own statistics, and what was stored.
  func run(
    on graph: Graph, shapes: ShapeTable, of originalCount: Int, work: Work
  ) throws(Failure) -> (graph: Graph, tensors: [ValueID: Tensor]) {
    let byNode = Dictionary(normalizations.map { ($0.node, $0) }) { first, _ in first }
    var depths = [Int](repeating: 0, count: graph.values.count)
    var stages: [[StoredNormalization]] = []
    for id in graph.nodeIDs {
      var depth = (graph[id].inputs.compactMap { $0 } + graph[id].captures).reduce(0) { max($0, depths[$1.index]) }
      if let normalization = byNode[id] {
        while stages.count <= depth { stages.append([]) }
        stages[depth].append(normalization)
        depth += 1
      }
      for case let output? in graph[id].outputs { depths[output.index] = depth }
    }
    let order = StageOrder(graph, depths: depths)
    let walk = NetworkWalk(graph, runner: runner)
    var tensors: [ValueID: Tensor] = [:]
    for (depth, stage) in stages.enumerated() {
      let frontier = order.frontier(depth, of: graph)
      let bytes = frontier.reduce(0) { sum, value in
        value.index < originalCount ? sum + 4 * (shapes[value]?.reduce(1, *) ?? 0) : sum
      }
      let portion = SamplePortion(of: runner.sampleCount, bytes: bytes, layers: [])
      let step = walk.step(to: Set(stage.map(\.input)).union(frontier).sorted())
      var moments = stage.map { ChannelSums($0, graph) }
      var index = 0
      try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
        defer { index += 1 }
        guard portion.holds(batch.samples.lowerBound), split.role(batch.samples.lowerBound) != .judging else { return }
        try work.checkCancellation()
        let found = try step.run(batch, index, work: work)
        for k in moments.indices { if let tensor = found[stage[k].input] { moments[k].add(tensor) } }
        walk.keep(frontier, found, batch: index)
        let done = Double(batch.samples.upperBound) / Double(max(1, runner.sampleCount))
        work.progress((Double(depth) + done) / Double(stages.count), "normalizing '\(stage[0].name)'")
      }
      walk.advance()
      for (normalization, sums) in zip(stage, moments) {
        guard let (mean, variance) = sums.statistics(silence: Self.silence) else { continue }
        for (id, numbers) in [(normalization.mean, mean), (normalization.variance, variance)] {
          guard let stored = graph[id].tensor else { continue }
          tensors[id] = .rounding(numbers, shape: stored.shape, to: stored.dtype)
        }
      }
      walk.store(tensors)
    }
    return (walk.graph, tensors)
  }
}

/// Sums over positions, by channel, about the mean that was stored.
private struct ChannelSums {
  private let origin: [Double]
  private let variance: [Double]
  private var sums: [Double]
  private var squares: [Double]
  private var count = 0

  init(_ normalization: StoredNormalization, _ graph: Graph) {
    origin = graph[normalization.mean].tensor?.realNumbers ?? []
    variance = graph[normalization.variance].tensor?.realNumbers ?? []
    (sums, squares) = (origin.map { _ in 0 }, origin.map { _ in 0 })
  }

  mutating func add(_ tensor: Tensor) {
    guard let map = FeatureMap(value: ValueID(0), tensor: tensor), map.shape.count >= 2, map.shape[1] == origin.count,
      let elements = map.elements.baseAddress
    else { return }
    let inner = map.shape[2...].reduce(1, *)
    for block in 0..<map.shape[0] {
      for channel in origin.indices {
        let (start, about) = (elements + (block * origin.count + channel) * inner, origin[channel])
        var (sum, square) = (0.0, 0.0)
        for k in 0..<inner {
          let x = Double(start[k]) - about
          sum += x
          square += x * x
        }
        sums[channel] += sum
        squares[channel] += square
      }
    }
    count += map.shape[0] * inner
  }

  /// nil where there were no numbers.
  func statistics(silence: Double) -> (mean: [Double], variance: [Double])? {
    guard count > 1, sums.allSatisfy(\.isFinite), variance.count == origin.count else { return nil }
    let n = Double(count)
    var (means, variances) = (origin, variance)
    for channel in origin.indices {
      let shift = sums[channel] / n
      means[channel] += shift
      let found = squares[channel] / n - shift * shift
      if found > silence * variance[channel] { variances[channel] = found }
    }
    return (means, variances)
  }
}
