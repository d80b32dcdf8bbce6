import COpenBLAS

// Products of matrices, Cholesky factors and orthonormal bases, as the decompositions of weights need them.
//
// Matrices are row-major and dense. LAPACK sees every one of them transposed, so operands change places and triangles
// change sides below; nothing is copied. A *basis* is a matrix `[count, length]` whose rows are its vectors.

extension LinearAlgebra {
  /// How an operand of a product lies in memory.
  package enum Operand: Sendable {
    case asIs, transposed
  }

  /// From row to row of the operands and the result of a product, in elements.
  package typealias Strides = (a: Int, b: Int, c: Int)

  /// `c = scale * op(a) op(b) + addend * c`: op(a) is `[rows, depth]`, op(b) `[depth, columns]`, c `[rows, columns]`.
  /// With `addend` 0, c need not hold numbers before.
  ///
  /// - Parameter strides: of matrices that are parts of wider ones.
  package func multiply<Element: MatrixElement>(
    _ a: UnsafePointer<Element>, _ aOperand: Operand = .asIs, _ b: UnsafePointer<Element>,
    _ bOperand: Operand = .asIs, rows: Int, columns: Int, depth: Int, strides: Strides? = nil, scale: Element = 1,
    addend: Element = 0, to c: UnsafeMutablePointer<Element>
  ) {
    guard rows > 0, columns > 0 else { return }
    guard depth > 0 else {
      for row in 0..<rows {
        let start = row * (strides?.c ?? columns)
        for element in start..<start + columns { c[element] = addend == 0 ? 0 : addend * c[element] }
      }
      return
    }
    var (m, n, k) = (CInt(columns), CInt(rows), CInt(depth))
    var (alpha, beta) = (scale, addend)
    var (lda, ldb, ldc) = Self.leading(strides, aOperand, bOperand, m, n, k)
    Element.gemm(of: self)(
      bOperand == .asIs ? "N" : "T", aOperand == .asIs ? "N" : "T", &m, &n, &k, &alpha, b, &ldb, a, &lda, &beta, c,
      &ldc)
  }

  private static func leading(
    _ strides: Strides?, _ aOperand: Operand, _ bOperand: Operand, _ columns: CInt, _ rows: CInt, _ depth: CInt
  ) -> (a: CInt, b: CInt, c: CInt) {
    strides.map { (CInt($0.a), CInt($0.b), CInt($0.c)) }
      ?? (aOperand == .asIs ? depth : rows, bOperand == .asIs ? columns : depth, columns)
  }

  /// Writes the transpose of a matrix `[rows, columns]` to `target`, which does not overlap it.
  package static func transpose(
    _ matrix: UnsafePointer<Double>, rows: Int, columns: Int, to target: UnsafeMutablePointer<Double>
  ) {
    // Squares of two cache lines a side, so that both matrices are met a line at a time; each line is written whole.
    let side = 16
    for row in stride(from: 0, to: rows, by: side) {
      for column in stride(from: 0, to: columns, by: side) {
        for c in column..<min(column + side, columns) {
          for r in row..<min(row + side, rows) { target[c * rows + r] = matrix[r * columns + c] }
        }
      }
    }
  }

  /// Copies the entries above the diagonal of a square matrix to those below.
  package static func mirrorUpper(_ matrix: UnsafeMutablePointer<Double>, size: Int) {
    let side = 16
    for row in stride(from: 0, to: size, by: side) {
      for column in stride(from: 0, through: row, by: side) {
        for r in row..<min(row + side, size) {
          for c in column..<min(column + side, r) { matrix[r * size + c] = matrix[c * size + r] }
        }
      }
    }
  }

  /// The Cholesky factor R, upper triangular, of a positive definite matrix: `matrix = R' R`. The entries of `matrix`
  /// on and above the diagonal are read and replaced by R; those below stay.
  ///
  /// - Returns: whether the matrix is positive definite; if not, it has been spoilt.
  package func cholesky(of matrix: UnsafeMutablePointer<Double>, size: Int) -> Bool {
    guard size > 0 else { return true }
    var (n, info) = (CInt(size), CInt(0))
    functions.pointee.dpotrf("L", &n, matrix, &n, &info)
    // NaN passes some builds' test of the pivot.
    return info == 0 && (0..<size).allSatisfy { matrix[$0 * size + $0].isFinite && matrix[$0 * size + $0] > 0 }
  }

  /// `rows = rows S` where `S = R'` for an upper triangular R `[size, size]`; `rows` is `[count, size]`.
  package func multiply(
    _ rows: UnsafeMutablePointer<Double>, count: Int, byTransposeOfUpper factor: UnsafePointer<Double>, size: Int
  ) {
    guard count > 0, size > 0 else { return }
    var (m, n, one) = (CInt(size), CInt(count), 1.0)
    functions.pointee.dtrmm("L", "L", "T", "N", &m, &n, &one, factor, &m, rows, &m)
  }

  /// Solves `x S = rows` for x in place of `rows` `[count, size]`, where `S = R'` for an upper triangular R.
  package func solve(
    _ rows: UnsafeMutablePointer<Double>, count: Int, byTransposeOfUpper factor: UnsafePointer<Double>, size: Int
  ) {
    guard count > 0, size > 0 else { return }
    var (m, n, one) = (CInt(size), CInt(count), 1.0)
    functions.pointee.dtrsm("L", "L", "T", "N", &m, &n, &one, factor, &m, rows, &m)
  }

  /// Solves `x R' R = rows` for x in place of `rows` `[count, size]`, for a Cholesky factor R.
  package func solve(
    _ rows: UnsafeMutablePointer<Double>, count: Int, byCholesky factor: UnsafePointer<Double>, size: Int
  ) {
    guard count > 0, size > 0 else { return }
    var (m, n, one) = (CInt(size), CInt(count), 1.0)
    functions.pointee.dtrsm("L", "L", "N", "N", &m, &n, &one, factor, &m, rows, &m)
    functions.pointee.dtrsm("L", "L", "T", "N", &m, &n, &one, factor, &m, rows, &m)
  }

  /// Solves `x R = rows` for x in place of `rows` `[count, size]`, where R is upper triangular.
  package func solve(
    _ rows: UnsafeMutablePointer<Double>, count: Int, byUpper factor: UnsafePointer<Double>, size: Int
  ) {
    guard count > 0, size > 0 else { return }
    var (m, n, one) = (CInt(size), CInt(count), 1.0)
    functions.pointee.dtrsm("L", "L", "N", "N", &m, &n, &one, factor, &m, rows, &m)
  }

  /// What `orthonormalize` does of vectors that are well apart, in matrix products alone, where Householder's
  /// reflectors go vector by vector: the Gram matrix's Cholesky factor undone, twice, since the first time leaves the
  /// square of the condition (Yamamoto et al. 2015, CholeskyQR2).
  ///
  /// - Returns: false if the vectors are too near to each other for that; the basis then spans what it did.
  private func orthonormalizeByCholesky(_ basis: UnsafeMutablePointer<Double>, count: Int, length: Int) -> Bool {
    for row in 0..<count {
      let vector = basis + row * length
      var square = 0.0
      for element in 0..<length { square += vector[element] * vector[element] }
      guard square > 1e-200, square < 1e200 else { return false }
      let factor = 1 / square.squareRoot()
      for element in 0..<length { vector[element] *= factor }
    }
    var (m, n, one) = (CInt(length), CInt(count), 1.0)
    for leastDistance in [0.05, 0.9] {
      var gram = [Double](repeating: 0, count: count * count)
      addGram(of: basis, count: count, length: length, layout: .vectors, to: &gram)
      // Its diagonal holds how far each vector is from those before it.
      guard cholesky(of: &gram, size: count), (0..<count).allSatisfy({ gram[$0 * count + $0] > leastDistance }) else {
        return false
      }
      functions.pointee.dtrsm("R", "L", "T", "N", &m, &n, &one, gram, &n, basis, &m)
    }
    return true
  }

  /// Replaces the rows of `basis`, `[count, length]` with `count <= length`, by orthonormal ones that span the same
  /// space (a larger one, if they depend on each other). The first k new rows span what the first k old ones did.
  ///
  /// - Returns: false if LAPACK refused, which no finite matrix makes it do.
  package func orthonormalize(_ basis: UnsafeMutablePointer<Double>, count: Int, length: Int) -> Bool {
    precondition(count <= length, "no more than \(length) vectors of \(length) elements are independent")
    guard count > 0 else { return true }
    if orthonormalizeByCholesky(basis, count: count, length: length) { return true }
    var (m, n, info) = (CInt(length), CInt(count), CInt(0))
    var tau = [Double](repeating: 0, count: count)
    var (wanted, query) = (0.0, CInt(-1))
    functions.pointee.dgeqrf(&m, &n, basis, &m, &tau, &wanted, &query, &info)
    guard info == 0 else { return false }
    var size = CInt(max(1, wanted))
    functions.pointee.dorgqr(&m, &n, &n, basis, &m, tau, &wanted, &query, &info)
    guard info == 0 else { return false }
    size = max(size, CInt(wanted))
    var work = [Double](repeating: 0, count: Int(size))
    functions.pointee.dgeqrf(&m, &n, basis, &m, &tau, &work, &size, &info)
    guard info == 0 else { return false }
    functions.pointee.dorgqr(&m, &n, &n, basis, &m, tau, &work, &size, &info)
    return info == 0
  }
}
