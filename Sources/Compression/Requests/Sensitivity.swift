import ModelGraph
import Synchronization

/// What a model's layers lose by the removal of channels, before any is removed.
package struct SensitivityReport: Sendable {
  package struct Group: Sendable {
    package var name: String
    package var channels: Int
    /// By share of its channels: what the layers that read them lose of their outputs after the best refit, root mean
    /// square over that of the outputs' variation.
    package var errors: [Double]
  }

  package var ratios: [Double]
  /// In topological order.
  package var groups: [Group]
  package var skipped: [SkippedLayer]
}

extension CompressibleModel {
  /// How much each group loses at each of `ratios`, by PR_REC's measure: its scores, once made, serve recommendations
  /// and compressions on the same data as well.
  /// - Parameter found: told of groups as they are known, all of them in order, each once; by any thread, one at a
  ///   time.
  package func sensitivity(
    ratios: [Double], _ options: PruningOptions, maps: any FeatureMapSource, work: Work,
    found: (@Sendable ([SensitivityReport.Group]) -> Void)? = nil
  ) throws(Failure) -> SensitivityReport {
    let coupling = try coupling(options.couplingOptions, work)
    let curves = SensitivityCurves(coupling, ratios: ratios, options: RankingOptions(options))
    let filter = try LayerFilter(include: options.include, exclude: options.exclude, coupling: coupling)
    let stream = found.map { SensitivityStream(curves, filter, $0) }
    var listener: (@Sendable (Int, DamageCriterion.Vote) -> Void)?
    if let stream { listener = { g, vote in stream.add(g, vote) } }
    let model = try ranking(recommending: .damage, options, maps: maps, work, found: listener)
    let groups = zip(model.admitted, model.ranked.groups).map { g, ranked in
      curves.group(g, ranked) { cells in model.scored.predictedError(of: cells, in: g) ?? 0 }
    }
    stream?.finish(groups)
    return SensitivityReport(ratios: ratios, groups: groups, skipped: model.skipped)
  }
}

private struct SensitivityCurves: Sendable {
  let coupling: ChannelCoupling
  let ratios: [Double]
  let options: RankingOptions

  init(_ coupling: ChannelCoupling, ratios: [Double], options: RankingOptions) {
    (self.coupling, self.ratios, self.options) = (coupling, ratios, options)
  }

  func group(_ g: Int, _ ranked: RankedGroup, error: (_ cells: [Int]) -> Double) -> SensitivityReport.Group {
    SensitivityReport.Group(
      name: coupling.groups[g].name, channels: ranked.totalChannels,
      errors: ratios.map { ratio in error(ranked.removal(count: min(ranked.count(ratio: ratio), ranked.limit)).cells) })
  }

  /// The same of a group that was just ranked; nil if it cannot be pruned.
  func group(_ g: Int, _ vote: DamageCriterion.Vote) -> SensitivityReport.Group? {
    let outcome = try? ScoredGroups.outcome(g, coupling) { .init(vote) }
    guard let scores = vote.scores, case .ranked(let group)? = outcome else { return nil }
    return self.group(g, RankedGroup(group, options: options)) { cells in
      max(0, cells.reduce(0) { $0 + scores.damages[$1] }).squareRoot()
    }
  }
}

/// Puts groups that become known in any order into theirs.
///
/// Whether a group takes part may depend on those that it is linked with; it waits for them, and others for it.
private final class SensitivityStream: Sendable {
  private struct State {
    /// By group: whether it is known, and what there is to tell of it.
    var isKnown: [Bool]
    var groups: [SensitivityReport.Group?]
    /// The first group that is not settled, and how many were told.
    var next = 0
    var told = 0
  }

  private let curves: SensitivityCurves
  /// By group.
  private let isAdmitted: [Bool]
  private let linked: [[Int]]
  private let found: @Sendable ([SensitivityReport.Group]) -> Void
  private let state: Mutex<State>

  init(
    _ curves: SensitivityCurves, _ filter: LayerFilter, _ found: @escaping @Sendable ([SensitivityReport.Group]) -> Void
  ) {
    (self.curves, self.found) = (curves, found)
    let groups = curves.coupling.groups
    isAdmitted = groups.indices.map { filter.reason(against: $0) == nil }
    linked = groups.indices.map { g in
      groups[g].link.map { link in groups.indices.filter { groups[$0].link == link } } ?? [g]
    }
    state = Mutex(
      State(
        isKnown: groups.map { _ in false }, groups: groups.map { _ in nil }))
  }

  func add(_ g: Int, _ vote: DamageCriterion.Vote) {
    let group = isAdmitted[g] ? curves.group(g, vote) : nil
    state.withLock { state in
      state.isKnown[g] = true
      state.groups[g] = group
      var news: [SensitivityReport.Group] = []
      while state.next < linked.count, linked[state.next].allSatisfy({ state.isKnown[$0] }) {
        let isWhole = linked[state.next].allSatisfy { state.groups[$0] != nil }
        if isWhole, let group = state.groups[state.next] { news.append(group) }
        state.next += 1
      }
      state.told += news.count
      if !news.isEmpty { found(news) }
    }
  }

  /// - Parameter groups: all of them.
  func finish(_ groups: [SensitivityReport.Group]) {
    state.withLock { state in
      let rest = Array(groups.dropFirst(state.told))
      state.told = groups.count
      if !rest.isEmpty { found(rest) }
    }
  }
}
