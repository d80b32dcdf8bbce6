import ModelGraph
import Numerics

/// The singular values of a matrix, and what follows from them alone: energy, the error that every rank leaves, the
/// rank that an energy needs.
///
/// They are roots of the eigenvalues of the smaller Gram matrix in double: exact to 1e-15 where they matter, while a
/// vanishing one would come out as 1e-8 of the largest. Values below the *floor*, the rounding of weights stored in
/// single precision or that of the Gram matrix, are 0.
///
/// Invariant: `values` descend, are finite and not negative. Everything relative is free of the weights' scale.
package struct Spectrum: Sendable, Equatable {
  /// Of the matrix oriented to have no more rows than columns.
  package let rows: Int
  package let columns: Int
  /// As many as rows.
  package let values: [Double]
  /// Values below it are taken for zero.
  package let floor: Double
  /// By rank 0, 1, ..., rows: the sum of the squares of all values behind, in units of the largest value.
  private let tails: [Double]

  /// - Parameters:
  ///   - values: descending, one per row.
  ///   - peak: the largest magnitude among the elements of the matrix.
  package init(values: [Double], rows: Int, columns: Int, peak: Double) {
    precondition(values.count == min(rows, columns), "a singular value for every row")
    (self.rows, self.columns) = (min(rows, columns), max(rows, columns))
    let largest = values.first ?? 0
    let floor = Self.floor(peak: peak, rows: rows, columns: columns, largest: largest)
    self.floor = floor
    self.values = values.map { $0 > floor ? $0 : 0 }
    var tails = [Double](repeating: 0, count: values.count + 1)
    for k in values.indices.reversed() {
      let share = largest > 0 ? self.values[k] / largest : 0
      tails[k] = tails[k + 1] + share * share
    }
    self.tails = tails
  }

  /// Below this, a singular value is what rounding to single precision (of the elements) or to double (of the Gram
  /// matrix) leaves of zero.
  static func floor(peak: Double, rows: Int, columns: Int, largest: Double) -> Double {
    max(0x1p-23 * peak * (Double(rows).squareRoot() + Double(columns).squareRoot()), 4e-8 * largest)
  }

  /// Memory: the Gram matrix of the smaller side (512 MB for 8192) and a tile of at most 512 rows.
  ///
  /// - Returns: nil if an element of the matrix is NaN or infinite, or the eigenvalues did not converge.
  /// - Throws: `cancelled`; checked between tiles, not within the search for eigenvalues.
  package static func of(
    _ source: MatrixSource, _ algebra: LinearAlgebra, work: Work = Work()
  ) throws(Failure) -> Spectrum? {
    try withForm(of: source, algebra, work)?.spectrum
  }

  /// With the Gram matrix of the smaller side (that of rows, if they are equal), reduced.
  static func withForm(
    of source: MatrixSource, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> (spectrum: Spectrum, form: SymmetricForm<Double>)? {
    guard let peak = try source.peak(work: work) else { return nil }
    let scale = FilterNorm.inverseScale(peak: peak)
    let side: GramMatrix.Side = source.rows <= source.columns ? .rows : .columns
    let gram = try GramMatrix(of: source, side: side, scale: scale, algebra, work).elements
    try work.checkCancellation()
    guard let form = algebra.reduced(gram, size: min(source.rows, source.columns)),
      let ascending = algebra.eigenvalues(of: form)
    else { return nil }
    let spectrum = Spectrum(
      values: ascending.reversed().map { max($0, 0).squareRoot() / scale }, rows: source.rows, columns: source.columns,
      peak: peak)
    return (spectrum, form)
  }

  /// The spectra of a kernel's unfoldings along its outputs and along its inputs, which bound its Tucker ranks.
  ///
  /// - Parameter kernel: `[outputs, inputs * positions]`.
  /// - Returns: nil as `of`.
  package static func ofUnfoldings(
    of kernel: MatrixSource, positions: Int, _ algebra: LinearAlgebra, work: Work = Work()
  ) throws(Failure) -> (output: Spectrum, input: Spectrum)? {
    guard let output = try of(kernel, algebra, work: work) else { return nil }
    return try of(kernel.inputUnfolding(positions: positions), algebra, work: work).map { (output, $0) }
  }

  /// How many values are not zero.
  package var rank: Int { values.firstIndex(of: 0) ?? values.count }

  /// The sum of the squares of all values, which is that of all elements; infinite where it exceeds a double.
  package var energy: Double { (tails[0] * (values.first ?? 0)) * (values.first ?? 0) }

  /// What the best approximation of a rank leaves, in the Frobenius norm, as a share of the matrix's norm; 0 for the
  /// zero matrix. Ranks beyond the rows leave nothing.
  package func relativeError(rank: Int) -> Double {
    tails[0] > 0 ? (tails[min(max(rank, 0), rows)] / tails[0]).squareRoot() : 0
  }

  /// The smallest rank whose best approximation keeps at least a share of the energy, 0...1.
  package func rank(forEnergy share: Double) -> Int {
    // What is left is summed from its smallest terms, so no rank is lost to rounding: 1 asks for all that is not zero.
    let allowed = (1 - share) * tails[0]
    var (low, high) = (0, rows)
    while low < high {
      let middle = (low + high) / 2
      if tails[middle] <= allowed { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
