import Glibc
import ModelGraph
import Numerics

/// A convolution's kernel `[outputs, inputs, positions along each axis]` as a sum of products of vectors, one per mode
/// (Lebedev et al., ICLR 2015, arXiv 1412.6553):
///
///     W[o, i, y, x] ~ sum over r of last[o, r] first[r, i] axes[0][r, y] axes[1][r, x]
///
/// The best such sum may not exist: components can grow without bound while they cancel. Such an iteration is stopped,
/// and what it held before is the result.
///
/// Invariants: all vectors of a component are of one norm; the largest entry of each but the first is positive (the
/// first carries the sign); components descend by norm.
package struct CanonicalPolyadic: Sendable {
  package let rank: Int
  /// `[rank, inputs]`.
  package let first: [Double]
  /// Per axis of the kernel `[rank, length]`; nil for one of length 1, whose factor is in the others.
  package let axes: [[Double]?]
  /// `[outputs, rank]`.
  package let last: [Double]
  /// ||W - W'|| / ||W||; 0 for the zero kernel.
  package let relativeError: Double
  /// Of alternating least squares, of the best start.
  package let sweeps: Int
  /// Whether components grew beyond a thousand times the kernel, and the iteration was stopped.
  package let isDegenerate: Bool

  /// Starts: the leading singular vectors of every mode, and two of random numbers.
  private static let starts = 3
  /// Sweeps after which only the best start goes on.
  private static let trialSweeps = 20

  /// Memory: the kernel as doubles, and two matrices `[outputs * positions, rank]`.
  ///
  /// - Parameters:
  ///   - kernel: `[outputs, inputs * positions]`.
  ///   - shape: of the positions.
  ///   - rank: at least 1.
  ///   - tolerance: the relative change of the error that ends the iteration.
  /// - Returns: nil if an element is NaN or infinite.
  /// - Throws: `cancelled`.
  package static func of(
    _ kernel: MatrixSource, shape: [Int], rank: Int, tolerance: Double = 1e-8, maximumSweeps: Int = 500,
    _ algebra: LinearAlgebra, work: Work = Work()
  ) throws(Failure) -> CanonicalPolyadic? {
    precondition(rank >= 1 && shape.allSatisfy { $0 >= 1 }, "a rank and lengths of at least 1")
    guard let peak = try kernel.peak(work: work) else { return nil }
    let scale = FilterNorm.inverseScale(peak: peak)
    let unfolding = kernel.inputUnfolding(positions: shape.reduce(1, *))
    let squares = AlternatingLeastSquares(
      kernel: try unfolding.elements(scale: scale, work: work), outputs: kernel.rows, inputs: unfolding.columns,
      shape: shape, rank: rank, algebra, work)
    var best: AlternatingLeastSquares.State?
    for start in 0..<(squares.energy > 0 ? starts : 1) {
      var state = try squares.start(start)
      try squares.run(&state, tolerance: tolerance, sweeps: min(trialSweeps, maximumSweeps))
      if best.map({ state.error < $0.error }) ?? true { best = state }
    }
    guard var best else { return nil }
    try squares.run(&best, tolerance: tolerance, sweeps: maximumSweeps)
    return CanonicalPolyadic(best, squares, scale: scale)
  }

  private init(_ state: AlternatingLeastSquares.State, _ squares: AlternatingLeastSquares, scale: Double) {
    let rank = squares.rank
    var columns = state.factors.map { FactorScaling.transposed($0.elements, rows: $0.rows, columns: rank) }
    let lengths = state.factors.map(\.rows)
    // Axes of length 1 are numbers, which go to the outputs.
    let used = lengths.indices.filter { $0 < 2 || lengths[$0] > 1 }
    var sizes = [Double](repeating: 0, count: rank)
    for r in 0..<rank {
      var product = 1 / scale
      for mode in lengths.indices {
        let vector = columns[mode][r * lengths[mode]..<(r + 1) * lengths[mode]]
        product *= FactorScaling.norm(of: vector)
        if !used.contains(mode), vector.first! < 0 { product = -product }
      }
      sizes[r] = abs(product)
      let share = product != 0 ? Glibc.pow(abs(product), 1 / Double(used.count)) : 0
      var sign = product < 0 ? -1.0 : 1
      for mode in used.reversed() {
        let range = r * lengths[mode]..<(r + 1) * lengths[mode]
        let norm = FactorScaling.norm(of: columns[mode][range])
        // Modes: outputs, inputs, axes. Inputs carry the sign and come last.
        let own = FactorScaling.sign(of: columns[mode][range])
        if mode != 1 { sign *= own }
        let factor = norm > 0 ? share / norm * (mode == 1 ? 1 : own) : 0
        for element in range { columns[mode][element] *= factor }
      }
      for element in r * lengths[1]..<(r + 1) * lengths[1] { columns[1][element] *= sign }
    }
    let order = (0..<rank).sorted { (-sizes[$0], $0) < (-sizes[$1], $1) }
    func ordered(_ mode: Int) -> [Double] {
      order.flatMap { columns[mode][$0 * lengths[mode]..<($0 + 1) * lengths[mode]] }
    }
    self.rank = rank
    last = FactorScaling.transposed(ordered(0), rows: rank, columns: lengths[0])
    first = ordered(1)
    axes = lengths.indices.dropFirst(2).map { used.contains($0) ? ordered($0) : nil }
    (relativeError, sweeps, isDegenerate) = (state.error, state.sweeps, state.isDegenerate)
  }
}
