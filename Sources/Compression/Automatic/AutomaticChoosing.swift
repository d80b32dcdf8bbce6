import Glibc
import ModelGraph
import Numerics

/// Everything that a model's automatic compression is chosen by: both methods' losses, layer by layer, in one measure.
struct AutomaticChoosing {
  let model: CompressibleModel
  let request: AutomaticRequest
  let ranked: RankedModel
  let ranks: RankModel
  private(set) var warnings: [String] = []
  private let alignment: ChannelAlignment
  /// By set of groups and by count, what a removal costs.
  private let losses: [[Double]]
  /// By name of a layer.
  private let harms: [String: Double]
  /// By set of groups, what one count saves, everything else being whole.
  private let savings: [Double]

  /// Samples on which networks are run once for every group and weight.
  private static let meteredSamples = 32

  init(_ model: CompressibleModel, _ request: AutomaticRequest, work: Work) throws(Failure) {
    (self.model, self.request) = (model, request)
    alignment = try ChannelAlignment(request.pruning)
    let maps = request.data.map { NetworkFeatureMaps(graph: model.graph, data: $0) }
    let ranked = try model.ranking(request.criterion, request.pruning, maps: maps, work.part(0...0.2))
    self.ranked = ranked
    let ranks = try Self.ranks(of: model, request, maps: maps, work: work.part(0.2...0.4))
    let damages = ranked.ranked.sets.map { set in
      Self.damages(set.map { (ranked.admitted[$0], ranked.ranked.groups[$0]) }, ranked.scored)
    }
    var (ofSets, ofWeights) = (damages.map { _ in 1.0 }, ranks.candidates.map { _ in 1.0 })
    if let data = request.data, let maps {
      let measurement = try HarmMeasurement(
        model, maps, DeviationMeter(model.graph, SomeSamples(data.runner, count: Self.meteredSamples), work: work),
        share: request.share)
      ofSets = try measurement.harms(of: ranked, damages: damages, work: work.part(0.4...0.6))
      ofWeights = try measurement.harms(of: ranks.candidates, work: work.part(0.6...1))
    } else {
      warnings.append(
        "without data a layer's loss is taken for the share of its squared weights that goes, which says little of what the outputs feel; a few hundred inputs, without labels, as dataset_path do far better"
      )
    }
    losses = zip(damages, ofSets).map { damages, harm in damages.map { $0 * harm } }
    let byName = Dictionary(
      zip(ranks.candidates, ofWeights).flatMap { candidate, harm in candidate.members.map { ($0.name, harm) } }
    ) { first, _ in first }
    harms = byName
    self.ranks = ranks.weighed { byName[$0.layer.name] }
    let cost = model.removalCost(of: ranked.scored.coupling, request.pruning.couplingOptions)
    savings = try ranked.ranked.sets.indices.map { s throws(Failure) in
      let count = max(1, ranked.ranked.limit(ofSet: s) / 4)
      guard ranked.ranked.limit(ofSet: s) > 0 else { return 0 }
      var counts = ranked.ranked.sets.map { _ in 0 }
      counts[s] = count
      let after = try cost.after(ranked.classes(ranked.ranked.selection(counts: counts, requested: counts)))
      return Double(model.cost.original[request.measure] - after[request.measure]) / Double(count)
    }
  }

  /// Weights that either decomposition takes: pointwise ones SVD, spatial ones Tucker.
  func ranks(of model: CompressibleModel, maps: (any FeatureMapSource)?, work: Work) throws(Failure) -> RankModel {
    try Self.ranks(of: model, request, maps: maps, work: work)
  }

  private static func ranks(
    of model: CompressibleModel, _ request: AutomaticRequest, maps: (any FeatureMapSource)?, work: Work
  ) throws(Failure) -> RankModel {
    RankModel(
      try model.rankModel(request.request(.svd, maps: maps), work.part(0...0.5)),
      try model.rankModel(request.request(.tucker, maps: maps), work.part(0.5...1)))
  }

  func harm(of layer: String) -> Double { harms[layer] ?? 1 }

  enum Kinds { case both, channels, ranks }

  // MARK: Losses

  /// By count, what the layers that read a set's channels lose, as a share of the variance of their outputs; without
  /// data, the share of squared weights that goes.
  private static func damages(_ groups: [(g: Int, ranked: RankedGroup)], _ scored: ScoredGroups) -> [Double] {
    let limit = groups.map(\.ranked.limit).min() ?? 0
    var damages = [Double](repeating: 0, count: limit + 1)
    for (g, ranked) in groups {
      guard case .ranked(let group) = scored.groups[g] else { continue }
      let costs: [Double]
      if let damages = scored.damages {
        costs = damages[g]
      } else {
        let squares = (0..<group.cellCount).map { cell in
          group.members.reduce(0) { $0 + $1.scores[cell] * $1.scores[cell] }
        }
        let total = squares.reduce(0, +)
        costs = squares.map { total > 0 ? $0 / total : 0 }
      }
      guard costs.count == group.cellCount else { continue }
      for count in 1..<max(1, limit + 1) {
        damages[count] += ranked.removal(count: count).cells.reduce(0) { $0 + max(0, costs[$1]) }
      }
    }
    return damages
  }

  // MARK: Choosing

  /// - Parameter aim: of the wanted size.
  func choice(
    _ kinds: Kinds, aim: Double, _ whole: WholeGroups
  ) throws(Failure) -> (CompressionMix, CompressionMix.Choice) {
    let places = places
    let channels = ranked.ranked.sets.indices.map { s in
      let isWhole = ranked.ranked.sets[s].contains { whole.reasons[ranked.admitted[$0]] != nil }
      let limit = isWhole || kinds == .ranks ? 0 : ranked.ranked.limit(ofSet: s)
      var counts = [0]
      for count in 0...limit {
        let aligned = ranked.ranked.aligned(count, ofSet: s, alignment)
        if aligned > counts[counts.count - 1] { counts.append(aligned) }
      }
      var other = savings[s]
      for place in places[s] {
        let candidate = ranks.candidates[place.weight]
        other -= place.share * Double(candidate.cost.size(request.measure, of: candidate))
      }
      return CompressionMix.Channels(
        counts: counts, losses: counts.map { losses[s][$0] }, otherSaving: max(0, other), touched: places[s])
    }
    let mix = CompressionMix(
      channels: channels, weights: ranks.candidates, mayDecompose: kinds != .channels, rule: ranks.rule,
      original: model.cost.original[request.measure],
      measure: request.measure, work: Work())
    let choice = try mix.choice(atMost: aim * request.share * Double(model.cost.original[request.measure]))
    return (mix, choice)
  }

  /// By set, the weights that its channels run through.
  private var places: [[(weight: Int, isInput: Bool, share: Double)]] {
    let coupling = ranked.scored.coupling
    var weightOf: [ValueID: Int] = [:]
    for (w, candidate) in ranks.candidates.enumerated() { weightOf[candidate.layer.weight.source] = w }
    var setOf: [Int: Int] = [:]
    for (s, set) in ranked.ranked.sets.enumerated() { for k in set { setOf[ranked.admitted[k]] = s } }
    var places = [[(weight: Int, isInput: Bool, share: Double)]](repeating: [], count: ranked.ranked.sets.count)
    for origin in coupling.analysis.stored.origins where origin.use == nil {
      guard let w = weightOf[origin.value] else { continue }
      let layer = ranks.candidates[w].layer
      let stride = StoredWeight.rowMajor(layer.weight.tensor.shape)[origin.axis]
      guard
        let axis = layer.weight.strides.indices.first(where: {
          layer.weight.strides[$0] == stride && layer.weight.shape[$0] == layer.weight.tensor.shape[origin.axis]
        }), axis == layer.inputAxis || axis == layer.outputAxis
      else { continue }
      for g in coupling.groups(along: origin) {
        guard let s = setOf[g] else { continue }
        let channels = origin.range.count(where: { coupling.group(of: $0) == g })
        let width = ranked.ranked.width(ofSet: s)
        places[s].append(
          (w, axis == layer.inputAxis, Double(channels) / Double(max(1, origin.count)) / Double(max(1, width))))
      }
    }
    return places
  }

  /// The channels that go. Where no weight is decomposed, as many as meet the size.
  func selection(
    _ mix: CompressionMix, _ choice: CompressionMix.Choice, _ whole: WholeGroups, work: Work
  ) throws(Failure) -> Selection {
    guard choice.ranks.allSatisfy({ $0 == nil }) else {
      return ranked.ranked.selection(counts: choice.counts, requested: choice.counts)
    }
    let cost = model.removalCost(of: ranked.scored.coupling, request.pruning.couplingOptions)
    return try SizeSearch(
      ranked.ranked, options: request.pruning, original: cost.table.original[request.measure], isExact: false,
      work: work
    ) { [ranked, request] selection throws(Failure) in
      try cost.after(ranked.classes(selection))[request.measure]
    }.selection(
      near: choice.counts, admissible: mix.channels.map(\.counts), share: request.share, of: request.measure)
  }

  // MARK: Telling

  var skipped: [SkippedLayer] { ranked.skipped }

  func settings(_ selection: Selection) -> [LayerSetting] {
    let setOf = ranked.ranked.sets.enumerated().reduce(into: [Int: Int]()) { table, entry in
      for k in entry.element { table[k] = entry.offset }
    }
    return ranked.settings(selection).enumerated().filter(\.element.use).map { k, setting in
      var setting = setting
      guard let s = setOf[k] else { return setting }
      let count = selection.groups[k].count
      let error = losses[s][min(count, losses[s].count - 1)].squareRoot()
      let saved = Int(savings[s] * Double(count))
      setting.predictedError = error
      setting.choice = MethodChoice(
        method: request.criterion, measure: request.measure, saved: saved,
        reason: reason(error, saved, "losing \(count) of \(ranked.ranked.width(ofSet: s)) channels"))
      return setting
    }
  }

  func settings(_ model: RankModel, _ choices: [RankChoice?]) -> [LayerSetting] {
    var saved: [String: (Int, Double, [Int])] = [:]
    for (candidate, choice) in zip(model.candidates, choices) {
      guard let ranks = choice?.ranks else { continue }
      for member in candidate.members {
        let before = WeightCost(parameters: member.cost.parameters, macs: member.cost.macs)
        let after = member.cost(candidate.method, ranks: ranks)
        saved[member.name] = (
          before.size(request.measure, of: candidate) - after.size(request.measure, of: candidate),
          candidate.loss(at: ranks).squareRoot(), ranks
        )
      }
    }
    return model.settings(choices).filter(\.use).map { setting in
      var setting = setting
      guard let (saving, error, ranks) = saved[setting.name] else { return setting }
      let isPointwise = ranks.count == 1
      setting.predictedError = error
      setting.choice = MethodChoice(
        method: isPointwise ? .svd : .tucker, measure: request.measure, saved: saving,
        reason: reason(error, saving, "a product of \(isPointwise ? "rank \(ranks[0])" : "ranks \(ranks)")"))
      return setting
    }
  }

  private func reason(_ error: Double, _ saved: Int, _ what: String) -> String {
    let share = 100 * Double(saved) / Double(max(1, model.cost.original[request.measure]))
    // Three digits, of what is small as well.
    func rounded(_ x: Double) -> Double {
      guard x > 0, x.isFinite else { return x }
      let unit = pow(10, (2 - log10(x).rounded(.down)).rounded())
      return (x * unit).rounded() / unit
    }
    let measured = request.data == nil ? "of its squared weights, its root" : "of the outputs"
    return
      "\(what) saves \(rounded(share)) % of the model's \(request.measure.rawValue) for \(rounded(error)) \(measured), which is the cheapest way at the price that meets the target"
  }
}
