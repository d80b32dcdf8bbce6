import ModelGraph
import Numerics

/// The criteria that look at weights alone, applied to the layers that make a group's channels.
///
/// Each layer votes by itself; under policy `backward` all are one: the filter of a channel is what its layers' filters
/// are end to end, each scaled by the batch normalization that follows, because the sum of linear maps is one linear
/// map.
struct WeightCriterion: Sendable {
  enum Kind: Sendable {
    case norm(FilterNorm)
    /// l2 of the filters scaled by the batch normalization that follows.
    case foldedNorm
    /// l2 of a channel's filter and of what its consumers multiply it with, together.
    case groupNorm
    case geometry(FilterGeometry)
  }

  let kind: Kind
  /// Whether the layers of a group count as one.
  let isJoined: Bool
  let coupling: ChannelCoupling
  /// The coupling of channels, where `coupling` is that of whole blocks: what goes with a block is scored channel by
  /// channel, and a block has their mean.
  private let channels: ChannelCoupling?
  /// Per group, the stored axes along which its channels are summed away, where the kind asks for them.
  private let consumers: [[LabelOrigin]]

  init(_ kind: Kind, isJoined: Bool, _ coupling: ChannelCoupling, channels: ChannelCoupling? = nil) {
    (self.kind, self.isJoined, self.coupling, self.channels) = (kind, isJoined, coupling, channels)
    if case .groupNorm = kind { consumers = Self.consumers(coupling) } else { consumers = [] }
  }

  private static func consumers(_ coupling: ChannelCoupling) -> [[LabelOrigin]] {
    var result = [[LabelOrigin]](repeating: [], count: coupling.groups.count)
    var seen: Set<Int32> = []
    for (label, role) in coupling.facts.roles where role.kind == .consumer {
      guard let origin = coupling.analysis.stored.origin(of: label), seen.insert(origin.first).inserted else {
        continue
      }
      for g in coupling.groups(along: origin) { result[g].append(origin) }
    }
    return result
  }

  static let noProducers = "no layer with real weights makes these channels"

  func votes(on g: Int, work: Work) throws(Failure) -> Criterion.Votes {
    var producers = sources(of: coupling.groups[g].producers.map { ($0.origin, $0.node) }, group: g)
    if let problem = producers.problem { return .unavailable(problem) }
    guard !producers.sources.isEmpty else {
      return .unavailable(producers.unreadable ?? Self.noProducers)
    }
    var readers: [Source] = []
    if case .groupNorm = kind { readers = consumed(of: g) }
    var parts: BlockParts?
    if let channels {
      var found = BlockParts(coupling, channels, g)
      for k in producers.sources.indices { producers.sources[k].filters = found.divided(producers.sources[k]) }
      for k in readers.indices { readers[k].filters = found.divided(readers[k]) }
      parts = found
    }
    let count = parts?.blocks.count ?? cellCount(g)
    var consumptions: [[Double]] = []
    for source in readers {
      switch try FilterNorm.l2.scores(of: source.filters, cellCount: count, work: work) {
      case .nonFinite(let filter): return .unavailable(complaint(source, filter))
      case .scores(let scores): consumptions.append(scores)
      }
    }
    var members: [MemberScores] = []
    for sources in isJoined ? [producers.sources] : producers.sources.map({ [$0] }) {
      let found = try scores(of: sources, cellCount: count, work)
      switch found.scores {
      case .nonFinite(let filter): return .unavailable(complaint(sources[found.source], filter))
      case .scores(let scores):
        var covers = [Bool](repeating: false, count: count)
        for source in sources { for cell in source.filters.cells where cell >= 0 { covers[cell] = true } }
        let member = MemberScores(
          consumptions.isEmpty ? scores : FilterNorm.l2.joined([scores] + consumptions),
          covers: covers.contains(false) ? covers : nil)
        members.append(parts?.means(member, blockCount: cellCount(g)) ?? member)
      }
    }
    return .members(members)
  }

  /// What the cells of a group that are blocks have of cells that are channels.
  private struct BlockParts {
    private let coupling: ChannelCoupling
    private let channels: ChannelCoupling
    private let g: Int
    private var places: [Place: Int] = [:]
    /// By part, its block.
    private(set) var blocks: [Int] = []

    private struct Place: Hashable {
      let group: Int
      let cell: Int
    }

    init(_ coupling: ChannelCoupling, _ channels: ChannelCoupling, _ g: Int) {
      (self.coupling, self.channels, self.g) = (coupling, channels, g)
    }

    /// The filters by their parts instead of blocks.
    mutating func divided(_ source: Source) -> WeightFilters {
      var perLabel = source.origin.range.map { label -> Int in
        guard coupling.group(of: label) == g, let block = coupling.cell(of: label) else { return -1 }
        // What is no channel by itself counts with its block.
        let channel = channels.group(of: label).flatMap { group in channels.cell(of: label).map { (group, $0) } }
        let place = Place(group: channel?.0 ?? -1, cell: channel?.1 ?? block)
        if let known = places[place] { return known }
        places[place] = blocks.count
        blocks.append(block)
        return blocks.count - 1
      }
      if source.origin.width > 1, source.origin.blocks == 1 {
        perLabel = perLabel.flatMap { repeatElement($0, count: source.origin.width) }
      }
      return source.filters.with(cells: perLabel)
    }

    func means(_ member: MemberScores, blockCount: Int) -> MemberScores {
      var (sums, counts) = ([Double](repeating: 0, count: blockCount), [Double](repeating: 0, count: blockCount))
      for (part, block) in blocks.enumerated() where member.covers?[part] ?? true {
        sums[block] += member.scores[part]
        counts[block] += 1
      }
      return MemberScores(
        zip(sums, counts).map { $1 > 0 ? $0 / $1 : 0 }, covers: counts.contains(0) ? counts.map { $0 > 0 } : nil)
    }
  }

  /// Per cell the mean score of its filters, each filter scored by itself among those of its layer in the group whose
  /// labels count.
  func channelMeans(
    of g: Int, work: Work, counting counts: (Int32) -> Bool
  ) throws(Failure) -> Criterion.Votes {
    guard case .geometry(let geometry) = kind else { preconditionFailure("only geometry scores filters one by one") }
    let found = sources(of: coupling.groups[g].producers.map { ($0.origin, $0.node) }, group: g)
    if let problem = found.problem { return .unavailable(problem) }
    var members: [MemberScores] = []
    for source in found.sources {
      let perLabel = source.filters.count / source.origin.range.count
      let chosen = source.filters.cells.indices.filter { filter in
        source.filters.cells[filter] >= 0
          && counts(source.origin.range.lowerBound + Int32(filter / max(perLabel, 1)))
      }
      guard !chosen.isEmpty else { continue }
      var single = [Int](repeating: -1, count: source.filters.count)
      for (k, filter) in chosen.enumerated() { single[filter] = k }
      let filters = source.filters.with(cells: single)
      switch try geometry.scores(of: [filters], cellCount: chosen.count, work: work).scores {
      case .nonFinite(let filter): return .unavailable(complaint(source, filter))
      case .scores(let scores):
        var (sums, numbers) = ([Double](repeating: 0, count: cellCount(g)), [Double](repeating: 0, count: cellCount(g)))
        for (filter, score) in zip(chosen, scores) {
          sums[source.filters.cells[filter]] += score
          numbers[source.filters.cells[filter]] += 1
        }
        members.append(MemberScores(zip(sums, numbers).map { $1 == 0 ? 0 : $0 / $1 }))
      }
    }
    return .members(members)
  }

  private func cellCount(_ g: Int) -> Int { coupling.groups[g].cells.count }

  private func scores(
    of part: [Source], cellCount: Int, _ work: Work
  ) throws(Failure) -> (scores: CriterionScores, source: Int) {
    let norm: FilterNorm
    switch kind {
    case .geometry(let geometry):
      return try geometry.scores(of: part.map(\.filters), cellCount: cellCount, work: work)
    case .norm(let stated): norm = stated
    case .foldedNorm, .groupNorm: norm = .l2
    }
    var norms: [[Double]] = []
    for (k, source) in part.enumerated() {
      switch try norm.scores(of: source.filters, cellCount: cellCount, work: work) {
      case .nonFinite(let filter): return (.nonFinite(filter: filter), k)
      case .scores(let scores): norms.append(scores)
      }
    }
    return (.scores(norm.joined(norms)), 0)
  }

  // MARK: Filters

  private struct Source {
    var filters: WeightFilters
    let origin: LabelOrigin
    var name: String
  }

  private func complaint(_ source: Source, _ filter: Int) -> String {
    "the weight '\(source.name)' holds NaN or infinity in filter \(filter)"
  }

  /// The filters behind stored axes; with why an axis that is left out has none, and why the group cannot be scored.
  private func sources(
    of axes: [(origin: LabelOrigin, node: NodeID)], group g: Int
  ) -> (sources: [Source], unreadable: String?, problem: String?) {
    var sources: [Source] = []
    var unreadable: String?
    let folds: Bool
    if case .foldedNorm = kind { folds = true } else { folds = isJoined }
    for (origin, node) in axes {
      let name = coupling.graph[origin.value].name
      guard let tensor = coupling.graph.realWeight(origin.value) else {
        unreadable = "the numbers of the weight '\(name)' are not known, so its filters have no scores"
        continue
      }
      let cells = coupling.cells(ofFilters: origin, group: g)
      var scales: [Double]?
      if folds {
        switch NormalizationFolding(coupling).scales(after: node, cells: cells, group: g) {
        case .none: break
        case .scales(let found): scales = found
        case .nonFinite(let parameter):
          return ([], nil, "the normalization with '\(parameter)' multiplies by NaN or infinity")
        }
      }
      guard
        let filters = WeightFilters(tensor, axis: origin.axis, blocks: origin.blocks, cells: cells, scales: scales)
      else { continue }
      sources.append(Source(filters: filters, origin: origin, name: name))
    }
    return (sources, unreadable, nil)
  }

  /// The slices by which the group's channels are multiplied in the layers that read them.
  private func consumed(of g: Int) -> [Source] {
    consumers[g].compactMap { origin in
      coupling.graph.realWeight(origin.value).flatMap {
        WeightFilters(
          $0, axis: origin.axis, blocks: origin.blocks, cells: coupling.cells(ofFilters: origin, group: g))
      }.map { Source(filters: $0, origin: origin, name: coupling.graph[origin.value].name) }
    }
  }
}

extension ChannelCoupling {
  /// Per filter along a stored axis its cell in group `g`, or -1.
  func cells(ofFilters origin: LabelOrigin, group g: Int) -> [Int] {
    let perLabel = origin.range.map { group(of: $0) == g ? cell(of: $0) ?? -1 : -1 }
    guard origin.width > 1, origin.blocks == 1 else { return perLabel }
    return perLabel.flatMap { repeatElement($0, count: origin.width) }
  }
}
