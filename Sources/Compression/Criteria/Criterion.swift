import ModelGraph
import Numerics

/// A method's view of a coupling: what each group's layers say of its cells. What needs data has measured them all when
/// it is made.
struct Criterion: Sendable {
  enum Votes: Sendable {
    case members([MemberScores])
    case unavailable(String)
  }

  let coupling: ChannelCoupling
  /// By group and cell, the share of the variance of what reads it that goes with it when its turn comes; of PR_REC.
  let damages: [[Double]]?
  private let kind: Kind

  private enum Kind: Sendable {
    case weights(WeightCriterion)
    case random(seed: Int)
    /// Per group.
    case featureMaps([Votes])
    case attention(AttentionCriterion)
  }

  /// - Parameter damage: of PR_REC, what it found.
  /// - Throws: `datasetRequired` where feature maps are wanted and nobody makes them.
  init(
    _ coupling: ChannelCoupling, channels: ChannelCoupling, key: ScoreKey, damage: [DamageCriterion.Vote]?,
    maps: (any FeatureMapSource)?, work: Work
  ) throws(Failure) {
    self.coupling = coupling
    damages = damage?.map { $0.scores?.damages ?? [] }
    func weights(_ kind: WeightCriterion.Kind) -> Kind {
      .weights(
        WeightCriterion(kind, isJoined: key.isJoined, coupling, channels: key.coupling.prunesBlocks ? channels : nil))
    }
    switch key.method {
    case .l2: kind = weights(.norm(.l2))
    case .l1: kind = weights(.norm(.l1))
    case .batchNormL2: kind = weights(.foldedNorm)
    case .groupL2: kind = weights(.groupNorm)
    case .geometricMedian: kind = weights(.geometry(.geometricMedian))
    case .random: kind = .random(seed: key.seed ?? 0)
    case .nuclearNorm:
      guard let maps else { throw key.method.needsDataset }
      kind = .featureMaps(
        try FeatureMapCriterion(coupling, isJoined: key.isJoined).votes(from: maps, work: work))
    case .damage:
      guard let damage else { throw key.method.needsDataset }
      kind = .featureMaps(damage.map(Votes.init))
    case .snp:
      kind = .attention(
        try AttentionCriterion(
          coupling, channels: channels, components: key.components ?? .energy(0.9), isJoined: key.isJoined, maps: maps,
          work: work))
    case .indices, .svd, .tucker, .cp: preconditionFailure("\(key.method.rawValue) scores no channels")
    }
  }

  func votes(on g: Int, work: Work) throws(Failure) -> Votes {
    switch kind {
    case .weights(let criterion): return try criterion.votes(on: g, work: work)
    case .featureMaps(let votes): return votes[g]
    case .attention(let criterion): return try criterion.votes(on: g, work: work)
    case .random(let seed):
      guard !coupling.groups[g].producers.isEmpty else { return .unavailable(WeightCriterion.noProducers) }
      return .members([MemberScores(RandomScores.scores(count: coupling.groups[g].cells.count, group: g, seed: seed))])
    }
  }
}

extension Criterion.Votes {
  init(_ vote: DamageCriterion.Vote) {
    switch vote {
    case .scores(let found): self = .members([MemberScores(found.scores)])
    case .unavailable(let reason): self = .unavailable(reason)
    }
  }
}

extension CompressionMethod {
  var needsDataset: Failure {
    Failure(
      .datasetRequired,
      "\(rawValue) measures what the model computes on sample inputs, and none were given; add dataset_path, or choose a method that looks at weights, as PR_L2"
    )
  }
}

/// PR_RANDOM: the baseline that any criterion should beat.
enum RandomScores {
  /// Numbers in (0, 1], the same for the same seed and group on every machine.
  static func scores(count: Int, group: Int, seed: Int) -> [Double] {
    // SplitMix64 (Steele, Lea, Flood, 2014), from a state of its own for every group.
    var state = mixed(UInt64(bitPattern: Int64(seed)) &+ mixed(UInt64(group) &+ 1))
    return (0..<count).map { _ in
      state &+= 0x9E37_79B9_7F4A_7C15
      return Double(mixed(state) >> 11 &+ 1) * 0x1p-53
    }
  }

  private static func mixed(_ x: UInt64) -> UInt64 {
    var z = (x ^ (x >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
