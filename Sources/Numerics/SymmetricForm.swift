import COpenBLAS

/// A symmetric matrix turned to tridiagonal form, which is most of the work on the way to its eigenvalues and to its
/// eigenvectors: with it, either costs a fraction of what it costs alone.
///
/// Invariant: all numbers are finite.
package struct SymmetricForm<Element: MatrixElement>: Sendable {
  package let size: Int
  /// Householder's reflectors, as LAPACK keeps them, with their scales.
  fileprivate let reflectors: [Element]
  fileprivate let scales: [Element]
  fileprivate let diagonal: [Element]
  fileprivate let offDiagonal: [Element]
  /// What the matrix was multiplied by, so that squares of its entries are numbers.
  fileprivate let magnification: Element
}

extension SymmetricForm<Double> {
  /// The same in single precision, for what needs no more.
  package var single: SymmetricForm<Float> {
    // In double even the largest entries have room that they have not in single.
    let largest = diagonal.reduce(offDiagonal.reduce(0) { max($0, abs($1)) }) { max($0, abs($1)) }
    let factor = largest > 0 ? Double(sign: .plus, exponent: -largest.exponent, significand: 1) : 1
    return SymmetricForm<Float>(
      size: size, reflectors: reflectors.map(Float.init), scales: scales.map(Float.init),
      diagonal: diagonal.map { Float($0 * factor) }, offDiagonal: offDiagonal.map { Float($0 * factor) },
      magnification: Float(magnification * factor))
  }
}

extension LinearAlgebra {
  /// Reduces a symmetric matrix `[size, size]`, whose entries on and above the diagonal are read.
  ///
  /// - Returns: nil if the matrix holds NaN or infinity.
  package func reduced(_ matrix: consuming [Double], size: Int) -> SymmetricForm<Double>? { form(of: matrix, size) }

  /// The same in single precision.
  package func reduced(_ matrix: consuming [Float], size: Int) -> SymmetricForm<Float>? { form(of: matrix, size) }

  private func form<Element: MatrixElement>(of matrix: consuming [Element], _ size: Int) -> SymmetricForm<Element>? {
    precondition(matrix.count == size * size, "a square matrix")
    var reflectors = consume matrix
    var (largest, defect) = (Element.zero, Element.zero)
    for row in 0..<size {
      for element in row * size + row..<(row + 1) * size {
        defect += reflectors[element] - reflectors[element]
        largest = max(largest, abs(reflectors[element]))
      }
    }
    guard defect == 0 else { return nil }
    var magnification: Element = 1
    if largest > 0, !Element.safeMagnitudes.contains(largest) {
      // Neither the factor nor what it is for may leave the numbers.
      let bound = Element.greatestFiniteMagnitude.exponent - 23
      let exponent = max(-bound, min(bound, -largest.exponent))
      magnification = Element(sign: .plus, exponent: exponent, significand: 1)
      for element in reflectors.indices { reflectors[element] *= magnification }
    }
    var (diagonal, scales) = ([Element](repeating: 0, count: size), [Element](repeating: 0, count: max(1, size - 1)))
    var offDiagonal = scales
    if size > 0 {
      var (n, info) = (CInt(size), CInt(0))
      guard
        withWorkspace({ work, count in
          Element.sytrd(of: self)(
            "L", &n, &reflectors, &n, &diagonal, &offDiagonal, &scales, work, count, &info)
          return info == 0
        })
      else { return nil }
    }
    return SymmetricForm(
      size: size, reflectors: reflectors, scales: scales, diagonal: diagonal, offDiagonal: offDiagonal,
      magnification: magnification)
  }

  /// Ascending.
  ///
  /// - Returns: nil if the iteration did not converge.
  package func eigenvalues(of form: SymmetricForm<Double>) -> [Double]? {
    var (n, info) = (CInt(form.size), CInt(0))
    var (values, rest) = (form.diagonal, form.offDiagonal)
    if form.size > 0 { functions.pointee.dsterf(&n, &values, &rest, &info) }
    guard info == 0, values.allSatisfy(\.isFinite) else { return nil }
    return form.magnification == 1 ? values : values.map { $0 / form.magnification }
  }

  /// The `count` largest eigenvalues, descending, and as rows of `vectors`, `[count, size]`, their eigenvectors.
  ///
  /// Memory: two matrices of the size.
  /// - Returns: nil if the iteration did not converge.
  package func leadingEigenvectors(
    of form: SymmetricForm<Double>, count: Int
  ) -> (values: [Double], vectors: [Double])? {
    leading(count, of: form)
  }

  /// The same in single precision.
  package func leadingEigenvectors(
    of form: SymmetricForm<Float>, count: Int
  ) -> (values: [Float], vectors: [Float])? {
    leading(count, of: form)
  }

  private func leading<Element: MatrixElement>(
    _ count: Int, of form: SymmetricForm<Element>
  ) -> (values: [Element], vectors: [Element])? {
    let size = form.size
    precondition((0...size).contains(count), "a matrix of size \(size) has no \(count) eigenvectors")
    guard count > 0 else { return ([], []) }
    var (n, m, info) = (CInt(size), CInt(count), CInt(0))
    var (values, rest) = (form.diagonal, form.offDiagonal)
    var vectors = [Element](unwritten: size * size)
    let intCount = 3 + 5 * size
    let isFound = withUnsafeTemporaryAllocation(of: CInt.self, capacity: intCount) { ints in
      withWorkspace { work, workCount in
        var available = CInt(intCount)
        Element.stedc(of: self)(
          "I", &n, &values, &rest, &vectors, &n, work, workCount, ints.baseAddress, &available, &info)
        return info == 0
      }
    }
    guard isFound, values.allSatisfy(\.isFinite) else { return nil }
    let leading = (size - count) * size
    let isTurned = vectors.withUnsafeMutableBufferPointer { vectors in
      withWorkspace(reserve: Self.reflectorBlocks) { work, workCount in
        Element.ormtr(of: self)(
          "L", "L", "N", &n, &m, form.reflectors, &n, form.scales, vectors.baseAddress.map { $0 + leading }, &n, work,
          workCount, &info)
        return info == 0
      }
    }
    guard isTurned else { return nil }
    let rows = vectors.withUnsafeBufferPointer { vectors in
      [Element](unsafeUninitializedCapacity: count * size) { target, used in
        for row in 0..<count {
          let vector = vectors[(size - 1 - row) * size..<(size - row) * size]
          _ = target[row * size..<(row + 1) * size].initialize(fromContentsOf: vector)
        }
        used = count * size
      }
    }
    return (values.suffix(count).reversed().map { $0 / form.magnification }, rows)
  }

  /// What `dormtr` passes on to `dormqr`, but forgets to ask for: room for the triangular factors of its blocks of
  /// reflectors, without which these are applied one by one.
  private static let reflectorBlocks: CInt = 65 * 64

  /// Calls LAPACK twice, as it wants it: for the size of its workspace, then with one.
  /// - Parameter reserve: how much more it gets than it wants.
  private func withWorkspace<Element: MatrixElement>(
    reserve: CInt = 0, _ body: (_ work: UnsafeMutablePointer<Element>, _ count: UnsafePointer<CInt>) -> Bool
  ) -> Bool {
    var (wanted, count) = (Element.zero, CInt(-1))
    guard body(&wanted, &count) else { return false }
    count = CInt(max(1, wanted)) + reserve
    return withUnsafeTemporaryAllocation(of: Element.self, capacity: Int(count)) { work in
      guard let base = work.baseAddress else { return false }
      return body(base, &count)
    }
  }
}
