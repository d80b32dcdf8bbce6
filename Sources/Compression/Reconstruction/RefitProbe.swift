import ModelGraph
import Numerics

/// Gathers what a layer reads in the compressed network and what it should compute by the original one, of all places
/// that read its weight. Rows wait until there are enough of them for products of matrices to be worth it.
///
/// Invariant: one thread at a time uses a probe, those of batches one after the other.
final class RefitProbe: Sendable {
  let layer: RefitLayer
  private let graph: Graph
  private let algebra: LinearAlgebra
  nonisolated(unsafe) private let fitting: Rows
  nonisolated(unsafe) private let choosing: Rows

  /// More positions say little more: this many for every number that an output sums, or this many in all.
  private static let positionsPerInput = 8
  private static let manyPositions = 1 << 14
  fileprivate static let tile = 256

  init(_ layer: RefitLayer, _ graph: Graph, _ algebra: LinearAlgebra) {
    (self.layer, self.graph, self.algebra) = (layer, graph, algebra)
    (fitting, choosing) = (Rows(layer), Rows(layer))
  }

  static func byteCount(_ layer: RefitLayer) -> Int {
    let rows = layer.groups * (layer.length + layer.outputsPerGroup) * tile * MemoryLayout<Double>.size
    return 2
      * (rows + RegressionMoments.byteCount(groups: layer.groups, inputs: layer.length, outputs: layer.outputsPerGroup))
  }

  /// All that was gathered, handed over.
  func finish() throws(Failure) -> (fitting: RegressionMoments, choosing: RegressionMoments) {
    let result = (fitting.finish(algebra), choosing.finish(algebra))
    for moments in [result.0, result.1] where !moments.isFinite {
      throw graph.notFinite(moments.isInputFinite ? layer.output : layer.input)
    }
    return result
  }

  /// Of one batch: floating-point operations, about.
  func flops(_ input: FeatureMap, sampleCount: Int) -> Double {
    let positions = min(Double(input.shape.reduce(1, *)), Double(Self.wanted(layer)) / Double(max(1, sampleCount)))
    return 2 * positions * Double(layer.length) * Double(layer.groups * layer.length + layer.outputCount)
  }

  /// As many positions are enough.
  static func wanted(_ layer: RefitLayer) -> Int { max(manyPositions, positionsPerInput * layer.length) }

  /// - Parameters:
  ///   - place: one of those that read the weight.
  ///   - input: as the compressed network computes it.
  ///   - output: as the original one does.
  ///   - shortcut: the layer's shortcut in the original and in the compressed network.
  ///   - samples: how many these are, of how many that are looked at.
  func add(
    _ place: RefitLayer, _ input: FeatureMap, _ output: FeatureMap,
    shortcut: (original: FeatureMap, compressed: FeatureMap)?, samples: (here: Int, all: Int),
    _ role: SampleSplit.Role, _ work: Work
  ) throws(Failure) {
    guard role != .judging else { return }
    let reading = try RefitReading(place, input, output, shortcut, graph)
    // An even choice of each sample's own, whichever samples come together.
    let here = reading.positions % max(1, samples.here) == 0 ? max(1, samples.here) : 1
    let positions = reading.positions / here
    let all = max(1, samples.all) / (max(1, samples.here) / here)
    let taken = min(positions, max(1, (Self.wanted(layer) + all - 1) / max(1, all)))
    guard taken > 0 else { return }
    for k in 0..<here * taken {
      if k % 64 == 0 { try work.checkCancellation() }
      let position = k / taken * positions + ((2 * (k % taken) + 1) * positions) / (2 * taken)
      if role == .fitting { fitting.add(reading, position, algebra) } else { choosing.add(reading, position, algebra) }
    }
  }
}

/// Rows of a regression on their way into its sums.
private final class Rows {
  private var moments: RegressionMoments
  /// `[groups, tile, inputs]`, `[groups, tile, outputs]`.
  private var x: UnsafeMutablePointer<Double>?
  private var y: UnsafeMutablePointer<Double>?
  private var count = 0

  init(_ layer: RefitLayer) {
    moments = RegressionMoments(groups: layer.groups, inputs: layer.length, outputs: layer.outputsPerGroup)
    x = .allocate(capacity: max(1, layer.groups * layer.length * RefitProbe.tile))
    y = .allocate(capacity: max(1, layer.groups * layer.outputsPerGroup * RefitProbe.tile))
  }

  deinit { release() }

  private func release() {
    x?.deallocate()
    y?.deallocate()
    (x, y) = (nil, nil)
  }

  func add(_ reading: RefitReading, _ position: Int, _ algebra: LinearAlgebra) {
    guard let x, let y else { return }
    reading.prepare(position)
    for group in 0..<moments.groups {
      let row = group * RefitProbe.tile + count
      reading.fillInput(x + row * moments.inputs, group: group)
      reading.fillOutput(y + row * moments.outputs, group: group)
    }
    count += 1
    if count == RefitProbe.tile { flush(algebra) }
  }

  private func flush(_ algebra: LinearAlgebra) {
    guard count > 0, let x, let y else { return }
    for group in 0..<moments.groups {
      let row = group * RefitProbe.tile
      moments.add(x + row * moments.inputs, y + row * moments.outputs, count: count, group: group, algebra)
    }
    count = 0
  }

  /// The sums, handed over.
  func finish(_ algebra: LinearAlgebra) -> RegressionMoments {
    flush(algebra)
    release()
    let result = moments
    moments = RegressionMoments(groups: 0, inputs: 0, outputs: 0)
    return result
  }
}
