import Glibc
import ModelGraph
import Numerics

/// Chooses, for one wanted size, by what was measured of a model.
struct AutomaticChoosing {
  let model: CompressibleModel
  let request: AutomaticRequest
  /// On the request's data; nil without.
  let maps: NetworkFeatureMaps?
  private let measurement: AutomaticMeasurement
  private let alignment: ChannelAlignment
  /// By set of groups, what one count saves, everything else being whole.
  private let savings: [Double]

  var ranked: RankedModel { measurement.ranked }
  var ranks: RankModel { measurement.ranks }

  init(_ model: CompressibleModel, _ request: AutomaticRequest, work: Work) throws(Failure) {
    (self.model, self.request) = (model, request)
    alignment = try ChannelAlignment(request.means.pruning)
    maps = try model.featureMaps(for: request.means, work: work.part(0...0.3))
    let measurement = try AutomaticMeasurement.of(model, request.means, maps, work: work.part(0.3...1))
    self.measurement = measurement
    let ranked = measurement.ranked
    let cost = model.removalCost(of: ranked.scored.coupling, request.means.pruning.couplingOptions)
    savings = try ranked.ranked.sets.indices.map { s throws(Failure) in
      let count = max(1, ranked.ranked.limit(ofSet: s) / 4)
      guard ranked.ranked.limit(ofSet: s) > 0 else { return 0 }
      var counts = ranked.ranked.sets.map { _ in 0 }
      counts[s] = count
      let after = try cost.after(ranked.classes(ranked.ranked.selection(counts: counts, requested: counts)))
      return Double(model.cost.original[request.measure] - after[request.measure]) / Double(count)
    }
  }

  var warnings: [String] {
    request.means.data == nil
      ? [
        "without data a layer's loss is taken for what goes of its squared weights, which says little of what the outputs feel; a few hundred inputs, without labels, as dataset_path do far better"
      ] : []
  }

  /// What the measurement is kept under.
  var key: AutomaticMeasurement.Key { AutomaticMeasurement.Key(request.means, maps) }

  func harm(of layer: String, _ weighing: LossWeighing) -> Double { measurement.harm(of: layer, weighing) }

  // MARK: Choosing

  /// - Parameter aim: of the wanted size.
  func choice(
    _ kinds: AutomaticKinds, aim: Double, _ whole: WholeGroups, _ work: Work
  ) throws(Failure) -> (CompressionMix, CompressionMix.Choice) {
    let places = places
    let weighing = kinds.weighing(refits: request.means.refits)
    let losses = measurement.losses(weighing)
    let weights = ranks.weighed { harm(of: $0.layer.name, weighing) }.candidates
    let channels = ranked.ranked.sets.indices.map { s in
      let isWhole = ranked.ranked.sets[s].contains { whole.reasons[ranked.admitted[$0]] != nil }
      let limit = isWhole || !kinds.removesChannels ? 0 : ranked.ranked.limit(ofSet: s)
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
      channels: channels, weights: weights, mayDecompose: kinds.decomposes, rule: ranks.rule,
      original: model.cost.original[request.measure],
      measure: request.measure, work: Work(cancellation: work.cancellation))
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
    let cost = model.removalCost(of: ranked.scored.coupling, request.means.pruning.couplingOptions)
    return try SizeSearch(
      ranked.ranked, options: request.means.pruning, original: cost.table.original[request.measure], isExact: false,
      work: work
    ) { [ranked, request] selection throws(Failure) in
      try cost.after(ranked.classes(selection))[request.measure]
    }.selection(
      near: choice.counts, admissible: mix.channels.map(\.counts), share: request.share, of: request.measure)
  }

  // MARK: Telling

  func settings(_ selection: Selection) -> [LayerSetting] {
    let setOf = ranked.ranked.sets.enumerated().reduce(into: [Int: Int]()) { table, entry in
      for k in entry.element { table[k] = entry.offset }
    }
    return ranked.settings(selection).enumerated().filter(\.element.use).map { k, setting in
      var setting = setting
      guard let s = setOf[k] else { return setting }
      let count = selection.groups[k].count
      let losses = measurement.losses(.measured)[s]
      let error = losses[min(count, losses.count - 1)].squareRoot()
      let saved = Int(savings[s] * Double(count))
      setting.predictedError = error
      let unmeasured = ranked.scored.isUnmeasured(ranked.admitted[k])
      setting.choice = MethodChoice(
        method: request.means.criterion,
        grounds: grounds(
          error, saved,
          "losing \(count) of \(ranked.ranked.width(ofSet: s)) channels"
            + (unmeasured ? ", by their weights, as samples tell nothing of them," : "")))
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
          (harm(of: member.name, .measured) * candidate.spectra.attenuation(at: ranks)).squareRoot(), ranks
        )
      }
    }
    return model.settings(choices).filter(\.use).map { setting in
      var setting = setting
      guard let (saving, error, ranks) = saved[setting.name] else { return setting }
      let isPointwise = ranks.count == 1
      setting.predictedError = error
      setting.choice = MethodChoice(
        method: isPointwise ? .svd : .tucker,
        grounds: grounds(error, saving, "a product of \(isPointwise ? "rank \(ranks[0])" : "ranks \(ranks)")"))
      return setting
    }
  }

  private func grounds(_ error: Double, _ saved: Int, _ what: String) -> MethodChoice.Grounds {
    let share = 100 * Double(saved) / Double(max(1, model.cost.original[request.measure]))
    let measured = request.means.data == nil ? "of its squared weights, its root" : "of the outputs"
    return MethodChoice.Grounds(
      measure: request.measure, saved: saved,
      reason:
        "\(what) saves \(share.inWords) % of the model's \(request.measure.rawValue) for \(error.inWords) \(measured), which is the cheapest way at the price that meets the target"
    )
  }
}

extension Double {
  /// Three digits; of what is too small to matter, that it is.
  fileprivate var inWords: String {
    guard isFinite else { return "\(self)" }
    guard self >= Self.smallestTold else { return "less than \(Self.smallestTold)" }
    let unit = pow(10, (2 - log10(self).rounded(.down)).rounded())
    return "\((self * unit).rounded() / unit)"
  }

  private static let smallestTold = 0.001
}
