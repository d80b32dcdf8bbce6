import COpenBLAS

// The largest eigenvalues of a symmetric matrix with their vectors.

extension LinearAlgebra {
  /// Sizes from which a part of the spectrum comes cheaper from `dsyevr`, if it is at most a quarter (measured: equal
  /// at a quarter of 1024, half the time at an eighth).
  private static let smallestPartial = 1024
  /// Sizes above which the workspace of `dsyevd` (two matrices more) is not worth its speed.
  private static let largestWhole = 4096

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
    return isPartial
      ? partialSpectrum(matrix, size, count)
      : eigenvalues(ofSymmetric: matrix, size: size, vectors: true).map { ascending in
        descending(ascending.suffix(count), UnsafePointer(matrix) + (size - count) * size, size)
      }
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
