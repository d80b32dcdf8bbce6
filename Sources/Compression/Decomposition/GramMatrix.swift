import ModelGraph
import Numerics

/// The scalar products of every two rows, or every two columns, of a matrix: with them, singular values and vectors
/// cost what the smaller side costs, not the whole matrix.
///
/// Invariant: the order of all additions depends on the shape alone. Only entries on and above the diagonal are kept up.
struct GramMatrix {
  enum Side {
    case rows, columns
  }

  let size: Int
  /// `[size, size]`.
  var elements: [Double]

  /// Memory beside the source: the Gram matrix and one tile of at most 512 rows or columns.
  ///
  /// - Parameter scale: what the elements of the matrix are multiplied by.
  init(
    of source: MatrixSource, side: Side, scale: Double, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) {
    size = side == .rows ? source.rows : source.columns
    elements = [Double](repeating: 0, count: size * size)
    let count = size
    try elements.withUnsafeMutableBuffer { sum throws(Failure) in
      switch side {
      case .rows:
        try source.forEachColumnTile(scale: scale, work) { columns, tile throws(Failure) in
          algebra.addGram(of: tile, count: count, length: columns.count, layout: .vectors, to: sum)
        }
      case .columns:
        try source.forEachRowTile(scale: scale, work) { rows, tile throws(Failure) in
          algebra.addGram(of: tile, count: count, length: rows.count, layout: .elements, to: sum)
        }
      }
    }
  }

  /// The sum of the squares of all elements of the matrix.
  var energy: Double { (0..<size).reduce(0) { $0 + elements[$1 * size + $1] } }
}

extension Array where Element == Double {
  /// The elements' memory, for the time of `body`, which may throw.
  mutating func withUnsafeMutableBuffer<R>(
    _ body: (UnsafeMutablePointer<Double>) throws(Failure) -> R
  ) throws(Failure) -> R {
    let outcome = withUnsafeMutableBufferPointer { buffer -> Result<R, Failure> in
      do throws(Failure) {
        // An array without elements has no memory; nothing reads or writes it.
        return .success(try body(buffer.baseAddress ?? UnsafeMutablePointer(bitPattern: 8)!))
      } catch {
        return .failure(error)
      }
    }
    return try outcome.get()
  }

  /// The elements' memory to read, likewise.
  func withUnsafeBuffer<R>(_ body: (UnsafePointer<Double>) throws(Failure) -> R) throws(Failure) -> R {
    let outcome = withUnsafeBufferPointer { buffer -> Result<R, Failure> in
      do throws(Failure) {
        return .success(try body(buffer.baseAddress ?? UnsafePointer(bitPattern: 8)!))
      } catch {
        return .failure(error)
      }
    }
    return try outcome.get()
  }
}
