import ModelGraph
import Numerics

/// PR_REC, and what of it is said of other methods' choices: what the layers that read a group's channels lose of their
/// outputs, after the best refit, by the removal of some (`ChannelLoss`), measured on samples.
struct DamageCriterion: Sendable {
  let coupling: ChannelCoupling
  /// At nominal lengths: how much a run of the model computes.
  private let shapes: ShapeTable
  private let algebra: LinearAlgebra
  /// By group, the layers that read its channels, and the stored axes along which they do.
  private let consumers: [[ChannelConsumer]]

  /// Inputs of more channels are not measured: their covariance would take too much memory. Maps that were made one row
  /// are seen as the channels that they have.
  fileprivate static let mostChannels = 4096
  /// Bytes of covariances that are held at a time, and of those that are kept for the next request.
  private static let budget = 512 << 20
  private static let mostKept = 256 << 20

  init(_ coupling: ChannelCoupling, shapes: ShapeTable) throws(Failure) {
    (self.coupling, self.shapes) = (coupling, shapes)
    algebra = try LinearAlgebra.loaded()
    consumers = ChannelConsumer.all(of: coupling)
  }

  /// Of every group, by cell, the share of what its readers compute that goes with it when its turn comes: every time
  /// the cell goes whose loss costs least, given all that went before, for every multiply-add that it saves.
  ///
  /// - Parameters:
  ///   - known: what was measured before on the same data.
  ///   - found: told of every group as soon as it is known, in no order, by any thread.
  func votes(
    from source: any FeatureMapSource, known: ChannelMoments?, savings: [Double], work: Work,
    found: (@Sendable (_ g: Int, _ vote: Vote) -> Void)? = nil
  ) throws(Failure) -> (votes: [Vote], moments: ChannelMoments?) {
    var votes = [Vote](repeating: .unavailable(Self.noReader), count: coupling.groups.count)
    let wanted = coupling.groups.indices.filter { coupling.groups[$0].cells.count > 1 && !consumers[$0].isEmpty }
    for g in coupling.groups.indices where !wanted.contains(g) { found?(g, votes[g]) }
    let moments = try forEachPart(of: wanted, from: source, known: known, work) { part, moments, work throws(Failure) in
      // Who listens hears them in order, others sooner.
      let isOrdered = found != nil
      let some = try work.concurrentMap(
        part, cost: { g in isOrdered ? 1 : cost(of: g) }, naming: { "ranked \(coupling.groups[$0].name)" }
      ) { g, work throws(Failure) in
        let vote = try vote(on: g, moments, saving: max(savings[g], 1), work)
        found?(g, vote)
        return vote
      }
      for (g, vote) in zip(part, some) { votes[g] = vote }
    }
    return (votes, moments)
  }

  enum Vote: Sendable {
    case scores(Scores)
    /// Why there are none, as a sentence for people.
    case unavailable(String)

    var scores: Scores? { if case .scores(let scores) = self { scores } else { nil } }
  }

  struct Scores: Sendable {
    /// By cell, what its removal costs per multiply-add when its turn comes; never less than what went before.
    var scores: [Double]
    /// By cell, the share of the variance of what reads it.
    var damages: [Double]
  }

  /// The share of the variance of what reads each group that goes with some of its cells.
  /// - Parameter cells: by group.
  /// - Returns: by group; nil where nothing is known of it.
  func shares(
    of cells: [[Int]], from source: any FeatureMapSource, known: ChannelMoments?, work: Work
  ) throws(Failure) -> (shares: [Double?], moments: ChannelMoments?) {
    var shares = [Double?](repeating: nil, count: coupling.groups.count)
    let wanted = coupling.groups.indices.filter { !cells[$0].isEmpty && !consumers[$0].isEmpty }
    let moments = try forEachPart(of: wanted, from: source, known: known, work) { part, moments, work throws(Failure) in
      let some = try work.concurrentMap(
        part, cost: cost, naming: { "weighed \(coupling.groups[$0].name)" }
      ) { g, work throws(Failure) in
        var found: [Double] = []
        for consumer in consumers[g] {
          try work.checkCancellation()
          if let sampled = sampled(consumer, g, moments) {
            found.append(sampled.share(of: cells[g]))
          } else if let share = loss(consumer, g, moments)?.share(of: cells[g], algebra) {
            found.append(share)
          }
        }
        return found.isEmpty ? Double?.none : found.reduce(0, +)
      }
      for (g, share) in zip(part, some) { shares[g] = share }
    }
    return (shares, moments)
  }

  /// What the layers that read groups lose of their outputs where nothing makes up for the cells that go.
  /// - Parameter removals: by group, sets of cells, each with those of the one before.
  /// - Returns: by group and set, the share of the variance; nil where nothing is known of the group.
  func plainLosses(
    of removals: [Int: [[Int]]], from source: any FeatureMapSource, known: ChannelMoments?, work: Work
  ) throws(Failure) -> [Int: [Double]] {
    var losses: [Int: [Double]] = [:]
    let wanted = removals.keys.sorted().filter { !consumers[$0].isEmpty }
    _ = try forEachPart(of: wanted, from: source, known: known, work) { part, moments, work throws(Failure) in
      let found = try work.concurrentMap(
        part, cost: cost, naming: { "weighed \(coupling.groups[$0].name)" }
      ) { g, work throws(Failure) -> [Double]? in
        var sums: [Double]?
        for consumer in consumers[g] {
          try work.checkCancellation()
          guard let input = moments.inputs[consumer.tap], input.count > 0,
            let loss = PlainLoss(
              consumer.layer, input, cells: consumer.cells(of: g, coupling),
              cellCount: coupling.groups[g].cells.count, total: total(consumer, moments), algebra)
          else { continue }
          let shares = loss.shares(of: removals[g] ?? [])
          sums = sums.map { zip($0, shares).map { $0 + $1 } } ?? shares
        }
        return sums
      }
      for (g, found) in zip(part, found) { losses[g] = found }
    }
    return losses
  }

  // MARK: One group

  private func cost(of g: Int) -> Double { consumers[g].reduce(1) { $0 + Double($1.tap.channels * $1.tap.channels) } }

  private func loss(_ consumer: ChannelConsumer, _ g: Int, _ moments: ChannelMoments) -> ChannelLoss? {
    guard let input = moments.inputs[consumer.tap], input.count > 0 else { return nil }
    return ChannelLoss(
      consumer.layer, input, cells: consumer.cells(of: g, coupling),
      cellCount: coupling.groups[g].cells.count, total: total(consumer, moments), algebra)
  }

  /// Where the layer was seen at few positions.
  private func sampled(_ consumer: ChannelConsumer, _ g: Int, _ moments: ChannelMoments) -> SampledElimination? {
    guard let input = moments.inputs[consumer.tap] else { return nil }
    return SampledElimination(
      consumer.layer, input, cells: consumer.cells(of: g, coupling),
      cellCount: coupling.groups[g].cells.count, total: total(consumer, moments), algebra)
  }

  private func total(_ consumer: ChannelConsumer, _ moments: ChannelMoments) -> Double? {
    consumer.layer.shortcut.flatMap { moments.variances[$0.sum] }
  }

  private func vote(
    on g: Int, _ moments: ChannelMoments, saving: Double, _ work: Work
  ) throws(Failure) -> Vote {
    let count = coupling.groups[g].cells.count
    var eliminations: [any CellElimination] = []
    for consumer in consumers[g] {
      try work.checkCancellation()
      if let sampled = sampled(consumer, g, moments) {
        eliminations.append(sampled)
      } else if let loss = loss(consumer, g, moments), let elimination = ChannelElimination(loss, algebra) {
        eliminations.append(elimination)
      }
    }
    guard !eliminations.isEmpty else { return .unavailable(reasonForNone(g, moments)) }
    var vote = Scores(scores: [Double](repeating: 0, count: count), damages: [Double](repeating: 0, count: count))
    var left = Array(0..<count)
    var last = 0.0
    while !left.isEmpty {
      try work.checkCancellation()
      var (best, least) = (0, Double.infinity)
      for (k, cell) in left.enumerated() {
        var cost = 0.0
        for elimination in eliminations { cost += elimination.cost(of: cell) }
        if cost < least { (best, least) = (k, cost) }
      }
      let cell = left.remove(at: best)
      var (cost, excess) = (0.0, 0.0)
      for k in eliminations.indices {
        let part = eliminations[k].remove(cell)
        cost += part.cost
        excess += part.excess
      }
      vote.damages[cell] = cost - excess
      // In the order in which they go, of equals too.
      last = max(cost, last * (1 + 1e-9), Double.leastNormalMagnitude)
      vote.scores[cell] = last / saving
    }
    return .scores(vote)
  }

  private static let noReader = "no layer whose weight could be fitted reads its channels"

  /// Why no layer that reads a group's channels says anything of them.
  private func reasonForNone(_ g: Int, _ moments: ChannelMoments) -> String {
    let inputs = consumers[g].compactMap { moments.inputs[$0.tap] }.filter { $0.count > 0 }
    if inputs.isEmpty { return "nothing was computed on these data of what reads its channels" }
    return inputs.contains(where: \.varies)
      ? "what reads its channels makes nothing of them on these data: the weights are zero, or multiply zeros"
      : "what reads its channels is given the same on all of these data, which tells none of them from another"
  }

  // MARK: What is measured

  /// As many groups at a time as there is room for the covariances of what reads them.
  /// - Returns: what was measured, if it is worth keeping.
  private func forEachPart(
    of groups: [Int], from source: any FeatureMapSource, known: ChannelMoments?, _ work: Work,
    _ body: (_ part: [Int], _ moments: ChannelMoments, _ work: Work) throws(Failure) -> Void
  ) throws(Failure) -> ChannelMoments? {
    var parts: [[Int]] = []
    var (held, bytes) = (Set<InputTap>(), 0)
    for g in groups {
      let fresh = Set(consumers[g].map(\.tap)).subtracting(held)
      let size = fresh.reduce(0) { $0 + $1.channels * $1.channels * MemoryLayout<Double>.size }
      if parts.isEmpty || bytes + size > Self.budget {
        parts.append([])
        (held, bytes) = ([], 0)
      }
      parts[parts.count - 1].append(g)
      held.formUnion(consumers[g].map(\.tap))
      bytes += size
    }
    var kept: ChannelMoments?
    for (k, part) in parts.enumerated() {
      let work = work.part(Double(k) / Double(parts.count)...Double(k + 1) / Double(parts.count))
      let moments = try moments(of: part, from: source, known: known, work.part(0...0.6))
      try body(part, moments, work.part(0.6...1))
      if parts.count == 1, moments.byteCount <= Self.mostKept { kept = moments }
    }
    return kept
  }

  /// What the layers that read the groups' channels read.
  func moments(
    of groups: [Int], from source: any FeatureMapSource, known: ChannelMoments?, _ work: Work
  ) throws(Failure) -> ChannelMoments {
    let readers = groups.flatMap { consumers[$0] }
    return try moments(
      of: Set(readers.map(\.tap)), sums: Set(readers.compactMap { $0.layer.shortcut?.sum }), from: source, known: known,
      work)
  }

  /// In one pass over the data, all that is asked of it for channels and for ranks; nil where that is more than can be
  /// kept.
  func moments(
    with layers: [DecomposableLayer], from source: any FeatureMapSource, known: ChannelMoments?, _ work: Work
  ) throws(Failure) -> ChannelMoments? {
    let readers = consumers.flatMap { $0 }
    let taps = Set(readers.map(\.tap)).union(
      layers.compactMap { $0.inputTap(in: coupling.graph) }.filter { $0.channels <= Self.mostChannels })
    guard ChannelMoments.byteCount(of: taps) <= Self.mostKept else { return nil }
    return try moments(
      of: taps, sums: Set(readers.compactMap { $0.layer.shortcut?.sum }), from: source, known: known, work)
  }

  private func moments(
    of taps: Set<InputTap>, sums: Set<ValueID>, from source: any FeatureMapSource, known: ChannelMoments?, _ work: Work
  ) throws(Failure) -> ChannelMoments {
    var result = known ?? ChannelMoments()
    let inputs = taps.subtracting(result.inputs.keys).sorted().map {
      InputMomentsProbe([$0], sampleCount: source.sampleCount, coupling.graph, algebra)
    }
    let variances = sums.subtracting(result.variances.keys).sorted().map { VarianceProbe($0, coupling.graph) }
    guard !inputs.isEmpty || !variances.isEmpty else { return result }
    try FeatureMapPass.run(inputs + variances, source: source, shapes: shapes, work: work)
    for probe in inputs { result.inputs[probe.taps[0]] = probe.moments }
    for probe in variances { result.variances[probe.values[0]] = probe.variance }
    return result
  }
}

/// A layer that reads channels of a group, and the stored axis along which it does.
struct ChannelConsumer: Sendable {
  let layer: RefitLayer
  let origin: LabelOrigin
  let tap: InputTap

  /// By channel that is met at `tap`, the cell of a group that it goes with, negative if none.
  func cells(of g: Int, _ coupling: ChannelCoupling) -> [Int] {
    let cells = coupling.cells(ofFilters: origin, group: g)
    let places = max(1, cells.count / max(1, tap.channels))
    guard places > 1, cells.count == places * tap.channels else { return cells }
    return stride(from: 0, to: cells.count, by: places).map { cells[$0] }
  }

  /// By group.
  static func all(of coupling: ChannelCoupling) -> [[ChannelConsumer]] {
    let graph = coupling.graph
    let layers = RefitLayers(
      graph, original: graph, shapes: coupling.analysis.shapes, kept: { _, _ in nil }, changeable: { _ in true },
      largestLength: .max
    ).layers.filter { !$0.isTransposed }
    let byWeight = Dictionary(layers.map { ($0.weight.source, $0) }) { first, _ in first }
    var consumers = [[ChannelConsumer]](repeating: [], count: coupling.groups.count)
    var seen: Set<Int32> = []
    for (label, role) in coupling.facts.roles where role.kind == .consumer {
      guard let origin = coupling.analysis.stored.origin(of: label), let layer = byWeight[origin.value],
        seen.insert(origin.first).inserted,
        let tap = layer.measuredTap(in: graph, coupling.analysis.shapes, mostChannels: DamageCriterion.mostChannels)
      else { continue }
      for g in coupling.groups(along: origin) {
        consumers[g].append(ChannelConsumer(layer: layer, origin: origin, tap: tap))
      }
    }
    return consumers
  }
}

extension RefitLayer {
  /// Where few enough channels of what the layer reads are met.
  fileprivate func measuredTap(in graph: Graph, _ shapes: ShapeTable, mostChannels: Int) -> InputTap? {
    guard let tap, tap.channels > mostChannels else { return tap }
    return mapsMadeRows(in: graph, shapes).flatMap { maps, places in
      length / places <= mostChannels ? InputTap(value: maps, axis: 1, channels: length / places) : nil
    }
  }
}

/// What layers read, and how sums that they join vary, on some data.
package struct ChannelMoments: Sendable {
  var inputs: [InputTap: InputMoments] = [:]
  var variances: [ValueID: Double] = [:]

  var byteCount: Int { Self.byteCount(of: inputs.keys) }

  static func byteCount(of taps: some Sequence<InputTap>) -> Int {
    taps.reduce(0) { $0 + ($1.channels + 2) * $1.channels * MemoryLayout<Double>.size }
  }
}

/// The variance of a value's channels, their sum: axis 1 of maps, the last axis of others.
private final class VarianceProbe: FeatureMapProbe {
  let values: [ValueID]
  private let graph: Graph
  private var sums: [Double] = []
  private var squares: [Double] = []
  private var count = 0

  init(_ value: ValueID, _ graph: Graph) { (values, self.graph) = ([value], graph) }

  func add(_ maps: [FeatureMap], work: Work) throws(Failure) {
    guard let map = maps.first else { return }
    let axis = map.shape.count >= 4 ? 1 : map.shape.count - 1
    guard axis >= 0 else { return }
    let channels = map.shape[axis]
    let inner = map.shape[(axis + 1)...].reduce(1, *)
    if sums.count != channels {
      (sums, squares) = ([Double](repeating: 0, count: channels), [Double](repeating: 0, count: channels))
      count = 0
    }
    let elements = map.elements
    for start in stride(from: 0, to: elements.count, by: max(1, inner)) {
      var (sum, square) = (0.0, 0.0)
      for k in start..<start + inner {
        let x = Double(elements[k])
        sum += x
        square += x * x
      }
      let channel = start / inner % channels
      sums[channel] += sum
      squares[channel] += square
    }
    count += elements.count / max(1, channels)
    guard sums.allSatisfy(\.isFinite) else { throw graph.notFinite(map.value) }
  }

  var variance: Double {
    let n = Double(max(1, count))
    return zip(sums, squares).reduce(0) { $0 + max(0, $1.1 / n - ($1.0 / n) * ($1.0 / n)) }
  }
}
