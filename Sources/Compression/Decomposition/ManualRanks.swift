import ModelGraph

/// What a request's own `layers` mean for a decomposition: names to layers, values to ranks.
struct ManualRanks {
  /// That ranks are given for.
  let layers: [DecomposableLayer]
  private let ranks: [NodeID: [Int]]
  private let method: DecompositionMethod
  private let all: DecomposableLayers

  /// - Throws: `layerUnknown`, `layerUnavailable`, or `invalidParams` for ranks that the layer cannot have.
  init(_ settings: [LayerSetting], _ method: DecompositionMethod, _ all: DecomposableLayers) throws(Failure) {
    (self.method, self.all) = (method, all)
    var layers: [DecomposableLayer] = []
    var ranks: [NodeID: [Int]] = [:]
    for (k, setting) in settings.enumerated() where setting.use {
      guard case .ranks(let wanted) = setting.values else { continue }
      let layer = try Self.layer(named: setting.name, method, all)
      let channels = [layer.inputChannels, layer.outputChannels]
      guard setting.channels.isEmpty || setting.channels == channels else {
        throw Failure(
          .invalidParams, "'\(setting.name)' has channels \(channels), not \(setting.channels)",
          details: ["layer": .string(setting.name), "path": .string("/layers/\(k)/channels")])
      }
      let largest = method == .tucker ? channels : [min(channels[0], channels[1])]
      guard wanted.count == largest.count, zip(wanted, largest).allSatisfy({ $0 >= 1 && $0 <= $1 }) else {
        let expected =
          method == .tucker
          ? "[in_rank, out_rank], from 1 to \(channels)" : "[rank], from 1 to \(largest[0])"
        throw Failure(
          .invalidParams, "'\(setting.name)': values are \(wanted), expected \(expected)",
          details: ["layer": .string(setting.name), "path": .string("/layers/\(k)/values")])
      }
      ranks[layer.node] = wanted
      layers.append(layer)
    }
    if all.areModules {
      let keys = Set(layers.map(\.key))
      layers = all.layers.filter { keys.contains($0.key) }
    }
    (self.layers, self.ranks) = (layers.sorted { $0.node < $1.node }, ranks)
  }

  private static func layer(
    named name: String, _ method: DecompositionMethod, _ all: DecomposableLayers
  ) throws(Failure) -> DecomposableLayer {
    func unavailable(_ reason: String) -> Failure {
      Failure(
        .layerUnavailable, "'\(name)' cannot be decomposed: \(reason)",
        details: ["layer": .string(name), "reason": .string(reason)])
    }
    guard let layer = all.layer(named: name) else {
      if let other = all.others.first(where: { $0.name == name }) { throw unavailable(other.reason) }
      throw Failure(
        .layerUnknown, "there is no layer '\(name)' with a weight; inspect and recommend list the names",
        details: ["layer": .string(name)])
    }
    if let reason = DecomposableLayers.reason(layer, against: method) { throw unavailable(reason) }
    return layer
  }

  /// The ranks by candidate. They are obeyed whatever they cost; what they cost too much is said.
  func choices(_ model: RankModel) throws(Failure) -> (choices: [RankChoice?], warnings: [String]) {
    if let lost = layers.first(where: { layer in !model.candidates.contains { $0.key == layer.key } }) {
      let reason = model.skipped([]).first { $0.name == lost.name }?.reason ?? "it has no usable weight"
      throw Failure(
        .layerUnavailable, "'\(lost.name)' cannot be decomposed: \(reason)",
        details: ["layer": .string(lost.name), "reason": .string(reason)])
    }
    var warnings: [String] = []
    let choices = try model.candidates.map { candidate throws(Failure) -> RankChoice? in
      let given = candidate.members.compactMap { ranks[$0.node] }
      guard let wanted = given.first else { return nil }
      guard given.allSatisfy({ $0 == wanted }) else {
        throw Failure(
          .invalidCombination,
          "'\(candidate.layer.name)' and '\(candidate.members.last?.name ?? "")' share one weight and must have the same ranks, not \(given)",
          details: ["layer": .string(candidate.layer.name)])
      }
      let fillable = candidate.fillable(wanted)
      if fillable != wanted {
        warnings.append(
          "'\(candidate.layer.name)': ranks \(wanted) become \(fillable), because its kernel of \(candidate.layer.taps) taps has no more"
        )
      }
      if case .skipped(let reason) = candidate.verdict(fillable) {
        warnings.append("'\(candidate.layer.name)' is decomposed as you asked, at a loss: \(reason)")
      }
      return RankChoice(verdict: .ranks(fillable))
    }
    return (choices, warnings)
  }
}

extension WeightCandidate {
  var key: DecomposableLayer.Key { layer.key }
}
