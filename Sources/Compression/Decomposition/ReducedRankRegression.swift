import ModelGraph
import Numerics

/// The best core and last factor of a Tucker decomposition for a given first one, on the patches that a convolution
/// reads: least squares from the mixed inputs to the outputs, restricted to a rank (reduced-rank regression; Izenman,
/// J. Multivariate Analysis 5, 1975).
///
/// With S the second moment of the patches and B the first factor applied at every tap, the unrestricted solution is
/// R = W S B' (B S B')^-1, and the best of rank r projects its image on the leading eigenvectors of R (B S B') R'.
///
/// Invariant: no other core and last factor with the same first one make the mean squared output error smaller, with a
/// little of the weight's own error added to it, for directions that no sample shows.
struct ReducedRankRegression {
  /// `[outputRank, inputRank, taps]`.
  let core: [Double]
  /// `[outputs, outputRank]`; nil at full rank.
  let last: [Double]?
  let outputError: OutputError

  /// What a direction counts for that no sample shows, as a share of the mean variance.
  private static let prior = 1e-2
  /// Added to the diagonal of what is inverted, as a share of its mean: few samples span few directions.
  private static let ridges = [0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]

  /// - Parameters:
  ///   - weight: `[outputs, inputs * taps]`.
  ///   - first: `[inputRank, inputs]`; nil for the identity.
  /// - Returns: nil where the patches are zero or not finite, or eigenvalues did not converge.
  init?(
    _ weight: MatrixSource, taps: Int, first: [Double]?, outputRank: Int, patches: PatchMoments,
    _ algebra: LinearAlgebra, work: Work
  ) throws(Failure) {
    let (outputs, size) = (weight.rows, weight.columns)
    let inputs = size / taps
    let inputRank = first.map { $0.count / inputs } ?? inputs
    let mixed = inputRank * taps
    let elements = try weight.elements(work: work)
    var moment = patches.secondMoment
    LinearAlgebra.mirrorUpper(&moment, size: size)
    // Along directions that the patches do not span, the weight itself is what is kept to; with many samples this is
    // next to nothing.
    let variance = (0..<size).reduce(0) { $0 + moment[$1 * size + $1] } / Double(size)
    for k in 0..<size { moment[k * size + k] += Self.prior * variance }

    // W S, and from it what the output has of energy.
    var products = [Double](repeating: 0, count: outputs * size)
    algebra.multiply(elements, .asIs, moment, .asIs, rows: outputs, columns: size, depth: size, to: &products)
    try work.checkCancellation()
    let energy = zip(products, elements).reduce(0) { $0 + $1.0 * $1.1 }
    guard energy.isFinite, energy > 0 else { return nil }

    // B S B' and W S B': B mixes inputs alone, so that it is applied as a matrix to `[inputs, rest]`.
    var (inner, cross) = (moment, products)
    if let first {
      func mixing(_ matrix: [Double], rows: Int) -> [Double] {
        var turned = [Double](repeating: 0, count: matrix.count)
        LinearAlgebra.transpose(matrix, rows: rows, columns: size, to: &turned)
        var mixedRows = [Double](repeating: 0, count: mixed * rows)
        algebra.multiply(
          first, .asIs, turned, .asIs, rows: inputRank, columns: taps * rows, depth: inputs, to: &mixedRows)
        return mixedRows
      }
      // [mixed, size], then [mixed, mixed]; S is symmetric.
      inner = mixing(mixing(moment, rows: size), rows: mixed)
      try work.checkCancellation()
      let turned = mixing(products, rows: outputs)
      cross = [Double](repeating: 0, count: turned.count)
      LinearAlgebra.transpose(turned, rows: mixed, columns: outputs, to: &cross)
    }
    moment = []
    products = []
    let mean = (0..<mixed).reduce(0) { $0 + inner[$1 * mixed + $1] } / Double(mixed)
    guard mean.isFinite, mean > 0 else { return nil }
    var factor: [Double]?
    for ridge in Self.ridges where factor == nil {
      try work.checkCancellation()
      var candidate = inner
      for k in 0..<mixed { candidate[k * mixed + k] += ridge * mean }
      if algebra.cholesky(of: &candidate, size: mixed) { factor = candidate }
    }
    guard let factor else { return nil }
    // R (B S B') R' = Y Y' with Y = W S B' U^-1, where B S B' = U' U.
    algebra.solve(&cross, count: outputs, byUpper: factor, size: mixed)
    try work.checkCancellation()
    var gram = [Double](repeating: 0, count: outputs * outputs)
    algebra.addGram(of: cross, count: outputs, length: mixed, layout: .vectors, to: &gram)
    let kept: Double
    var rows = cross
    if outputRank < outputs {
      guard
        let (values, vectors) = algebra.leadingEigenvectors(ofSymmetric: &gram, size: outputs, count: outputRank)
      else { return nil }
      rows = [Double](repeating: 0, count: outputRank * mixed)
      algebra.multiply(vectors, .asIs, cross, .asIs, rows: outputRank, columns: mixed, depth: outputs, to: &rows)
      var turned = [Double](repeating: 0, count: outputs * outputRank)
      LinearAlgebra.transpose(vectors, rows: outputRank, columns: outputs, to: &turned)
      last = turned
      kept = values.reduce(0, +)
    } else {
      last = nil
      kept = (0..<outputs).reduce(0) { $0 + gram[$1 * outputs + $1] }
    }
    algebra.solve(&rows, count: last == nil ? outputs : outputRank, byTransposeOfUpper: factor, size: mixed)
    core = rows
    outputError = OutputError(meanSquare: max(0, energy - kept), energy: energy)
    guard core.allSatisfy(\.isFinite) else { return nil }
  }
}
