import ModelGraph
import Numerics

// PR_L2: a filter's importance is the Euclidean norm of its weights, without bias (Li et al., "Pruning filters for
// efficient ConvNets", ICLR 2017, with the norm of NetsPresso's documentation).
//
//     s_i = sqrt(sum over k of W_ik^2)
//
// Invariant: one pass over the weight, in double; scores are finite, or the weight is reported as not finite.

package enum L2Norm {
  /// The norms of the filters of `weight`, which lie along `axis`: 0 for Conv, 1 for MatMul's `[in, out]` and
  /// ConvTranspose's `[in, out / groups, ...]`.
  ///
  /// - Parameters:
  ///   - weight: f16, bf16, f32 or f64.
  ///   - blocks: for a grouped ConvTranspose the number of groups: axis 0 is that many equal runs of rows, each with
  ///     filters of its own, and filter `q * shape[axis] + j` is slice j of run q.
  ///   - cells: per filter, the cell it belongs to, or -1 if its score is of no interest; nil = each its own. A cell's
  ///     score is the norm of all its filters together.
  ///   - cellCount: one more than the largest cell.
  /// - Throws: `cancelled`, within a few milliseconds of the flag.
  package static func scores(
    of weight: Tensor, axis: Int, blocks: Int = 1, cells: [Int]? = nil, cellCount: Int? = nil, work: Work = Work()
  ) throws(Failure) -> CriterionScores {
    let layout = Layout(weight, axis: axis, blocks: blocks)
    var (sums, scale) = (try squares(weight, layout, scale: 1, work), 1.0)
    if weight.dtype == .float64, sums.contains(where: { !$0.isFinite }) || (sums.max() ?? 0) < smallestSum {
      // Squares of doubles beyond 1e154 or below 1e-154 leave the range of double: once more, on another scale.
      scale = rescaling(weight)
      sums = try squares(weight, layout, scale: scale, work)
    }
    if let filter = sums.firstIndex(where: { !$0.isFinite }) { return .nonFinite(filter: filter) }
    if let cells {
      precondition(cells.count == sums.count, "one cell per filter")
      var perCell = [Double](repeating: 0, count: cellCount ?? (cells.max() ?? -1) + 1)
      for (filter, cell) in cells.enumerated() where cell >= 0 { perCell[cell] += sums[filter] }
      sums = perCell
    }
    return .scores(sums.map { min($0.squareRoot() / scale, .greatestFiniteMagnitude) })
  }

  /// `[blocks][outer, filters, inner]`, row-major.
  private struct Layout {
    let blocks: Int
    let outer: Int
    let filters: Int
    let inner: Int

    init(_ weight: Tensor, axis: Int, blocks: Int) {
      precondition(weight.shape.indices.contains(axis), "the filter axis is an axis of the weight")
      let outer = weight.shape[..<axis].reduce(1, *)
      precondition(blocks >= 1 && outer % blocks == 0, "blocks divide the rows before the filter axis")
      (self.blocks, self.outer, filters) = (blocks, outer / blocks, weight.shape[axis])
      inner = weight.shape[(axis + 1)...].reduce(1, *)
    }
  }

  /// Elements between two looks at the cancellation flag: below a millisecond of work.
  private static let chunk = 1 << 20
  /// Smaller sums may have lost squares to underflow.
  private static let smallestSum = 0x1p-960

  private static func squares(
    _ weight: Tensor, _ layout: Layout, scale: Double, _ work: Work
  ) throws(Failure) -> [Double] {
    guard let format = weight.dtype.floatFormat, let width = weight.dtype.byteWidth else {
      preconditionFailure("criteria read weights of real numbers")
    }
    var sums = [Double](repeating: 0, count: layout.blocks * layout.filters)
    guard weight.elementCount > 0 else { return sums }
    // Pieces of the outermost dimension that is longer than one: rows before the filters, then filters, then the
    // elements of a single filter.
    let row = layout.filters * layout.inner
    let rowsAtOnce = max(1, chunk / row)
    let filtersAtOnce = rowsAtOnce > 1 ? layout.filters : min(layout.filters, max(1, chunk / layout.inner))
    let elementsAtOnce = filtersAtOnce > 1 ? layout.inner : min(layout.inner, chunk)
    for block in 0..<layout.blocks {
      for firstRow in stride(from: 0, to: layout.outer, by: rowsAtOnce) {
        for firstFilter in stride(from: 0, to: layout.filters, by: filtersAtOnce) {
          for firstElement in stride(from: 0, to: layout.inner, by: elementsAtOnce) {
            try work.checkCancellation()
            let position = (block * layout.outer + firstRow) * row + firstFilter * layout.inner + firstElement
            let filters = min(filtersAtOnce, layout.filters - firstFilter)
            let target = block * layout.filters + firstFilter
            sums.withUnsafeMutableBufferPointer {
              SumOfSquares.add(
                format, at: weight.bytes.base + position * width, outer: min(rowsAtOnce, layout.outer - firstRow),
                inner: min(elementsAtOnce, layout.inner - firstElement), scale: scale,
                to: UnsafeMutableBufferPointer(rebasing: $0[target..<target + filters]))
            }
          }
        }
      }
    }
    return sums
  }

  /// The power of two that brings the largest finite element of a tensor of doubles near 1.
  private static func rescaling(_ weight: Tensor) -> Double {
    var peak = 0.0
    for element in 0..<weight.elementCount {
      let x = abs(weight.bytes.base.loadUnaligned(fromByteOffset: element * 8, as: Double.self))
      if x.isFinite, x > peak { peak = x }
    }
    // Kept within the exponents whose powers, and their reciprocals, are normal numbers.
    return peak == 0 ? 1 : Double(sign: .plus, exponent: max(-1000, min(1000, -peak.exponent)), significand: 1)
  }
}

extension DType {
  fileprivate var floatFormat: FloatFormat? {
    switch self {
    case .float16: .float16
    case .bfloat16: .bfloat16
    case .float32: .float32
    case .float64: .float64
    default: nil
    }
  }
}
