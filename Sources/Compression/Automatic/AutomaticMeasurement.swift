import Glibc
import ModelGraph
import Numerics

/// What is measured of a model before anything is chosen: both methods' losses, layer by layer, in one measure. It
/// depends on the model, the data and the options, not on the size that is wanted, and is kept with the model: another
/// size on the same data takes arithmetic.
struct AutomaticMeasurement: Sendable {
  struct Key: Hashable, Sendable {
    let pruning: PruningOptions
    let decomposition: DecompositionOptions
    /// nil without.
    let data: String?
    let refits: Bool

    init(_ means: JointMeans, _ maps: NetworkFeatureMaps?) {
      (pruning, decomposition, data) = (means.pruning, means.decomposition, maps?.identity)
      refits = means.refits
    }
  }

  let ranked: RankedModel
  let ranks: RankModel
  /// By set of groups and by count, what a removal costs; of other weighings it is not asked.
  private let losses: [LossWeighing: [[Double]]]
  /// By name of a layer, how much the outputs feel of what it loses.
  private let harms: [String: Double]

  /// Samples on which the network is run once for every group and weight.
  private static let meteredSamples = 32

  static func of(
    _ model: CompressibleModel, _ means: JointMeans, _ maps: NetworkFeatureMaps?, work: Work
  ) throws(Failure) -> AutomaticMeasurement {
    try model.measurement(Key(means, maps)) { () throws(Failure) in try measured(model, means, maps, work) }
  }

  private static func measured(
    _ model: CompressibleModel, _ means: JointMeans, _ maps: NetworkFeatureMaps?, _ work: Work
  ) throws(Failure) -> AutomaticMeasurement {
    let ranked = try model.ranking(for: means, maps, work.part(0...0.2))
    let ranks = try means.ranks(of: model, maps: maps, work: work.part(0.2...0.4))
    guard let maps else {
      let loss = try WeightLoss(ranked.scored, work: work.part(0.4...1))
      return AutomaticMeasurement(
        ranked: ranked, ranks: ranks, losses: [.measured: groups(of: ranked).map { Self.damages($0, loss) }], harms: [:]
      )
    }
    let damages =
      means.refits
      ? groups(of: ranked).map { Self.damages($0, ranked.scored) } : try plainDamages(model, ranked, maps, work)
    let harm = try HarmMeasurement(model, maps, SomeSamples(maps.runner, count: meteredSamples))
    let ofSets = try harm.harms(of: ranked, damages: damages, refits: means.refits, work: work.part(0.4...0.6))
    let ofWeights = try harm.harms(of: ranks.candidates, work: work.part(0.6...0.9))
    let harms = Dictionary(
      zip(ranks.candidates, ofWeights).flatMap { candidate, harm in candidate.members.map { ($0.name, harm) } }
    ) { first, _ in first }
    var losses: [LossWeighing: [[Double]]] = [:]
    for weighing in [LossWeighing.measured, .rooted] {
      let measured = zip(damages, ofSets).map { damages, harm in damages.map { $0 * weighing.weight(harm) } }
      losses[weighing] = try withUnmeasured(measured, ranked, work: work.part(0.9...1))
    }
    return AutomaticMeasurement(ranked: ranked, ranks: ranks, losses: losses, harms: harms)
  }

  func losses(_ weighing: LossWeighing) -> [[Double]] { losses[weighing] ?? losses[.measured] ?? [] }

  func harm(of layer: String, _ weighing: LossWeighing) -> Double { harms[layer].map(weighing.weight) ?? 1 }

  private typealias Group = (g: Int, ranked: RankedGroup)

  /// By set.
  private static func groups(of ranked: RankedModel) -> [[Group]] {
    ranked.ranked.sets.map { $0.map { (ranked.admitted[$0], ranked.ranked.groups[$0]) } }
  }

  /// Adds what is lost with groups of which samples tell nothing: by weights, at the rate at which what was measured of
  /// the other groups is more than that, in the middle.
  private static func withUnmeasured(
    _ losses: [[Double]], _ ranked: RankedModel, work: Work
  ) throws(Failure) -> [[Double]] {
    let groups = groups(of: ranked)
    let unmeasured = groups.map { $0.filter { ranked.scored.isUnmeasured($0.g) } }
    guard unmeasured.contains(where: { !$0.isEmpty }) else { return losses }
    let loss = try WeightLoss(ranked.scored, work: work)
    let rates = losses.indices.compactMap { s -> Double? in
      guard unmeasured[s].isEmpty else { return nil }
      let middle = losses[s].count / 2
      let stored = damages(groups[s], loss)[middle]
      return stored > 0 && losses[s][middle] > 0 ? losses[s][middle] / stored : nil
    }.sorted()
    let rate = rates.isEmpty ? 1 : rates[rates.count / 2]
    return losses.indices.map { s in
      zip(losses[s], damages(unmeasured[s], loss, in: groups[s])).map { $0 + rate * $1 }
    }
  }

  /// By count, what the layers that read a set's channels lose, as a share of the variance of their outputs.
  private static func damages(_ groups: [Group], _ scored: ScoredGroups) -> [Double] {
    counts(groups).map { count in
      groups.reduce(0) { sum, group in
        guard let costs = scored.damages?[group.g], !costs.isEmpty else { return sum }
        return group.ranked.removal(count: count).cells.reduce(sum) { $0 + max(0, costs[$1]) }
      }
    }
  }

  /// The same where nothing makes up for them.
  private static func plainDamages(
    _ model: CompressibleModel, _ ranked: RankedModel, _ maps: NetworkFeatureMaps, _ work: Work
  ) throws(Failure) -> [[Double]] {
    let sets = groups(of: ranked)
    var removals: [Int: [[Int]]] = [:]
    for groups in sets {
      for group in groups { removals[group.g] = counts(groups).map { group.ranked.removal(count: $0).cells } }
    }
    let known = model.moments(of: maps) ?? maps.known
    let losses = try DamageCriterion(ranked.scored.coupling, shapes: model.shapes.nominal).plainLosses(
      of: removals, from: maps, known: known, work: Work(cancellation: work.cancellation, threads: work.threads))
    return sets.map { groups in
      counts(groups).map { count in groups.reduce(0) { $0 + (losses[$1.g]?[count] ?? 0) } }
    }
  }

  /// The same by weights alone.
  /// - Parameter set: all that lose equally many with `groups`.
  private static func damages(_ groups: [Group], _ loss: WeightLoss, in set: [Group]? = nil) -> [Double] {
    counts(set ?? groups).map { count in
      groups.reduce(0) { $0 + loss.loss(of: $1.ranked.removal(count: count).cells, in: $1.g) }
    }
  }

  private static func counts(_ groups: [Group]) -> ClosedRange<Int> {
    0...(groups.map(\.ranked.limit).min() ?? 0)
  }
}

/// What of losses of single layers is held against one another.
enum LossWeighing {
  /// What the outputs of the network were found to feel of each alone.
  case measured
  /// Halfway, on a logarithmic scale, between the other two.
  case rooted
  /// What the layers themselves lose.
  case evenly

  func weight(_ harm: Double) -> Double {
    switch self {
    case .measured: harm
    case .rooted: harm.squareRoot()
    case .evenly: 1
    }
  }
}

/// What the removal of channels costs where no data tell: how much weaker it makes the layers that read them, by their
/// weights, as the logarithm of the squared norm that stays. It is the measure of ranks, too (`attenuation`): losses of
/// layers in a chain add up, each layer counts that reads a channel, and none is given up for the others' sake, as with
/// the scores of LAMP (Lee et al., ICLR 2021), whose sum over removed weights this is.
private struct WeightLoss {
  /// By group and reader: by cell, the share of the reader's squared weights.
  private let shares: [[[Double]]]

  init(_ scored: ScoredGroups, work: Work) throws(Failure) {
    let coupling = scored.coupling
    let consumers = ChannelConsumer.all(of: coupling)
    let readers = consumers.enumerated().flatMap { g, consumers in consumers.map { (g: g, consumer: $0) } }
    let found = try work.concurrentMap(
      readers, cost: { Double($0.consumer.layer.outputCount * $0.consumer.layer.length) },
      naming: { "weighed '\($0.consumer.layer.name)'" }
    ) { reader, _ throws(Failure) -> [Double] in
      let squares = reader.consumer.layer.squaredInputs
      let total = squares.reduce(0, +)
      var shares = [Double](repeating: 0, count: coupling.groups[reader.g].cells.count)
      let cells = coupling.cells(ofFilters: reader.consumer.origin, group: reader.g)
      guard total > 0, cells.count == squares.count else { return shares }
      for (cell, square) in zip(cells, squares) where cell >= 0 { shares[cell] += square / total }
      return shares
    }
    var shares = [[[Double]]](repeating: [], count: consumers.count)
    for (reader, found) in zip(readers, found) { shares[reader.g].append(found) }
    // What only products of activations read counts once, by what makes it.
    for (g, outcome) in scored.groups.enumerated() where shares[g].isEmpty {
      guard case .ranked(let group) = outcome else { continue }
      let squares = (0..<group.cellCount).map { cell in
        group.members.reduce(0) { $0 + $1.scores[cell] * $1.scores[cell] }
      }
      let total = squares.reduce(0, +)
      if total > 0 { shares[g] = [squares.map { $0 / total }] }
    }
    self.shares = shares
  }

  func loss(of cells: [Int], in g: Int) -> Double {
    shares[g].reduce(0) { sum, shares in
      sum - log(max(1 - cells.reduce(0) { $0 + shares[$1] }, 1e-12))
    }
  }
}

extension RefitLayer {
  /// By input channel, the sum of squares of what it is multiplied with.
  fileprivate var squaredInputs: [Double] {
    guard let channels = tap?.channels, channels > 0 else { return [] }
    let (perGroup, rows) = (channels / groups, rows)
    let taps = max(1, length / max(1, perGroup))
    var squares = [Double](repeating: 0, count: channels)
    for output in 0..<outputCount {
      let first = output / outputsPerGroup * perGroup
      for k in 0..<length { squares[first + k / taps] += rows[output * length + k] * rows[output * length + k] }
    }
    return squares
  }
}
