import Numerics
import TestSupport
import Testing

// Products, Cholesky factors, orthonormal bases and leading eigenvectors against their definitions.

private func random(_ count: Int, seed: UInt64 = 1) -> [Double] {
  var random = SeededGenerator(seed: seed)
  return (0..<count).map { _ in Double.random(in: -1...1, using: &random) }
}

private func transposed(_ x: [Double], _ rows: Int, _ columns: Int) -> [Double] {
  var target = [Double](repeating: 0, count: x.count)
  LinearAlgebra.transpose(x, rows: rows, columns: columns, to: &target)
  return target
}

private func product(_ a: [Double], _ b: [Double], _ rows: Int, _ depth: Int, _ columns: Int) -> [Double] {
  (0..<rows * columns).map { e in
    (0..<depth).reduce(0) { $0 + a[e / columns * depth + $1] * b[$1 * columns + e % columns] }
  }
}

private func distance(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } }

@Suite("Factorizations") struct FactorizationTests {
  let algebra: LinearAlgebra
  init() throws { algebra = try LinearAlgebra() }

  @Test func products() {
    let (a, b) = (random(5 * 7), random(7 * 3, seed: 2))
    let expected = product(a, b, 5, 7, 3)
    for (x, xOperand) in [(a, LinearAlgebra.Operand.asIs), (transposed(a, 5, 7), .transposed)] {
      for (y, yOperand) in [(b, LinearAlgebra.Operand.asIs), (transposed(b, 7, 3), .transposed)] {
        var c = [Double](repeating: .nan, count: 15)
        algebra.multiply(x, xOperand, y, yOperand, rows: 5, columns: 3, depth: 7, to: &c)
        #expect(distance(c, expected) < 1e-13)
        algebra.multiply(x, xOperand, y, yOperand, rows: 5, columns: 3, depth: 7, scale: -2, addend: 2, to: &c)
        #expect(distance(c, [Double](repeating: 0, count: 15)) < 1e-13)
      }
    }
  }

  @Test("Transposes and mirrors beyond a block") func layout() {
    let x = random(37 * 21)
    let turned = transposed(x, 37, 21)
    for row in 0..<37 {
      for column in 0..<21 { #expect(turned[column * 37 + row] == x[row * 21 + column]) }
    }
    var square = random(35 * 35)
    let before = square
    LinearAlgebra.mirrorUpper(&square, size: 35)
    for row in 0..<35 {
      for column in row..<35 {
        #expect(square[row * 35 + column] == before[row * 35 + column])
        #expect(square[column * 35 + row] == before[row * 35 + column])
      }
    }
  }

  @Test func cholesky() {
    let half = random(6 * 9)
    let matrix = product(half, transposed(half, 6, 9), 6, 9, 6)
    var factor = matrix
    #expect(algebra.cholesky(of: &factor, size: 6))
    let upper = factor.indices.map { $0 / 6 <= $0 % 6 ? factor[$0] : 0 }
    let lower = transposed(upper, 6, 6)
    #expect(distance(product(lower, upper, 6, 6, 6), matrix) < 1e-13)
    let rows = random(12, seed: 3)
    var x = rows
    algebra.multiply(&x, count: 2, byTransposeOfUpper: factor, size: 6)
    #expect(distance(x, product(rows, lower, 2, 6, 6)) < 1e-13)
    algebra.solve(&x, count: 2, byTransposeOfUpper: factor, size: 6)
    #expect(distance(x, rows) < 1e-12)
    algebra.solve(&x, count: 2, byCholesky: factor, size: 6)
    #expect(distance(product(x, matrix, 2, 6, 6), rows) < 1e-11)
    for bad in [[1.0, 2, 2, 1], [0, 0, 0, 0], [1, 0, 0, .nan], [.infinity, 0, 0, 1]] {
      var copy = bad
      #expect(!algebra.cholesky(of: &copy, size: 2))
    }
  }

  @Test("Orthonormal rows span what was there, also where rows depend on each other") func orthonormal() {
    var basis = random(3 * 8)
    for k in 0..<8 { basis[16 + k] = basis[k] - basis[8 + k] }
    let before = basis
    #expect(algebra.orthonormalize(&basis, count: 3, length: 8))
    let gram = product(basis, transposed(basis, 3, 8), 3, 8, 3)
    #expect(distance(gram, [1, 0, 0, 0, 1, 0, 0, 0, 1]) < 1e-14)
    let back = product(product(before, transposed(basis, 3, 8), 3, 8, 3), basis, 3, 3, 8)
    #expect(distance(back, before) < 1e-14)
  }

  @Test("The first orthonormal rows span the first rows", arguments: [(3, 8), (40, 300)])
  func orthonormalInOrder(count: Int, length: Int) {
    var basis = random(count * length)
    // Of sizes far apart.
    for row in 0..<count {
      for k in 0..<length { basis[row * length + k] *= row % 2 == 0 ? 1e9 : 1e-9 }
    }
    let before = basis
    #expect(algebra.orthonormalize(&basis, count: count, length: length))
    let gram = product(basis, transposed(basis, count, length), count, length, count)
    for row in 0..<count {
      for column in 0..<count { #expect(abs(gram[row * count + column] - (row == column ? 1 : 0)) < 1e-13) }
      // Nothing of a row lies along later vectors.
      let shares = product(
        Array(before[row * length..<(row + 1) * length]), transposed(basis, count, length), 1, length, count)
      let size = shares.reduce(0) { max($0, abs($1)) }
      for later in shares.dropFirst(row + 1) { #expect(abs(later) < 1e-12 * size) }
    }
  }

  @Test(
    "A reduced matrix has the eigenvalues and eigenvectors of the matrix, at any scale", arguments: [1, 1e-250, 1e250])
  func reduced(scale: Double) throws {
    let (size, count) = (30, 7)
    let half = random(size * size)
    var matrix = [Double](repeating: 0, count: size * size)
    algebra.addGram(of: half, count: size, length: size, layout: .vectors, to: &matrix)
    for k in matrix.indices { matrix[k] *= scale }
    let form = try #require(algebra.reduced(matrix, size: size))
    var copy = matrix.map { $0 / scale }
    let expected = try #require(algebra.eigenvalues(ofSymmetric: &copy, size: size))
    let found = try #require(algebra.eigenvalues(of: form))
    #expect(distance(found.map { $0 / scale }, expected) < 1e-12)
    let (values, vectors) = try #require(algebra.leadingEigenvectors(of: form, count: count))
    #expect(distance(values.map { $0 / scale }, Array(expected.suffix(count).reversed())) < 1e-12)
    LinearAlgebra.mirrorUpper(&matrix, size: size)
    let images = product(vectors, matrix.map { $0 / scale }, count, size, size)
    for k in 0..<count {
      for i in 0..<size { #expect(abs(images[k * size + i] - values[k] / scale * vectors[k * size + i]) < 1e-11) }
    }
    for bad in [Double.nan, .infinity] {
      matrix[size - 1] = bad
      #expect(algebra.reduced(matrix, size: size) == nil)
    }
  }

  @Test("In single precision as in double, at any scale", arguments: [1, 1e-30, 1e30])
  func reducedInSingle(scale: Float) throws {
    let (size, count) = (40, 9)
    // Singular values 1, 1/2, ...: the leading ones are far apart.
    let half = random(size * size).enumerated().map { $1 / Double(1 + $0 % size) }
    var matrix = [Double](repeating: 0, count: size * size)
    algebra.addGram(of: half, count: size, length: size, layout: .elements, to: &matrix)
    let form = try #require(algebra.reduced(matrix, size: size))
    let (values, vectors) = try #require(algebra.leadingEigenvectors(of: form, count: count))
    let singles = [
      try #require(algebra.leadingEigenvectors(of: form.single, count: count)),
      try #require(
        algebra.reduced(matrix.map { Float($0) * scale }, size: size).flatMap {
          algebra.leadingEigenvectors(of: $0, count: count)
        }),
    ]
    for (single, factor) in zip(singles, [1, scale]) {
      #expect(distance(single.values.map { Double($0 / factor) }, values) < 1e-5)
      for k in 0..<count {
        let cosine = (0..<size).reduce(0) { $0 + Double(single.vectors[k * size + $1]) * vectors[k * size + $1] }
        #expect(abs(abs(cosine) - 1) < 1e-5)
      }
    }
    var bad = matrix.map { Float($0) }
    bad[size - 1] = .nan
    #expect(algebra.reduced(bad, size: size) == nil)
  }

  /// Sizes on either side of where the partial solver takes over.
  @Test("Leading eigenvectors descend", arguments: [(1, 1), (30, 30), (30, 4), (1030, 20)])
  func leading(size: Int, count: Int) throws {
    var half = random(size * 40)
    for k in half.indices { half[k] /= Double(1 + k % 40) }
    var matrix = [Double](repeating: 0, count: size * size)
    algebra.addGram(of: half, count: size, length: 40, layout: .vectors, to: &matrix)
    let original = matrix
    let (values, vectors) = try #require(algebra.leadingEigenvectors(ofSymmetric: &matrix, size: size, count: count))
    #expect(values == values.sorted(by: >) && values.count == count)
    var whole = original
    LinearAlgebra.mirrorUpper(&whole, size: size)
    var images = [Double](repeating: 0, count: count * size)
    algebra.multiply(vectors, .asIs, whole, .asIs, rows: count, columns: size, depth: size, to: &images)
    for k in 0..<count {
      for i in 0..<size { #expect(abs(images[k * size + i] - values[k] * vectors[k * size + i]) < 1e-11 * values[0]) }
    }
    var bad = original
    bad[size - 1] = .nan
    #expect(algebra.leadingEigenvectors(ofSymmetric: &bad, size: size, count: count) == nil)
  }

  @Test("A basis advances to the leading eigenvectors") func advance() throws {
    let (size, count) = (60, 5)
    var half = random(size * size)
    for k in half.indices { half[k] /= Double(1 + k % size).squareRoot() }
    var gram = [Double](repeating: 0, count: size * size)
    algebra.addGram(of: half, count: size, length: size, layout: .vectors, to: &gram)
    var copy = gram
    let best = try #require(algebra.leadingEigenvectors(ofSymmetric: &copy, size: size, count: count)).values
    var basis = random(count * size, seed: 5)
    #expect(algebra.orthonormalize(&basis, count: count, length: size))
    func captured() -> Double {
      LinearAlgebra.mirrorUpper(&gram, size: size)
      let image = product(basis, gram, count, size, size)
      return zip(image, basis).reduce(0) { $0 + $1.0 * $1.1 }
    }
    var previous = captured()
    for _ in 0..<30 {
      #expect(algebra.advance(&basis, count: count, towardsLeadingOf: &gram, size: size))
      let now = captured()
      #expect(now >= previous - 1e-9)
      previous = now
    }
    #expect(abs(previous - best.reduce(0, +)) < 1e-6 * previous)
    var zeros = [Double](repeating: 0, count: size * size)
    #expect(algebra.advance(&basis, count: count, towardsLeadingOf: &zeros, size: size))
    #expect(basis.allSatisfy { $0.isFinite })
  }
}
