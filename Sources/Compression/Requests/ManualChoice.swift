import ModelGraph

// What a request's own `layers` mean: names to groups, ratios or channel indices to cells.

extension ChannelCoupling {
  /// The groups that an entry of `layers` names: by group name, or by any layer whose output channels they are.
  fileprivate func groups(named name: String) throws(Failure) -> [Int] {
    if let g = groups.firstIndex(where: { $0.name == name }) { return [g] }
    let named = layers.filter { $0.name == name }
    guard !named.isEmpty else {
      throw Failure(
        .layerUnknown, "there is no layer or group '\(name)'; inspect and recommend list the names",
        details: ["layer": .string(name)])
    }
    let found = Set(named.flatMap { $0.outputs.map(groups(along:)) ?? [] })
    guard !found.isEmpty else {
      throw Failure(
        .layerUnavailable,
        "the output channels of '\(name)' cannot be removed: \(reasonNotPrunable(named[0]) ?? "they cut nothing")",
        details: ["layer": .string(name)])
    }
    return found.sorted()
  }
}

extension ChannelCoupling {
  /// A list made for another model shall not go unnoticed.
  fileprivate func requireChannels(_ setting: LayerSetting, group: Int) throws(Failure) {
    let channels = [groups[group].weights.reduce(0, +)]
    guard setting.name == groups[group].name, !setting.channels.isEmpty, setting.channels != channels else { return }
    throw Failure(
      .invalidParams, "'\(setting.name)' has channels \(channels), not \(setting.channels)",
      details: ["layer": .string(setting.name), "path": .string("/layers")])
  }
}

/// Ratios per admitted group.
struct ManualRatios {
  let ratios: [Double?]
  let warnings: [String]

  init(_ settings: [LayerSetting], model: RankedModel) throws(Failure) {
    let coupling = model.scored.coupling
    var ratios = [Double?](repeating: nil, count: model.admitted.count)
    var warnings: [String] = []
    for setting in settings where setting.use {
      guard case .ratio(let ratio) = setting.values else { continue }
      for g in try coupling.groups(named: setting.name) {
        try coupling.requireChannels(setting, group: g)
        guard let k = model.admitted.firstIndex(of: g) else {
          let reason = model.skipped.first { $0.name == coupling.groups[g].name }?.reason ?? "it is left out"
          throw Failure(
            .layerUnavailable, "'\(setting.name)' cannot be pruned: \(reason)",
            details: ["layer": .string(setting.name)])
        }
        let called = model.ranked.groups[k].ratio(removing: ratio, marked: setting.marked)
        if let other = ratios[k], other != called {
          throw Failure(
            .invalidCombination,
            "'\(setting.name)' asks for ratio \(ratio) of channels that another entry prunes by \(other); they go together as '\(coupling.groups[g].name)'",
            details: ["layer": .string(setting.name)])
        }
        ratios[k] = called
      }
      if ratio >= 1 {
        warnings.append("'\(setting.name)': a ratio of 1 would leave nothing; what the minimum asks is kept")
      }
    }
    (self.ratios, self.warnings) = (ratios, warnings)
  }
}

/// PR_ID: the classes of listed output channels.
struct ChannelIndices {
  let classes: [Int32]
  /// The entries that name channels, each with the number of channels of its layer.
  let layers: [LayerSetting]

  init(_ settings: [LayerSetting], coupling: ChannelCoupling, indexBase: Int) throws(Failure) {
    var chosen: Set<Int32> = []
    var layers: [LayerSetting] = []
    for setting in settings where setting.use {
      guard case .indices(let stated) = setting.values, !stated.isEmpty else { continue }
      let groups = try coupling.groups(named: setting.name)
      guard let axis = Self.axis(named: setting.name, groups: groups, coupling: coupling) else {
        throw Failure(
          .layerUnavailable, "no layer makes the channels of '\(setting.name)'",
          details: ["layer": .string(setting.name)])
      }
      for g in groups { try coupling.requireChannels(setting, group: g) }
      let channels = axis.count * axis.width
      layers.append(LayerSetting(name: setting.name, channels: [channels], values: setting.values, use: true))
      var seen: Set<Int> = []
      for number in stated {
        let index = number - indexBase
        guard (0..<channels).contains(index) else {
          throw Self.invalid(setting.name, "channel \(number) is not among \(indexBase)...\(channels - 1 + indexBase)")
        }
        guard seen.insert(index).inserted else { throw Self.invalid(setting.name, "channel \(number) is listed twice") }
        let label = axis.first + Int32(index / axis.width)
        guard let g = coupling.group(of: label), let cell = coupling.cell(of: label), coupling.groups[g].removable[cell]
        else {
          let reason = coupling.frozenReason(of: label)?.sentence(in: coupling.graph) ?? "nothing depends on it"
          throw Failure(
            .layerUnavailable, "channel \(number) of '\(setting.name)' cannot be removed: \(reason)",
            details: ["layer": .string(setting.name), "channel": .int(number)])
        }
        chosen.insert(coupling.groups[g].cells[cell])
      }
    }
    try Self.requireBalance(chosen, coupling)
    classes = chosen.sorted()
    self.layers = layers
  }

  /// The axis whose indices an entry lists: of the layer it names, else of the group's first producer.
  private static func axis(named name: String, groups: [Int], coupling: ChannelCoupling) -> LabelOrigin? {
    if let layer = coupling.layers.first(where: { $0.name == name }), let outputs = layer.outputs { return outputs }
    return groups.first.flatMap { coupling.groups[$0].producers.first?.origin }
  }

  private static func invalid(_ layer: String, _ what: String) -> Failure {
    Failure(.invalidParams, "'\(layer)': \(what)", details: ["layer": .string(layer), "path": .string("/layers")])
  }

  /// Something must stay in every group, and every block must lose equally many.
  private static func requireBalance(_ chosen: Set<Int32>, _ coupling: ChannelCoupling) throws(Failure) {
    var countOfLink: [Int: (count: Int, name: String)] = [:]
    for group in coupling.groups {
      let counts = (0..<group.blocks).map { q in
        group.cells[q * group.width..<(q + 1) * group.width].filter(chosen.contains).count
      }
      guard Set(counts).count == 1 else {
        throw invalid(
          group.name, "its \(group.blocks) blocks must lose equally many channels, but lose \(counts); adjust the lists"
        )
      }
      if counts[0] >= group.width { throw invalid(group.name, "no channel would be left") }
      if let link = group.link {
        if let other = countOfLink[link], other.count != counts[0] {
          throw invalid(
            group.name, "it must lose as many channels per block as '\(other.name)': \(other.count), not \(counts[0])")
        }
        countOfLink[link] = (counts[0], group.name)
      }
    }
  }
}
