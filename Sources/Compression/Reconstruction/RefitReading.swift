import ModelGraph

/// The maps of one batch as rows of a regression: at every position what a layer reads, and what it should compute.
final class RefitReading {
  let positions: Int
  private let layer: RefitLayer
  private let input: FeatureMap
  private let output: FeatureMap
  private let shortcut: (original: FeatureMap, compressed: FeatureMap)?
  private let inputs: UnsafePointer<Float>
  private let outputs: UnsafePointer<Float>
  private let originals: UnsafePointer<Float>?
  private let compressed: UnsafePointer<Float>?
  private let window: PatchWindow?
  /// Of what is read: channels of a group, and how far they are apart.
  private let channels: Int
  private let inputInner: Int
  private let outputInner: Int
  private let outputChannels: Int
  private let inverseGains: [Double]
  /// Where the taps read, and the first number of the position in either map.
  private let offsets: UnsafeMutablePointer<Int>
  private var inputBase = 0
  private var outputBase = 0
  private var compressedBase = 0

  /// A gain below this share of the largest is of a channel that says nothing.
  private static let smallestGain = 1e-2

  /// - Parameters:
  ///   - input: as the compressed network computes it.
  ///   - output: as the original one does; where channels are mixed, of what the layer reads.
  init(
    _ layer: RefitLayer, _ input: FeatureMap, _ output: FeatureMap,
    _ shortcut: (original: FeatureMap, compressed: FeatureMap)?, _ graph: Graph
  ) throws(Failure) {
    (self.layer, self.input, self.output) = (layer, input, output)
    let (from, to) = (input.shape, output.shape)
    let outputAxis: Int
    switch layer.form {
    case .convolution(let geometry, let groups):
      channels = layer.length / geometry.kernel.reduce(1, *)
      let window =
        from.count == geometry.kernel.count + 2 && to.count == from.count
        ? PatchWindow(geometry, lengths: Array(from[2...]), outputs: Array(to[2...])) : nil
      guard let window, from[1] == channels * groups, to[0] == from[0], to[2...].reduce(1, *) == window.places else {
        throw Self.misfit(layer, graph)
      }
      self.window = window
      positions = from[0] * window.places
      (inputInner, outputAxis) = (window.area, 1)
    case .product(let inputAxis, let axis), .mixing(let inputAxis, let axis, _):
      let (i, o) = (from.count + inputAxis, to.count + axis)
      guard i >= 0, o >= 0, from[i] == layer.length else { throw Self.misfit(layer, graph) }
      window = nil
      channels = layer.length
      positions = from.reduce(1, *) / max(1, layer.length)
      (inputInner, outputAxis) = (from[(i + 1)...].reduce(1, *), o)
    }
    outputChannels = to[outputAxis]
    outputInner = to[(outputAxis + 1)...].reduce(1, *)
    guard (layer.keptOutputs.last ?? 0) < outputChannels, to.reduce(1, *) == positions * outputChannels,
      let inputs = input.elements.baseAddress, let outputs = output.elements.baseAddress
    else { throw Self.misfit(layer, graph) }
    (self.inputs, self.outputs) = (inputs, outputs)
    let fits = shortcut.map { shortcut in
      shortcut.original.shape == to && shortcut.compressed.shape.count == to.count
        && shortcut.compressed.shape.indices.allSatisfy {
          shortcut.compressed.shape[$0] == ($0 == outputAxis ? layer.outputCount : to[$0])
        }
    }
    self.shortcut = fits == true ? shortcut : nil
    originals = self.shortcut?.original.elements.baseAddress
    compressed = self.shortcut?.compressed.elements.baseAddress
    let gains = layer.shortcut?.gains ?? [Double](repeating: 1, count: layer.outputCount)
    let largest = gains.map(\.magnitude).max() ?? 0
    inverseGains = gains.map { $0.magnitude > Self.smallestGain * largest ? 1 / $0 : 0 }
    offsets = .allocate(capacity: max(1, window?.taps ?? 1))
  }

  deinit { offsets.deallocate() }

  private static func misfit(_ layer: RefitLayer, _ graph: Graph) -> Failure {
    Failure(
      .runtimeFailed, "'\(layer.name)' does not read and compute what its shapes say",
      details: ["layer": .string(layer.name)])
  }

  /// Turns to a position.
  func prepare(_ position: Int) {
    let (block, offset) = (position / outputInner, position % outputInner)
    outputBase = block * outputChannels * outputInner + offset
    compressedBase = block * layer.outputCount * outputInner + offset
    if let window {
      inputBase = position / window.places * input.shape[1] * window.area
      window.find(position % window.places, to: offsets)
    } else {
      inputBase = position / inputInner * channels * inputInner + position % inputInner
    }
  }

  func fillInput(_ row: UnsafeMutablePointer<Double>, group: Int) {
    if let window {
      window.fill(
        row, from: inputs, at: inputBase + group * channels * window.area, channels: channels, offsets: offsets)
    } else {
      for channel in 0..<channels { row[channel] = Double(inputs[inputBase + channel * inputInner]) }
    }
  }

  func fillOutput(_ row: UnsafeMutablePointer<Double>, group: Int) {
    let count = layer.outputsPerGroup
    layer.keptOutputs.withUnsafeBufferPointer { kept in
      inverseGains.withUnsafeBufferPointer { inverseGains in
        for k in 0..<count {
          let channel = group * count + k
          let place = outputBase + kept[channel] * outputInner
          row[k] = Double(outputs[place])
          if let originals, let compressed {
            let missing = Double(originals[place]) - Double(compressed[compressedBase + channel * outputInner])
            row[k] += missing * inverseGains[channel]
          }
        }
      }
    }
    if let offset = layer.offset { for k in 0..<count { row[k] -= offset[group * count + k] } }
  }
}
