import ModelGraph
import Numerics

// Norms of filters, without bias: PR_L2 and PR_L1, and what the other criteria build on.
//
//     l1: sum over k of |W_ik|      l2: sqrt(sum over k of W_ik^2)
//
// (Li et al., "Pruning filters for efficient ConvNets", ICLR 2017; l2 as in NetsPresso's documentation.)
//
// Invariant: one pass over the weight, in double; scores are finite, or the weight is reported as not finite.

package enum FilterNorm: Sendable {
  case l1, l2

  /// The norm of each cell's filters together, each filter multiplied by its scale.
  ///
  /// - Parameter cellCount: one more than the largest cell; nil = as many as there are.
  /// - Throws: `cancelled`, within a few milliseconds of the flag.
  package func scores(
    of filters: WeightFilters, cellCount: Int? = nil, work: Work = Work()
  ) throws(Failure) -> CriterionScores {
    var norms: [Double]
    switch try perFilter(filters, work) {
    case .nonFinite(let filter): return .nonFinite(filter: filter)
    case .scores(let found): norms = found
    }
    if let scales = filters.scales {
      for filter in norms.indices { norms[filter] = min(norms[filter] * abs(scales[filter]), .greatestFiniteMagnitude) }
    }
    return .scores(
      joined(cells: filters.cells, norms, cellCount: cellCount ?? (filters.cells.max() ?? -1) + 1))
  }

  /// The norm of the concatenation of vectors of the given norms, per cell.
  package func joined(_ parts: [[Double]]) -> [Double] {
    guard let first = parts.first, parts.count > 1 else { return parts.first ?? [] }
    return joined(cells: parts.flatMap(\.indices), parts.flatMap { $0 }, cellCount: first.count)
  }

  private func joined(cells: [Int], _ norms: [Double], cellCount: Int) -> [Double] {
    var perCell = [Double](repeating: 0, count: cellCount)
    if self == .l1 {
      for (norm, cell) in zip(norms, cells) where cell >= 0 { perCell[cell] += norm }
      return perCell.map { min($0, .greatestFiniteMagnitude) }
    }
    let scale = Self.inverseScale(peak: norms.max() ?? 0)
    for (norm, cell) in zip(norms, cells) where cell >= 0 { perCell[cell] += (norm * scale) * (norm * scale) }
    return perCell.map { min($0.squareRoot() / scale, .greatestFiniteMagnitude) }
  }

  /// The power of two by which numbers up to `peak` are multiplied so that their squares and sums of these stay in the
  /// range of double; 1 where they do anyway.
  static func inverseScale(peak: Double) -> Double {
    guard peak > 0, !(0x1p-400...0x1p400).contains(peak) else { return 1 }
    // Kept within the exponents whose powers, and their reciprocals, are normal numbers.
    return Double(sign: .plus, exponent: max(-1000, min(1000, -peak.exponent)), significand: 1)
  }

  // MARK: One pass

  /// Elements between two looks at the cancellation flag: below a millisecond of work.
  private static let chunk = 1 << 20
  /// Smaller sums may have lost squares to underflow.
  private static let smallestSum = 0x1p-960

  private func perFilter(_ filters: WeightFilters, _ work: Work) throws(Failure) -> CriterionScores {
    guard self == .l2 else {
      let sums = try Self.sums(.magnitudes, filters, work)
      for filter in sums.indices where !sums[filter].isFinite {
        if try Self.hasNonFinite(filters, filter, work) { return .nonFinite(filter: filter) }
      }
      return .scores(sums.map { min($0, .greatestFiniteMagnitude) })
    }
    var (sums, scale) = (try Self.sums(.squares(scale: 1), filters, work), 1.0)
    if filters.format == .float64, sums.contains(where: { !$0.isFinite }) || (sums.max() ?? 0) < Self.smallestSum {
      // Squares of doubles beyond 1e154 or below 1e-154 leave the range of double: once more, on another scale.
      scale = Self.rescaling(filters.weight)
      sums = try Self.sums(.squares(scale: scale), filters, work)
    }
    if let filter = sums.firstIndex(where: { !$0.isFinite }) { return .nonFinite(filter: filter) }
    return .scores(sums.map { min($0.squareRoot() / scale, .greatestFiniteMagnitude) })
  }

  private static func sums(
    _ term: SliceSums.Term, _ filters: WeightFilters, _ work: Work
  ) throws(Failure) -> [Double] {
    var sums = [Double](repeating: 0, count: filters.count)
    guard filters.weight.elementCount > 0 else { return sums }
    // Pieces of the outermost dimension that is longer than one: rows before the filters, then filters, then the
    // elements of a single filter.
    let (outer, width, inner) = (filters.outer, filters.width, filters.inner)
    let rowsAtOnce = max(1, chunk / (width * inner))
    let filtersAtOnce = rowsAtOnce > 1 ? width : min(width, max(1, chunk / inner))
    let elementsAtOnce = filtersAtOnce > 1 ? inner : min(inner, chunk)
    for block in 0..<filters.blocks {
      for firstRow in stride(from: 0, to: outer, by: rowsAtOnce) {
        for firstFilter in stride(from: 0, to: width, by: filtersAtOnce) {
          for firstElement in stride(from: 0, to: inner, by: elementsAtOnce) {
            try work.checkCancellation()
            let target = block * width + firstFilter
            sums.withUnsafeMutableBufferPointer {
              SliceSums.add(
                term, filters.format, at: filters.address(filter: target, row: firstRow, element: firstElement),
                outer: min(rowsAtOnce, outer - firstRow), inner: min(elementsAtOnce, inner - firstElement),
                to: UnsafeMutableBufferPointer(rebasing: $0[target..<target + min(filtersAtOnce, width - firstFilter)]))
            }
          }
        }
      }
    }
    return sums
  }

  /// Tells a sum that grew beyond the range of double from one of an element that is no number.
  private static func hasNonFinite(_ filters: WeightFilters, _ filter: Int, _ work: Work) throws(Failure) -> Bool {
    guard filters.format == .float64 else { return true }
    for row in 0..<filters.outer {
      try work.checkCancellation()
      for element in 0..<filters.inner {
        let x = filters.address(filter: filter, row: row, element: element).loadUnaligned(as: Double.self)
        if !x.isFinite { return true }
      }
    }
    return false
  }

  /// The power of two that brings the largest finite element of a tensor of doubles near 1.
  private static func rescaling(_ weight: Tensor) -> Double {
    var peak = 0.0
    for element in 0..<weight.elementCount {
      let x = abs(weight.bytes.base.loadUnaligned(fromByteOffset: element * 8, as: Double.self))
      if x.isFinite, x > peak { peak = x }
    }
    return peak == 0 ? 1 : Double(sign: .plus, exponent: max(-1000, min(1000, -peak.exponent)), significand: 1)
  }
}
