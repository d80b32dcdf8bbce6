import ModelGraph
import Numerics

/// The nuclear norm of a feature map, the sum of its singular values: its energy, spread over how many independent
/// patterns it holds (Yeom, Shim, Hwang, "Toward compact deep neural networks via energy-aware pruning", 2021).
package enum NuclearNorm {
  /// - Parameter map: row-major; a vector's nuclear norm is its Euclidean one.
  /// - Returns: nil if the map holds NaN or infinity. A vanishing singular value comes out as 1e-8 of the largest at
  ///   the most, because they are roots of eigenvalues of the smaller Gram matrix.
  package static func of(_ map: UnsafeBufferPointer<Double>, rows: Int, columns: Int, _ algebra: LinearAlgebra)
    -> Double?
  {
    precondition(map.count == rows * columns, "the map fills its shape")
    guard let base = map.baseAddress, !map.isEmpty else { return 0 }
    let side = min(rows, columns)
    if side == 1 {
      let norm = map.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return norm.isFinite ? norm : nil
    }
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: side * side) { gram in
      guard let sum = gram.baseAddress else { return nil }
      gram.initialize(repeating: 0)
      algebra.addGram(
        of: base, count: side, length: max(rows, columns), layout: rows <= columns ? .vectors : .elements, to: sum)
      for k in 0..<side where !gram[k * side + k].isFinite { return nil }
      return algebra.eigenvalues(ofSymmetric: sum, size: side)?.reduce(0) { $0 + max($1, 0).squareRoot() }
    }
  }
}
