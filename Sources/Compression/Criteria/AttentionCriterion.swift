import ModelGraph
import Numerics

/// PR_SNP on a coupling (Shim, Yun, Choi, ECCV 2024): channels over which two activations are multiplied vote by how
/// they bear the product (AttentionPairs), all others by how redundant their filters are (FilterGeometry): the values
/// of all heads against each other, hidden neurons, and every layer that writes to a residual stream.
///
/// Where whole heads go, a head's score is the mean of its channels' scores, each kind divided by its total over the
/// heads, added up.
struct AttentionCriterion: Sendable {
  private let coupling: ChannelCoupling
  /// The coupling that tells the channels of a head apart.
  private let channels: ChannelCoupling
  private let redundancy: WeightCriterion
  /// Per group, what the products over its channels say.
  private let products: [Int: [MemberScores]]
  /// Per group, the classes of the channels that these products run over.
  private let multiplied: [Int: Set<Int32>]

  init(
    _ coupling: ChannelCoupling, channels: ChannelCoupling, components: AttentionPairs.Components, isJoined: Bool,
    maps: (any FeatureMapSource)?, work: Work
  ) throws(Failure) {
    (self.coupling, self.channels) = (coupling, channels)
    redundancy = WeightCriterion(.geometry(.redundancy), isJoined: isJoined, coupling)
    let algebra = try LinearAlgebra.loaded()
    var probes: [(group: Int, probe: AttentionPairProbe)] = []
    var multiplied: [Int: Set<Int32>] = [:]
    for product in coupling.facts.products {
      for g in Self.groups(of: product, coupling) {
        guard coupling.groups[g].cells.count > 1,
          let probe = AttentionPairProbe(product, group: g, components: components, coupling, algebra)
        else { continue }
        probes.append((g, probe))
        for operand in probe.operands {
          operand.labelled.channels(of: g, coupling)?.labels.forEachDistinct {
            multiplied[g, default: []].insert(channels.classOf[Int($0)])
          }
        }
      }
    }
    if !probes.isEmpty {
      guard let maps else { throw CompressionMethod.snp.needsDataset }
      try FeatureMapPass.run(probes.map(\.probe), source: maps, shapes: coupling.analysis.shapes, work: work)
    } else if let maps, let probe = FedValuesProbe(coupling.graph) {
      // Data of which nothing needs to be measured are no better for that.
      try FeatureMapPass.run([probe], source: maps, shapes: coupling.analysis.shapes, work: work)
    }
    var products: [Int: [MemberScores]] = [:]
    for (g, probe) in probes { if let scores = probe.scores { products[g, default: []].append(scores) } }
    (self.products, self.multiplied) = (products, multiplied)
  }

  /// The groups that have channels on the axis a product is summed over.
  private static func groups(of product: Facts.Product, _ coupling: ChannelCoupling) -> [Int] {
    var found: Set<Int> = []
    guard let operands = MultipliedOperand.both(of: product, coupling) else { return [] }
    for set in operands[0].labelled.sets {
      set.labels.forEachDistinct { if let g = coupling.group(of: $0) { found.insert(g) } }
    }
    return found.sorted().filter { AttentionPairProbe.runs(product, of: operands, over: $0, coupling) }
  }

  func votes(on g: Int, work: Work) throws(Failure) -> Criterion.Votes {
    if coupling.groups[g].producers.isEmpty { return .unavailable(WeightCriterion.noProducers) }
    if hasBlockCells(g) { return try headVotes(on: g, work: work) }
    if let scores = products[g] { return .members(scores) }
    return try redundancy.votes(on: g, work: work)
  }

  /// Whether a cell of the group stands for several channels that could go one by one.
  private func hasBlockCells(_ g: Int) -> Bool {
    var classOfCell: [Int: Int32] = [:]
    for producer in coupling.groups[g].producers {
      for label in producer.origin.range where coupling.group(of: label) == g {
        guard let cell = coupling.cell(of: label) else { continue }
        let fine = channels.classOf[Int(label)]
        if let other = classOfCell.updateValue(fine, forKey: cell), other != fine { return true }
      }
    }
    return false
  }

  private func headVotes(on g: Int, work: Work) throws(Failure) -> Criterion.Votes {
    let cells = coupling.groups[g].cells.count
    var kinds: [[Double]] = (products[g] ?? []).map(\.scores)
    let multiplied = multiplied[g] ?? []
    // A packed weight makes what is multiplied, and the values.
    let others = try redundancy.channelMeans(of: g, work: work) { label in
      !multiplied.contains(channels.classOf[Int(label)])
    }
    switch others {
    case .unavailable(let reason): return .unavailable(reason)
    case .members(let members): kinds += members.map(\.scores)
    }
    guard !kinds.isEmpty else { return .unavailable(WeightCriterion.noProducers) }
    var total = [Double](repeating: 0, count: cells)
    for scores in kinds {
      for (cell, share) in PruningOptions.LayerNorm.tssNorm.normalized(scores).enumerated() { total[cell] += share }
    }
    return .members([MemberScores(total)])
  }
}
