import Numerics
import TestSupport
import Testing

// Products and decompositions against their definitions, for every layout and for matrices that are degenerate.

private func random(_ count: Int, seed: UInt64) -> [Double] {
  var random = SeededGenerator(seed: seed)
  return (0..<count).map { _ in Double.random(in: -1...1, using: &random) }
}

@Suite("Linear algebra") struct LinearAlgebraTests {
  let algebra: LinearAlgebra
  init() throws { algebra = try LinearAlgebra() }

  @Test(
    "Products of vectors by rows and by columns add to what is there", arguments: [(1, 1), (3, 5), (7, 2), (33, 70)])
  func products(count: Int, length: Int) {
    let (a, b) = (random(count * length, seed: 1), random((count + 2) * length, seed: 2))
    func columns(_ x: [Double], _ count: Int) -> [Double] {
      (0..<x.count).map { x[$0 % count * length + $0 / count] }
    }
    func dot(_ x: [Double], _ i: Int, _ y: [Double], _ j: Int) -> Double {
      (0..<length).reduce(0) { $0 + x[i * length + $1] * y[j * length + $1] }
    }
    for layout in [LinearAlgebra.Layout.vectors, .elements] {
      let (x, y) = layout == .vectors ? (a, b) : (columns(a, count), columns(b, count + 2))
      var gram = [Double](repeating: 1, count: count * count)
      algebra.addGram(of: x, count: count, length: length, layout: layout, to: &gram)
      for i in 0..<count {
        for j in i..<count { #expect(abs(gram[i * count + j] - 1 - dot(a, i, a, j)) < 1e-12) }
      }
      var products = [Double](repeating: 2, count: count * (count + 2))
      algebra.addProducts(
        of: x, rows: count, with: y, columns: count + 2, length: length, layout: layout, to: &products)
      for i in 0..<count {
        for j in 0..<count + 2 { #expect(abs(products[i * (count + 2) + j] - 2 - dot(a, i, b, j)) < 1e-12) }
      }
    }
  }

  @Test("Eigenvalues ascend, eigenvectors are rows", arguments: [1, 2, 5, 40])
  func eigenvalues(size: Int) throws {
    let half = random(size * size, seed: 3)
    let matrix = (0..<size * size).map { half[$0] + half[$0 % size * size + $0 / size] }
    var vectors = matrix
    let values = try #require(algebra.eigenvalues(ofSymmetric: &vectors, size: size, vectors: true))
    #expect(values == values.sorted())
    for k in 0..<size {
      for i in 0..<size {
        let image = (0..<size).reduce(0) { $0 + matrix[i * size + $1] * vectors[k * size + $1] }
        #expect(abs(image - values[k] * vectors[k * size + i]) < 1e-11)
      }
    }
    var again = matrix
    let alone = try #require(algebra.eigenvalues(ofSymmetric: &again, size: size))
    #expect(zip(alone, values).allSatisfy { abs($0 - $1) < 1e-11 })
  }

  @Test("Singular values descend, vectors are rows, and their products are the matrix", arguments: [1, 2, 5, 40])
  func singularValues(size: Int) throws {
    let matrix = random(size * size, seed: 4)
    var copy = matrix
    let (values, left, right) = try #require(algebra.singularValues(ofSquare: &copy, size: size))
    #expect(values == values.sorted(by: >))
    for i in 0..<size {
      for j in 0..<size {
        let sum = (0..<size).reduce(0) { $0 + values[$1] * left[$1 * size + i] * right[$1 * size + j] }
        #expect(abs(sum - matrix[i * size + j]) < 1e-12)
      }
    }
  }

  @Test("Zeros, no numbers, nothing") func degenerate() {
    var zeros = [Double](repeating: 0, count: 9)
    #expect(algebra.eigenvalues(ofSymmetric: &zeros, size: 3) == [0, 0, 0])
    #expect(algebra.singularValues(ofSquare: &zeros, size: 3)?.values == [0, 0, 0])
    var empty: [Double] = []
    #expect(algebra.eigenvalues(ofSymmetric: &empty, size: 0) == [])
    algebra.addGram(of: empty, count: 0, length: 0, layout: .vectors, to: &empty)
    for bad in [Double.nan, .infinity] {
      var matrix = [1, bad, 0, 2]
      #expect(algebra.eigenvalues(ofSymmetric: &matrix, size: 2, vectors: true) == nil)
      matrix = [1, bad, 0, 2]
      #expect(algebra.singularValues(ofSquare: &matrix, size: 2) == nil)
    }
  }
}
