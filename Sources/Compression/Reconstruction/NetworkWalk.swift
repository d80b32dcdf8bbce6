import ModelGraph

/// One network on its way through the samples, front to back: what it computed last is kept for every batch, where
/// memory allows, so that the next part begins there and not at the inputs.
final class NetworkWalk {
  private(set) var graph: Graph
  private let runner: any NetworkRunner
  /// What is kept, by batch.
  private var known: [ValueID] = []
  private var checkpoint: [[Tensor]] = []
  private var inputs: [ValueID] { graph.inputs }

  init(_ graph: Graph, runner: any NetworkRunner) { (self.graph, self.runner) = (graph, runner) }

  func store(_ tensors: [ValueID: Tensor]) { graph = graph.storing(tensors) }

  /// Makes ready to compute `wanted`.
  func step(to wanted: [ValueID], work: Work) throws(Failure) -> Step {
    var given: [ValueID: DType] = [:]
    if let first = checkpoint.first { for (id, tensor) in zip(known, first) { given[id] = tensor.dtype } }
    let fed = Set(inputs)
    let computed = wanted.filter { given[$0] == nil && !fed.contains($0) }
    guard !computed.isEmpty else { return Step(walk: self, computed: [], segment: nil, network: nil) }
    let segment = GraphSegment(graph, computing: computed, given: given)
    return Step(walk: self, computed: computed, segment: segment, network: try runner.load(segment.graph, work: work))
  }

  struct Step {
    fileprivate let walk: NetworkWalk
    fileprivate let computed: [ValueID]
    fileprivate let segment: GraphSegment?
    fileprivate let network: (any LoadedNetwork)?

    /// All that is known of one batch, by value.
    /// - Parameter index: of the batch.
    func run(_ batch: NetworkBatch, _ index: Int, work: Work) throws(Failure) -> [ValueID: Tensor] {
      var tensors: [ValueID: Tensor] = [:]
      for id in walk.inputs { tensors[id] = batch.inputs[walk.graph[id].name] }
      if index < walk.checkpoint.count {
        for (id, tensor) in zip(walk.known, walk.checkpoint[index]) { tensors[id] = tensor }
      }
      if let segment, let network {
        let inputs = segment.graph.inputs.compactMap { tensors[$0] }
        for (id, tensor) in zip(computed, try network.run(inputs, work: work)) { tensors[id] = tensor }
      }
      return tensors
    }
  }

  // MARK: Checkpoints

  private var next: (values: [ValueID], tensors: [[Tensor]])?

  /// Bytes of the values of one batch that are not the model's inputs.
  func bytes(_ values: [ValueID], _ tensors: [ValueID: Tensor]) -> Int {
    let fed = Set(inputs)
    return values.reduce(0) { $0 + (fed.contains($1) ? 0 : tensors[$1]?.bytes.count ?? 0) }
  }

  /// Keeps `values` of a batch for the next step, and lets go of what was kept of it.
  func keep(_ values: [ValueID], _ tensors: [ValueID: Tensor], batch: Int) {
    let fed = Set(inputs)
    let values = values.filter { !fed.contains($0) && tensors[$0] != nil }
    var next = self.next ?? (values, [])
    next.tensors.append(next.values.compactMap { tensors[$0] })
    if batch < checkpoint.count, batch > 0 { checkpoint[batch - 1] = [] }
    self.next = next
  }

  /// What was kept is where the next step begins.
  func advance() {
    guard let next else { return }
    (known, checkpoint) = next
    self.next = nil
  }
}
