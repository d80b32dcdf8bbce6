import COpenBLAS

/// Matrix products and decompositions in double, by OpenBLAS, one thread per call: a result depends on the numbers
/// alone, however many requests are at work.
///
/// Matrices are row-major here; LAPACK reads a row-major matrix as its transpose, which is minded where it matters.
package struct LinearAlgebra: Sendable {
  /// The library cannot be loaded.
  package struct Unavailable: Error {
    package let reason: String
  }

  nonisolated(unsafe) let functions: UnsafePointer<openblas_functions>

  /// - Throws: where there is no OpenBLAS.
  package init() throws(Unavailable) {
    guard let functions = openblas_load() else { throw Unavailable(reason: String(cString: openblas_load_error())) }
    self.functions = functions
  }

  /// How the vectors whose products are wanted lie in memory.
  package enum Layout: Sendable {
    /// `[vectors, elements]`.
    case vectors
    /// `[elements, vectors]`.
    case elements
  }

  /// Adds to `sum` the scalar products of every two of `count` vectors of `length` elements. Of the symmetric result
  /// `[count, count]` only the entries on and above the diagonal (row ≤ column) are kept up.
  ///
  /// - Parameter strides: from row to row of the vectors' matrix and of the sum, where they are parts of wider ones.
  package func addGram<Element: MatrixElement>(
    of vectors: UnsafePointer<Element>, count: Int, length: Int, layout: Layout,
    strides: (vectors: Int, sum: Int)? = nil, to sum: UnsafeMutablePointer<Element>
  ) {
    guard count > 0, length > 0 else { return }
    var (n, k, one) = (CInt(count), CInt(length), Element(1))
    // Row-major [count, length] is column-major [length, count], whose A'A is wanted; the upper triangle of a row-major
    // result is the lower one of a column-major.
    var (lda, ldc) = strides.map { (CInt($0.vectors), CInt($0.sum)) } ?? (layout == .vectors ? k : n, n)
    Element.syrk(of: self)("L", layout == .vectors ? "T" : "N", &n, &k, &one, vectors, &lda, &one, sum, &ldc)
  }

  /// Adds to `sum`, `[rows, columns]`, the scalar products of `rows` vectors a with `columns` vectors b.
  package func addProducts(
    of a: UnsafePointer<Double>, rows: Int, with b: UnsafePointer<Double>, columns: Int, length: Int, layout: Layout,
    to sum: UnsafeMutablePointer<Double>
  ) {
    guard rows > 0, columns > 0, length > 0 else { return }
    var (m, n, k, one) = (CInt(columns), CInt(rows), CInt(length), 1.0)
    // Column-major [columns, rows]: B' A.
    var (ldb, lda) = layout == .vectors ? (k, k) : (m, n)
    functions.pointee.dgemm(
      layout == .vectors ? "T" : "N", layout == .vectors ? "N" : "T", &m, &n, &k, &one, b, &ldb, a, &lda, &one, sum, &m)
  }

  /// Eigenvalues of a symmetric matrix `[n, n]` (its entries on and above the diagonal are read), ascending. The matrix
  /// is overwritten: by the eigenvectors, one per row in the same order, if these are wanted.
  ///
  /// - Returns: nil if the iteration did not converge, or the matrix holds NaN or infinity.
  package func eigenvalues(
    ofSymmetric matrix: UnsafeMutablePointer<Double>, size: Int, vectors: Bool = false
  ) -> [Double]? {
    guard size > 0 else { return [] }
    var n = CInt(size)
    var values = [Double](repeating: 0, count: size)
    var info: CInt = 0
    func run(
      _ work: UnsafeMutablePointer<Double>, _ workCount: CInt, _ ints: UnsafeMutablePointer<CInt>, _ intCount: CInt
    ) {
      var (workCount, intCount) = (workCount, intCount)
      functions.pointee.dsyevd(
        vectors ? "V" : "N", "L", &n, matrix, &n, &values, work, &workCount, ints, &intCount, &info)
    }
    var (wanted, wantedInts) = (0.0, CInt(0))
    run(&wanted, -1, &wantedInts, -1)
    guard info == 0 else { return nil }
    var work = [Double](repeating: 0, count: max(1, Int(wanted)))
    var ints = [CInt](repeating: 0, count: max(1, Int(wantedInts)))
    run(&work, CInt(work.count), &ints, CInt(ints.count))
    return info == 0 && values.allSatisfy(\.isFinite) ? values : nil
  }

  /// The singular value decomposition of a square matrix `[n, n]`, which is overwritten.
  ///
  /// - Returns: values in descending order, and per value the left and the right singular vector as rows of `left` and
  ///   `right`; nil if the iteration did not converge, or the matrix holds NaN or infinity.
  package func singularValues(
    ofSquare matrix: UnsafeMutablePointer<Double>, size: Int
  ) -> (values: [Double], left: [Double], right: [Double])? {
    guard size > 0 else { return ([], [], []) }
    var n = CInt(size)
    var values = [Double](repeating: 0, count: size)
    // The row-major matrix M is column-major M' = U S V': so M = V S U', and row-major its left vectors, one per row,
    // are what column-major V' holds one per column transposed.
    var (u, vt) = ([Double](repeating: 0, count: size * size), [Double](repeating: 0, count: size * size))
    var ints = [CInt](repeating: 0, count: 8 * size)
    var info: CInt = 0
    func run(_ work: UnsafeMutablePointer<Double>, _ count: CInt) {
      var count = count
      functions.pointee.dgesdd("A", &n, &n, matrix, &n, &values, &u, &n, &vt, &n, work, &count, &ints, &info)
    }
    var wanted = 0.0
    run(&wanted, -1)
    guard info == 0 else { return nil }
    var work = [Double](repeating: 0, count: max(1, Int(wanted)))
    run(&work, CInt(work.count))
    guard info == 0, values.allSatisfy(\.isFinite) else { return nil }
    // Column j of column-major U is contiguous: row j of a row-major array, the right vector of M. V' is column-major,
    // its row j the left vector.
    var left = vt
    for j in 0..<size { for i in 0..<size { left[j * size + i] = vt[i * size + j] } }
    return (values, left, u)
  }
}
