import ModelGraph
import Numerics

/// How much the outputs of the whole network feel what single layers lose: each group of channels, and each weight, is
/// compressed for itself once, the layers behind make up for it as well as they can, and the network is run.
///
/// What a layer loses of its own outputs says little of that: what one layer's error does, the next one swallows.
/// Between the level that is tried and others, the square of the network's error is taken to grow as the square of the
/// layer's.
struct HarmMeasurement {
  let model: CompressibleModel
  let maps: any FeatureMapSource
  let runner: any NetworkRunner
  private let algebra: LinearAlgebra

  /// About how much of everything is left in what is tried.
  private static let share = 0.5
  /// What is less than this is rounding.
  private static let least = 1e-12
  /// Bytes of other weights that are held at a time.
  private static let budget = 256 << 20

  init(_ model: CompressibleModel, _ maps: any FeatureMapSource, _ runner: any NetworkRunner) throws(Failure) {
    (self.model, self.maps, self.runner) = (model, maps, runner)
    algebra = try LinearAlgebra.loaded()
  }

  // MARK: Channels

  /// Of a set of groups: who reads the channels that are tried without, and what they lose by it.
  private struct Trial: Sendable {
    let set: Int
    let name: String
    let readers: [ChannelCompensation.Reader]
    let loss: Double
    let first: NodeID
  }

  /// By set of groups, what the network's squared error is of what the layers that read the channels lose.
  /// - Parameters:
  ///   - damages: by set and count.
  ///   - refits: whether these layers make up for the channels.
  func harms(
    of ranked: RankedModel, damages: [[Double]], refits: Bool, work: Work
  ) throws(Failure) -> [Double] {
    let compensation = try ChannelCompensation(model, ranked.scored.coupling, maps)
    let moments = refits ? try compensation.moments(of: ranked.admitted, work: work.part(0...0.2)) : nil
    let trials = trials(ranked, damages, compensation)
    var harms = ranked.ranked.sets.map { _ in 1.0 }
    let meter = try DeviationMeter(model.graph, runner, work: work)
    for chunk in chunks(trials.map { bytes(of: $0.readers.flatMap(\.stored)) }) {
      let (begin, end) = (
        Double(chunk.lowerBound) / Double(trials.count), Double(chunk.upperBound) / Double(trials.count)
      )
      let part = work.part(0.2 + 0.8 * begin...0.2 + 0.8 * end)
      var variations: [DeviationMeter.Variation] = []
      for trial in trials[chunk] {
        variations.append(
          DeviationMeter.Variation(
            tensors: try compensation.tensors(
              without: trial.readers, moments, work: Work(cancellation: work.cancellation, threads: work.threads)),
            first: trial.first))
        part.progress(0.3 * Double(variations.count) / Double(chunk.count), "tried less of '\(trial.name)'")
      }
      let deviations = try meter.deviations(of: variations, work: part.part(0.3...1))
      for (trial, deviation) in zip(trials[chunk], deviations) {
        harms[trial.set] = max(deviation, Self.least) / trial.loss
      }
    }
    return harms
  }

  /// In the order of the first layers that they change.
  private func trials(
    _ ranked: RankedModel, _ damages: [[Double]], _ compensation: ChannelCompensation
  ) -> [Trial] {
    ranked.ranked.sets.enumerated().compactMap { s, set -> Trial? in
      let wanted = Int(Double(ranked.ranked.width(ofSet: s)) * (1 - Self.share))
      let count = min(ranked.ranked.limit(ofSet: s), max(1, wanted))
      guard count > 0, damages[s][count] > 0 else { return nil }
      let readers = compensation.inputs(
        of: set.map { (ranked.admitted[$0], ranked.ranked.groups[$0].removal(count: count).cells) })
      guard let first = firstReader(of: readers.flatMap(\.stored)) else { return nil }
      return Trial(
        set: s, name: ranked.scored.coupling.groups[ranked.admitted[set[0]]].name, readers: readers,
        loss: damages[s][count], first: first)
    }.sorted { ($0.first, $0.set) < ($1.first, $1.set) }
  }

  // MARK: Weights

  /// By candidate, what the network's squared error is of what truncation makes the layer lose.
  func harms(of candidates: [WeightCandidate], work: Work) throws(Failure) -> [Double] {
    let layers = RefitLayers(
      model.graph, original: model.graph, shapes: model.shapes.nominal, kept: { _, _ in nil },
      changeable: { _ in true }
    ).layers
    let byNode = Dictionary(layers.map { ($0.node, $0) }) { first, _ in first }
    let tried = candidates.enumerated().compactMap { c, candidate -> Truncation? in
      let ranks = candidate.triedRanks(Self.share)
      let loss = candidate.spectra.attenuation(at: ranks)
      let refit = byNode[candidate.layer.node]
      guard loss > 0, let first = firstReader(of: [candidate.layer.weight.source] + (refit?.stored ?? [])) else {
        return nil
      }
      return Truncation(
        index: c, candidate: candidate, ranks: ranks, loss: loss, refit: refit, first: first)
    }.sorted { ($0.first, $0.index) < ($1.first, $1.index) }
    var harms = candidates.map { _ in 1.0 }
    let meter = try DeviationMeter(model.graph, runner, work: work)
    try model.gathering(maps).forEach(tried, members: \.candidate.members, patches: false, work: work) {
      chunk, work throws(Failure) in
      let tensors = try work.part(0...0.5).concurrentMap(
        chunk, cost: { $0.weight.candidate.layer.factorFlops($0.weight.candidate.method, ranks: $0.weight.ranks) },
        naming: { "decomposed '\($0.weight.candidate.layer.name)'" }
      ) { item, work throws(Failure) in try truncated(item.weight, item.inputs, work) }
      let deviations = try meter.deviations(
        of: zip(chunk, tensors).map { .init(tensors: $1, first: $0.weight.first) }, work: work.part(0.5...1))
      for (item, deviation) in zip(chunk, deviations) {
        harms[item.weight.index] = max(deviation, Self.least) / item.weight.loss
      }
    }
    return harms
  }

  private struct Truncation: Sendable {
    let index: Int
    let candidate: WeightCandidate
    let ranks: [Int]
    let loss: Double
    /// Where its outputs' mean is stored.
    let refit: RefitLayer?
    let first: NodeID
  }

  /// The product of the factors in the weight's place; the layer's outputs keep their mean.
  private func truncated(
    _ truncation: Truncation, _ inputs: WeightInputs?, _ work: Work
  ) throws(Failure) -> [ValueID: Tensor] {
    let candidate = truncation.candidate
    let layer = candidate.layer
    let computed = try layer.factors(
      candidate.method, ranks: truncation.ranks, inputs: inputs, start: candidate.spectra.start, algebra: algebra, work)
    let order = [layer.outputAxis, layer.inputAxis] + layer.weight.shape.indices.dropFirst(2)
    var tensors = [
      layer.weight.source: layer.weight.storing(
        computed.factors.product(kernel: layer.kernel, algebra), order: order)
    ]
    if let lost = computed.lostMean, let refit = truncation.refit, let constants = refit.constants(in: model.graph) {
      let shifted = zip(constants, lost).map { $0 + $1 * refit.weightScale }
      let solution = RefitSolution(rows: [], constants: shifted, ridge: nil, errorBefore: 0, errorAfter: 0)
      tensors.merge(refit.tensors(solution, in: model.graph)) { first, _ in first }
    }
    return tensors
  }

  // MARK: Order and room

  private func firstReader(of stored: [ValueID]) -> NodeID? {
    let stored = Set(stored)
    return model.graph.nodeIDs.first { id in
      let node = model.graph[id]
      return (node.inputs.compactMap { $0 } + node.captures).contains(where: stored.contains)
    }
  }

  private func bytes(of stored: [ValueID]) -> Int {
    stored.reduce(0) { $0 + (model.graph[$1].tensor?.bytes.count ?? 0) }
  }

  /// As many at a time as there is room for.
  private func chunks(_ sizes: [Int]) -> [Range<Int>] {
    var chunks: [Range<Int>] = []
    var (start, held) = (0, 0)
    for (k, size) in sizes.enumerated() {
      if k > start, held + size > Self.budget {
        chunks.append(start..<k)
        (start, held) = (k, 0)
      }
      held += size
    }
    if start < sizes.count { chunks.append(start..<sizes.count) }
    return chunks
  }
}

extension WeightCandidate {
  /// Ranks that cost about `share` of what the largest worth having do.
  fileprivate func triedRanks(_ share: Double) -> [Int] {
    let most = layer.breakEvenRanks(method) ?? fullRanks
    return fillable(most.map { max(1, Int(Double($0) * share)) })
  }
}
