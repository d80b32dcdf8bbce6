import ModelGraph
import Numerics

/// PR_SNP's importance of query and key neurons (Shim, Yun, Choi, "SNP: structured neuron-level pruning to preserve
/// attention scores", ECCV 2024).
///
/// The scores of a head, Q K', are a sum of rank-1 terms q_i k_i', one per pair of neurons, and by singular value
/// decomposition the sum of s_j u_j v_j'. A pair matters as far as it points along the leading ones:
///
///     w_i = sum over the leading j of |u_j q_i| |v_j k_i| / (||q_i|| ||k_i||)
///
/// The matrix Q K' of tokens by tokens is never formed: with the Gram matrices Q'Q = Rq'Rq and K'K = Rk'Rk, the
/// decomposition of Rq Rk' has the same singular values, and its vectors give the same products.
package enum AttentionPairs {
  /// How many singular vectors count.
  package enum Components: Sendable, Hashable {
    /// The fewest whose squared singular values make up this share of all.
    case energy(Double)
    case fixed(Int)
  }

  /// - Parameters:
  ///   - queries: Q'Q, `[size, size]`, entries on and above the diagonal.
  ///   - keys: K'K.
  /// - Returns: the importance of each pair, at least 0, 0 for a pair with a part that is all zeros; nil if a matrix
  ///   holds NaN or infinity.
  package static func scores(
    queries: [Double], keys: [Double], size: Int, components: Components, _ algebra: LinearAlgebra
  ) -> [Double]? {
    precondition(queries.count == size * size && keys.count == size * size, "Gram matrices of all pairs")
    func lengths(_ gram: [Double]) -> [Double] { (0..<size).map { gram[$0 * size + $0].squareRoot() } }
    let (queryLengths, keyLengths) = (lengths(queries), lengths(keys))
    guard (queryLengths + keyLengths).allSatisfy(\.isFinite), let rq = root(queries, size, algebra),
      let rk = root(keys, size, algebra)
    else { return nil }
    var product = [Double](repeating: 0, count: size * size)
    algebra.addProducts(of: rq, rows: size, with: rk, columns: size, length: size, layout: .vectors, to: &product)
    guard let decomposed = algebra.singularValues(ofSquare: &product, size: size) else { return nil }
    let count = leading(decomposed.values, components)
    // Per singular vector and neuron: u_j q_i and v_j k_i.
    func projections(_ vectors: [Double], _ root: [Double]) -> [Double] {
      var result = [Double](repeating: 0, count: count * size)
      for j in 0..<count {
        for a in 0..<size {
          let weight = vectors[j * size + a]
          for i in 0..<size { result[j * size + i] += weight * root[a * size + i] }
        }
      }
      return result
    }
    let (alongQueries, alongKeys) = (projections(decomposed.left, rq), projections(decomposed.right, rk))
    return (0..<size).map { i in
      guard queryLengths[i] > 0, keyLengths[i] > 0 else { return 0 }
      let sum = (0..<count).reduce(0.0) { $0 + abs(alongQueries[$1 * size + i]) * abs(alongKeys[$1 * size + i]) }
      return sum / (queryLengths[i] * keyLengths[i])
    }
  }

  /// R with R'R = `gram`, row-major: the eigenvectors, each as long as the root of its eigenvalue.
  private static func root(_ gram: [Double], _ size: Int, _ algebra: LinearAlgebra) -> [Double]? {
    var vectors = gram
    guard let values = algebra.eigenvalues(ofSymmetric: &vectors, size: size, vectors: true) else { return nil }
    for (k, value) in values.enumerated() {
      let length = max(value, 0).squareRoot()
      for i in 0..<size { vectors[k * size + i] *= length }
    }
    return vectors
  }

  private static func leading(_ values: [Double], _ components: Components) -> Int {
    switch components {
    case .fixed(let count): return min(count, values.count)
    case .energy(let share):
      let total = values.reduce(0) { $0 + $1 * $1 }
      guard total > 0 else { return 0 }
      var sum = 0.0
      for (j, value) in values.enumerated() {
        sum += value * value
        // A share that is reached but for rounding is reached.
        if sum / total >= share - 1e-12 { return j + 1 }
      }
      return values.count
    }
  }
}
