import ModelGraph
import Numerics

/// A layer of a compressed network whose weight can be fitted anew: what it computes at every position is linear in the
/// numbers it reads there, and the weight is its own.
struct RefitLayer: Sendable {
  enum Form: Sendable {
    /// Conv and ConvTranspose: each of `groups` parts of the outputs reads patches of its own part of the inputs.
    case convolution(PatchGeometry, groups: Int)
    /// Gemm and MatMul: channels along one axis each of what they read and compute, counted from the end.
    case product(inputAxis: Int, outputAxis: Int)
    /// Where an output sums too many numbers: the channels that the original layer reads, as mixtures of those that are
    /// left, alike for all taps; the weight follows. Channels along these axes, counted from the end.
    case mixing(inputAxis: Int, outputAxis: Int, ChannelMixing)
  }

  /// Of the compressed graph.
  let node: NodeID
  let name: String
  let form: Form
  let weight: StoredWeight
  /// Axes of the weight, outputs first, as rows of the regression read them.
  let weightOrder: [Int]
  /// What a stored weight is multiplied by (Gemm's alpha).
  let weightScale: Double
  /// Of all groups together.
  let outputCount: Int
  /// Numbers that one output is a sum over.
  let length: Int
  let intercept: Intercept
  let input: ValueID
  /// What the node computes, in both networks.
  let output: ValueID
  /// The original's output channels that are left, in order.
  let keptOutputs: [Int]
  /// What is added to the output further on, along the same channels, and may itself be off.
  var shortcut: Shortcut?
  /// By output channel: what a normalization right behind multiplies it with.
  let gains: [Double]?
  /// By output channel: what the node adds and goes on to add; nil if nothing, or if it is fitted.
  var offset: [Double]?
  /// Other places where the same weight is read.
  var others: [RefitLayer] = []

  var groups: Int { if case .convolution(_, let groups) = form { groups } else { 1 } }
  var outputsPerGroup: Int { outputCount / groups }

  var isTransposed: Bool { if case .convolution(let geometry, _) = form { geometry.isTransposed } else { false } }
  /// All places where the weight is read.
  var places: [RefitLayer] { [self] + others }
  /// What the original network has to tell.
  var target: ValueID { if case .mixing = form { input } else { output } }

  /// The weight as `[outputCount, length]`; of mixtures what is left of the channels.
  var rows: [Double] {
    if case .mixing(_, _, let mixing) = form { return mixing.identity }
    let elements = weight.elements(order: weightOrder)
    return weightScale == 1 ? elements : elements.map { $0 * weightScale }
  }

  /// What a sum of the layer and a value that bypasses it needs to come out as in the original.
  struct Shortcut: Sendable {
    let value: ValueID
    let sum: ValueID
    /// By output channel: what the layer's output is multiplied by on the way to the sum.
    let gains: [Double]?
  }

  /// Where a constant can be added to every output channel.
  enum Intercept: Sendable {
    case none
    /// A bias that the node itself reads, times `scale`.
    case bias(ValueID, scale: Double)
    /// A stored vector that the Add after it adds.
    case sum(ValueID)
    /// The mean that the BatchNormalization after it takes off.
    case mean(ValueID)
  }
}

/// A weight composed with a matrix that makes the original's channels of those that are left.
struct ChannelMixing: Sendable {
  /// The original's weight of the outputs that are left: `[outputs, channels, taps]`.
  let weight: [Double]
  let outputs: Int
  let channels: Int
  let taps: Int
  /// The channels that are left, in the original's numbering.
  let kept: [Int]

  /// `[channels, kept]`.
  var identity: [Double] {
    var rows = [Double](repeating: 0, count: channels * kept.count)
    for (k, channel) in kept.enumerated() { rows[channel * kept.count + k] = 1 }
    return rows
  }

  /// The weight on the channels that are left, `[outputs, kept, taps]`, and what it adds to outputs.
  /// - Parameters:
  ///   - rows: `[channels, kept]`.
  ///   - constants: by channel.
  func composed(
    _ rows: [Double], _ constants: [Double]?, _ algebra: LinearAlgebra
  ) -> (weight: [Double], constants: [Double]?) {
    let width = kept.count * taps
    var result = [Double](repeating: 0, count: outputs * width)
    // Of one output [taps, channels] times [channels, kept].
    var (turned, product) = (
      [Double](repeating: 0, count: taps * channels), [Double](repeating: 0, count: taps * kept.count)
    )
    var sums = [Double](repeating: 0, count: outputs)
    for o in 0..<outputs {
      for channel in 0..<channels {
        for tap in 0..<taps { turned[tap * channels + channel] = weight[(o * channels + channel) * taps + tap] }
      }
      algebra.multiply(
        turned, .asIs, rows, .asIs, rows: taps, columns: kept.count, depth: channels, to: &product)
      for k in 0..<kept.count {
        for tap in 0..<taps { result[o * width + k * taps + tap] = product[tap * kept.count + k] }
      }
      if let constants {
        for tap in 0..<taps {
          for channel in 0..<channels { sums[o] += turned[tap * channels + channel] * constants[channel] }
        }
      }
    }
    return (result, constants.map { _ in sums })
  }
}
