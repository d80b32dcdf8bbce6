import ModelGraph
import Numerics

/// PR_REC: what the layers that read a group's channels lose of their outputs, after the best refit, by the removal of
/// each, given all that went before it (optimal brain surgeon by channels: Hassibi and Stork 1993; Frantar et al., NeurIPS
/// 2022): greedy elimination in the inverse covariance of what they read.
///
/// A channel c that goes costs A_cc / P_cc, with A the Gram matrix of the weights' columns and P the inverse covariance;
/// what is left makes up for it, A <- A - a u' - u a' + A_cc u u' with u = P_c / P_cc and a = A_c, and P <- P - P_cc u u'.
/// Kernels are taken as if all their taps read the same channels. Costs are shares of the variance of the layer's output,
/// or of the sum that it joins.
struct DamageCriterion {
  private let coupling: ChannelCoupling
  private let algebra: LinearAlgebra
  /// By group, the layers that read its channels, and the stored axes along which they do.
  private let consumers: [[Consumer]]
  /// Multiply-adds that one cell of a group saves, by group.
  private let savings: [Double]

  private struct Consumer: Sendable {
    let layer: RefitLayer
    let origin: LabelOrigin
    let tap: InputTap
  }

  /// Inputs of more channels are not measured: their covariance would take too much memory.
  private static let mostChannels = 4096
  /// Of the mean variance: as the refit holds on to old weights.
  private static let ridge = 1e-3

  init(_ coupling: ChannelCoupling, savings: [Double]) throws(Failure) {
    (self.coupling, self.savings) = (coupling, savings)
    algebra = try LinearAlgebra.loaded()
    let graph = coupling.graph
    let layers = RefitLayers(
      graph, original: graph, shapes: coupling.analysis.shapes, kept: { _, _ in nil }, changeable: { _ in true }
    ).layers
    let byWeight = Dictionary(layers.map { ($0.weight.source, $0) }) { first, _ in first }
    var consumers = [[Consumer]](repeating: [], count: coupling.groups.count)
    var seen: Set<Int32> = []
    for (label, role) in coupling.facts.roles where role.kind == .consumer {
      guard let origin = coupling.analysis.stored.origin(of: label), let layer = byWeight[origin.value],
        seen.insert(origin.first).inserted, let tap = layer.tap, tap.channels <= Self.mostChannels
      else { continue }
      for g in coupling.groups(along: origin) {
        consumers[g].append(Consumer(layer: layer, origin: origin, tap: tap))
      }
    }
    self.consumers = consumers
  }

  /// Per group.
  func votes(from source: any FeatureMapSource, work: Work) throws(Failure) -> [Criterion.Votes] {
    let wanted = coupling.groups.indices.filter { coupling.groups[$0].cells.count > 1 }
    var moments: [InputTap: InputMomentsProbe] = [:]
    var sums: [ValueID: VarianceProbe] = [:]
    for consumer in wanted.flatMap({ consumers[$0] }) {
      if moments[consumer.tap] == nil {
        moments[consumer.tap] = InputMomentsProbe([consumer.tap], coupling.graph, algebra)
      }
      if let sum = consumer.layer.shortcut?.sum { sums[sum] = sums[sum] ?? VarianceProbe(sum, coupling.graph) }
    }
    let probes: [any FeatureMapProbe] =
      moments.sorted { $0.key < $1.key }.map(\.value) + sums.sorted { $0.key < $1.key }.map(\.value)
    try FeatureMapPass.run(probes, source: source, shapes: coupling.analysis.shapes, work: work.part(0...0.6))
    let known = moments.mapValues(\.moments)
    let variances = sums.mapValues(\.variance)
    let found = try work.part(0.6...1).concurrentMap(
      Array(coupling.groups.indices),
      cost: { g in consumers[g].reduce(1) { $0 + Double($1.tap.channels * $1.tap.channels) } },
      naming: { [coupling] in "ranked \(coupling.groups[$0].name)" }
    ) { [self] g, work throws(Failure) in try damages(of: g, known, variances, work) }
    return zip(coupling.groups.indices, found).map { g, damages in
      guard let damages else { return .unavailable("no layer whose weight could be fitted reads its channels") }
      let saving = max(savings[g], 1)
      return .members([MemberScores(damages.map { $0 / saving })])
    }
  }

  /// By cell, what its removal costs when its turn comes; never less than what went before.
  private func damages(
    of g: Int, _ known: [InputTap: InputMoments], _ variances: [ValueID: Double], _ work: Work
  ) throws(Failure) -> [Double]? {
    let count = coupling.groups[g].cells.count
    var eliminations: [Elimination] = []
    for consumer in consumers[g] {
      guard let moments = known[consumer.tap], moments.count > 0,
        let elimination = Elimination(
          consumer.layer, moments, cells: coupling.cells(ofFilters: consumer.origin, group: g), cellCount: count,
          total: consumer.layer.shortcut.flatMap { variances[$0.sum] }, ridge: Self.ridge, algebra)
      else { continue }
      eliminations.append(elimination)
    }
    guard !eliminations.isEmpty else { return nil }
    var damages = [Double](repeating: 0, count: count)
    var left = Array(0..<count)
    var last = 0.0
    while !left.isEmpty {
      try work.checkCancellation()
      var (best, least) = (0, Double.infinity)
      for (k, cell) in left.enumerated() {
        let cost = eliminations.reduce(0) { $0 + $1.cost(of: cell) }
        if cost < least { (best, least) = (k, cost) }
      }
      let cell = left.remove(at: best)
      var damage = 0.0
      for k in eliminations.indices { damage += eliminations[k].remove(cell) }
      // In the order in which they go, of equals too.
      last = max(damage, last * (1 + 1e-9), Double.leastNormalMagnitude)
      damages[cell] = last
    }
    return damages
  }
}

/// One layer's part of a greedy elimination.
private struct Elimination {
  private let size: Int
  /// By cell, the layer's inputs that go with it.
  private let inputs: [[Int]]
  /// `[size, size]`: the Gram matrix of the weight's columns, and the inverse covariance.
  private var weights: [Double]
  private var precision: [Double]
  private var active: [Int]
  /// What costs are shares of.
  private let total: Double

  init?(
    _ layer: RefitLayer, _ moments: InputMoments, cells: [Int], cellCount: Int, total: Double?, ridge: Double,
    _ algebra: LinearAlgebra
  ) {
    let size = moments.size
    self.size = size
    guard cells.count == size else { return nil }
    var inputs = [[Int]](repeating: [], count: cellCount)
    for (input, cell) in cells.enumerated() where cell >= 0 { inputs[cell].append(input) }
    self.inputs = inputs
    var covariance: [Double]
    if case .none = layer.intercept { covariance = moments.secondMoment } else { covariance = moments.covariance }
    LinearAlgebra.mirrorUpper(&covariance, size: size)
    let mean = (0..<size).reduce(0) { $0 + covariance[$1 * size + $1] } / Double(size)
    guard mean > 0, mean.isFinite else { return nil }
    let gram = layer.columnGram(size: size, algebra)
    var own = 0.0
    for k in 0..<size * size { own += gram[k] * covariance[k] }
    self.total = max(own, total ?? 0)
    weights = gram
    precision = [Double](repeating: 0, count: size * size)
    active = Array(0..<size)
    guard self.total > 0, self.total.isFinite else { return nil }
    for k in 0..<size { covariance[k * size + k] += ridge * mean }
    guard algebra.cholesky(of: &covariance, size: size) else { return nil }
    for k in 0..<size { precision[k * size + k] = 1 }
    algebra.solve(&precision, count: size, byCholesky: covariance, size: size)
  }

  func cost(of cell: Int) -> Double {
    inputs[cell].reduce(0) { $0 + max(0, weights[$1 * size + $1]) / precision[$1 * size + $1] } / total
  }

  /// - Returns: what it costs.
  mutating func remove(_ cell: Int) -> Double {
    // Taken out, so that they are changed in place.
    var (weights, precision) = (self.weights, self.precision)
    (self.weights, self.precision) = ([], [])
    defer { (self.weights, self.precision) = (weights, precision) }
    var damage = 0.0
    for input in inputs[cell] {
      let (pivot, own) = (precision[input * size + input], max(0, weights[input * size + input]))
      guard pivot > 0 else { continue }
      damage += own / pivot / total
      active.removeAll { $0 == input }
      let a = active.map { weights[input * size + $0] }
      let u = active.map { precision[input * size + $0] / pivot }
      for (r, row) in active.enumerated() {
        let (ar, ur, base) = (a[r], u[r], row * size)
        for (c, column) in active.enumerated() {
          weights[base + column] += own * ur * u[c] - ar * u[c] - ur * a[c]
          precision[base + column] -= pivot * ur * u[c]
        }
      }
    }
    return damage
  }
}

extension RefitLayer {
  /// Where its input channels are met, those of all groups.
  fileprivate var tap: InputTap? {
    switch form {
    case .convolution(let geometry, let groups):
      InputTap(value: input, axis: 1, channels: length / geometry.kernel.reduce(1, *) * groups)
    case .product(let inputAxis, _): InputTap(value: input, axis: inputAxis, channels: length)
    }
  }

  /// The Gram matrix of what input channels are multiplied with, over outputs (weighed by what a normalization behind
  /// multiplies them with) and taps: `[size, size]`, zero between groups.
  fileprivate func columnGram(size: Int, _ algebra: LinearAlgebra) -> [Double] {
    var gram = [Double](repeating: 0, count: size * size)
    let (rows, channels) = (self.rows, size / groups)
    let taps = max(1, length / max(1, channels))
    for group in 0..<groups {
      var columns = [Double](repeating: 0, count: outputsPerGroup * taps * channels)
      for o in 0..<outputsPerGroup {
        let output = group * outputsPerGroup + o
        let gain = gains?[output] ?? 1
        for channel in 0..<channels {
          for tap in 0..<taps {
            columns[(o * taps + tap) * channels + channel] = gain * rows[output * length + channel * taps + tap]
          }
        }
      }
      var block = [Double](repeating: 0, count: channels * channels)
      algebra.addGram(of: columns, count: channels, length: outputsPerGroup * taps, layout: .elements, to: &block)
      LinearAlgebra.mirrorUpper(&block, size: channels)
      for i in 0..<channels {
        for j in 0..<channels {
          gram[(group * channels + i) * size + group * channels + j] = block[i * channels + j]
        }
      }
    }
    return gram
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
    for (k, element) in map.elements.enumerated() {
      let (channel, x) = (k / inner % channels, Double(element))
      sums[channel] += x
      squares[channel] += x * x
    }
    count += map.elements.count / max(1, channels)
    guard sums.allSatisfy(\.isFinite) else { throw graph.notFinite(map.value) }
  }

  var variance: Double {
    let n = Double(max(1, count))
    return zip(sums, squares).reduce(0) { $0 + max(0, $1.1 / n - ($1.0 / n) * ($1.0 / n)) }
  }
}
