import ModelGraph
import Numerics

/// Layers that make up for channels which they no longer read, in closed form: each is fitted, on the covariance of
/// what it reads in the whole network, to go on computing what it did without them. The graph keeps its shapes; what is
/// gone is multiplied by zero.
struct ChannelCompensation: Sendable {
  /// A layer, and which of the channels that it reads go.
  struct Reader: Sendable {
    let consumer: ChannelConsumer
    var isGone: [Bool]
    /// What its fit changes.
    var stored: [ValueID] { consumer.layer.stored }
  }

  private let graph: Graph
  private let coupling: ChannelCoupling
  private let maps: any FeatureMapSource
  private let criterion: DamageCriterion
  private let algebra: LinearAlgebra
  /// By group.
  private let consumers: [[ChannelConsumer]]

  /// Ridge of the fit, of the mean variance: as of the criterion that ranks channels.
  private static let ridge = 1e-3
  private static let largestCopy = 1 << 24

  init(_ model: CompressibleModel, _ coupling: ChannelCoupling, _ maps: any FeatureMapSource) throws(Failure) {
    (graph, self.coupling, self.maps) = (model.graph, coupling, maps)
    criterion = try DamageCriterion(coupling, shapes: model.shapes.nominal)
    algebra = try LinearAlgebra.loaded()
    consumers = ChannelConsumer.all(of: coupling)
  }

  /// What the readers of groups read.
  func moments(of groups: [Int], work: Work) throws(Failure) -> ChannelMoments {
    try criterion.moments(of: groups, from: maps, known: maps.known, work)
  }

  /// The readers of groups that lose cells, in node order.
  func inputs(of lost: [(group: Int, cells: [Int])]) -> [Reader] {
    var readers: [NodeID: Reader] = [:]
    for (g, cells) in lost {
      let cells = Set(cells)
      for consumer in consumers[g] {
        let isGone = consumer.cells(of: g, coupling).map { $0 >= 0 && cells.contains($0) }
        let known = readers[consumer.layer.node]?.isGone
        readers[consumer.layer.node] = Reader(
          consumer: consumer, isGone: known.map { zip($0, isGone).map { $0 || $1 } } ?? isGone)
      }
    }
    return readers.sorted { $0.key < $1.key }.map(\.value)
  }

  /// The readers' new numbers.
  /// - Parameter moments: nil where nothing is to make up for what is gone.
  func tensors(
    without readers: [Reader], _ moments: ChannelMoments?, work: Work
  ) throws(Failure) -> [ValueID: Tensor] {
    func flops(_ reader: Reader) -> Double {
      let size = Double(reader.isGone.count)
      return size * size * (size + Double(reader.consumer.layer.length))
    }
    let results: [[ValueID: Tensor]] = try work.concurrentMap(
      readers, cost: flops, naming: { "fitted '\($0.consumer.layer.name)'" }
    ) { reader, _ throws(Failure) -> [ValueID: Tensor] in
      let layer = reader.consumer.layer
      guard let moments else {
        return layer.tensors(
          RefitSolution(
            rows: rows(of: layer, without: reader.isGone), constants: nil, ridge: 0, errorBefore: 0, errorAfter: 0),
          in: graph)
      }
      guard let input = moments.inputs[reader.consumer.tap], input.size == reader.isGone.count else { return [:] }
      return fitted(layer, without: reader.isGone, input)
    }
    var tensors: [ValueID: Tensor] = [:]
    for result in results { tensors.merge(result) { _, new in new } }
    return tensors
  }

  /// The layer's weight with zeros for some of its inputs.
  private func rows(of layer: RefitLayer, without removed: [Bool]) -> [Double] {
    let channels = removed.count / layer.groups
    let taps = max(1, layer.length / max(1, channels))
    var rows = layer.rows
    for output in 0..<layer.outputCount {
      let first = output / layer.outputsPerGroup * channels
      for channel in 0..<channels where removed[first + channel] {
        for tap in 0..<taps { rows[output * layer.length + channel * taps + tap] = 0 }
      }
    }
    return rows
  }

  /// The layer's numbers once some of its inputs are gone and the others make up for them.
  private func fitted(_ layer: RefitLayer, without removed: [Bool], _ moments: InputMoments) -> [ValueID: Tensor] {
    let size = moments.size
    let channels = size / layer.groups
    let taps = max(1, layer.length / max(1, channels))
    var covariance: [Double]
    let isCentred: Bool
    if case .none = layer.intercept { isCentred = false } else { isCentred = true }
    covariance = isCentred ? moments.covariance : moments.secondMoment
    LinearAlgebra.mirrorUpper(&covariance, size: size)
    let old = layer.rows
    var new = rows(of: layer, without: removed)
    let kept = (0..<size).filter { !removed[$0] }
    if layer.groups == 1, !kept.isEmpty, kept.count < size {
      let mean = (0..<size).reduce(0) { $0 + covariance[$1 * size + $1] } / Double(size)
      var factor = [Double](repeating: 0, count: kept.count * kept.count)
      var cross = [Double](repeating: 0, count: size * kept.count)
      for (a, i) in kept.enumerated() {
        for (b, j) in kept.enumerated() { factor[a * kept.count + b] = covariance[i * size + j] }
        factor[a * kept.count + a] += Self.ridge * mean
      }
      for i in 0..<size { for (b, j) in kept.enumerated() { cross[i * kept.count + b] = covariance[i * size + j] } }
      if mean > 0, algebra.cholesky(of: &factor, size: kept.count) {
        // Copies of parts of a large weight are small.
        let step = max(1, Self.largestCopy / max(1, layer.length))
        for start in stride(from: 0, to: layer.outputCount, by: step) {
          let outputs = start..<min(start + step, layer.outputCount)
          let rows = outputs.count * taps
          var arranged = [Double](repeating: 0, count: rows * size)
          for output in outputs {
            for channel in 0..<size {
              for tap in 0..<taps {
                arranged[((output - start) * taps + tap) * size + channel] =
                  old[output * layer.length + channel * taps + tap]
              }
            }
          }
          var solved = [Double](repeating: 0, count: rows * kept.count)
          algebra.multiply(
            arranged, .asIs, cross, .asIs, rows: rows, columns: kept.count, depth: size, to: &solved)
          algebra.solve(&solved, count: rows, byCholesky: factor, size: kept.count)
          for output in outputs {
            for (b, channel) in kept.enumerated() {
              for tap in 0..<taps {
                new[output * layer.length + channel * taps + tap] =
                  solved[((output - start) * taps + tap) * kept.count + b]
              }
            }
          }
        }
      }
    }
    var constants: [Double]?
    if isCentred, var shifted = layer.constants(in: graph) {
      let mean = moments.mean
      for output in 0..<layer.outputCount {
        let first = output / layer.outputsPerGroup * channels
        for k in 0..<layer.length {
          shifted[output] += (old[output * layer.length + k] - new[output * layer.length + k]) * mean[first + k / taps]
        }
      }
      constants = shifted
    }
    return layer.tensors(
      RefitSolution(rows: new, constants: constants, ridge: 0, errorBefore: 0, errorAfter: 0), in: graph)
  }
}
