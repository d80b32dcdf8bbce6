import ModelGraph
import Numerics

/// What a layer's input looks like, as a factor S of its covariance: the error of W' on inputs x with covariance
/// S S' is ||(W - W') S||, so a decomposition of W S loses least of the output where one of W loses least of the weight
/// (SVD-LLM, arXiv 2403.07378).
///
/// Invariant: S is invertible, for a covariance that is not (few samples, dead inputs) is lifted by `regularization`
/// on its diagonal.
package struct Whitening: Sendable {
  package let size: Int
  /// What was added to the covariance's diagonal.
  package let regularization: Double
  /// R, upper triangular: S = R'.
  let factor: [Double]

  /// A pivot below this share of the mean variance says no more than rounding.
  private static let smallestPivot = 1e-10

  /// - Parameter covariance: `[size, size]`, of which the entries on and above the diagonal are read: about the mean if
  ///   the bias is shifted by `biasShift`, otherwise about zero.
  /// - Returns: nil if it holds NaN or infinity, or is zero (then every approximation has the same output).
  package init?(covariance: [Double], size: Int, _ algebra: LinearAlgebra) {
    precondition(covariance.count == size * size, "a covariance for every two inputs")
    let mean = (0..<size).reduce(0) { $0 + covariance[$1 * size + $1] } / Double(size)
    guard mean.isFinite, mean > 0 else { return nil }
    // From 1e-8 to 1: with as much as the mean variance on its diagonal, every true covariance is positive definite.
    for share in [0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1] {
      var factor = covariance
      for k in 0..<size { factor[k * size + k] += share * mean }
      guard algebra.cholesky(of: &factor, size: size),
        (0..<size).allSatisfy({ factor[$0 * size + $0] * factor[$0 * size + $0] > Self.smallestPivot * mean })
      else { continue }
      (self.size, self.factor, regularization) = (size, factor, share * mean)
      return
    }
    return nil
  }

  /// Replaces `rows`, `[count, size]`, by `rows S`.
  func apply(to rows: UnsafeMutablePointer<Double>, count: Int, _ algebra: LinearAlgebra) {
    algebra.multiply(rows, count: count, byTransposeOfUpper: factor, size: size)
  }

  /// Replaces `rows`, `[count, size]`, by `rows S^-1`.
  func solve(_ rows: UnsafeMutablePointer<Double>, count: Int, _ algebra: LinearAlgebra) {
    algebra.solve(rows, count: count, byTransposeOfUpper: factor, size: size)
  }
}

/// Sums over samples of a layer's input, from which mean and covariance follow.
package struct InputMoments: Sendable {
  package let size: Int
  package private(set) var count = 0
  private var sums: [Double]
  /// About `origin`; entries on and above the diagonal.
  private var products: [Double]
  /// The first sample: near it, sums of products do not cancel when the mean is taken off.
  private var origin: [Double] = []

  package init(size: Int) {
    self.size = size
    sums = [Double](repeating: 0, count: size)
    products = [Double](repeating: 0, count: size * size)
  }

  /// - Parameter samples: `[n, size]`; the memory is used as scratch space.
  package mutating func add(_ samples: UnsafeMutableBufferPointer<Double>, _ algebra: LinearAlgebra) {
    precondition(samples.count % size == 0, "a sample has \(size) elements")
    guard let base = samples.baseAddress, !samples.isEmpty else { return }
    if origin.isEmpty { origin = Array(samples.prefix(size)) }
    let added = samples.count / size
    for sample in 0..<added {
      for k in 0..<size {
        base[sample * size + k] -= origin[k]
        sums[k] += base[sample * size + k]
      }
    }
    algebra.addGram(of: base, count: size, length: added, layout: .elements, to: &products)
    count += added
  }

  /// Of some of the elements.
  func keeping(_ elements: [Int]) -> InputMoments {
    var result = InputMoments(size: elements.count)
    result.count = count
    if !origin.isEmpty { result.origin = elements.map { origin[$0] } }
    for (a, i) in elements.enumerated() {
      result.sums[a] = sums[i]
      for (b, j) in elements.enumerated().dropFirst(a) {
        result.products[a * elements.count + b] = products[i * size + j]
      }
    }
    return result
  }

  /// Zeros without samples.
  package var mean: [Double] {
    origin.isEmpty ? sums : sums.indices.map { origin[$0] + sums[$0] / Double(count) }
  }

  /// About the mean, `[size, size]`; only entries on and above the diagonal are valid.
  package var covariance: [Double] {
    guard count > 0 else { return products }
    let n = Double(count)
    var covariance = products
    for i in 0..<size {
      for j in i..<size { covariance[i * size + j] = products[i * size + j] / n - sums[i] / n * (sums[j] / n) }
    }
    return covariance
  }
}
