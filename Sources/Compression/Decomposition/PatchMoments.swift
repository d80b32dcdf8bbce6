import ModelGraph
import Numerics

/// Where a convolution reads: the patch of every place its window takes. Of a transposed one, what every place of its
/// output is a sum of.
struct PatchGeometry: Sendable {
  let kernel: [Int]
  let isTransposed: Bool
  private let isPaddedExplicitly: Bool
  private let strides: [Int]
  private let dilations: [Int]
  private let pads: [Int]
  private let outputPadding: [Int]
  private let automatic: String

  init(_ node: Node, kernel: [Int]) {
    let rank = kernel.count
    self.kernel = kernel
    isTransposed = node.op == "ConvTranspose"
    isPaddedExplicitly =
      node.ints("output_shape") == nil && ["NOTSET", "VALID"].contains(node.string("auto_pad") ?? "NOTSET")
    strides = node.ints("strides") ?? [Int](repeating: 1, count: rank)
    dilations = node.ints("dilations") ?? [Int](repeating: 1, count: rank)
    pads = node.ints("pads") ?? [Int](repeating: 0, count: 2 * rank)
    outputPadding = node.ints("output_padding") ?? [Int](repeating: 0, count: rank)
    automatic = node.string("auto_pad") ?? "NOTSET"
  }

  /// Of a transposed convolution, along one axis: where its first window begins, how many places its output has.
  /// - Parameters:
  ///   - length: of what it reads.
  ///   - count: of what it computes.
  func places(
    axis: Int, length: Int, count: Int
  ) -> (begin: Int, count: Int, stride: Int, dilation: Int) {
    let (stride, dilation) = (strides[axis], dilations[axis])
    if isPaddedExplicitly { return (pads[axis], count, stride, dilation) }
    // Padding follows from the length that was asked for; an odd one is shared as the standard says.
    let total = max(0, stride * (length - 1) + (kernel[axis] - 1) * dilation + 1 + outputPadding[axis] - count)
    return (automatic == "SAME_UPPER" ? total / 2 : total - total / 2, count, stride, dilation)
  }

  /// Along one axis of a map: where the window first begins, and how many places it takes.
  func places(axis: Int, length: Int) -> (begin: Int, count: Int, stride: Int, dilation: Int) {
    let (stride, dilation) = (strides[axis], dilations[axis])
    let extent = (kernel[axis] - 1) * dilation + 1
    switch automatic {
    case "SAME_UPPER", "SAME_LOWER":
      let count = (length + stride - 1) / stride
      let total = max(0, (count - 1) * stride + extent - length)
      return (automatic == "SAME_UPPER" ? total / 2 : total - total / 2, count, stride, dilation)
    case "VALID": return (0, max(0, (length - extent) / stride + 1), stride, dilation)
    default:
      let (begin, end) = (pads[axis], pads[axis + kernel.count])
      return (begin, max(0, (length + begin + end - extent) / stride + 1), stride, dilation)
    }
  }
}

/// The places that a convolution's window takes on maps of one size.
struct PatchWindow {
  /// How many places there are, and how many numbers a channel of a map has.
  let places: Int
  let area: Int
  private let kernel: [Int]
  private let lengths: [Int]
  private let isTransposed: Bool
  private let axes: [(begin: Int, count: Int, stride: Int, dilation: Int)]
  var taps: Int { kernel.reduce(1, *) }

  /// - Parameters:
  ///   - lengths: of the maps that are read.
  ///   - outputs: of those that are computed; asked for of transposed convolutions.
  init(_ geometry: PatchGeometry, lengths: [Int], outputs: [Int] = []) {
    (kernel, self.lengths, isTransposed) = (geometry.kernel, lengths, geometry.isTransposed)
    axes = lengths.indices.map { axis in
      geometry.isTransposed
        ? geometry.places(axis: axis, length: lengths[axis], count: axis < outputs.count ? outputs[axis] : 0)
        : geometry.places(axis: axis, length: lengths[axis])
    }
    places = axes.reduce(1) { $0 * $1.count }
    area = lengths.reduce(1, *)
  }

  /// Writes where in a map each tap reads at `place`, negative for zeros: of the padding, and of what lies between the
  /// numbers that a transposed convolution spreads.
  func find(_ place: Int, to offsets: UnsafeMutablePointer<Int>) {
    for tap in 0..<taps {
      var (rest, restOfTap, offset, stride) = (place, tap, 0, 1)
      for axis in axes.indices.reversed() {
        let (begin, count, step, dilation) = axes[axis]
        var index = rest % count
        let shift = restOfTap % kernel[axis] * dilation
        rest /= count
        restOfTap /= kernel[axis]
        if isTransposed {
          index += begin - shift
          index = index % step == 0 ? index / step : -1
        } else {
          index = index * step - begin + shift
        }
        guard index >= 0, index < lengths[axis] else {
          offset = -1
          break
        }
        offset += index * stride
        stride *= lengths[axis]
      }
      offsets[tap] = offset
    }
  }

  /// Writes the patch at `place`, by channel and tap, zeros of the padding included.
  /// - Parameters:
  ///   - base: where in `elements` the first of `channels` maps begins.
  ///   - offsets: as found for the place.
  func fill(
    _ row: UnsafeMutablePointer<Double>, from elements: UnsafePointer<Float>, at base: Int, channels: Int,
    offsets: UnsafePointer<Int>
  ) {
    let taps = taps
    for channel in 0..<channels {
      let (source, target) = (elements + base + channel * area, row + channel * taps)
      for tap in 0..<taps { target[tap] = offsets[tap] < 0 ? 0 : Double(source[offsets[tap]]) }
    }
  }
}

/// Gathers the second moment of the patches that a convolution reads, zeros of its padding included: with it the error
/// that other weights make of the output is known exactly.
///
/// Of many positions an even choice is taken, the same for the same data.
final class PatchMomentsProbe: FeatureMapProbe {
  let values: [ValueID]
  let size: Int
  /// `[size, size]`, by input and tap; entries on and above the diagonal, divided by `count` when read.
  private var products: [Double]
  private(set) var count = 0
  private let layer: DecomposableLayer
  private let geometry: PatchGeometry
  private let graph: Graph
  private let algebra: LinearAlgebra
  private let wanted: Int
  private let sampleCount: Int

  /// More positions say little more: a few for every number of a patch, or this many.
  private static let manyPositions = 1 << 14
  private static let tile = 512

  init(_ layer: DecomposableLayer, tap: InputTap, sampleCount: Int, _ graph: Graph, _ algebra: LinearAlgebra) {
    (self.layer, self.graph, self.algebra, self.sampleCount) = (layer, graph, algebra, max(1, sampleCount))
    geometry = PatchGeometry(graph[layer.node], kernel: layer.kernel)
    values = [tap.value]
    size = layer.inputChannels * layer.taps
    products = [Double](repeating: 0, count: size * size)
    wanted = max(Self.manyPositions, 4 * size)
  }

  /// The mean of the products of every two numbers of a patch.
  var secondMoment: [Double] { products.map { $0 / Double(max(1, count)) } }

  func add(_ maps: [FeatureMap], work: Work) throws(Failure) {
    guard let map = maps.first, map.shape.count == 2 + geometry.kernel.count, map.shape[1] == layer.inputChannels else {
      throw Failure(
        .runtimeFailed, "'\(graph[values[0]].name)' is not the input that '\(layer.name)' takes",
        details: ["value": .string(graph[values[0]].name)])
    }
    let window = PatchWindow(geometry, lengths: Array(map.shape[2...]))
    // An even choice of each sample's own, whichever samples come together.
    let each = min(window.places, max(1, (wanted + sampleCount - 1) / sampleCount))
    let taken = map.shape[0] * each
    guard taken > 0 else { return }
    let rows = UnsafeMutablePointer<Double>.allocate(capacity: min(taken, Self.tile) * size)
    let offsets = UnsafeMutablePointer<Int>.allocate(capacity: layer.taps)
    defer {
      rows.deallocate()
      offsets.deallocate()
    }
    guard let elements = map.elements.baseAddress else { return }
    for start in stride(from: 0, to: taken, by: Self.tile) {
      try work.checkCancellation()
      let tile = min(Self.tile, taken - start)
      var sum = 0.0
      for k in 0..<tile {
        let (sample, choice) = ((start + k) / each, (start + k) % each)
        let place = ((2 * choice + 1) * window.places) / (2 * each)
        window.find(place, to: offsets)
        window.fill(
          rows + k * size, from: elements, at: sample * layer.inputChannels * window.area,
          channels: layer.inputChannels, offsets: offsets)
        for element in 0..<size { sum += rows[k * size + element] * 0 }
      }
      // Nothing times NaN or infinity is nothing.
      guard sum == 0 else { throw graph.notFinite(map.value) }
      algebra.addGram(of: rows, count: size, length: tile, layout: .elements, to: &products)
      count += tile
    }
  }
}

/// The second moment of a layer's patches, once gathered.
struct PatchMoments: Sendable {
  /// `[size, size]`, by input and tap; entries on and above the diagonal.
  let secondMoment: [Double]
  let size: Int
  let count: Int

  /// The second moment of the channels, the mean over taps, `[inputs, inputs]`; entries on and above the diagonal.
  func channels(taps: Int) -> [Double] {
    let inputs = size / taps
    var result = [Double](repeating: 0, count: inputs * inputs)
    for i in 0..<inputs {
      for j in i..<inputs {
        for tap in 0..<taps {
          result[i * inputs + j] += secondMoment[(i * taps + tap) * size + j * taps + tap] / Double(taps)
        }
      }
    }
    return result
  }
}
