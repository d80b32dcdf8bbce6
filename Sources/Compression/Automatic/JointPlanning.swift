import ModelGraph
import Numerics

// From channels that go, and ranks that are chosen on what they leave, to one plan: the way that an automatic choice
// goes, and one that somebody lists.

/// Whose channels go, and how the ranks of what is left are found.
struct JointChoice {
  let ranked: RankedModel
  let selection: Selection
  /// Of the channels that go.
  let layers: [LayerSetting]
  /// Whether nothing is decomposed, given what the channels leave.
  let isEnough: (_ left: ModelSize) throws(Failure) -> Bool
  /// By candidate of `model`, of which `held` may not be decomposed, with the reasons.
  let ranks:
    (_ model: RankModel, _ size: ModelSize, _ held: [String: String]) throws(Failure) -> (
      model: RankModel, choices: [RankChoice?], warnings: [String]
    )
  /// Of layers that are decomposed.
  let telling: (_ model: RankModel, _ choices: [RankChoice?]) -> [LayerSetting]
}

extension CompressibleModel {
  /// - Parameters:
  ///   - maps: of this model on the data of `means`.
  ///   - factors: the same that factors are made on, once ranks are chosen.
  ///   - ranks: of this model, where they are known.
  func plan(
    _ choice: JointChoice, _ means: JointMeans, _ maps: NetworkFeatureMaps?, _ factors: NetworkFeatureMaps?,
    ranks: RankModel? = nil, work: Work
  ) throws(Failure) -> PlannedCompression {
    let classes = choice.ranked.classes(choice.selection)
    guard !classes.isEmpty else {
      let known: RankModel
      if let ranks { known = ranks } else { known = try means.ranks(of: self, maps: maps, work: work.part(0...0.3)) }
      let (model, choices, warnings) = try choice.ranks(known, cost.original, [:])
      guard choices.contains(where: { $0?.ranks != nil }) else {
        throw Failure(.nothingToCompress, "no layer of this model can be pruned or decomposed under these options")
      }
      var planned = try decompose(model, choices, means.request(.svd, maps: factors), work: work.part(0.3...1))
      planned.layers = choice.telling(model, choices)
      planned.warnings = warnings + planned.warnings
      return planned
    }
    let removal = Removal(choice.ranked.scored.coupling, classes: classes)
    var (pruned, proof) = try plan(removal, layers: choice.layers, skipped: choice.ranked.skipped, warnings: [], work)
    pruned.certificate = try proof.report()
    if try choice.isEnough(pruned.compressed) { return pruned }
    return try decompose(pruned, removal, choice, means, maps, factors, work: work)
  }

  /// Decomposes layers of what is left of channels.
  private func decompose(
    _ pruned: PlannedCompression, _ removal: Removal, _ choice: JointChoice, _ means: JointMeans,
    _ maps: NetworkFeatureMaps?, _ factors: NetworkFeatureMaps?, work: Work
  ) throws(Failure) -> PlannedCompression {
    let plain = try leaving(pruned, work: work)
    var smaller = plain
    var (left, factorsLeft) = (NetworkFeatureMaps?.none, NetworkFeatureMaps?.none)
    if let maps {
      var known = ChannelMoments()
      if means.refits {
        let made = try compensated(for: removal, choice, maps, work: work.part(0...0.2))
        smaller = try CompressibleModel(
          made.applying(pruned.plan, work: work), sizeBytes: plain.sizeBytes, like: plain)
        known = maps.known?.left(by: removal, in: self) ?? known
      }
      left = maps.on(smaller.graph, known: known)
      factorsLeft = means.refits ? left : factors?.on(smaller.graph, known: ChannelMoments())
    }
    let held = layersHeld(by: pruned, in: smaller)
    let (model, choices, warnings) = try choice.ranks(
      means.ranks(of: smaller, maps: left, work: work.part(0.2...0.5)), smaller.cost.original, held)
    guard choices.contains(where: { $0?.ranks != nil }) else { return pruned }
    var decomposed = try smaller.decompose(
      model, choices, means.request(.svd, maps: factorsLeft), work: work.part(0.5...1))
    decomposed.layers = choice.telling(model, choices)
    decomposed.warnings = warnings + decomposed.warnings
    return try joining(pruned, plain, decomposed)
  }

  /// The graph with layers that make up for the channels that a removal takes from them, as well as they can on what
  /// the whole network computes: near enough to what fitting will make of them to choose ranks on.
  private func compensated(
    for removal: Removal, _ choice: JointChoice, _ maps: NetworkFeatureMaps, work: Work
  ) throws(Failure) -> Graph {
    let ranked = choice.ranked
    let lost = zip(ranked.admitted, choice.selection.groups).filter { !$0.1.removed.isEmpty }.map { ($0, $1.removed) }
    let compensation = try ChannelCompensation(self, ranked.scored.coupling, maps)
    return graph.storing(
      try compensation.tensors(
        without: compensation.inputs(of: lost),
        compensation.moments(of: lost.map(\.0), work: work), work: work))
  }
}

extension ChannelMoments {
  /// What is left of what layers read. Where the layers before are fitted to compute what they did, that is what they
  /// will read, as nearly as can be known without running them.
  fileprivate func left(by removal: Removal, in model: CompressibleModel) -> ChannelMoments {
    var left = ChannelMoments()
    for (tap, moments) in inputs {
      guard let rank = model.shapes.nominal[tap.value]?.count else { continue }
      let axis = tap.axis < 0 ? tap.axis + rank : tap.axis
      guard let kept = removal.keptPositions(of: tap.value, axis: axis) else {
        left.inputs[tap] = moments
        continue
      }
      guard kept.count == tap.channels else { continue }
      let channels = kept.indices.filter { kept[$0] }
      left.inputs[InputTap(value: tap.value, axis: tap.axis, channels: channels.count)] = moments.keeping(channels)
    }
    return left
  }
}
