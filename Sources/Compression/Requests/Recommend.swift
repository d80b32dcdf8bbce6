import ModelGraph

extension CompressibleModel {
  /// Proposes how much to remove from every layer. The proposal, handed back as `layers`, gives the same model as the
  /// same request to `plan`. For a ratio it is not proved yet: what cannot be proved stays there, alike in both.
  package func recommend(_ request: RecommendationRequest, work: Work) throws(Failure) -> Recommendation {
    if case .size = request.goal {
      // What a size costs to search for pays the proof too, without which it might not be reached.
      let planned = try plan(
        CompressionRequest(
          method: request.method, choice: .recommended(request.recommendation, request.goal), options: request.options,
          maps: request.maps), work: work)
      return Recommendation(
        availableLayers: planned.layers, skipped: planned.skipped, goal: request.goal,
        achievedRatio: planned.achievedRatio ?? 0, original: planned.original, compressed: planned.compressed)
    }
    let model = try ranking(recommending: request.method, request.options, maps: request.maps, work)
    let selection = try selection(of: model, for: request.goal, options: request.options, work: work)
    let compressed = try removalCost(of: model.scored.coupling, request.options.couplingOptions)
      .after(model.classes(selection))
    return Recommendation(
      availableLayers: model.settings(selection),
      skipped: model.held(selection, options: request.options) + model.skipped,
      goal: request.goal,
      achievedRatio: selection.achievedRatio, original: cost.original, compressed: compressed)
  }
}

extension CompressibleModel {
  /// The groups from which a recommendation chooses.
  func ranking(
    recommending method: CompressionMethod, _ options: PruningOptions, maps: (any FeatureMapSource)?, _ work: Work
  ) throws(Failure) -> RankedModel {
    guard method.isCriterion else {
      throw Failure(
        .invalidCombination,
        "\(method.rawValue) has nothing that SLAMP could rank: PR_ID removes the channels you name, decompositions take VBMF; use PR_L2 with SLAMP, or compress with layers"
      )
    }
    let model = try ranking(method, options, maps: maps, work)
    try model.requireChoice()
    return model
  }

  func selection(
    of model: RankedModel, for goal: RecommendationGoal, options: PruningOptions, work: Work
  ) throws(Failure) -> Selection {
    switch goal {
    case .ratio(let ratio): return try model.ranked.recommending(ratio: ratio, options: options)
    case .calibration, .energy:
      throw Failure(
        .invalidCombination,
        "VBMF's ratios and energies are about ranks; a pruning method takes a ratio of channels or a size")
    case .size(let measure, let share):
      let cost = removalCost(of: model.scored.coupling, options.couplingOptions)
      return try SizeSearch(model.ranked, options: options, original: cost.table.original[measure], work: work) {
        selection throws(Failure) in
        try cost.after(model.classes(selection))[measure]
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
