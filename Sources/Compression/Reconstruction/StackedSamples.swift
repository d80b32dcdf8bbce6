import ModelGraph

/// Another runner's samples, several at a time: a small network takes longer to start than to run.
///
/// Invariant: samples of one stack have one shape and one role, and numbers are told apart by that of the first, so
/// that what a sample is for does not depend on the stacking.
struct StackedSamples: NetworkRunner {
  private let whole: any NetworkRunner
  private let role: @Sendable (_ sample: Int) -> SampleSplit.Role
  private let most: Int

  /// Samples of one stack.
  private static let most = 16
  /// Bytes that all samples make the network compute, at nominal lengths: larger ones are no sooner run together.
  private static let budget = 512 << 20
  /// Relative distance of outputs that is rounding.
  private static let tolerance = 1e-4

  /// The runner itself where a network does not take samples together, or gains nothing by it.
  /// - Parameters:
  ///   - graph: tried on the first stack; what is made of it has its inputs.
  ///   - shapes: its nominal ones.
  static func of(
    _ whole: any NetworkRunner, for graph: Graph, shapes: ShapeTable,
    role: @escaping @Sendable (Int) -> SampleSplit.Role = { _ in .fitting }, work: Work
  ) throws(Failure) -> any NetworkRunner {
    let rows = graph.inputs.compactMap { shapes[$0]?.first }.min() ?? 0
    let computed = graph.valueIDs.reduce(0) { sum, id in
      graph[id].producer == nil ? sum : sum + (shapes[id]?.reduce(4, *) ?? 0)
    }
    guard rows > 0, graph.takesStacks, computed / rows * whole.sampleCount <= budget else { return whole }
    let stacked = StackedSamples(whole: whole, role: role, most: most)
    return try stacked.agrees(on: graph, work: work) ? stacked : whole
  }

  private init(whole: any NetworkRunner, role: @escaping @Sendable (Int) -> SampleSplit.Role, most: Int) {
    (self.whole, self.role, self.most) = (whole, role, most)
  }

  var sampleCount: Int { whole.sampleCount }

  func load(_ graph: Graph, work: Work) throws(Failure) -> any LoadedNetwork { try whole.load(graph, work: work) }

  func forEachBatch(work: Work, _ body: (NetworkBatch) throws(Failure) -> Void) throws(Failure) {
    try forEachStack(work: work) { stack throws(Failure) in
      if let batch = Self.joined(stack) { try body(batch) } else { for batch in stack { try body(batch) } }
    }
  }

  private func forEachStack(work: Work, _ body: ([NetworkBatch]) throws(Failure) -> Void) throws(Failure) {
    let roles: [SampleSplit.Role] = [.fitting, .choosing, .judging]
    var open = roles.map { _ in [NetworkBatch]() }
    try whole.forEachBatch(work: work) { batch throws(Failure) in
      guard let k = roles.firstIndex(of: role(batch.samples.lowerBound)) else { return }
      if let other = open[k].first, !other.isLike(batch) {
        try body(open[k])
        open[k] = []
      }
      open[k].append(batch)
      if open[k].reduce(0, { $0 + $1.samples.count }) >= most {
        try body(open[k])
        open[k] = []
      }
    }
    for stack in open where !stack.isEmpty { try body(stack) }
  }

  /// nil where an input is one for all samples.
  private static func joined(_ stack: [NetworkBatch]) -> NetworkBatch? {
    guard let first = stack.first, stack.count > 1 else { return stack.first }
    var inputs: [String: Tensor] = [:]
    for (name, tensor) in first.inputs {
      let parts = stack.compactMap { $0.inputs[name] }
      guard let rows = tensor.shape.first, parts.count == stack.count else { return nil }
      var bytes: [UInt8] = []
      bytes.reserveCapacity(parts.reduce(0) { $0 + $1.bytes.count })
      for part in parts { bytes.append(contentsOf: part.bytes.buffer) }
      inputs[name] = Tensor(
        dtype: tensor.dtype, shape: [rows * stack.count] + tensor.shape.dropFirst(), bytes: TensorBytes(copying: bytes))
    }
    let count = stack.reduce(0) { $0 + $1.samples.count }
    return NetworkBatch(samples: first.samples.lowerBound..<first.samples.lowerBound + count, inputs: inputs)
  }

  /// Whether the network computes of the first stack what it computes of its samples one by one.
  private func agrees(on graph: Graph, work: Work) throws(Failure) -> Bool {
    let network = try whole.load(graph, work: work)
    var verdict: Bool?
    try forEachStack(work: work) { stack throws(Failure) in
      guard verdict == nil, stack.count > 1 else { return }
      guard let joined = Self.joined(stack) else {
        verdict = false
        return
      }
      func run(_ batch: NetworkBatch) throws(Failure) -> [Tensor] {
        try network.run(graph.inputs.compactMap { batch.inputs[graph[$0].name] }, work: work)
      }
      let together: [Tensor]
      do throws(Failure) {
        together = try run(joined)
      } catch {
        if error.kind == .cancelled { throw error }
        verdict = false
        return
      }
      var starts = together.map { _ in 0 }
      for batch in stack {
        for (k, alone) in try run(batch).enumerated() where verdict != false {
          verdict = Self.isPart(alone, of: together[k], from: &starts[k])
        }
      }
    }
    return verdict ?? false
  }

  private static func isPart(_ alone: Tensor, of together: Tensor, from start: inout Int) -> Bool {
    guard alone.shape.dropFirst() == together.shape.dropFirst(), let a = alone.realNumbers,
      let all = together.realNumbers, start + a.count <= all.count
    else { return false }
    let b = all[start..<start + a.count]
    start += a.count
    let distance = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    return distance <= tolerance * tolerance * a.reduce(1e-30) { $0 + $1 * $1 }
  }
}

extension NetworkBatch {
  fileprivate func isLike(_ other: NetworkBatch) -> Bool {
    samples.count == other.samples.count && inputs.count == other.inputs.count
      && inputs.allSatisfy { other.inputs[$0.key]?.shape == $0.value.shape }
  }
}

extension Graph {
  /// Whether all inputs and outputs leave their first lengths open.
  fileprivate var takesStacks: Bool {
    !inputs.isEmpty
      && (inputs + outputs).allSatisfy { id in
        guard let first = self[id].declaredShape?.first else { return false }
        if case .fixed = first { return false }
        return true
      }
  }
}
