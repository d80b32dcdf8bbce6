import ModelGraph
import Numerics

/// Products of large matrices, in pieces that the threads of a request share.
///
/// Invariant: how a product is cut depends on its shape alone, and every number of it is worked out within one piece: so
/// the threads change nothing but the time.
struct SharedProducts: Sendable {
  let algebra: LinearAlgebra
  private let work: Work

  init(_ algebra: LinearAlgebra, _ work: Work) {
    self.algebra = algebra
    // Whoever listens for progress is told of larger things.
    self.work = Work(cancellation: work.cancellation, threads: work.threads)
  }

  /// Products of fewer multiplications are done before another thread has begun.
  private static let smallest = 1 << 24
  private static let pieces = 4
  /// Where pieces meet: a multiple of what the kernels of any BLAS work on at once.
  private static let grain = 16

  /// `op(a) op(b)`: op(a) is `[rows, depth]`, op(b) `[depth, columns]`.
  func multiply<Element: MatrixElement>(
    _ a: [Element], _ aOperand: LinearAlgebra.Operand, _ b: [Element], _ bOperand: LinearAlgebra.Operand, rows: Int,
    columns: Int, depth: Int
  ) throws(Failure) -> [Element] {
    precondition(a.count == rows * depth && b.count == depth * columns, "matrices of these sizes")
    let strides = (a: aOperand == .asIs ? depth : rows, b: bOperand == .asIs ? columns : depth, c: columns)
    var product = [Element](unwritten: rows * columns)
    let byRows = rows >= columns
    let isLarge = rows * columns * depth >= Self.smallest
    let ranges = Self.cut(byRows ? rows : columns, pieces: isLarge ? Self.pieces : 1)
    try forEach(ranges, writing: &product) { [algebra] range, target in
      let (first, count) = (range.lowerBound, range.count)
      a.withUnsafeBufferPointer { a in
        b.withUnsafeBufferPointer { b in
          guard let a = a.baseAddress, let b = b.baseAddress else { return }
          if byRows {
            algebra.multiply(
              a + first * (aOperand == .asIs ? depth : 1), aOperand, b, bOperand, rows: count, columns: columns,
              depth: depth, strides: strides, to: target + first * columns)
          } else {
            algebra.multiply(
              a, aOperand, b + first * (bOperand == .asIs ? 1 : depth), bOperand, rows: rows, columns: count,
              depth: depth, strides: strides, to: target + first)
          }
        }
      }
    }
    return product
  }

  /// The scalar products of every two of `count` vectors of `length` elements, `[count, count]`; only the entries on and
  /// above the diagonal mean something.
  func gram<Element: MatrixElement>(
    of vectors: [Element], count: Int, length: Int, layout: LinearAlgebra.Layout
  ) throws(Failure) -> [Element] {
    precondition(vectors.count == count * length, "vectors of this size")
    var sum = [Element](repeating: 0, count: count * count)
    // From one vector to the next, and from row to row as they lie.
    let (step, stride) = layout == .vectors ? (length, length) : (1, count)
    // The square above the diagonal is as much work as both triangles beside it.
    let isLarge = count * count * length / 2 >= Self.smallest
    let halves = Self.cut(count, pieces: isLarge ? 2 : 1)
    let pieces = (halves.count == 2 ? [GramPiece.square(halves[0].count)] : []) + halves.map { .triangle($0) }
    try forEach(pieces, writing: &sum) { [algebra] piece, target in
      vectors.withUnsafeBufferPointer { vectors in
        guard let vectors = vectors.baseAddress else { return }
        switch piece {
        case .triangle(let range):
          let first = range.lowerBound
          algebra.addGram(
            of: vectors + first * step, count: range.count, length: length, layout: layout, strides: (stride, count),
            to: target + first * count + first)
        case .square(let half):
          algebra.multiply(
            vectors, layout == .vectors ? .asIs : .transposed, vectors + half * step,
            layout == .vectors ? .transposed : .asIs, rows: half, columns: count - half, depth: length,
            strides: (stride, stride, count), to: target + half)
        }
      }
    }
    return sum
  }

  private enum GramPiece {
    /// What vectors of a range have to do with each other.
    case triangle(Range<Int>)
    /// What the first vectors have to do with the others.
    case square(Int)
  }

  /// Rounded to single precision.
  func single(_ elements: [Double]) throws(Failure) -> [Float] {
    var singles = [Float](unwritten: elements.count)
    let ranges = Self.cut(elements.count, pieces: elements.count >= 1 << 20 ? Self.pieces : 1)
    try forEach(ranges, writing: &singles) { range, target in
      elements.withUnsafeBufferPointer { elements in
        for element in range { target[element] = Float(elements[element]) }
      }
    }
    return singles
  }

  /// Widened to double precision.
  func double(_ elements: [Float]) -> [Double] {
    var doubles = [Double](unwritten: elements.count)
    doubles.withUnsafeMutableBufferPointer { target in
      elements.withUnsafeBytes { elements in
        if let base = elements.baseAddress { Widening.copy(.float32, at: base, to: target) }
      }
    }
    return doubles
  }

  /// Ranges of about the same length.
  private static func cut(_ total: Int, pieces: Int) -> [Range<Int>] {
    let length = max(1, (total + pieces * grain - 1) / (pieces * grain) * grain)
    return stride(from: 0, to: total, by: length).map { $0..<min($0 + length, total) }
  }

  /// - Parameter body: writes elements of the target that no other piece does.
  private func forEach<Piece: Sendable, Element: MatrixElement>(
    _ pieces: [Piece], writing target: inout [Element],
    _ body: @escaping @Sendable (Piece, UnsafeMutablePointer<Element>) -> Void
  ) throws(Failure) {
    try work.checkCancellation()
    let outcome = target.withUnsafeMutableBufferPointer { target -> Result<Void, Failure> in
      guard let base = target.baseAddress else { return .success(()) }
      nonisolated(unsafe) let shared = base
      do throws(Failure) {
        _ = try work.concurrentMap(pieces, cost: { _ in 1 }, naming: { _ in "" }) { piece, _ in body(piece, shared) }
        return .success(())
      } catch {
        return .failure(error)
      }
    }
    try outcome.get()
  }
}
