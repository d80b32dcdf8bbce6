import ModelGraph

/// The factor by which a batch normalization that follows a layer multiplies each of its channels in inference,
/// gamma / sqrt(variance + epsilon): folded into a filter, it makes the filter what the network really applies.
struct NormalizationFolding {
  private let coupling: ChannelCoupling
  private var graph: Graph { coupling.graph }

  init(_ coupling: ChannelCoupling) { self.coupling = coupling }

  enum Scales {
    /// No batch normalization follows the layer alone.
    case none
    /// One per filter.
    case scales([Double])
    case nonFinite(parameter: String)
  }

  /// - Parameters:
  ///   - node: the layer's; `cells`: the cell of each of its filters in group `g`.
  func scales(after node: NodeID, cells: [Int], group g: Int) -> Scales {
    guard let norm = normalization(after: node), let factors = factors(of: norm), let channels = channels(of: norm, g)
    else { return .none }
    // The k-th filter of a cell makes the k-th of its channels.
    var channelsOfCell: [Int: [Int]] = [:]
    for (channel, cell) in channels.enumerated() where cell >= 0 { channelsOfCell[cell, default: []].append(channel) }
    var filtersOfCell: [Int: Int] = [:]
    for cell in cells where cell >= 0 { filtersOfCell[cell, default: 0] += 1 }
    guard filtersOfCell.allSatisfy({ channelsOfCell[$0.key]?.count == $0.value }) else { return .none }
    var taken: [Int: Int] = [:]
    var result = [Double](repeating: 1, count: cells.count)
    for (filter, cell) in cells.enumerated() where cell >= 0 {
      let factor = channelsOfCell[cell].map { factors[$0[taken[cell, default: 0]]] } ?? 1
      guard factor.isFinite else { return .nonFinite(parameter: graph[norm].input(1).map { graph[$0].name } ?? "") }
      result[filter] = factor
      taken[cell, default: 0] += 1
    }
    return .scales(result)
  }

  /// The batch normalization that alone reads what the node computes, moved or shifted by a bias at the most.
  private func normalization(after node: NodeID) -> NodeID? {
    var current = graph[node].output(0)
    while let value = current, graph.uses(of: value).count == 1, !graph.outputs.contains(value) {
      let use = graph.uses(of: value)[0]
      let next = graph[use.node]
      guard next.domain.isEmpty else { return nil }
      if next.op == "BatchNormalization" { return use.input == 0 ? use.node : nil }
      let isShift = next.op == "Add" && next.inputs.allSatisfy { $0 == value || $0.map { graph[$0].isStored } == true }
      guard isShift || (Self.movers.contains(next.op) && use.input == 0) else { return nil }
      current = next.output(0)
    }
    return nil
  }

  private static let movers: Set = [
    "Identity", "Cast", "Dropout", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze",
  ]

  private func factors(of norm: NodeID) -> [Double]? {
    let node = graph[norm]
    guard node.int("training_mode", default: 0) == 0, let gamma = numbers(node.input(1)),
      let variance = numbers(node.input(4)), gamma.count == variance.count
    else { return nil }
    let epsilon = Double(node.float("epsilon") ?? 1e-5)
    return zip(gamma, variance).map { $0 / ($1 + epsilon).squareRoot() }
  }

  private func numbers(_ id: ValueID?) -> [Double]? {
    guard let id, let tensor = graph[StoredLabels.stored(behind: id, in: graph)].tensor else { return nil }
    return tensor.realNumbers
  }

  /// Per channel of the normalization its cell in group `g`, or -1.
  private func channels(of norm: NodeID, _ g: Int) -> [Int]? {
    guard let scale = graph[norm].input(1) else { return nil }
    let (stored, use) = (StoredLabels.stored(behind: scale, in: graph), Use(node: norm, input: 1))
    let origin = coupling.analysis.stored.origins.first { $0.value == stored && ($0.use == nil || $0.use == use) }
    return origin?.range.map { coupling.group(of: $0) == g ? coupling.cell(of: $0) ?? -1 : -1 }
  }
}
