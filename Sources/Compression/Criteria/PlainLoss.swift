import ModelGraph
import Numerics

/// What one layer loses of its output where channels that it reads go and nothing makes up for them: with A the Gram
/// matrix of the weight's columns and S the second moment of the channels, a set R that goes costs tr(A_RR S_RR), as a
/// share of the same as of `ChannelLoss`.
struct PlainLoss {
  private let size: Int
  /// By cell, the layer's inputs that go with it.
  private let inputs: [[Int]]
  /// `[size, size]`, the products of the two matrices' elements.
  private let products: [Double]

  /// - Parameters: as of `ChannelLoss`.
  /// - Returns: nil where nothing varies.
  init?(
    _ layer: RefitLayer, _ moments: InputMoments, cells: [Int], cellCount: Int, total: Double?, _ algebra: LinearAlgebra
  ) {
    let size = moments.size
    guard cells.count == size else { return nil }
    var inputs = [[Int]](repeating: [], count: cellCount)
    for (input, cell) in cells.enumerated() where cell >= 0 { inputs[cell].append(input) }
    (self.size, self.inputs) = (size, inputs)
    var products = layer.columnGram(size: size, algebra)
    var moment = moments.secondMoment
    LinearAlgebra.mirrorUpper(&moment, size: size)
    var whole = 0.0
    if case .none = layer.intercept {
      for k in 0..<size * size { whole += products[k] * moment[k] }
    } else {
      let mean = moments.mean
      for i in 0..<size {
        for j in 0..<size { whole += products[i * size + j] * (moment[i * size + j] - mean[i] * mean[j]) }
      }
    }
    whole = max(whole, total ?? 0)
    guard whole > 0, whole.isFinite else { return nil }
    for k in 0..<size * size { products[k] *= moment[k] / whole }
    self.products = products
  }

  /// Of sets of cells, each with those of the one before.
  func shares(of removals: [[Int]]) -> [Double] {
    var (isGone, gone, share) = ([Bool](repeating: false, count: size), [Int](), 0.0)
    return removals.map { cells in
      for input in cells.flatMap({ inputs[$0] }) where !isGone[input] {
        isGone[input] = true
        gone.append(input)
        share += 2 * gone.reduce(0) { $0 + products[input * size + $1] } - products[input * size + input]
      }
      return max(0, share)
    }
  }
}
