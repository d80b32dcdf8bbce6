import ModelGraph

/// Channels and ranks that somebody lists together: what was chosen automatically, handed back, or changed before.
package struct ListedRequest: Sendable {
  /// Each with its method: the criterion of `means`, or a decomposition.
  package var layers: [LayerSetting]
  package var means: JointMeans
  package init(layers: [LayerSetting], means: JointMeans) { (self.layers, self.means) = (layers, means) }
}

extension CompressibleModel {
  /// How often groups that a plan could not be proved with may keep their channels.
  private static let mostAttempts = 8

  /// The same way as of an automatic choice: what that chose, listed, gives the same plan.
  package func plan(_ request: ListedRequest, work: Work) throws(Failure) -> PlannedCompression {
    let means = request.means
    let maps = try featureMaps(for: means, work: work.part(0...0.3))
    let model = try ranking(for: means, maps, work.part(0.3...0.5))
    let listed = Dictionary(grouping: request.layers) { $0.choice?.method.decomposition }
    let channels = try ManualRatios(listed[nil] ?? [], model: model)
    var whole = WholeGroups()
    while true {
      let selection = model.keepingAll(
        of: whole.reasons, in: try model.ranked.selecting(ratios: channels.ratios, options: means.pruning))
      let choice = JointChoice(
        ranked: model, selection: selection,
        layers: model.settings(selection).filter(\.use).map { $0.asStated.by(means.criterion) },
        isEnough: { _ in !request.layers.contains { $0.namesRanks } },
        ranks: { found, _, held throws(Failure) in try found.obeying(listed, held) },
        telling: { model, choices in
          zip(model.candidates, choices).flatMap { candidate, choice in
            candidate.members.compactMap { layer in
              choice?.ranks.map { ranks in
                LayerSetting(
                  name: layer.name, channels: [layer.inputChannels, layer.outputChannels], values: .ranks(ranks),
                  use: true, ranks: candidate.report(choice)
                ).by(candidate.method.compression)
              }
            }
          }
        })
      do throws(Failure) {
        var planned = try plan(
          choice, means, maps, factorMaps(for: means, maps, work: work), work: work.part(0.5...1))
        planned.warnings = channels.warnings + whole.warnings + planned.warnings
        return planned
      } catch {
        if error.kind == .cancelled { throw error }
        guard whole.attempts < Self.mostAttempts, let node = place(of: error),
          whole.add(
            model.scored.coupling.groups(cutBy: model.classes(selection), at: node), of: model.scored.coupling, node,
            because: error)
        else { throw whole.firstFailure ?? error }
      }
    }
  }
}

extension RankModel {
  /// The ranks that are listed.
  /// - Parameters:
  ///   - listed: by method.
  ///   - held: layers that may not be decomposed, and why.
  /// - Throws: as of ranks that one method is given, and `layerUnavailable` for one that is held.
  fileprivate func obeying(
    _ listed: [DecompositionMethod?: [LayerSetting]], _ held: [String: String]
  ) throws(Failure) -> (model: RankModel, choices: [RankChoice?], warnings: [String]) {
    var (all, warnings) = ([RankChoice?](repeating: nil, count: candidates.count), [String]())
    for method in [DecompositionMethod.svd, .tucker] {
      // Which channels are left follows from what else is listed.
      let settings = (listed[method] ?? []).map { setting in
        var setting = setting
        setting.channels = []
        return setting
      }
      let manual = try ManualRanks(settings, method, layers)
      if let layer = manual.layers.first(where: { held[$0.name] != nil }) {
        throw Failure(
          .layerUnavailable, "'\(layer.name)' cannot be decomposed: \(held[layer.name] ?? "")",
          details: ["layer": .string(layer.name), "reason": .string(held[layer.name] ?? "")])
      }
      let found = try manual.choices(self)
      for (k, choice) in found.choices.enumerated() where choice != nil { all[k] = choice }
      warnings += found.warnings
    }
    return (self, all, warnings)
  }
}

extension LayerSetting {
  /// Whether a layer is to be decomposed by it.
  fileprivate var namesRanks: Bool { if case .ranks = values { use } else { false } }

  fileprivate func by(_ method: CompressionMethod) -> LayerSetting {
    var setting = self
    setting.choice = MethodChoice(method: method)
    return setting
  }
}

extension DecompositionMethod {
  fileprivate var compression: CompressionMethod {
    switch self {
    case .svd: .svd
    case .tucker: .tucker
    case .cp: .cp
    }
  }
}
