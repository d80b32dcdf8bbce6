import ModelGraph
import Numerics

/// Greedy elimination of the channels that a layer reads, as `ChannelElimination` has it, where the layer was seen at
/// few positions: all that it needs follows from these.
///
/// With X the positions, `[n, channels]`, and D the little that variances are lifted by, the covariance of what is left
/// is D + X'X, and its inverse D^-1 - D^-1 X' M X D^-1 with M = (I + X D^-1 X')^-1 (Woodbury). For a set R of channels
/// that go, Q = D - X_R' M X_R; they cost |B_R Q^-1/2|^2 with B = W D, what is left makes up for them by B <- B + B_R
/// Q^-1 X_R' M X, and M grows by M X_R Q^-1 X_R' M.
struct SampledElimination: CellElimination {
  /// By cell, the layer's inputs that go with it.
  private let inputs: [[Int]]
  private let size: Int
  /// Positions, and what each channel is multiplied with.
  private let positions: Int
  private let products: Int
  private let algebra: LinearAlgebra
  /// `[size, positions]`, such that X'X is the covariance.
  private let samples: [Double]
  /// D, and by channel the square of what it was multiplied with at first.
  private let lift: [Double]
  private let ownWeights: [Double]
  /// M.
  private var inverse: [Double]
  /// B, `[size, products]`, and the squares of its rows.
  private var images: [Double]
  private var squares: [Double]
  /// The diagonal of D - X' M X.
  private var slack: [Double]

  /// Channels that go at once.
  private static let block = 64

  /// - Parameters: as of `ChannelLoss`.
  /// - Returns: nil where positions are not kept, or would not be fewer to work with, and where nothing varies.
  init?(
    _ layer: RefitLayer, _ moments: InputMoments, cells: [Int], cellCount: Int, total: Double?, _ algebra: LinearAlgebra
  ) {
    let (size, n) = (moments.size, moments.count)
    let isCentred = if case .none = layer.intercept { false } else { true }
    guard cells.count == size, layer.groups == 1, var rows = moments.samples(isCentred: isCentred) else { return nil }
    let taps = max(1, layer.length / size)
    let products = layer.outputCount * taps
    guard n + products <= size else { return nil }
    let scale = 1 / Double(n).squareRoot()
    for k in rows.indices { rows[k] *= scale }
    let samples = rows.transposed(rows: n, columns: size)
    func square(_ channel: Int) -> Double {
      var sum = 0.0
      for k in channel * n..<(channel + 1) * n { sum += samples[k] * samples[k] }
      return sum
    }
    let variances = (0..<size).map(square)
    let mean = variances.reduce(0, +) / Double(size)
    guard mean > 0, mean.isFinite else { return nil }
    let lift = variances.map { ChannelLoss.lift(of: $0, mean: mean) }
    // [products, size]
    var weights = [Double](repeating: 0, count: products * size)
    let elements = layer.rows
    for o in 0..<layer.outputCount {
      let gain = layer.gains?[o] ?? 1
      for channel in 0..<size {
        for tap in 0..<taps {
          weights[(o * taps + tap) * size + channel] = gain * elements[o * layer.length + channel * taps + tap]
        }
      }
    }
    var outputs = [Double](repeating: 0, count: products * n)
    algebra.multiply(
      weights, .asIs, rows, .transposed, rows: products, columns: n, depth: size, to: &outputs)
    let whole = max(outputs.reduce(0) { $0 + $1 * $1 }, total ?? 0)
    guard whole > 0, whole.isFinite else { return nil }
    let unit = 1 / whole.squareRoot()
    var images = weights.transposed(rows: products, columns: size)
    var ownWeights = [Double](repeating: 0, count: size)
    for channel in 0..<size {
      for k in channel * products..<(channel + 1) * products {
        images[k] *= unit
        ownWeights[channel] += images[k] * images[k]
        images[k] *= lift[channel]
      }
    }
    var divided = samples
    for channel in 0..<size {
      for k in channel * n..<(channel + 1) * n { divided[k] /= lift[channel].squareRoot() }
    }
    var factor = [Double](repeating: 0, count: n * n)
    algebra.addGram(of: divided, count: n, length: size, layout: .elements, to: &factor)
    for k in 0..<n { factor[k * n + k] += 1 }
    guard algebra.cholesky(of: &factor, size: n) else { return nil }
    var inverse = [Double](repeating: 0, count: n * n)
    for k in 0..<n { inverse[k * n + k] = 1 }
    algebra.solve(&inverse, count: n, byCholesky: factor, size: n)

    var inputs = [[Int]](repeating: [], count: cellCount)
    for (input, cell) in cells.enumerated() where cell >= 0 { inputs[cell].append(input) }
    (self.inputs, self.size, positions, self.products) = (inputs, size, n, products)
    (self.algebra, self.samples, self.lift, self.ownWeights) = (algebra, samples, lift, ownWeights)
    (self.inverse, self.images) = (inverse, images)
    squares = zip(ownWeights, lift).map { $0 * $1 * $1 }
    var turned = [Double](repeating: 0, count: size * n)
    algebra.multiply(samples, .asIs, inverse, .asIs, rows: size, columns: n, depth: n, to: &turned)
    slack = (0..<size).map { channel in
      (channel * n..<(channel + 1) * n).reduce(lift[channel]) { $0 - samples[$1] * turned[$1] }
    }
  }

  func cost(of cell: Int) -> Double {
    inputs[cell].reduce(0) { $0 + squares[$1] / max(slack[$1], Double.leastNormalMagnitude) }
  }

  mutating func remove(_ cell: Int) -> (cost: Double, excess: Double) {
    let gone = inputs[cell]
    let excess = gone.reduce(0) { $0 + ownWeights[$1] * lift[$1] }
    var cost = 0.0
    for start in stride(from: 0, to: gone.count, by: Self.block) {
      cost += remove(Array(gone[start..<min(gone.count, start + Self.block)]))
    }
    return (cost, excess)
  }

  /// What all of `cells` cost together: a share of the variance, not below zero.
  func share(of cells: [Int]) -> Double {
    var left = self
    return max(
      0,
      cells.reduce(0) { sum, cell in
        let (cost, excess) = left.remove(cell)
        return sum + cost - excess
      })
  }

  private mutating func remove(_ gone: [Int]) -> Double {
    let (n, r, width) = (positions, gone.count, products)
    let removed = gone.flatMap { samples[$0 * n..<($0 + 1) * n] }
    // X_R' M, [r, n], and the factor of Q.
    var reach = [Double](repeating: 0, count: r * n)
    algebra.multiply(removed, .asIs, inverse, .asIs, rows: r, columns: n, depth: n, to: &reach)
    var factor = [Double](repeating: 0, count: r * r)
    algebra.multiply(removed, .asIs, reach, .transposed, rows: r, columns: r, depth: n, scale: -1, to: &factor)
    for (k, channel) in gone.enumerated() { factor[k * r + k] += lift[channel] }
    // [products, r]
    var image = gone.flatMap { images[$0 * width..<($0 + 1) * width] }
      .transposed(rows: r, columns: width)
    guard algebra.cholesky(of: &factor, size: r) else {
      // Next to nothing is left of them but what others have too.
      return gone.reduce(0) { $0 + squares[$1] / max(slack[$1], Double.leastNormalMagnitude) }
    }
    var halved = image
    algebra.solve(&halved, count: width, byUpper: factor, size: r)
    let cost = halved.reduce(0) { $0 + $1 * $1 }
    algebra.solve(&image, count: width, byCholesky: factor, size: r)
    // X' M X_R, [size, r].
    var shared = [Double](repeating: 0, count: size * r)
    algebra.multiply(samples, .asIs, reach, .transposed, rows: size, columns: r, depth: n, to: &shared)
    algebra.multiply(
      shared, .asIs, image, .transposed, rows: size, columns: width, depth: r, addend: 1, to: &images)
    algebra.solve(&shared, count: size, byUpper: factor, size: r)
    var turned = reach.transposed(rows: r, columns: n)
    algebra.solve(&turned, count: n, byUpper: factor, size: r)
    algebra.multiply(
      turned, .asIs, turned, .transposed, rows: n, columns: n, depth: r, addend: 1, to: &inverse)
    slack.withUnsafeMutableBufferPointer { slack in
      squares.withUnsafeMutableBufferPointer { squares in
        shared.withUnsafeBufferPointer { shared in
          images.withUnsafeBufferPointer { images in
            for channel in slack.indices {
              var (lost, square) = (0.0, 0.0)
              for k in channel * r..<(channel + 1) * r { lost += shared[k] * shared[k] }
              for k in channel * width..<(channel + 1) * width { square += images[k] * images[k] }
              slack[channel] -= lost
              squares[channel] = square
            }
          }
        }
      }
    }
    return cost
  }
}
