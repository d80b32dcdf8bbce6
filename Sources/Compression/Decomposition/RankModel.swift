import ModelGraph

/// The weights of a model that one method can decompose under the options of a request, in node order, and why the others
/// stay.
struct RankModel: Sendable {
  let methods: Set<DecompositionMethod>
  private(set) var candidates: [WeightCandidate]
  /// Layers that the method does not take, or the options leave out.
  private let left: [SkippedLayer]
  let layers: DecomposableLayers
  let rule: RankRule

  /// - Parameter only: the layers to look at; nil for all that the options admit.
  init(
    _ layers: DecomposableLayers, _ spectra: SpectrumTable, _ method: DecompositionMethod,
    _ options: DecompositionOptions,
    only: [DecomposableLayer]?
  ) throws(Failure) {
    (self.methods, self.layers, rule) = ([method], layers, RankRule(options))
    let filter = try LayerFilter(
      include: options.include, exclude: options.exclude, names: layers.names,
      others: layers.others.map(\.name))
    let wanted = only.map { Set($0.map(\.node)) }
    var left = layers.others
    var admitted: [DecomposableLayer] = []
    for (k, layer) in layers.layers.enumerated() {
      if let wanted {
        if wanted.contains(layer.node) { admitted.append(layer) }
      } else if let reason = DecomposableLayers.reason(layer, against: method) ?? filter.reason(against: k) {
        left.append(SkippedLayer(name: layer.name, reason: reason))
      } else {
        admitted.append(layer)
      }
    }
    let membersOf = Dictionary(grouping: admitted, by: \.key)
    var candidates: [WeightCandidate] = []
    for layer in admitted.distinctWeights {
      switch spectra[layer] {
      case .spectra(let spectra):
        let members = membersOf[layer.key] ?? []
        candidates.append(
          WeightCandidate(
            members: members, method: method, spectra: spectra,
            isFreed: layers.frees(layer.key) && members.count == layers.count(of: layer.key)))
      case .unavailable(let reason):
        for member in admitted where member.key == layer.key {
          left.append(SkippedLayer(name: member.name, reason: reason))
        }
      case nil: continue
      }
    }
    (self.candidates, self.left) = (candidates, left)
  }

  /// The weights of two methods, of which no weight takes both.
  init(_ first: RankModel, _ second: RankModel) {
    (layers, rule, methods) = (first.layers, first.rule, first.methods.union(second.methods))
    candidates = (first.candidates + second.candidates).sorted { $0.layer.node < $1.layer.node }
    let taken = Set(candidates.flatMap(\.members).map(\.name))
    var seen = taken
    left = (first.left + second.left).filter { seen.insert($0.name).inserted }
  }

  /// With what their losses are worth.
  /// - Parameter harm: nil for a weight that is to stay, whatever it would lose.
  func weighed(_ harm: (WeightCandidate) -> Double?) -> RankModel {
    var model = self
    model.candidates = candidates.compactMap { candidate in
      harm(candidate).map { harm in
        var candidate = candidate
        candidate.harm = harm
        return candidate
      }
    }
    return model
  }

  // MARK: Choosing

  /// - Parameter rows: what a file takes beside its tensors; nil where nobody knows, or asks.
  func choices(
    _ goal: RecommendationGoal, _ options: DecompositionOptions, original: ModelSize, rows: RowCost?, work: Work
  ) throws(Failure) -> [RankChoice?] {
    guard methods != [.cp] else {
      throw Failure(
        .invalidCombination,
        "there is no rule for CP's rank; compress with layers and ranks of your own, or use FD_TK with VBMF")
    }
    if candidates.isEmpty, case .size = goal { throw nothingToDecompose([]) }
    switch goal {
    case .calibration(let ratio):
      return candidates.map { $0.choice(calibration: ratio, rule, zeroRank: options.zeroRank) }
    case .energy(let share): return candidates.map { $0.choice(energy: share, rule) }
    case .size(let measure, let share):
      let ranks = try ranks(measure, share, original, rows, work)
      return zip(candidates, ranks).map { candidate, ranks in
        RankChoice(
          verdict: ranks.map { .ranks($0) }
            ?? .skipped("budget: what it would lose is worth more than what it would save"))
      }
    case .ratio:
      throw Failure(.invalidCombination, "a decomposition takes a ratio from -1 to 1, an energy or a size")
    }
  }

  private func ranks(
    _ measure: ModelSize.Measure, _ share: Double, _ original: ModelSize, _ rows: RowCost?, _ work: Work
  ) throws(Failure) -> [[Int]?] {
    // New names and nodes take some bytes too.
    func row(_ candidate: WeightCandidate) -> Int {
      measure == .sizeBytes ? rows?.bytes(of: candidate) ?? Self.bytesPerRow : 0
    }
    let budget = RankBudget(candidates, rule, work: work) { candidate, cost, isReplaced in
      cost.size(measure, of: candidate) + (isReplaced ? row(candidate) : 0)
    }
    let whole = budget.total(candidates.map { _ in nil })
    let others = original[measure] - whole
    let most = Int((share * Double(original[measure]) * (1 + 1e-12)).rounded(.down))
    let least = Int((share * (1 - RankBudget.tolerance) * Double(original[measure])).rounded(.up))
    let fixed = others + (rows?.rewriting ?? 0)
    let ranks = try budget.ranks(costingAtLeast: least - fixed, atMost: most - fixed)
    let size = fixed + budget.total(ranks)
    guard (least...max(least, most)).contains(size) else {
      let closest = Double(size) / Double(max(1, original[measure]))
      let bound = size > most ? "the least is" : "the closest below is"
      throw Failure(
        .targetUnreachable,
        "\(measure.rawValue) cannot be brought to \(share) of \(original[measure]) within one percent from below: \(bound) \(closest), by this method under these options; ask for that, or loosen step_size, min_num_of_value, include or exclude",
        details: ["requested": .double(share), "closest": .double(closest)])
    }
    return ranks
  }

  /// Where nobody knows, about.
  private static let bytesPerRow = 512

  // MARK: Telling

  /// The model's size once the choices are carried out; bytes from the tensors alone.
  func size(after choices: [RankChoice?], of original: ModelSize) -> ModelSize {
    var size = original
    for (candidate, choice) in zip(candidates, choices) {
      guard let ranks = choice?.ranks else { continue }
      let (before, after) = (candidate.cost, candidate.cost(at: ranks))
      size.parameters += after.parameters - before.parameters
      size.macs += after.macs - before.macs
      size.sizeBytes +=
        (after.parameters - before.parameters) * (candidate.layer.weight.dtype.byteWidth ?? 4)
    }
    return size
  }

  /// Those that are decomposed.
  func replaced(_ choices: [RankChoice?]) -> [WeightCandidate] {
    zip(candidates, choices).compactMap { $1?.ranks == nil ? nil : $0 }
  }

  func settings(_ choices: [RankChoice?]) -> [LayerSetting] {
    let settings = zip(candidates, choices).flatMap { candidate, choice in
      candidate.members.map { layer in
        (
          layer.node,
          LayerSetting(
            name: layer.name, channels: [layer.inputChannels, layer.outputChannels],
            values: choice?.ranks.map { .ranks($0) } ?? .empty, use: choice?.ranks != nil,
            ranks: candidate.report(choice), predictedError: candidate.report(choice).outputError)
        )
      }
    }
    return settings.sorted { $0.0 < $1.0 }.map(\.1)
  }

  func skipped(_ choices: [RankChoice?]) -> [SkippedLayer] {
    zip(candidates, choices).flatMap { candidate, choice -> [SkippedLayer] in
      guard case .skipped(let reason) = choice?.verdict else { return [] }
      return candidate.members.map { SkippedLayer(name: $0.name, reason: reason) }
    } + left
  }

  /// Why no layer is decomposed, with the commonest reasons.
  func nothingToDecompose(_ choices: [RankChoice?]) -> Failure {
    let reasons = skipped(choices).map { String($0.reason.prefix { $0 != ":" }) }
    let counts = Dictionary(reasons.map { ($0, 1) }, uniquingKeysWith: +)
      .sorted { ($1.value, $0.key) < ($0.value, $1.key) }.prefix(4).map { "\($0.key) (\($0.value))" }
    let example = skipped(choices).first { $0.reason.hasPrefix(counts.first?.prefix { $0 != " " } ?? "") }
    let why = example.map { "; '\($0.name)' \($0.reason)" } ?? ""
    return Failure(
      .nothingToCompress,
      "no layer of this model is decomposed: \(counts.isEmpty ? "it has none with a weight of its own" : counts.joined(separator: ", "))\(why)",
      details: ["reasons": .strings(counts)])
  }
}

extension WeightCandidate {
  /// Layers that stand in its place, where no rank is full.
  var largestRow: Int {
    switch method {
    case .svd: 2
    case .tucker: 3
    case .cp: layer.kernel.count + 2
    }
  }

  func report(_ choice: RankChoice?) -> RankReport {
    // No spectrum bounds what a sum of products of vectors loses.
    let lost = method == .cp ? nil : choice?.ranks.map { spectra.lostShare(at: $0).squareRoot() }
    return RankReport(
      full: fullRanks, estimated: method == .cp ? nil : spectra.estimated, calibrated: choice?.calibrated,
      kept: choice?.ranks, relativeError: spectra.isWhitened ? nil : lost,
      outputError: spectra.isWhitened ? lost : nil)
  }
}
