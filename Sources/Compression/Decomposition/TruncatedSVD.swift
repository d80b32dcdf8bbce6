import ModelGraph
import Numerics

/// A weight `[outputs, inputs]` as the product of two: the best of its rank in the Frobenius norm or, with a whitening,
/// the best on inputs like those.
///
/// W (or W S) = P s Q'. Either way the product is P_r P_r' W, a projection of the weight on its leading outputs'
/// directions; both factors come from the Gram matrix of the smaller side, without a division by a singular value.
///
/// Invariants: column k of `last` and row k of `first` are of one norm, and zero where the singular value is; the
/// largest entry of each column of `last` is positive. Components descend by singular value.
package struct TruncatedSVD: Sendable {
  package let rank: Int
  /// `[outputs, rank]`.
  package let last: [Double]
  /// `[rank, inputs]`.
  package let first: [Double]
  /// ||W - W'|| / ||W||; 0 for the zero matrix.
  package let relativeError: Double
  /// With a whitening, what of the output is lost.
  package let outputError: OutputError?

  /// Memory: the Gram matrix of the smaller side with its eigenvectors (for sizes above 4096 only those wanted), both
  /// factors, and a tile of at most 512 rows; with a whitening one copy of the weight where outputs are the smaller side.
  ///
  /// - Parameter rank: 1...min(outputs, inputs).
  /// - Returns: nil if an element is NaN or infinite, or the eigenvalues did not converge.
  /// - Throws: `cancelled`, looked for between tiles and calls of LAPACK.
  package static func of(
    _ weight: MatrixSource, rank: Int, whitening: Whitening? = nil, _ algebra: LinearAlgebra, work: Work = Work()
  ) throws(Failure) -> TruncatedSVD? {
    let (outputs, inputs) = (weight.rows, weight.columns)
    precondition((1...min(outputs, inputs)).contains(rank), "a rank is from 1 to the smaller side")
    precondition(whitening.map { $0.size == inputs } ?? true, "a whitening of the weight's inputs")
    guard let peak = try weight.peak(work: work) else { return nil }
    let scale = FilterNorm.inverseScale(peak: peak)

    let bySmallerOutputs = outputs <= inputs
    var gram = try self.gram(weight, bySmallerOutputs ? .rows : .columns, whitening, scale, algebra, work)
    let energy = gram.energy
    try work.checkCancellation()
    guard
      let (squares, vectors) = algebra.leadingEigenvectors(ofSymmetric: &gram.elements, size: gram.size, count: rank)
    else { return nil }
    gram.elements = []
    try work.checkCancellation()

    var (first, last) = ([Double](), [Double]())
    if bySmallerOutputs {
      last = vectors
      first = try projection(weight, on: vectors, rank, scale, algebra, work)
    } else {
      (first, last) = try image(weight, of: vectors, rank, whitening, scale, algebra, work)
    }
    let values = squares.map { max($0, 0).squareRoot() }
    let floor =
      whitening == nil
      ? Spectrum.floor(peak: peak * scale, rows: outputs, columns: inputs, largest: values[0]) : 4e-8 * values[0]
    for k in 0..<rank {
      let column = k * outputs..<(k + 1) * outputs
      let row = k * inputs..<(k + 1) * inputs
      if values[k] <= floor {
        last.replaceSubrange(column, with: repeatElement(0, count: outputs))
        first.replaceSubrange(row, with: repeatElement(0, count: inputs))
      }
      let sign = FactorScaling.sign(of: last[column])
      let norms = (FactorScaling.norm(of: last[column]), FactorScaling.norm(of: first[row]))
      let balance = norms.0 > 0 && norms.1 > 0 ? (norms.1 / norms.0).squareRoot() : 0
      for element in column { last[element] *= sign * balance }
      for element in row { first[element] *= balance > 0 ? sign / balance : 0 }
    }
    last = FactorScaling.transposed(last, rows: rank, columns: outputs)

    let lost = try residual(weight, first, last, rank, whitening, scale, algebra, work)
    // The share of the output that is kept says what is lost, unless next to nothing is.
    let keptLoss = energy - squares.reduce(0) { $0 + max($1, 0) }
    let outputLoss = keptLoss > 1e-6 * energy ? keptLoss : lost.output
    let root = scale.squareRoot()
    return TruncatedSVD(
      rank: rank, last: last.map { $0 / root }, first: first.map { $0 / root },
      relativeError: lost.total > 0 ? (lost.weight / lost.total).squareRoot() : 0,
      outputError: whitening.map { _ in
        OutputError(meanSquare: outputLoss / (scale * scale), energy: energy / (scale * scale))
      })
  }

  /// What a bias takes up so that the mean of the output stays: `(W - W') mean`, to be added.
  package func biasShift(of weight: MatrixSource, mean: [Double]) -> [Double] {
    let reduced = (0..<rank).map { k in
      mean.indices.reduce(0) { $0 + first[k * weight.columns + $1] * mean[$1] }
    }
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: weight.columns) { row in
      guard let base = row.baseAddress else { return [] }
      return (0..<weight.rows).map { output in
        weight.read(output..<output + 1, 0..<weight.columns, base)
        let whole = mean.indices.reduce(0) { $0 + row[$1] * mean[$1] }
        return (0..<rank).reduce(whole) { $0 - last[output * rank + $1] * reduced[$1] }
      }
    }
  }

  /// Of W or W S, W times `scale`.
  private static func gram(
    _ weight: MatrixSource, _ side: GramMatrix.Side, _ whitening: Whitening?, _ scale: Double,
    _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> GramMatrix {
    guard let whitening else { return try GramMatrix(of: weight, side: side, scale: scale, algebra, work) }
    if side == .columns {
      let whitened = MatrixSource(rows: weight.rows, columns: weight.columns) { rows, columns, target in
        // Only whole rows are asked for.
        weight.read(rows, columns, target)
        whitening.apply(to: target, count: rows.count, algebra)
      }
      return try GramMatrix(of: whitened, side: .columns, scale: scale, algebra, work)
    }
    var whitened = [Double](unsafeUninitializedCapacity: weight.rows * weight.columns) { _, count in
      count = weight.rows * weight.columns
    }
    try whitened.withUnsafeMutableBuffer { base throws(Failure) in
      try weight.forEachRowTile(scale: 1, work) { rows, tile throws(Failure) in
        whitening.apply(to: tile, count: rows.count, algebra)
        (base + rows.lowerBound * weight.columns).update(from: tile, count: rows.count * weight.columns)
      }
    }
    return try GramMatrix(
      of: MatrixSource(whitened, rows: weight.rows, columns: weight.columns), side: .rows, scale: scale, algebra, work)
  }

  /// `P W`, `[rank, inputs]`, for P `[rank, outputs]`.
  private static func projection(
    _ weight: MatrixSource, on basis: [Double], _ rank: Int, _ scale: Double, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> [Double] {
    var turned = [Double](repeating: 0, count: weight.columns * rank)
    try turned.withUnsafeMutableBuffer { turned throws(Failure) in
      try weight.forEachColumnTile(scale: scale, work) { columns, tile throws(Failure) in
        algebra.multiply(
          tile, .transposed, basis, .transposed, rows: columns.count, columns: rank, depth: weight.rows,
          to: turned + columns.lowerBound * rank)
      }
    }
    return FactorScaling.transposed(turned, rows: weight.columns, columns: rank)
  }

  /// For right vectors Q `[rank, inputs]`: `Q S^-1`, and `(W S Q')'`, `[rank, outputs]`.
  private static func image(
    _ weight: MatrixSource, of basis: [Double], _ rank: Int, _ whitening: Whitening?, _ scale: Double,
    _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> (first: [Double], last: [Double]) {
    var image = [Double](repeating: 0, count: weight.rows * rank)
    try image.withUnsafeMutableBuffer { image throws(Failure) in
      try weight.forEachRowTile(scale: scale, work) { rows, tile throws(Failure) in
        whitening?.apply(to: tile, count: rows.count, algebra)
        algebra.multiply(
          tile, .asIs, basis, .transposed, rows: rows.count, columns: rank, depth: weight.columns,
          to: image + rows.lowerBound * rank)
      }
    }
    var first = basis
    whitening?.solve(&first, count: rank, algebra)
    return (first, FactorScaling.transposed(image, rows: weight.rows, columns: rank))
  }

  /// The squared norms of W, W - W' and (W - W') S, W times `scale`.
  private static func residual(
    _ weight: MatrixSource, _ first: [Double], _ last: [Double], _ rank: Int, _ whitening: Whitening?, _ scale: Double,
    _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> (total: Double, weight: Double, output: Double) {
    var sums = (total: 0.0, weight: 0.0, output: 0.0)
    try last.withUnsafeBuffer { last throws(Failure) in
      try weight.forEachRowTile(scale: scale, work) { rows, tile throws(Failure) in
        let count = rows.count * weight.columns
        sums.total += FactorScaling.energy(of: tile, count: count)
        algebra.multiply(
          last + rows.lowerBound * rank, .asIs, first, .asIs, rows: rows.count, columns: weight.columns, depth: rank,
          scale: -1, addend: 1, to: tile)
        sums.weight += FactorScaling.energy(of: tile, count: count)
        if let whitening {
          whitening.apply(to: tile, count: rows.count, algebra)
          sums.output += FactorScaling.energy(of: tile, count: count)
        }
      }
    }
    return sums
  }
}

/// What a decomposition that knows its inputs loses of a layer's output.
package struct OutputError: Sendable, Equatable {
  /// The expected squared error, added up over the outputs.
  package let meanSquare: Double
  /// The expected square of the output (about its mean, if the whitening is), added up over the outputs.
  package let energy: Double

  package var relative: Double { energy > 0 ? (meanSquare / energy).squareRoot() : 0 }
}
