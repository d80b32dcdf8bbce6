import ModelGraph
import Numerics

extension CompressibleModel {
  /// Proposes ranks for every layer that the method takes. The proposal, handed back as `layers`, gives the identical
  /// model.
  package func recommend(_ request: DecompositionRequest, work: Work) throws(Failure) -> Recommendation {
    guard case .recommended(let goal) = request.choice else {
      throw Failure(.invalidCombination, "ranks that are given need no recommendation")
    }
    let model = try rankModel(request, work)
    let choices = try model.choices(
      goal, request.options, original: cost.original,
      rows: rowCost(of: model.candidates, for: goal, hasData: request.maps != nil, work), work: work)
    var compressed = model.size(after: choices, of: cost.original)
    let replaced = model.replaced(choices)
    if !replaced.isEmpty,
      let rows = try RowCost(replaced, of: self, movesMeans: request.maps != nil, work: work)
    {
      compressed.sizeBytes += replaced.reduce(rows.rewriting) { $0 + rows.bytes(of: $1) }
    }
    return Recommendation(
      availableLayers: model.settings(choices), skipped: model.skipped(choices), goal: goal, achievedRatio: nil,
      original: cost.original, compressed: compressed)
  }

  /// Decides on ranks, computes the factors, works out every edit, and proves the result.
  package func plan(_ request: DecompositionRequest, work: Work) throws(Failure) -> PlannedCompression {
    let model: RankModel
    let choices: [RankChoice?]
    var (goal, warnings) = (RecommendationGoal?.none, [String]())
    switch request.choice {
    case .recommended(let wanted):
      model = try rankModel(request, isForFactors: true, work.part(0...0.3))
      goal = wanted
      choices = try model.choices(
        wanted, request.options, original: cost.original,
        rows: rowCost(of: model.candidates, for: wanted, hasData: request.maps != nil, work), work: work)
    case .layers(let settings):
      let manual = try ManualRanks(settings, request.method, decomposableLayers)
      model = try rankModel(request, only: manual.layers, isForFactors: true, work.part(0...0.3))
      (choices, warnings) = try manual.choices(model)
    }
    if case .layers = request.choice, choices.isEmpty {
      throw Failure(
        .nothingToCompress, "'layers' gives no layer ranks: every entry is empty or unused; set 'values' and 'use'")
    }
    guard choices.contains(where: { $0?.ranks != nil }) else { throw model.nothingToDecompose(choices) }
    var planned = try decompose(model, choices, request, work: work.part(0.3...1))
    planned.goal = goal
    planned.warnings = warnings + planned.warnings
    return planned
  }

  /// Only a size on file is about it.
  func rowCost(
    of candidates: [WeightCandidate], for goal: RecommendationGoal, hasData: Bool, _ work: Work
  ) throws(Failure) -> RowCost? {
    guard case .size(.sizeBytes, _) = goal else { return nil }
    return try RowCost(candidates, of: self, movesMeans: hasData, work: work)
  }
}
