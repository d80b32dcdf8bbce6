import COpenBLAS

// The largest eigenvalues of a symmetric matrix with their vectors.

extension LinearAlgebra {
  /// Sizes from which a part of the spectrum comes cheaper from `dsyevr`, if it is at most a quarter (measured: equal
  /// at a quarter of 1024, half the time at an eighth).
  private static let smallestPartial = 1024
  /// Sizes above which the workspace of a whole decomposition (two matrices more) is not worth its speed.
  package static let largestWhole = 4096

  /// The `count` largest eigenvalues of a symmetric matrix `[size, size]` (its entries on and above the diagonal are
  /// read), descending, and as rows of `vectors`, `[count, size]`, their eigenvectors. The matrix is destroyed.
  ///
  /// - Returns: nil if the iteration did not converge, or the matrix holds NaN or infinity.
  package func leadingEigenvectors(
    ofSymmetric matrix: UnsafeMutablePointer<Double>, size: Int, count: Int
  ) -> (values: [Double], vectors: [Double])? {
    precondition((0...size).contains(count), "a matrix of size \(size) has no \(count) eigenvectors")
    guard count > 0 else { return ([], []) }
    // The partial solver does not look for NaN.
    guard (0..<size).allSatisfy({ row in (row..<size).allSatisfy { matrix[row * size + $0].isFinite } }) else {
      return nil
    }
    let isPartial = size > Self.largestWhole || (size >= Self.smallestPartial && 4 * count <= size)
    if isPartial { return partialSpectrum(matrix, size, count) }
    return reduced(Array(UnsafeBufferPointer(start: matrix, count: size * size)), size: size).flatMap {
      leadingEigenvectors(of: $0, count: count)
    }
  }

  /// Turns a basis `[count, size]` towards the leading eigenvectors of a positive semidefinite matrix, whose entries on
  /// and above the diagonal are read, those below written: one step of subspace iteration with the Chebyshev polynomial
  /// of third degree over the eigenvalues that are not wanted (Rutishauser 1970), which tells the wanted ones apart as
  /// three steps do that know the gap. Costs a fraction of a decomposition if the basis is near already.
  ///
  /// - Parameter basis: with orthonormal rows, before and after.
  /// - Returns: false if the matrix holds NaN or infinity.
  package func advance(
    _ basis: inout [Double], count: Int, towardsLeadingOf matrix: UnsafeMutablePointer<Double>, size: Int
  ) -> Bool {
    precondition(basis.count == count * size, "a basis of \(count) vectors of \(size) elements")
    guard count > 0 else { return true }
    Self.mirrorUpper(matrix, size: size)
    var image = [Double](repeating: 0, count: count * size)
    multiply(basis, .asIs, matrix, .asIs, rows: count, columns: size, depth: size, to: &image)
    var ritz = [Double](repeating: 0, count: count * count)
    multiply(image, .asIs, basis, .transposed, rows: count, columns: count, depth: size, to: &ritz)
    guard let smallest = eigenvalues(ofSymmetric: &ritz, size: count)?.first, smallest.isFinite else { return false }
    // The smallest Ritz value is below the last wanted eigenvalue; a little less keeps that one out of the interval.
    let half = max(smallest, 0) * 0.98 / 2
    if half > 0 {
      // T1 = x, T2 = 2 x T1 - T0, T3 = 2 x T2 - T1 with x = (matrix - half) / half.
      func shift(_ y: inout [Double], _ x: [Double], less previous: [Double]?, factor: Double) {
        for k in y.indices { y[k] = factor * (y[k] / half - x[k]) - (previous?[k] ?? 0) }
      }
      shift(&image, basis, less: nil, factor: 1)
      for _ in 0..<2 {
        var next = [Double](repeating: 0, count: count * size)
        multiply(image, .asIs, matrix, .asIs, rows: count, columns: size, depth: size, to: &next)
        shift(&next, image, less: basis, factor: 2)
        (basis, image) = (image, next)
      }
    }
    basis = image
    return orthonormalize(&basis, count: count, length: size)
  }

  private func partialSpectrum(
    _ matrix: UnsafeMutablePointer<Double>, _ size: Int, _ count: Int
  ) -> (values: [Double], vectors: [Double])? {
    var n = CInt(size)
    var (first, last) = (CInt(size - count + 1), CInt(size))
    var (unused, tolerance, found, info) = (0.0, 0.0, CInt(0), CInt(0))
    var values = [Double](repeating: 0, count: size)
    var vectors = [Double](repeating: 0, count: count * size)
    var supports = [CInt](repeating: 0, count: 2 * size)
    func run(
      _ work: UnsafeMutablePointer<Double>, _ workCount: CInt, _ ints: UnsafeMutablePointer<CInt>, _ intCount: CInt
    ) {
      var (workCount, intCount) = (workCount, intCount)
      functions.pointee.dsyevr(
        "V", "I", "L", &n, matrix, &n, &unused, &unused, &first, &last, &tolerance, &found, &values, &vectors, &n,
        &supports, work, &workCount, ints, &intCount, &info)
    }
    var (wanted, wantedInts) = (0.0, CInt(0))
    run(&wanted, -1, &wantedInts, -1)
    guard info == 0 else { return nil }
    var work = [Double](repeating: 0, count: max(1, Int(wanted)))
    var ints = [CInt](repeating: 0, count: max(1, Int(wantedInts)))
    run(&work, CInt(work.count), &ints, CInt(ints.count))
    guard info == 0, Int(found) == count, values.prefix(count).allSatisfy(\.isFinite) else { return nil }
    return descending(values.prefix(count), vectors, size)
  }

  private func descending(
    _ values: ArraySlice<Double>, _ vectors: UnsafePointer<Double>, _ length: Int
  ) -> (values: [Double], vectors: [Double]) {
    let count = values.count
    let rows = [Double](unsafeUninitializedCapacity: count * length) { target, used in
      guard let base = target.baseAddress else { return }
      for row in 0..<count {
        (base + row * length).initialize(from: vectors + (count - 1 - row) * length, count: length)
      }
      used = count * length
    }
    return (values.reversed(), rows)
  }
}
