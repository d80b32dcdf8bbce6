import ModelGraph

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
  /// How much each group loses at each of `ratios`, by PR_REC's measure: its scores, once made, serve recommendations and
  /// compressions on the same data as well.
  package func sensitivity(
    ratios: [Double], _ options: PruningOptions, maps: any FeatureMapSource, work: Work
  ) throws(Failure) -> SensitivityReport {
    let model = try ranking(recommending: .damage, options, maps: maps, work)
    let groups = zip(model.admitted, model.ranked.groups).map { g, ranked in
      SensitivityReport.Group(
        name: model.scored.coupling.groups[g].name, channels: ranked.totalChannels,
        errors: ratios.map { ratio in
          let count = min(ranked.count(ratio: ratio), ranked.limit)
          return model.scored.predictedError(of: ranked.removal(count: count).cells, in: g) ?? 0
        })
    }
    return SensitivityReport(ratios: ratios, groups: groups, skipped: model.skipped)
  }
}
