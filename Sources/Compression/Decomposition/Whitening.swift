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
  private let root: Root

  private enum Root: Sendable {
    /// R, upper triangular: S = R'.
    case triangular([Double])
    /// S = b I + V' diag(r - b) V with orthonormal rows V, `[count, size]`: what of few samples is not the identity lies in
    /// the space that they span.
    case lowRank(directions: [Double], roots: [Double], base: Double)
  }

  /// Of the mean variance: what a covariance of few samples is lifted by.
  private static let leastShare = 1e-8
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
    for share in [0, Self.leastShare, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1] {
      var factor = covariance
      for k in 0..<size { factor[k * size + k] += share * mean }
      guard algebra.cholesky(of: &factor, size: size),
        (0..<size).allSatisfy({ factor[$0 * size + $0] * factor[$0 * size + $0] > Self.smallestPivot * mean })
      else { continue }
      (self.size, root, regularization) = (size, .triangular(factor), share * mean)
      return
    }
    return nil
  }

  /// The same of samples. Of few of them the covariance itself is never made, nor a factor of its size.
  /// - Parameter isCentred: whether about their mean.
  package init?(_ moments: InputMoments, isCentred: Bool, _ algebra: LinearAlgebra) {
    guard let samples = moments.samples(isCentred: isCentred) else {
      self.init(
        covariance: isCentred ? moments.covariance : moments.secondMoment, size: moments.size, algebra)
      return
    }
    let (size, count) = (moments.size, moments.count)
    var gram = [Double](repeating: 0, count: count * count)
    algebra.addGram(of: samples, count: count, length: size, layout: .vectors, to: &gram)
    for k in gram.indices { gram[k] /= Double(count) }
    let mean = (0..<count).reduce(0) { $0 + gram[$1 * count + $1] } / Double(size)
    guard mean.isFinite, mean > 0,
      let (values, vectors) = algebra.leadingEigenvectors(ofSymmetric: &gram, size: count, count: count)
    else { return nil }
    let lift = Self.leastShare * mean
    // Smaller ones are lost in what all directions are lifted by.
    let rank = values.prefix { $0 > 1e-4 * lift }.count
    var directions = [Double](repeating: 0, count: rank * size)
    algebra.multiply(
      Array(vectors[..<(rank * count)]), .asIs, samples, .asIs, rows: rank, columns: size, depth: count,
      to: &directions)
    guard algebra.orthonormalize(&directions, count: rank, length: size) else { return nil }
    self.init(
      size: size, regularization: lift,
      root: .lowRank(
        directions: directions, roots: values[..<rank].map { ($0 + lift).squareRoot() }, base: lift.squareRoot()))
  }

  private init(size: Int, regularization: Double, root: Root) {
    (self.size, self.regularization, self.root) = (size, regularization, root)
  }

  /// Replaces `rows`, `[count, size]`, by `rows S`.
  func apply(to rows: UnsafeMutablePointer<Double>, count: Int, _ algebra: LinearAlgebra) {
    switch root {
    case .triangular(let factor): algebra.multiply(rows, count: count, byTransposeOfUpper: factor, size: size)
    case .lowRank(let directions, let roots, let base):
      scale(rows, count, along: directions, by: roots, others: base, algebra)
    }
  }

  /// Replaces `rows`, `[count, size]`, by `rows S^-1`.
  func solve(_ rows: UnsafeMutablePointer<Double>, count: Int, _ algebra: LinearAlgebra) {
    switch root {
    case .triangular(let factor): algebra.solve(rows, count: count, byTransposeOfUpper: factor, size: size)
    case .lowRank(let directions, let roots, let base):
      scale(rows, count, along: directions, by: roots.map { 1 / $0 }, others: 1 / base, algebra)
    }
  }

  /// Multiplies what of `rows` lies along each direction by a factor of its own, and all else by another.
  private func scale(
    _ rows: UnsafeMutablePointer<Double>, _ count: Int, along directions: [Double], by factors: [Double],
    others: Double, _ algebra: LinearAlgebra
  ) {
    let rank = factors.count
    guard rank > 0, count > 0 else { return }
    var parts = [Double](repeating: 0, count: count * rank)
    parts.withUnsafeMutableBufferPointer { parts in
      directions.withUnsafeBufferPointer { directions in
        guard let parts = parts.baseAddress, let directions = directions.baseAddress else { return }
        algebra.multiply(
          rows, .asIs, directions, .transposed, rows: count, columns: rank, depth: size, to: parts)
        for k in 0..<count { for r in 0..<rank { parts[k * rank + r] *= factors[r] - others } }
        algebra.multiply(
          parts, .asIs, directions, .asIs, rows: count, columns: size, depth: rank, addend: others, to: rows)
      }
    }
  }
}
