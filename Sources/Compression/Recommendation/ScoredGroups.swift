import ModelGraph
import Numerics

/// What scores depend on besides the model: they are kept under it.
struct ScoreKey: Hashable {
  var method: CompressionMethod
  var coupling: CouplingOptions
  /// Policy `backward`: a group's layers are scored as one.
  var isJoined: Bool
  var seed: Int?
  var components: AttentionPairs.Components?
  var data: String?

  init(_ method: CompressionMethod, _ options: PruningOptions, data: String?) {
    (self.method, coupling) = (method, options.couplingOptions)
    isJoined =
      options.policy == .backward && method.isCriterion && method != .random && method != .damage
    seed = method == .random ? options.seed : nil
    components = method == .snp ? options.snpGamma : nil
    self.data = method.measuresFeatureMaps ? data : nil
  }
}

/// Every group of a coupling with the scores a criterion gives its cells: where coupling and criteria meet.
struct ScoredGroups: Sendable {
  let coupling: ChannelCoupling
  /// Per group: what the recommenders see, or why it cannot be ranked.
  let groups: [Outcome]
  /// By group and cell, the share of the variance of what reads it that goes with it when its turn comes; of PR_REC.
  let damages: [[Double]]?

  enum Outcome: Sendable {
    case ranked(SelectionGroup)
    case unavailable(String)
  }

  var cellCount: Int { coupling.groups.reduce(0) { $0 + $1.cells.count } }

  /// - Parameters:
  ///   - channels: the coupling of channels, where `coupling` is that of whole blocks; otherwise the same.
  ///   - damage: of PR_REC, what it found.
  ///   - maps: for the criteria that measure feature maps.
  init(
    _ coupling: ChannelCoupling, channels: ChannelCoupling, key: ScoreKey, damage: [DamageCriterion.Vote]? = nil,
    maps: (any FeatureMapSource)?, work: Work
  ) throws(Failure) {
    self.coupling = coupling
    let bytes = coupling.groups.map { group in
      group.producers.reduce(0) { $0 + (coupling.graph[$1.origin.value].tensor?.bytes.count ?? 0) }
    }
    let total = max(bytes.reduce(0, +), 1)
    let criterion = try Criterion(coupling, channels: channels, key: key, damage: damage, maps: maps, work: work)
    damages = criterion.damages
    // Reading memory is the bound: more threads than these gain nothing, and a few megabytes are sooner read than one
    // is started.
    let threads = total >> 22 > 0 ? 4 : 1
    groups = try work.concurrentMap(
      Array(bytes.indices), threads: threads, cost: { Double(bytes[$0]) },
      naming: { "scored \(coupling.groups[$0].name)" }
    ) { g, work throws(Failure) in
      try Self.outcome(g, coupling) { () throws(Failure) in try criterion.votes(on: g, work: work) }
    }
  }

  static func outcome(
    _ g: Int, _ coupling: ChannelCoupling, votes: () throws(Failure) -> Criterion.Votes
  ) throws(Failure) -> Outcome {
    let group = coupling.groups[g]
    guard group.cells.count > 1 else {
      let channels = group.weights.reduce(0, +)
      return .unavailable(
        channels > 1 ? "its \(channels) channels can only go all together" : "it has a single channel")
    }
    let members: [MemberScores]
    switch try votes() {
    case .unavailable(let reason): return .unavailable(reason)
    case .members(let found): members = found
    }
    var removable = group.removable
    for part in coupling.guarded[g] where part.allSatisfy({ removable[$0] }) {
      // The most important one stays; of equals the first.
      func score(_ cell: Int) -> Double { members.reduce(0) { $0 + $1.scores[cell] } }
      if let best = part.max(by: { score($0) < score($1) || (score($0) == score($1) && $0 > $1) }) {
        removable[best] = false
      }
    }
    return .ranked(
      SelectionGroup(
        blocks: group.blocks, width: group.width, members: members, removable: removable, link: group.link,
        weights: group.weights))
  }
}

extension ScoredGroups {
  private init(_ coupling: ChannelCoupling, _ groups: [Outcome], damages: [[Double]]?) {
    (self.coupling, self.groups, self.damages) = (coupling, groups, damages)
  }

  /// Groups that cannot be ranked by these scores are ranked by others of the same coupling.
  func filled(by others: ScoredGroups) -> ScoredGroups {
    let groups = zip(groups, others.groups).map { own, other in
      if case .ranked = own { own } else { other }
    }
    return ScoredGroups(coupling, groups, damages: damages)
  }

  /// Whether samples were to rank a group, and tell nothing of it.
  func isUnmeasured(_ g: Int) -> Bool { damages?[g].isEmpty ?? false }

  /// What the layers that read a group's channels lose of their outputs when `cells` go, after the best refit: root
  /// mean square over that of the outputs' variation. nil where scores tell nothing of it.
  func predictedError(of cells: [Int], in g: Int) -> Double? {
    guard let damages, !damages[g].isEmpty else { return nil }
    return max(0, cells.reduce(0) { $0 + damages[g][$1] }).squareRoot()
  }
}

/// The groups that a request's options admit, ranked once for all ratios.
struct RankedModel: Sendable {
  let scored: ScoredGroups
  /// Indices of the admitted groups, in order.
  let admitted: [Int]
  let ranked: RankedGroups
  let skipped: [SkippedLayer]

  /// - Parameter leavingOut: groups that may lose nothing, with the reason.
  init(
    _ scored: ScoredGroups, options: PruningOptions, leavingOut: [Int: String] = [:], work: Work
  ) throws(Failure) {
    self.scored = scored
    let coupling = scored.coupling
    let filter = try LayerFilter(include: options.include, exclude: options.exclude, coupling: coupling)
    var admitted: [Int] = []
    var selection: [SelectionGroup] = []
    var skipped: [SkippedLayer] = []
    for (g, outcome) in scored.groups.enumerated() {
      let name = coupling.groups[g].name
      switch outcome {
      case .unavailable(let reason): skipped.append(SkippedLayer(name: name, reason: reason))
      case .ranked(let group):
        if let reason = leavingOut[g] ?? filter.reason(against: g) {
          skipped.append(SkippedLayer(name: name, reason: reason))
        } else {
          admitted.append(g)
          selection.append(group)
        }
      }
    }
    // A link binds groups only if all of them take part: where one is left out, none may move.
    let out = Set(coupling.groups.indices.filter { !admitted.contains($0) }.compactMap { coupling.groups[$0].link })
    for k in selection.indices.reversed() {
      guard let link = selection[k].link, out.contains(link) else { continue }
      skipped.append(
        SkippedLayer(name: coupling.groups[admitted[k]].name, reason: "it must keep pace with a group that is left out")
      )
      admitted.remove(at: k)
      selection.remove(at: k)
    }
    for layer in coupling.layers {
      if let reason = coupling.reasonNotPrunable(layer) {
        skipped.append(SkippedLayer(name: layer.name, reason: reason))
      }
    }
    ranked = try RankedGroups(selection, options: RankingOptions(options), work: work)
    (self.admitted, self.skipped) = (admitted, skipped)
  }

  /// The classes of the selected cells.
  func classes(_ selection: Selection) -> [Int32] {
    zip(admitted, selection.groups).flatMap { g, chosen in chosen.removed.map { scored.coupling.groups[g].cells[$0] } }
  }

  /// The selection without what it takes from some groups, whose links are among them.
  func keepingAll(of whole: [Int: String], in selection: Selection) -> Selection {
    guard !whole.isEmpty else { return selection }
    let first = ranked.sets.map { $0[0] }
    return ranked.selection(
      counts: first.map { whole[admitted[$0]] == nil ? selection.groups[$0].count : 0 },
      requested: first.map { selection.groups[$0].requestedCount })
  }

  /// Groups that were to lose channels and keep them all, with what holds them.
  /// - Parameter whole: what is known to hold some of them.
  func held(_ selection: Selection, options: PruningOptions, _ whole: [Int: String] = [:]) -> [SkippedLayer] {
    zip(admitted, selection.groups).compactMap { g, chosen in
      guard chosen.requestedCount > 0, chosen.count == 0 else { return nil }
      let group = scored.coupling.groups[g]
      if let reason = whole[g] { return SkippedLayer(name: group.name, reason: reason) }
      let unit = group.blocks > 1 ? "each of its \(group.blocks) blocks of \(group.width) channels" : "it"
      return SkippedLayer(
        name: group.name,
        reason: "\(unit) would keep fewer channels than step_size \(options.stepSize) and min_num_of_value "
          + "\(options.minNumOfValue) allow; lower them to prune here")
    }
  }

  /// What the selection says of every admitted group.
  func settings(_ selection: Selection) -> [LayerSetting] {
    admitted.indices.map { k in
      let (g, chosen) = (admitted[k], selection.groups[k])
      let share = Double(chosen.count) / Double(max(ranked.groups[k].table.width, 1))
      return LayerSetting(
        name: scored.coupling.groups[g].name, channels: [scored.coupling.groups[g].weights.reduce(0, +)],
        values: chosen.count > 0 ? .ratio(share) : .empty, use: chosen.count > 0,
        marked: chosen.count > 0 && chosen.ratio != share ? chosen.ratio : nil,
        requested: scored.coupling.groups[g].width == 0
          ? 0 : min(1, Double(chosen.requestedCount) / Double(scored.coupling.groups[g].width)),
        predictedError: scored.predictedError(of: chosen.removed, in: g))
    }
  }
}
