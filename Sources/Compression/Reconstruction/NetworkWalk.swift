import ModelGraph

/// One network on its way through the samples, front to back: what it computed last is kept of as many batches as
/// memory allows, so that the next part begins there and not at the inputs.
final class NetworkWalk {
  private(set) var graph: Graph
  private let runner: any NetworkRunner
  /// What is kept, by batch.
  private var known: [ValueID] = []
  private var checkpoint: [Int: [Tensor]] = [:]
  private var next: (values: [ValueID], tensors: [Int: [Tensor]], bytes: Int)?
  private var inputs: [ValueID] { graph.inputs }

  /// Bytes that are kept.
  private static let budget = 256 << 20

  init(_ graph: Graph, runner: any NetworkRunner) { (self.graph, self.runner) = (graph, runner) }

  func store(_ tensors: [ValueID: Tensor]) { graph = graph.storing(tensors) }

  /// Makes ready to compute `wanted`.
  func step(to wanted: [ValueID]) -> Step { Step(walk: self, wanted: wanted) }

  /// Runs batches from where the network stands with each.
  final class Step {
    private let walk: NetworkWalk
    private let wanted: [ValueID]
    /// From what is kept, and from the inputs; loaded when asked for.
    private var fromKnown: Part?
    private var fromInputs: Part?

    private struct Part {
      let computed: [ValueID]
      let inputs: [ValueID]
      let network: (any LoadedNetwork)?
    }

    fileprivate init(walk: NetworkWalk, wanted: [ValueID]) { (self.walk, self.wanted) = (walk, wanted) }

    /// All that is known of one batch, by value.
    /// - Parameter index: of the batch.
    func run(_ batch: NetworkBatch, _ index: Int, work: Work) throws(Failure) -> [ValueID: Tensor] {
      var tensors: [ValueID: Tensor] = [:]
      for id in walk.inputs { tensors[id] = batch.inputs[walk.graph[id].name] }
      let part: Part?
      if let kept = walk.checkpoint[index] {
        for (id, tensor) in zip(walk.known, kept) { tensors[id] = tensor }
        if fromKnown == nil {
          fromKnown = try load(given: Dictionary(zip(walk.known, kept.map(\.dtype))) { first, _ in first }, work)
        }
        part = fromKnown
      } else {
        if fromInputs == nil { fromInputs = try load(given: [:], work) }
        part = fromInputs
      }
      if let part, let network = part.network {
        let inputs = part.inputs.compactMap { tensors[$0] }
        for (id, tensor) in zip(part.computed, try network.run(inputs, work: work)) { tensors[id] = tensor }
      }
      return tensors
    }

    private func load(given: [ValueID: DType], _ work: Work) throws(Failure) -> Part {
      let fed = Set(walk.inputs)
      let computed = wanted.filter { given[$0] == nil && !fed.contains($0) }
      guard !computed.isEmpty else { return Part(computed: [], inputs: [], network: nil) }
      let segment = GraphSegment(walk.graph, computing: computed, given: given)
      return Part(
        computed: computed, inputs: segment.graph.inputs, network: try walk.runner.load(segment.graph, work: work))
    }
  }

  // MARK: Checkpoints

  /// Keeps `values` of a batch for the next step, if there is room, and lets go of what was kept of it.
  func keep(_ values: [ValueID], _ tensors: [ValueID: Tensor], batch: Int) {
    let fed = Set(inputs)
    var next = self.next ?? (values.filter { !fed.contains($0) && tensors[$0] != nil }, [:], 0)
    let kept = next.values.compactMap { tensors[$0] }
    let bytes = kept.reduce(0) { $0 + $1.bytes.count }
    if next.bytes + bytes <= Self.budget, kept.count == next.values.count {
      next.tensors[batch] = kept
      next.bytes += bytes
    }
    checkpoint[batch] = nil
    self.next = next
  }

  /// What was kept is where the next step begins.
  func advance() {
    guard let next else { return }
    (known, checkpoint) = (next.values, next.tensors)
    self.next = nil
  }
}
