import ModelGraph

/// A layer whose weight can be written as a product of smaller ones: what it computes at every position is linear in what
/// it reads there.
struct DecomposableLayer: Sendable {
  enum Form: Sendable {
    /// Conv, with weights [O, I, kernel].
    case convolution
    /// ConvTranspose, with weights [I, O, kernel].
    case transposedConvolution
    /// Gemm and MatMul: the weight is the operand `input` and has its input channels along axis `inputAxis`.
    case product(input: Int, inputAxis: Int)
  }

  let node: NodeID
  let name: String
  let form: Form
  let weight: StoredWeight
  let inputChannels: Int
  let outputChannels: Int
  /// Lengths of the spatial kernel; empty for products.
  let kernel: [Int]
  /// How often the input's, the weight's and the output's channels are gone through at nominal lengths.
  let positions: (input: Int, weight: Int, output: Int)

  /// The taps of the kernel.
  var taps: Int { kernel.reduce(1, *) }
  var isPointwise: Bool { taps == 1 }

  /// The weight as rows of output channels: `[O, I, taps]`, row-major.
  var kernelElements: [Double] { weight.elements(order: [outputAxis, inputAxis] + weight.shape.indices.dropFirst(2)) }

  /// Axes of the weight as the node reads it.
  var inputAxis: Int {
    switch form {
    case .convolution: 1
    case .transposedConvolution: 0
    case .product(_, let axis): axis
    }
  }
  var outputAxis: Int { 1 - inputAxis }

  /// Which weight the layer applies, and how: layers that share both share their factors.
  struct Key: Hashable, Sendable {
    let source: ValueID
    let strides: [Int]
    let inputAxis: Int
  }
  var key: Key { Key(source: weight.source, strides: weight.strides, inputAxis: inputAxis) }
}

/// Parameters of a weight and multiply-adds of the layers that apply it.
struct WeightCost: Sendable, Equatable {
  var parameters: Int
  var macs: Int

  static func + (a: WeightCost, b: WeightCost) -> WeightCost {
    WeightCost(parameters: a.parameters + b.parameters, macs: a.macs + b.macs)
  }
}

extension DecomposableLayer {
  var cost: WeightCost {
    WeightCost(
      parameters: inputChannels * outputChannels * taps, macs: positions.weight * inputChannels * outputChannels * taps)
  }

  /// What is left at `ranks` (`[rank]`, or `[in, out]` for Tucker).
  func cost(_ method: DecompositionMethod, ranks: [Int]) -> WeightCost {
    switch method {
    case .svd:
      let parameters = ranks[0] * (inputChannels + outputChannels)
      return WeightCost(parameters: parameters, macs: positions.weight * parameters)
    case .tucker:
      let (ri, ro) = (ranks[0], ranks[1])
      let first = ri == inputChannels ? 0 : inputChannels * ri
      let last = ro == outputChannels ? 0 : ro * outputChannels
      let core = ri * ro * taps
      return WeightCost(
        parameters: first + core + last,
        macs: positions.input * first + positions.weight * core + positions.output * last)
    case .cp:
      let rank = ranks[0]
      // Between the spatial stages the resolution goes from the input's to the output's; the larger is counted.
      let middle = max(positions.input, positions.output)
      let spatial = kernel.filter { $0 > 1 }
      let parameters = rank * (inputChannels + spatial.reduce(0, +) + outputChannels)
      let inner = spatial.dropLast().reduce(0) { $0 + middle * $1 } + positions.output * (spatial.last ?? 0)
      return WeightCost(
        parameters: parameters,
        macs: rank * (positions.input * inputChannels + inner + positions.output * outputChannels))
    }
  }

  /// The ranks at which nothing is lost: `[min(I, O)]`, or `[I, O]`, which a kernel of few taps cannot fill.
  func fullRanks(_ method: DecompositionMethod) -> [Int] {
    switch method {
    case .svd, .cp: [min(inputChannels, outputChannels)]
    case .tucker: [min(inputChannels, outputChannels * taps), min(outputChannels, inputChannels * taps)]
    }
  }

  /// The largest ranks, in the proportion of the full ones, that cost less than the layer; nil if none do.
  func breakEvenRanks(_ method: DecompositionMethod) -> [Int]? {
    let full = fullRanks(method)
    let largest = full.max() ?? 1
    func ranks(_ k: Int) -> [Int] { full.map { max(1, $0 * k / largest) } }
    // Costs grow with the ranks.
    var (good, bad) = (0, largest + 1)
    while bad - good > 1 {
      let middle = (good + bad) / 2
      let cost = cost(method, ranks: ranks(middle))
      if cost.parameters < self.cost.parameters, cost.macs < self.cost.macs { good = middle } else { bad = middle }
    }
    return good == 0 ? nil : ranks(good)
  }
}

/// How a weight becomes a product.
package enum DecompositionMethod: Sendable, Hashable, CaseIterable {
  /// Two matrices, by singular value decomposition: pointwise convolutions and fully connected layers.
  case svd
  /// Two matrices and a smaller kernel between them (Tucker-2; Kim et al., ICLR 2016): spatial convolutions.
  case tucker
  /// Two matrices and one vector per component and spatial axis between them (CP; Lebedev et al., ICLR 2015).
  case cp
}
