import ModelGraph

extension CompressibleModel {
  /// Proposes how much to remove from every layer. The proposal, handed back as `layers`, gives the identical model.
  package func recommend(_ request: RecommendationRequest, work: Work) throws(Failure) -> Recommendation {
    guard request.method != .indices else {
      throw Failure(
        .invalidCombination,
        "PR_ID removes the channels you name, so there is nothing to recommend; use PR_L2 with SLAMP, or compress with layers"
      )
    }
    let model = try ranking(request.method, request.options, work)
    try model.requireChoice()
    let selection = try model.ranked.recommending(ratio: request.ratio, options: request.options)
    let removal = Removal(model.scored.coupling, classes: model.classes(selection))
    return Recommendation(
      availableLayers: model.settings(selection),
      skipped: model.held(selection, options: request.options) + model.skipped,
      requestedRatio: request.ratio,
      achievedRatio: selection.achievedRatio, original: cost.original, compressed: try cost.after(removal))
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
