import Numerics

/// How the factors of a decomposition share size and sign, which their product leaves open: fixed here, so that equal
/// weights give equal files, and no factor is so large or small that a narrower number format would hurt.
enum FactorScaling {
  /// Magnitudes nearer to the largest than this share are equal, whatever rounding made of them.
  private static let tie = 1e-9

  /// The sign of the first entry of largest magnitude; 1 for zeros.
  static func sign(of vector: some Collection<Double>) -> Double {
    let largest = vector.reduce(0) { max($0, abs($1)) }
    return vector.first { abs($0) >= largest * (1 - tie) }.map { $0 < 0 ? -1 : 1 } ?? 1
  }

  static func norm(of vector: ArraySlice<Double>) -> Double {
    vector.withUnsafeBufferPointer { buffer in
      buffer.baseAddress.map { energy(of: $0, count: buffer.count).squareRoot() } ?? 0
    }
  }

  /// The sum of squares.
  static func energy(of elements: UnsafePointer<Double>, count: Int) -> Double {
    var sums = SIMD8<Double>()
    let whole = count & ~7
    for start in stride(from: 0, to: whole, by: 8) {
      let lanes = UnsafeRawPointer(elements + start).loadUnaligned(as: SIMD8<Double>.self)
      sums += lanes * lanes
    }
    return (whole..<count).reduce(sums.sum()) { $0 + elements[$1] * elements[$1] }
  }

  static func transposed(_ matrix: [Double], rows: Int, columns: Int) -> [Double] {
    [Double](unsafeUninitializedCapacity: rows * columns) { target, count in
      if let base = target.baseAddress { LinearAlgebra.transpose(matrix, rows: rows, columns: columns, to: base) }
      count = rows * columns
    }
  }

  /// Gives every component of a core and the last factor after it one norm, and the last factor's columns their sign.
  /// - Parameters:
  ///   - core: `[rank, taps]`.
  ///   - last: `[outputs, rank]`.
  static func balance(_ core: inout [Double], _ last: inout [Double]?, taps: Int) {
    guard var columns = last else { return }
    let rank = core.count / taps
    let outputs = columns.count / rank
    for r in 0..<rank {
      let slice = r * taps..<(r + 1) * taps
      let column = (0..<outputs).map { columns[$0 * rank + r] }
      let (above, below) = (norm(of: column[...]), norm(of: core[slice]))
      guard above > 0, below > 0 else { continue }
      let factor = (below / above).squareRoot() * sign(of: column)
      for o in 0..<outputs { columns[o * rank + r] *= factor }
      for element in slice { core[element] /= factor }
    }
    last = columns
  }
}
