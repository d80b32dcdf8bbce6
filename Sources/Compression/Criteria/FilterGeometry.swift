import ModelGraph
import Numerics

// Criteria that compare every filter of a layer with every other: how far apart they are, or how parallel.
//
// PR_GM (He et al., "Filter pruning via geometric median", CVPR 2019, section 3.3): the filter with the least total
// distance is nearest to the geometric median, hence best represented by the others.
//
//     s_i = sum over j of ||W_i - W_j||
//
// Redundancy (the value and MLP part of PR_SNP; Shim et al., ECCV 2024): a filter to which others are parallel is
// expendable. A filter of zeros is parallel to all.
//
//     s_i = sum over j of (1 - |cos(W_i, W_j)|)
//
// The vectors are the cells of a group: all filters of a cell, of one layer or of several, end to end; where a layer
// has none for a cell, zeros.
//
// Invariant: products come from Gram matrices in double (one matrix product instead of n^2 differences), in an order
// that depends on the layout alone. Distances of vectors so close that the Gram form cancels are taken directly.

package enum FilterGeometry: Sendable {
  case geometricMedian, redundancy

  /// The score of each cell, from the filters of one layer or of several that count as one.
  ///
  /// - Returns: with the source that holds it, where a weight is not finite.
  /// - Throws: `cancelled`; `runtimeUnavailable` without OpenBLAS.
  package func scores(
    of sources: [WeightFilters], cellCount: Int, work: Work = Work()
  ) throws(Failure) -> (scores: CriterionScores, source: Int) {
    var peak = 0.0
    for (k, source) in sources.enumerated() {
      switch try FilterNorm.l2.scores(of: source, cellCount: cellCount, work: work) {
      case .nonFinite(let filter): return (.nonFinite(filter: filter), k)
      case .scores(let norms): peak = max(peak, norms.max() ?? 0)
      }
    }
    let algebra = try LinearAlgebra.loaded()
    let scale = FilterNorm.inverseScale(peak: peak)
    var rows = CellRows(sources, cellCount: cellCount, scale: scale)
    let scores =
      switch self {
      case .geometricMedian: try totalDistances(&rows, algebra, work)
      case .redundancy: try totalDissimilarities(&rows, algebra, work)
      }
    let unscaled = self == .geometricMedian ? scores.map { min($0 / scale, .greatestFiniteMagnitude) } : scores
    return (.scores(unscaled), 0)
  }

  /// Closer than this share of their squared norms, the difference of Gram entries has lost too many digits.
  private static let cancelling = 1e-6

  private func totalDistances(
    _ rows: inout CellRows, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> [Double] {
    // Distances do not change when all vectors move, and around their mean fewer of them are close for their length.
    try rows.center(work)
    var totals = [Double](repeating: 0, count: rows.count)
    try rows.forEachTile(algebra, work) { tile throws(Failure) in
      for i in tile.rows {
        if i % 64 == 0 { try work.checkCancellation() }
        for j in tile.columns(after: i) {
          guard rows.fingerprints[i] != rows.fingerprints[j] else { continue }
          let size = rows.squaredNorms[i] + rows.squaredNorms[j]
          var square = size - 2 * tile[i, j]
          if square < Self.cancelling * size { square = rows.squaredDistance(i, j) }
          let distance = max(square, 0).squareRoot()
          totals[i] += distance
          totals[j] += distance
        }
      }
    }
    return totals
  }

  private func totalDissimilarities(
    _ rows: inout CellRows, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> [Double] {
    try rows.measure(work)
    let norms = rows.squaredNorms.map { $0.squareRoot() }
    var totals = [Double](repeating: 0, count: rows.count)
    try rows.forEachTile(algebra, work) { tile throws(Failure) in
      for i in tile.rows where norms[i] > 0 {
        if i % 64 == 0 { try work.checkCancellation() }
        for j in tile.columns(after: i) where norms[j] > 0 && rows.fingerprints[i] != rows.fingerprints[j] {
          let dissimilarity = max(0, 1 - abs(tile[i, j]) / (norms[i] * norms[j]))
          totals[i] += dissimilarity
          totals[j] += dissimilarity
        }
      }
    }
    return totals
  }
}

extension LinearAlgebra {
  /// - Throws: `runtimeUnavailable` where OpenBLAS is not installed.
  static func loaded() throws(Failure) -> LinearAlgebra {
    do {
      return try LinearAlgebra()
    } catch {
      throw Failure(
        .runtimeUnavailable,
        "this method needs OpenBLAS, which cannot be loaded (\(error.reason)); install it (Debian: libopenblas0)")
    }
  }
}
