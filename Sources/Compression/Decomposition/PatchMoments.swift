import ModelGraph
import Numerics

/// Where a convolution reads: the patch of every place its window takes.
struct PatchGeometry: Sendable {
  let kernel: [Int]
  private let strides: [Int]
  private let dilations: [Int]
  private let pads: [Int]
  private let automatic: String

  init(_ node: Node, kernel: [Int]) {
    let rank = kernel.count
    self.kernel = kernel
    strides = node.ints("strides") ?? [Int](repeating: 1, count: rank)
    dilations = node.ints("dilations") ?? [Int](repeating: 1, count: rank)
    pads = node.ints("pads") ?? [Int](repeating: 0, count: 2 * rank)
    automatic = node.string("auto_pad") ?? "NOTSET"
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
  private let axes: [(begin: Int, count: Int, stride: Int, dilation: Int)]

  init(_ geometry: PatchGeometry, lengths: [Int]) {
    (kernel, self.lengths) = (geometry.kernel, lengths)
    axes = lengths.indices.map { geometry.places(axis: $0, length: lengths[$0]) }
    places = axes.reduce(1) { $0 * $1.count }
    area = lengths.reduce(1, *)
  }

  /// Writes the patch at `place`, by channel and tap, zeros of the padding included.
  /// - Parameter base: where in `elements` the first of `channels` maps begins.
  func fill(
    _ row: UnsafeMutablePointer<Double>, from elements: UnsafeBufferPointer<Float>, at base: Int, channels: Int,
    place: Int
  ) {
    let taps = kernel.reduce(1, *)
    for tap in 0..<taps {
      var (rest, restOfTap, offset, stride) = (place, tap, 0, 1)
      var isInside = true
      for axis in axes.indices.reversed() {
        let index =
          rest % axes[axis].count * axes[axis].stride - axes[axis].begin + restOfTap % kernel[axis]
          * axes[axis].dilation
        rest /= axes[axis].count
        restOfTap /= kernel[axis]
        isInside = isInside && index >= 0 && index < lengths[axis]
        offset += index * stride
        stride *= lengths[axis]
      }
      for channel in 0..<channels {
        row[channel * taps + tap] = isInside ? Double(elements[base + channel * area + offset]) : 0
      }
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
    let positions = map.shape[0] * window.places
    let taken = min(positions, max(1, (wanted * map.shape[0] + sampleCount - 1) / sampleCount))
    guard taken > 0 else { return }
    let rows = UnsafeMutablePointer<Double>.allocate(capacity: min(taken, Self.tile) * size)
    defer { rows.deallocate() }
    for start in stride(from: 0, to: taken, by: Self.tile) {
      try work.checkCancellation()
      let tile = min(Self.tile, taken - start)
      var sum = 0.0
      for k in 0..<tile {
        let position = ((2 * (start + k) + 1) * positions) / (2 * taken)
        let (sample, place) = (position / window.places, position % window.places)
        window.fill(
          rows + k * size, from: map.elements, at: sample * layer.inputChannels * window.area,
          channels: layer.inputChannels, place: place)
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
