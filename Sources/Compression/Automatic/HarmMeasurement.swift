import ModelGraph
import Numerics

/// How much the outputs of the whole network feel what single layers lose: each group of channels, and each weight, is
/// compressed for itself once, the layers behind make up for it as well as they can, and the network is run.
///
/// What a layer loses of its own outputs says little of that: what one layer's error does, the next one swallows. Between
/// the level that is tried and others, the square of the network's error is taken to grow as the square of the layer's.
struct HarmMeasurement {
  let model: CompressibleModel
  let maps: any FeatureMapSource
  let meter: DeviationMeter
  /// About how much of everything will be left.
  let share: Double
  private let algebra: LinearAlgebra

  /// Ridge of the fit, of the mean variance: as of the criterion that ranks channels.
  private static let ridge = 1e-3
  /// What is less than this is rounding.
  private static let least = 1e-12

  init(
    _ model: CompressibleModel, _ maps: any FeatureMapSource, _ meter: DeviationMeter, share: Double
  ) throws(Failure) {
    (self.model, self.maps, self.meter, self.share) = (model, maps, meter, share)
    algebra = try LinearAlgebra.loaded()
  }

  // MARK: Channels

  /// By set of groups, what the network's squared error is of what the layers that read the channels lose.
  /// - Parameter damages: by set and count.
  func harms(of ranked: RankedModel, damages: [[Double]], work: Work) throws(Failure) -> [Double] {
    let coupling = ranked.scored.coupling
    let consumers = ChannelConsumer.all(of: coupling)
    let groups = ranked.ranked.sets.map { set in set.map { ranked.admitted[$0] } }
    let moments = try DamageCriterion(coupling).moments(
      of: groups.flatMap { $0 }, from: maps, known: model.moments(of: maps), work.part(0...0.3))
    var harms: [Double] = []
    for (s, set) in ranked.ranked.sets.enumerated() {
      let part = work.part(0.3...1)
      part.progress(
        Double(s) / Double(ranked.ranked.sets.count), "measuring what '\(coupling.groups[groups[s][0]].name)' matters")
      let count = min(ranked.ranked.limit(ofSet: s), max(1, Int(Double(ranked.ranked.width(ofSet: s)) * (1 - share))))
      guard count > 0, damages[s][count] > 0 else {
        harms.append(1)
        continue
      }
      var removed: [NodeID: (consumer: ChannelConsumer, inputs: [Bool])] = [:]
      for (k, g) in zip(set, groups[s]) {
        let cells = Set(ranked.ranked.groups[k].removal(count: count).cells)
        for consumer in consumers[g] {
          let inputs = coupling.cells(ofFilters: consumer.origin, group: g).map { $0 >= 0 && cells.contains($0) }
          let known = removed[consumer.layer.node]?.inputs
          removed[consumer.layer.node] = (consumer, known.map { zip($0, inputs).map { $0 || $1 } } ?? inputs)
        }
      }
      var tensors: [ValueID: Tensor] = [:]
      for (_, entry) in removed.sorted(by: { $0.key < $1.key }) {
        guard let input = moments.inputs[entry.consumer.tap], input.size == entry.inputs.count else { continue }
        tensors.merge(fitted(entry.consumer.layer, without: entry.inputs, input)) { _, new in new }
      }
      let deviation = try meter.deviation(storing: tensors, work: Work(cancellation: work.cancellation))
      harms.append(max(deviation, Self.least) / damages[s][count])
    }
    return harms
  }

  /// The layer's numbers once some of its inputs are gone and the others make up for them.
  private func fitted(_ layer: RefitLayer, without removed: [Bool], _ moments: InputMoments) -> [ValueID: Tensor] {
    let size = moments.size
    let channels = size / layer.groups
    let taps = max(1, layer.length / max(1, channels))
    var covariance: [Double]
    let isCentred: Bool
    if case .none = layer.intercept { isCentred = false } else { isCentred = true }
    covariance = isCentred ? moments.covariance : moments.secondMoment
    LinearAlgebra.mirrorUpper(&covariance, size: size)
    let old = layer.rows
    var new = old
    for output in 0..<layer.outputCount {
      let first = output / layer.outputsPerGroup * channels
      for channel in 0..<channels where removed[first + channel] {
        for tap in 0..<taps { new[output * layer.length + channel * taps + tap] = 0 }
      }
    }
    let kept = (0..<size).filter { !removed[$0] }
    if layer.groups == 1, !kept.isEmpty, kept.count < size {
      let mean = (0..<size).reduce(0) { $0 + covariance[$1 * size + $1] } / Double(size)
      var factor = [Double](repeating: 0, count: kept.count * kept.count)
      var cross = [Double](repeating: 0, count: size * kept.count)
      for (a, i) in kept.enumerated() {
        for (b, j) in kept.enumerated() { factor[a * kept.count + b] = covariance[i * size + j] }
        factor[a * kept.count + a] += Self.ridge * mean
      }
      for i in 0..<size { for (b, j) in kept.enumerated() { cross[i * kept.count + b] = covariance[i * size + j] } }
      let rows = layer.outputCount * taps
      var arranged = [Double](repeating: 0, count: rows * size)
      for output in 0..<layer.outputCount {
        for channel in 0..<size {
          for tap in 0..<taps {
            arranged[(output * taps + tap) * size + channel] = old[output * layer.length + channel * taps + tap]
          }
        }
      }
      var solved = [Double](repeating: 0, count: rows * kept.count)
      algebra.multiply(
        arranged, .asIs, cross, .asIs, rows: rows, columns: kept.count, depth: size, to: &solved)
      if mean > 0, algebra.cholesky(of: &factor, size: kept.count) {
        algebra.solve(&solved, count: rows, byCholesky: factor, size: kept.count)
        for output in 0..<layer.outputCount {
          for (b, channel) in kept.enumerated() {
            for tap in 0..<taps {
              new[output * layer.length + channel * taps + tap] = solved[(output * taps + tap) * kept.count + b]
            }
          }
        }
      }
    }
    var constants: [Double]?
    if isCentred, var shifted = layer.constants(in: model.graph) {
      let mean = moments.mean
      for output in 0..<layer.outputCount {
        let first = output / layer.outputsPerGroup * channels
        for k in 0..<layer.length {
          shifted[output] += (old[output * layer.length + k] - new[output * layer.length + k]) * mean[first + k / taps]
        }
      }
      constants = shifted
    }
    return layer.tensors(
      RefitSolution(rows: new, constants: constants, ridge: 0, errorBefore: 0, errorAfter: 0), in: model.graph)
  }

  // MARK: Weights

  /// By candidate, what the network's squared error is of what truncation makes the layer lose.
  func harms(of candidates: [WeightCandidate], work: Work) throws(Failure) -> [Double] {
    let layers = RefitLayers(
      model.graph, original: model.graph, shapes: model.shapes.nominal, kept: { _, _ in nil },
      changeable: { _ in true }
    ).layers
    let byNode = Dictionary(layers.map { ($0.node, $0) }) { first, _ in first }
    var harms: [Double] = []
    try model.gathering(maps).forEach(candidates, members: \.members, patches: false, work: work) {
      chunk, work throws(Failure) in
      let factors = try work.part(0...0.5).concurrentMap(
        chunk, cost: { $0.weight.layer.factorFlops($0.weight.method, ranks: $0.weight.triedRanks(share)) },
        naming: { "decomposed '\($0.weight.layer.name)'" }
      ) { item, work throws(Failure) -> [Double] in
        let candidate = item.weight
        let computed = try candidate.layer.factors(
          candidate.method, ranks: candidate.triedRanks(share), inputs: item.inputs, start: candidate.spectra.start,
          algebra: algebra, work)
        // The layer's outputs keep their mean.
        return computed.factors.product(kernel: candidate.layer.kernel, algebra) + (computed.lostMean ?? [])
      }
      for (k, (item, found)) in zip(chunk, factors).enumerated() {
        work.part(0.5...1).progress(
          Double(k) / Double(chunk.count), "measuring what '\(item.weight.layer.name)' matters")
        let (layer, loss) = (item.weight.layer, item.weight.spectra.attenuation(at: item.weight.triedRanks(share)))
        guard loss > 0 else {
          harms.append(1)
          continue
        }
        let count = layer.outputChannels * layer.inputChannels * layer.taps
        let order = [layer.outputAxis, layer.inputAxis] + layer.weight.shape.indices.dropFirst(2)
        var tensors = [layer.weight.source: layer.weight.storing(Array(found[..<count]), order: order)]
        if found.count > count, let refit = byNode[layer.node], let constants = refit.constants(in: model.graph) {
          let shifted = zip(constants, found[count...]).map { $0 + $1 * refit.weightScale }
          let solution = RefitSolution(
            rows: [], constants: shifted, ridge: nil, errorBefore: 0, errorAfter: 0)
          tensors.merge(refit.tensors(solution, in: model.graph)) { first, _ in first }
        }
        let deviation = try meter.deviation(storing: tensors, work: Work(cancellation: work.cancellation))
        harms.append(max(deviation, Self.least) / loss)
      }
    }
    return harms
  }
}

extension WeightCandidate {
  /// Ranks that cost about `share` of what the largest worth having do.
  fileprivate func triedRanks(_ share: Double) -> [Int] {
    let most = layer.breakEvenRanks(method) ?? fullRanks
    return fillable(most.map { max(1, Int(Double($0) * share)) })
  }
}
