import ModelGraph
import Numerics

/// A convolution's kernel `[outputs, inputs, positions]` as three: inputs mixed to fewer, a smaller kernel, and its
/// outputs mixed to all (Kim et al., ICLR 2016, arXiv 1511.06530, section 3.1):
///
///     W[o, i, k] ~ sum over a, b of last[o, a] core[a, b, k] first[b, i]
///
/// Invariants: the three factors share the kernel's size evenly, index by index; the largest entry of each column of
/// `last` and each row of `first` is positive; components descend by energy.
package struct Tucker2: Sendable {
  /// Columns of `last`; all outputs where `last` is nil.
  package let outputRank: Int
  /// Rows of `first`; all inputs where `first` is nil.
  package let inputRank: Int
  /// `[inputRank, inputs]`; nil at full rank, where it would be the identity.
  package let first: [Double]?
  /// `[outputRank, inputRank, positions]`.
  package let core: [Double]
  /// `[outputs, outputRank]`; nil at full rank.
  package let last: [Double]?
  /// ||W - W'|| / ||W||; 0 for the zero kernel.
  package let relativeError: Double
  /// With a whitening, the same of the output: exact for inputs that do not depend on their neighbours.
  package let outputError: OutputError?
  /// Of higher-order orthogonal iteration.
  package let sweeps: Int

  package struct Ranks: Sendable, Equatable {
    package var output: Int
    package var input: Int

    package init(output: Int, input: Int) { (self.output, self.input) = (output, input) }

    /// Ranks that are not above what the kernel has, nor above what the other rank lets be of use: an unfolding of the
    /// core has no more independent rows than columns.
    package func clamped(outputs: Int, inputs: Int, positions: Int) -> Ranks {
      var ranks = Ranks(output: min(max(output, 1), outputs), input: min(max(input, 1), inputs))
      ranks.input = min(ranks.input, ranks.output * positions)
      ranks.output = min(ranks.output, ranks.input * positions)
      return ranks
    }
  }

  /// When to stop sweeping.
  package struct Convergence: Sendable {
    /// The share of the error by which a sweep must lower it for another to follow; from the second sweep on, half a
    /// sweep must lower it by half of that. 1e-3 is reached within two or three sweeps unless the kernel is noise, within
    /// 0.1 % of where a hundred times as many end. With 0, only a core whose norm changes by less than 1e-12 of the
    /// kernel's ends the iteration.
    package let tolerance: Double
    /// 0 leaves the truncated higher-order SVD.
    package let maximumSweeps: Int

    package init(tolerance: Double = 1e-3, maximumSweeps: Int = 100) {
      (self.tolerance, self.maximumSweeps) = (tolerance, maximumSweeps)
    }

    /// - Parameters:
    ///   - norm, previous: of the core, after this and the last sweep.
    ///   - energy: the kernel's squared norm.
    func isReached(norm: Double, previous: Double, energy: Double) -> Bool {
      if abs(norm - previous) <= 1e-12 * energy.squareRoot() { return true }
      return gainsLittle(norm: norm, previous: previous, energy: energy, share: tolerance)
    }

    /// The same after half a sweep. Errors below 1e-3 are not looked at: their differences say too little.
    func isReachedHalfway(norm: Double, previous: Double, energy: Double) -> Bool {
      energy - norm * norm > 1e-6 * energy
        && gainsLittle(norm: norm, previous: previous, energy: energy, share: tolerance / 2)
    }

    private func gainsLittle(norm: Double, previous: Double, energy: Double, share: Double) -> Bool {
      let (error, before) = (
        max(energy - norm * norm, 0).squareRoot(), max(energy - previous * previous, 0).squareRoot()
      )
      return before - error <= share * before && share > 0
    }

    /// Whether the first sweep's products may be in single precision: what follows improves on its bases anyway.
    var startsInSingle: Bool { tolerance >= 1e-4 && maximumSweeps > 1 }
  }

  /// Above this size a reduced Gram matrix is not worth its memory.
  static func startsFromForm(inputs: Int) -> Bool { inputs <= LinearAlgebra.largestWhole }

  /// Memory: the kernel as doubles, its projections on either basis, and Gram matrices of both sides.
  ///
  /// - Parameters:
  ///   - kernel: `[outputs, inputs * positions]`.
  ///   - ranks: clamped.
  ///   - start: the Gram matrix of the inputs' slices times the square of `FilterNorm.inverseScale`, reduced; worked out
  ///     if it is not given.
  /// - Returns: nil if an element is NaN or infinite, or eigenvalues did not converge.
  /// - Throws: `cancelled`, looked for between products and calls of LAPACK.
  package static func of(
    _ kernel: MatrixSource, positions: Int, ranks: Ranks, whitening: Whitening? = nil,
    start: SymmetricForm<Double>? = nil, convergence: Convergence = Convergence(), _ algebra: LinearAlgebra,
    work: Work = Work()
  ) throws(Failure) -> Tucker2? {
    let unfolding = kernel.inputUnfolding(positions: positions)
    let ranks = ranks.clamped(outputs: kernel.rows, inputs: unfolding.columns, positions: positions)
    precondition(whitening.map { $0.size == unfolding.columns } ?? true, "a whitening of the kernel's inputs")
    guard let peak = try kernel.peak(work: work) else { return nil }
    let scale = FilterNorm.inverseScale(peak: peak)
    var iteration = OrthogonalIteration(
      kernel: try unfolding.elements(scale: scale, work: work), outputs: kernel.rows, positions: positions,
      inputs: unfolding.columns, ranks: ranks, algebra, work)
    var start = start
    if let whitening {
      iteration.whiten(by: whitening)
      start = nil
    } else if start == nil, ranks.input < unfolding.columns, startsFromForm(inputs: unfolding.columns) {
      let gram = try GramMatrix(of: unfolding, side: .columns, scale: scale, algebra, work).elements
      start = algebra.reduced(gram, size: unfolding.columns)
      if start == nil { return nil }
    }
    guard let sweeps = try iteration.run(convergence, start: start) else { return nil }
    return try iteration.factors(
      scale: scale, sweeps: sweeps, whitening: whitening, unwhitened: whitening.map { _ in unfolding })
  }
}
