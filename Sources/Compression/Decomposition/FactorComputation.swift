import ModelGraph
import Numerics

extension DecomposableLayer {
  /// The factors of the weight at `ranks`, rounded as they will be stored, and what they lose.
  /// - Parameters:
  ///   - inputs: what the layer reads, where that is known: then the output loses least, else the weight. CP minds the
  ///     weight alone.
  ///   - start: the Gram matrix of the inputs' slices, reduced, if that has been done.
  func factors(
    _ method: DecompositionMethod, ranks: [Int], inputs: WeightInputs?, start: SymmetricForm<Double>? = nil,
    algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> ComputedFactors {
    let elements: [[Double]]
    var (outputError, warning) = (Double?.none, String?.none)
    /// Before rounding, of factors that are stored as they were found.
    var exactError: Double?
    switch method {
    case .svd:
      guard
        let found = try TruncatedSVD.of(
          matrix, rank: ranks[0], whitening: inputs?.whitening, algebra, work: work)
      else { throw notFinite }
      elements = [found.first, found.last]
      exactError = found.relativeError
      outputError = found.outputError?.relative
    case .tucker:
      guard
        let found = try Tucker2.of(
          matrix, positions: taps, ranks: Tucker2.Ranks(output: ranks[1], input: ranks[0]),
          whitening: inputs?.whitening, start: start, algebra, work: work)
      else { throw notFinite }
      var (core, last) = (found.core, found.last)
      exactError = found.relativeError
      outputError = found.outputError?.relative
      if let patches = inputs?.patches,
        let regression = try ReducedRankRegression(
          matrix, taps: taps, first: found.first, outputRank: ranks[1], patches: patches, algebra, work: work)
      {
        (core, last) = (regression.core, regression.last)
        exactError = nil
        FactorScaling.balance(&core, &last, taps: ranks[0] * taps)
        outputError = regression.outputError.relative
      }
      elements = [found.first, core, last].compactMap { $0 }
    case .cp:
      guard let found = try CanonicalPolyadic.of(matrix, shape: kernel, rank: ranks[0], algebra, work: work) else {
        throw notFinite
      }
      elements = [found.first] + found.axes.compactMap { $0 } + [found.last]
      if found.isDegenerate {
        warning =
          "'\(name)': components of its CP decomposition grow without bound while they cancel; what they held before is used. A higher rank, or FD_TK, does better"
      }
    }
    let parts = zip(LayerFactors.shapes(method, ranks: ranks, of: self), elements).map { $0.with($1) }
    let factors = LayerFactors(method: method, ranks: ranks, parts: parts).rounded(to: weight.dtype)
    if let known = exactError, inputs?.mean == nil, (weight.dtype.byteWidth ?? 0) >= 4, known >= Self.smallestUnmeasured
    {
      return ComputedFactors(factors: factors, relativeError: known, outputError: outputError, warning: warning)
    }
    let product = factors.product(kernel: kernel, algebra)
    return ComputedFactors(
      factors: factors, relativeError: try relativeError(product, work), outputError: outputError,
      lostMean: try inputs?.mean.map { mean throws(Failure) in try lostMean(product, mean, work) },
      warning: warning)
  }

  /// Rounding factors to single precision moves the error by some 1e-7 of the weight: of larger errors than this that is
  /// beyond the digits that matter, and nothing is multiplied out to measure it.
  private static let smallestUnmeasured = 0.01

  /// `(W - product) mean`, what the bias has to make up for, by output channel.
  private func lostMean(_ product: [Double], _ mean: [Double], _ work: Work) throws(Failure) -> [Double] {
    var lost = [Double](repeating: 0, count: outputChannels)
    let width = inputChannels * taps
    try matrix.forEachRowTile(scale: 1, work) { rows, tile throws(Failure) in
      for (k, row) in rows.enumerated() {
        for element in 0..<width {
          lost[row] += (tile[k * width + element] - product[row * width + element]) * mean[element / taps]
        }
      }
    }
    return lost
  }

  /// `|W - product| / |W|`; 0 for the zero weight.
  func relativeError(_ product: [Double], _ work: Work) throws(Failure) -> Double {
    var (lost, total) = (0.0, 0.0)
    let width = inputChannels * taps
    try matrix.forEachRowTile(scale: 1, work) { rows, tile throws(Failure) in
      for k in 0..<rows.count * width {
        let difference = tile[k] - product[rows.lowerBound * width + k]
        lost += difference * difference
        total += tile[k] * tile[k]
      }
    }
    return total > 0 ? (lost / total).squareRoot() : 0
  }

  private var notFinite: Failure {
    Failure(
      .layerUnavailable, "the weight of '\(name)' holds NaN or infinity, or its eigenvalues did not converge",
      details: ["layer": .string(name), "reason": .string("non_finite_weights")])
  }

  /// Floating-point operations that its factors take, about.
  func factorFlops(_ method: DecompositionMethod, ranks: [Int]) -> Double {
    let whole = Double(inputChannels * outputChannels * taps)
    return spectrumFlops(method) + whole * Double(ranks.reduce(0, +)) * (method == .svd ? 2 : 16)
  }
}
