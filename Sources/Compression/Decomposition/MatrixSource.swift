import ModelGraph
import Numerics

/// The numbers of a weight as a matrix `[rows, columns]`, read in pieces as doubles, so that a decomposition needs no
/// copy of a large weight.
///
/// Invariant: reading the same piece again gives the same numbers; pieces may be read on any thread.
package struct MatrixSource: Sendable {
  /// Writes the elements of a range of rows and a range of columns, row-major and dense.
  package typealias Read =
    @Sendable (_ rows: Range<Int>, _ columns: Range<Int>, _ target: UnsafeMutablePointer<Double>) -> Void

  package let rows: Int
  package let columns: Int
  package let read: Read
  /// Where the elements lie one after another in some order, for what does not depend on it.
  private let stored: Stored?

  private struct Stored {
    let tensor: Tensor
    let format: FloatFormat
    let count: Int
  }

  package init(rows: Int, columns: Int, read: @escaping Read) {
    self.init(rows: rows, columns: columns, stored: nil, read: read)
  }

  private init(rows: Int, columns: Int, stored: Stored?, read: @escaping Read) {
    precondition(rows >= 1 && columns >= 1, "a weight has elements")
    (self.rows, self.columns, self.stored, self.read) = (rows, columns, stored, read)
  }

  /// - Parameter elements: row-major.
  package init(_ elements: [Double], rows: Int, columns: Int) {
    precondition(elements.count == rows * columns, "the elements fill the matrix")
    self.init(rows: rows, columns: columns) { rowRange, columnRange, target in
      elements.withUnsafeBufferPointer { elements in
        guard let base = elements.baseAddress else { return }
        for (k, row) in rowRange.enumerated() {
          (target + k * columnRange.count).update(
            from: base + row * columns + columnRange.lowerBound, count: columnRange.count)
        }
      }
    }
  }

  /// The matrix whose rows are the leading `rows` runs of a tensor's elements.
  ///
  /// - Returns: nil if the tensor does not hold real numbers (f16, bf16, f32, f64), or `rows` does not divide it.
  package init?(_ tensor: Tensor, rows: Int) {
    guard let format = tensor.dtype.floatFormat, rows >= 1 else { return nil }
    let count = tensor.shape.reduce(1, *)
    guard count >= 1, count % rows == 0 else { return nil }
    let columns = count / rows
    let stored = Stored(tensor: tensor, format: format, count: count)
    self.init(rows: rows, columns: columns, stored: stored) { rowRange, columnRange, target in
      for (k, row) in rowRange.enumerated() {
        Widening.copy(
          format, at: tensor.bytes.base + (row * columns + columnRange.lowerBound) * format.width,
          to: UnsafeMutableBufferPointer(start: target + k * columnRange.count, count: columnRange.count))
      }
    }
  }

  /// The transpose.
  package var transposed: MatrixSource {
    MatrixSource(rows: columns, columns: rows, stored: stored) { [read] rowRange, columnRange, target in
      withUnsafeTemporaryAllocation(of: Double.self, capacity: rowRange.count * columnRange.count) { piece in
        guard let base = piece.baseAddress else { return }
        read(columnRange, rowRange, base)
        LinearAlgebra.transpose(base, rows: columnRange.count, columns: rowRange.count, to: target)
      }
    }
  }

  /// Of a kernel `[outputs, inputs * positions]`, the matrix `[outputs * positions, inputs]`: the transpose of its
  /// unfolding along the inputs, whose columns therefore are the inputs' slices.
  package func inputUnfolding(positions: Int) -> MatrixSource {
    precondition(positions >= 1 && columns % positions == 0, "a kernel has as many positions for every input")
    guard positions > 1 else { return self }
    return MatrixSource(rows: rows * positions, columns: columns / positions, stored: stored) {
      [read] rowRange, columnRange, target in
      // Whole outputs are read, one at a time; of the first and the last perhaps only some positions are wanted.
      let inputs = columnRange.count
      withUnsafeTemporaryAllocation(of: Double.self, capacity: 2 * inputs * positions) { pieces in
        guard let slice = pieces.baseAddress, !rowRange.isEmpty else { return }
        let turned = slice + inputs * positions
        for output in rowRange.lowerBound / positions...(rowRange.upperBound - 1) / positions {
          read(
            output..<output + 1, columnRange.lowerBound * positions..<columnRange.upperBound * positions, slice)
          let wanted = rowRange.clamped(to: output * positions..<(output + 1) * positions)
          let start = target + (wanted.lowerBound - rowRange.lowerBound) * inputs
          if wanted.count == positions {
            LinearAlgebra.transpose(slice, rows: inputs, columns: positions, to: start)
          } else {
            LinearAlgebra.transpose(slice, rows: inputs, columns: positions, to: turned)
            start.update(from: turned + (wanted.lowerBound - output * positions) * inputs, count: wanted.count * inputs)
          }
        }
      }
    }
  }

  /// All elements times `scale`, row-major.
  package func elements(scale: Double = 1, work: Work) throws(Failure) -> [Double] {
    var all = [Double](unwritten: rows * columns)
    let length = Self.tileLength(width: columns)
    let starts = Array(stride(from: 0, to: rows, by: length))
    try all.withUnsafeMutableBuffer { base throws(Failure) in
      nonisolated(unsafe) let base = base
      let silent = Work(cancellation: work.cancellation, threads: work.threads)
      _ = try silent.concurrentMap(starts, cost: { _ in 1 }, naming: { _ in "" }) { start, _ in
        let (target, range) = (base + start * columns, start..<min(start + length, rows))
        read(range, 0..<columns, target)
        if scale != 1 { for element in 0..<range.count * columns { target[element] *= scale } }
      }
    }
    return all
  }

  /// The largest magnitude, or nil if an element is NaN or infinite.
  package func peak(work: Work) throws(Failure) -> Double? {
    var peak = 0.0
    if let stored {
      let chunk = 1 << 22
      for start in stride(from: 0, to: stored.count, by: chunk) {
        try work.checkCancellation()
        let base = stored.tensor.bytes.base + start * stored.format.width
        guard let part = Widening.peak(stored.format, at: base, count: min(chunk, stored.count - start)) else {
          return nil
        }
        peak = max(peak, part)
      }
      return peak
    }
    var isFinite = true
    try forEachRowTile(scale: 1, work) { rowRange, tile throws(Failure) in
      guard let part = Widening.peak(.float64, at: tile, count: rowRange.count * columns) else {
        isFinite = false
        return
      }
      peak = max(peak, part)
    }
    return isFinite ? peak : nil
  }

  /// Elements of a tile are about as many as a second-level cache holds, but never fewer rows than a matrix product
  /// needs to run at its full rate.
  static func tileLength(width: Int) -> Int { max(512, (1 << 18) / max(1, width)) }

  /// Calls `body` with the rows in tiles, each `[rows, columns]` times `scale`.
  func forEachRowTile(
    scale: Double, _ work: Work,
    _ body: (_ rows: Range<Int>, _ tile: UnsafeMutablePointer<Double>) throws(Failure) -> Void
  ) throws(Failure) {
    try forEachTile(of: rows, length: Self.tileLength(width: columns), width: columns, scale, work, body) {
      read($0, 0..<columns, $1)
    }
  }

  /// Calls `body` with the columns in tiles, each `[rows, columns of the tile]` times `scale`.
  func forEachColumnTile(
    scale: Double, _ work: Work,
    _ body: (_ columns: Range<Int>, _ tile: UnsafeMutablePointer<Double>) throws(Failure) -> Void
  ) throws(Failure) {
    try forEachTile(of: columns, length: Self.tileLength(width: rows), width: rows, scale, work, body) {
      read(0..<rows, $0, $1)
    }
  }

  private func forEachTile(
    of total: Int, length: Int, width: Int, _ scale: Double, _ work: Work,
    _ body: (_ range: Range<Int>, _ tile: UnsafeMutablePointer<Double>) throws(Failure) -> Void,
    _ fill: (_ range: Range<Int>, _ tile: UnsafeMutablePointer<Double>) -> Void
  ) throws(Failure) {
    let tile = UnsafeMutablePointer<Double>.allocate(capacity: min(total, length) * width)
    defer { tile.deallocate() }
    for start in stride(from: 0, to: total, by: length) {
      try work.checkCancellation()
      let range = start..<min(start + length, total)
      fill(range, tile)
      if scale != 1 { for element in 0..<range.count * width { tile[element] *= scale } }
      try body(range, tile)
    }
  }
}
