import ModelGraph

/// How far a model with other numbers in some stored tensors comes to be from itself, on a few samples. Many such
/// variations are tried: of each only what follows its first change is run, on what the model itself computes up to
/// there.
///
/// Invariant: variations come in the order of their first changes, so that the model's own way is gone once.
final class DeviationMeter {
  /// What is tried: other contents of stored tensors.
  struct Variation {
    let tensors: [ValueID: Tensor]
    /// The first node that reads one of them.
    let first: NodeID
  }

  private let graph: Graph
  private let runner: any NetworkRunner
  private let walk: NetworkWalk
  private let isConstant: [Bool]
  /// By batch.
  private var expected: [[Tensor]] = []

  /// Stands for what is no number.
  private static let most = 1e6

  init(_ graph: Graph, _ runner: any NetworkRunner, work: Work) throws(Failure) {
    (self.graph, self.runner) = (graph, runner)
    (walk, isConstant) = (NetworkWalk(graph, runner: runner), graph.constantValues())
    let network = try runner.load(graph, work: work)
    var expected: [[Tensor]] = []
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      try work.checkCancellation()
      expected.append(try network.run(graph.inputs.compactMap { batch.inputs[graph[$0].name] }, work: work))
    }
    self.expected = expected
  }

  /// The squared relative distances of the outputs, in order; finite.
  /// - Parameter variations: ascending by their first nodes.
  func deviations(of variations: [Variation], work: Work) throws(Failure) -> [Double] {
    var deviations: [Double] = []
    var start = 0
    while start < variations.count {
      let first = variations[start].first
      let end = variations[start...].firstIndex { $0.first != first } ?? variations.count
      let part = work.part(
        Double(start) / Double(variations.count)...Double(end) / Double(variations.count))
      deviations += try self.deviations(of: variations[start..<end].map(\.tensors), from: first, work: part)
      start = end
    }
    return deviations
  }

  private func deviations(
    of variations: [[ValueID: Tensor]], from first: NodeID, work: Work
  ) throws(Failure) -> [Double] {
    let frontier = frontier(before: first)
    let step = walk.step(to: frontier)
    let outputs = graph.outputs.filter { graph[$0].producer.map { $0 >= first } ?? false }
    guard !outputs.isEmpty else { return variations.map { _ in 0 } }
    // Loaded when the types of what they are fed are known.
    var networks: [(network: any LoadedNetwork, inputs: [ValueID])] = []
    var deviations = variations.map { _ in OutputDeviation(outputs: graph.outputs.count) }
    var index = 0
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      defer { index += 1 }
      try work.checkCancellation()
      let known = try step.run(batch, index, work: work)
      if networks.isEmpty {
        let given = frontier.reduce(into: [ValueID: DType]()) { $0[$1] = known[$1]?.dtype }
        for tensors in variations {
          let segment = GraphSegment(graph.storing(tensors), computing: outputs, given: given).graph
          networks.append((try runner.load(segment, work: work), segment.inputs))
        }
      }
      for (k, entry) in networks.enumerated() {
        let found = try entry.network.run(entry.inputs.compactMap { known[$0] }, work: work)
        for (o, output) in graph.outputs.enumerated() {
          let isNumber = deviations[k].add(
            o, expected[index][o], outputs.firstIndex(of: output).map { found[$0] } ?? expected[index][o])
          guard isNumber else { throw graph.notFinite(output) }
        }
      }
      walk.keep(frontier, known, batch: index)
      work.progress(Double(index + 1) / Double(expected.count), "measuring what '\(graph.displayName(first))' matters")
    }
    walk.advance()
    return deviations.map { deviation in
      let relative = deviation.relative
      return relative.isFinite ? relative * relative : Self.most
    }
  }

  /// What is computed before a node and read by it or a later one.
  private func frontier(before first: NodeID) -> [ValueID] {
    var wanted: Set<ValueID> = []
    for node in graph.nodes[first.index...] {
      for case let input? in node.inputs + node.captures where graph[input].tensor == nil && !isConstant[input.index] {
        if graph[input].producer.map({ $0 < first }) ?? true { wanted.insert(input) }
      }
    }
    return wanted.sorted()
  }
}
