import ModelGraph
import Numerics
import Synchronization

/// Gathers what a layer reads in the compressed network and what it should compute by the original one.
final class RefitProbe: Sendable {
  let layer: RefitLayer
  private let graph: Graph
  private let algebra: LinearAlgebra
  private let sampleCount: Int
  private let state: Mutex<State>

  private struct State {
    var fitting: RegressionMoments
    var choosing: RegressionMoments
  }

  /// More positions say little more: this many for every number that an output sums, or this many in all.
  private static let positionsPerInput = 8
  private static let manyPositions = 1 << 14
  private static let tile = 512

  init(_ layer: RefitLayer, sampleCount: Int, _ graph: Graph, _ algebra: LinearAlgebra) {
    (self.layer, self.graph, self.algebra, self.sampleCount) = (layer, graph, algebra, max(1, sampleCount))
    let empty = RegressionMoments(groups: layer.groups, inputs: layer.length, outputs: layer.outputsPerGroup)
    state = Mutex(State(fitting: empty, choosing: empty))
  }

  static func byteCount(_ layer: RefitLayer) -> Int {
    2 * RegressionMoments.byteCount(groups: layer.groups, inputs: layer.length, outputs: layer.outputsPerGroup)
  }

  var moments: (fitting: RegressionMoments, choosing: RegressionMoments) {
    state.withLock { ($0.fitting, $0.choosing) }
  }

  /// Of one batch: floating-point operations, about.
  func flops(_ input: FeatureMap) -> Double {
    let positions = min(Double(input.shape.reduce(1, *)), Double(wanted) / Double(sampleCount))
    return 2 * positions * Double(layer.length) * Double(layer.groups * layer.length + layer.outputCount)
  }

  private var wanted: Int { max(Self.manyPositions, Self.positionsPerInput * layer.length) }

  /// - Parameters:
  ///   - input: as the compressed network computes it.
  ///   - output: as the original one does.
  ///   - shortcut: the layer's shortcut in the original and in the compressed network.
  func add(
    _ input: FeatureMap, _ output: FeatureMap, shortcut: (original: FeatureMap, compressed: FeatureMap)?,
    samples: Int, _ role: SampleSplit.Role, _ work: Work
  ) throws(Failure) {
    let reading = try Reading(layer, input, output, shortcut, graph)
    let positions = reading.positions
    let taken = min(positions, max(1, (wanted * samples + sampleCount - 1) / sampleCount))
    guard taken > 0, role != .judging else { return }
    let (length, outputs) = (layer.length, layer.outputsPerGroup)
    let x = UnsafeMutablePointer<Double>.allocate(capacity: min(taken, Self.tile) * length)
    let y = UnsafeMutablePointer<Double>.allocate(capacity: min(taken, Self.tile) * outputs)
    defer {
      x.deallocate()
      y.deallocate()
    }
    for start in stride(from: 0, to: taken, by: Self.tile) {
      let count = min(Self.tile, taken - start)
      for group in 0..<layer.groups {
        try work.checkCancellation()
        for k in 0..<count {
          let position = ((2 * (start + k) + 1) * positions) / (2 * taken)
          reading.fillInput(x + k * length, position, group: group)
          reading.fillOutput(y + k * outputs, position, group: group)
        }
        // Nothing times NaN or infinity is nothing.
        guard (0..<count * length).reduce(0.0, { $0 + x[$1] * 0 }) == 0 else { throw graph.notFinite(layer.input) }
        guard (0..<count * outputs).reduce(0.0, { $0 + y[$1] * 0 }) == 0 else { throw graph.notFinite(layer.output) }
        state.withLock { state in
          switch role {
          case .fitting: state.fitting.add(x, y, count: count, group: group, algebra)
          case .choosing: state.choosing.add(x, y, count: count, group: group, algebra)
          case .judging: break
          }
        }
      }
    }
  }
}

/// The maps of one batch as rows of a regression.
private struct Reading {
  let positions: Int
  private let layer: RefitLayer
  private let input: FeatureMap
  private let output: FeatureMap
  private let shortcut: (original: FeatureMap, compressed: FeatureMap)?
  private let window: PatchWindow?
  /// Of a product's input: what follows the channels' axis.
  private let inputInner: Int
  private let outputInner: Int
  private let outputChannels: Int
  private let inverseGains: [Double]

  /// A gain below this share of the largest is of a channel that says nothing.
  private static let smallestGain = 1e-2

  init(
    _ layer: RefitLayer, _ input: FeatureMap, _ output: FeatureMap,
    _ shortcut: (original: FeatureMap, compressed: FeatureMap)?, _ graph: Graph
  ) throws(Failure) {
    (self.layer, self.input, self.output) = (layer, input, output)
    let (from, to) = (input.shape, output.shape)
    let outputAxis: Int
    switch layer.form {
    case .convolution(let geometry, let groups):
      let channels = layer.length / geometry.kernel.reduce(1, *) * groups
      let window = from.count == geometry.kernel.count + 2 ? PatchWindow(geometry, lengths: Array(from[2...])) : nil
      guard let window, from[1] == channels, to.count == from.count, to[0] == from[0],
        to[2...].reduce(1, *) == window.places
      else { throw Self.misfit(layer, graph) }
      self.window = window
      positions = from[0] * window.places
      (inputInner, outputAxis) = (window.area, 1)
    case .product(let inputAxis, let axis):
      let (i, o) = (from.count + inputAxis, to.count + axis)
      guard i >= 0, o >= 0, from[i] == layer.length else { throw Self.misfit(layer, graph) }
      window = nil
      positions = from.reduce(1, *) / max(1, layer.length)
      (inputInner, outputAxis) = (from[(i + 1)...].reduce(1, *), o)
    }
    outputChannels = to[outputAxis]
    outputInner = to[(outputAxis + 1)...].reduce(1, *)
    guard (layer.keptOutputs.last ?? 0) < outputChannels, to.reduce(1, *) == positions * outputChannels else {
      throw Self.misfit(layer, graph)
    }
    let fits = shortcut.map { shortcut in
      shortcut.original.shape == to && shortcut.compressed.shape.count == to.count
        && shortcut.compressed.shape.indices.allSatisfy {
          shortcut.compressed.shape[$0] == ($0 == outputAxis ? layer.outputCount : to[$0])
        }
    }
    self.shortcut = fits == true ? shortcut : nil
    let gains = layer.shortcut?.gains ?? [Double](repeating: 1, count: layer.outputCount)
    let largest = gains.map(\.magnitude).max() ?? 0
    inverseGains = gains.map { $0.magnitude > Self.smallestGain * largest ? 1 / $0 : 0 }
  }

  private static func misfit(_ layer: RefitLayer, _ graph: Graph) -> Failure {
    Failure(
      .runtimeFailed, "'\(layer.name)' does not read and compute what its shapes say",
      details: ["layer": .string(layer.name)])
  }

  func fillInput(_ row: UnsafeMutablePointer<Double>, _ position: Int, group: Int) {
    let length = layer.length
    if let window {
      let (sample, place) = (position / window.places, position % window.places)
      let channels = input.shape[1] / layer.groups
      window.fill(
        row, from: input.elements, at: (sample * input.shape[1] + group * channels) * window.area, channels: channels,
        place: place)
      return
    }
    let first = position / inputInner * length * inputInner + position % inputInner
    for channel in 0..<length { row[channel] = Double(input.elements[first + channel * inputInner]) }
  }

  func fillOutput(_ row: UnsafeMutablePointer<Double>, _ position: Int, group: Int) {
    let outputs = layer.outputsPerGroup
    let block = position / outputInner
    let offset = position % outputInner
    let first = block * outputChannels * outputInner + offset
    for k in 0..<outputs {
      let channel = group * outputs + k
      let place = first + layer.keptOutputs[channel] * outputInner
      var wanted = Double(output.elements[place])
      if let shortcut {
        let now = block * layer.outputCount * outputInner + offset + channel * outputInner
        let missing = Double(shortcut.original.elements[place]) - Double(shortcut.compressed.elements[now])
        wanted += missing * inverseGains[channel]
      }
      row[k] = wanted
    }
  }
}
