import ModelGraph

extension CompressibleModel {
  /// Proposes how much to remove from every layer. The proposal, handed back as `layers`, gives the same model as the
  /// same request to `plan`. For a ratio it is not proved yet: what cannot be proved stays there, alike in both.
  package func recommend(_ request: RecommendationRequest, work: Work) throws(Failure) -> Recommendation {
    let parts = predicts(request) ? (work.part(0...0.3), work.part(0.3...1)) : (work, work)
    let (work, prediction) = parts
    if case .size = request.goal {
      // What a size costs to search for pays the proof too, without which it might not be reached.
      var planned = try plan(
        CompressionRequest(
          method: request.method, choice: .recommended(request.recommendation, request.goal), options: request.options,
          maps: request.maps), work: work)
      if predicts(request) {
        let model = try ranking(recommending: request.method, request.options, maps: request.maps, work)
        let ratios = try ManualRatios(planned.layers, model: model).ratios
        try predict(
          &planned.layers, of: model.ranked.selecting(ratios: ratios, options: request.options), model, request,
          prediction)
      }
      return Recommendation(
        availableLayers: planned.layers, skipped: planned.skipped, goal: request.goal,
        achievedRatio: planned.achievedRatio ?? 0, original: planned.original,
        compressed: try onFile(planned.compressed, work))
    }
    let model = try ranking(recommending: request.method, request.options, maps: request.maps, work)
    let selection = try selection(of: model, for: request.goal, options: request.options, work: work)
    let compressed = try removalCost(of: model.scored.coupling, request.options.couplingOptions)
      .after(model.classes(selection))
    var settings = model.settings(selection)
    if predicts(request) { try predict(&settings, of: selection, model, request, prediction) }
    return Recommendation(
      availableLayers: settings,
      skipped: model.held(selection, options: request.options) + model.skipped,
      goal: request.goal,
      achievedRatio: selection.achievedRatio, original: cost.original, compressed: try onFile(compressed, work))
  }
}

extension CompressibleModel {
  /// Whether errors are predicted that the method itself knows nothing of.
  private func predicts(_ request: RecommendationRequest) -> Bool { request.data != nil && request.method != .damage }

  /// - Parameter settings: of all admitted groups, in their order.
  private func predict(
    _ settings: inout [LayerSetting], of selection: Selection, _ model: RankedModel, _ request: RecommendationRequest,
    _ work: Work
  ) throws(Failure) {
    guard let data = request.data else { return }
    var cells = [[Int]](repeating: [], count: model.scored.coupling.groups.count)
    for (g, chosen) in zip(model.admitted, selection.groups) { cells[g] = chosen.removed }
    let errors = try predictedErrors(of: cells, model.scored.coupling, maps: data, work)
    for (k, g) in model.admitted.enumerated() where k < settings.count { settings[k].predictedError = errors[g] }
  }

  /// The groups from which a recommendation chooses.
  func ranking(
    recommending method: CompressionMethod, _ options: PruningOptions, maps: (any FeatureMapSource)?, _ work: Work,
    found: (@Sendable (_ g: Int, _ vote: DamageCriterion.Vote) -> Void)? = nil
  ) throws(Failure) -> RankedModel {
    guard method.isCriterion else {
      throw Failure(
        .invalidCombination,
        "\(method.rawValue) has nothing that SLAMP could rank: PR_ID removes the channels you name, decompositions take VBMF; use PR_L2 with SLAMP, or compress with layers"
      )
    }
    let model = try ranking(method, options, maps: maps, work, found: found)
    try model.requireChoice()
    return model
  }

  /// - Parameter overhead: what the file is known to have beside its tensors.
  func selection(
    of model: RankedModel, for goal: RecommendationGoal, options: PruningOptions, overhead: Int? = nil, work: Work
  ) throws(Failure) -> Selection {
    switch goal {
    case .ratio(let ratio): return try model.ranked.recommending(ratio: ratio, options: options)
    case .calibration, .energy:
      throw Failure(
        .invalidCombination,
        "VBMF's ratios and energies are about ranks; a pruning method takes a ratio of channels or a size")
    case .size(let measure, let share):
      let cost = removalCost(of: model.scored.coupling, options.couplingOptions)
      var rewriting = overhead
      if measure == .sizeBytes, rewriting == nil { rewriting = try rewritingCost(ofRows: false, work)?.rewriting }
      return try SizeSearch(
        model.ranked, options: options, original: cost.table.original[measure], isExact: rewriting != nil, work: work
      ) { [rewriting] selection throws(Failure) in
        try cost.after(model.classes(selection))[measure] + (rewriting ?? 0)
      }.selection(share: share, of: measure)
    }
  }
}

extension RankedModel {
  /// - Throws: `nothingToCompress` if no group is left to choose from.
  func requireChoice() throws(Failure) {
    guard admitted.isEmpty else { return }
    let why = skipped.first.map { ": '\($0.name)' is skipped because \($0.reason)" } ?? ""
    throw Failure(.nothingToCompress, "no layer of this model can be pruned under these options\(why)")
  }
}
