import Glibc
import ModelGraph
import Numerics

/// What the singular values of one weight say: how much every rank keeps, and how many are signal.
struct WeightSpectra: Sendable {
  /// Of the matrix `[O, I]` for SVD; of the unfoldings by input and by output channels, in this order, for Tucker.
  /// Where the inputs are known, of what it makes of them: truncation then loses least of the output.
  let modes: [Spectrum]
  /// VBMF's ranks, by mode, of the weight itself.
  let estimated: [Int]
  let isWhitened: Bool

  init(_ modes: [Spectrum]) {
    self.modes = modes
    estimated = modes.map { VBMF($0).rank }
    isWhitened = false
  }

  /// The same weight on known inputs.
  init(_ plain: WeightSpectra, whitened modes: [Spectrum]) {
    (self.modes, estimated, isWhitened) = (modes, plain.estimated, true)
  }

  /// An upper bound of the share of the squared norm that truncation to `ranks` loses; exact for SVD. (Tucker: the
  /// modes' losses add up at most; De Lathauwer et al. 2000, property 10.)
  func lostShare(at ranks: [Int]) -> Double {
    min(1, zip(modes, ranks).reduce(0) { $0 + $1.0.lostShare(rank: $1.1) })
  }

  /// How much weaker truncation to `ranks` makes the signal that goes through, as the logarithm of its squared norm: what
  /// a chain of layers adds up.
  func attenuation(at ranks: [Int]) -> Double { -log(max(1 - lostShare(at: ranks), 1e-300)) }

  var byteCount: Int { modes.reduce(0) { $0 + $1.values.count * 16 } }
}

/// The spectra of a model's weights for one method, or why there are none for a weight.
struct SpectrumTable: Sendable {
  enum Entry: Sendable {
    case spectra(WeightSpectra)
    case unavailable(String)
  }
  private(set) var entries: [DecomposableLayer.Key: Entry] = [:]

  subscript(layer: DecomposableLayer) -> Entry? { entries[layer.key] }
  func merging(_ other: SpectrumTable) -> SpectrumTable {
    SpectrumTable(entries: entries.merging(other.entries) { first, _ in first })
  }

  var byteCount: Int {
    entries.values.reduce(0) { if case .spectra(let spectra) = $1 { $0 + spectra.byteCount } else { $0 } }
  }
}

extension SpectrumTable {
  /// - Parameters:
  ///   - layers: those that the method takes; layers with the same weight count once.
  ///   - whitening: of a layer's inputs, where there are data.
  init(
    _ layers: [DecomposableLayer], _ method: DecompositionMethod, _ algebra: LinearAlgebra, work: Work
  ) throws(Failure) {
    let distinct = layers.distinctWeights
    let found = try work.concurrentMap(
      distinct, cost: { $0.spectrumFlops(method) }, naming: { "singular values of '\($0.name)'" }
    ) { layer, work throws(Failure) in
      try Self.entry(layer, method, algebra, work)
    }
    entries = Dictionary(uniqueKeysWithValues: zip(distinct.map(\.key), found))
  }

  /// The same weights on the inputs that a source makes them read. Those that read nothing finite, or more channels than
  /// can be gathered, stay as they are.
  func whitened(
    _ layers: [DecomposableLayer], _ method: DecompositionMethod, _ gathering: InputGathering, work: Work
  ) throws(Failure) -> SpectrumTable {
    var table = self
    let weights = layers.distinctWeights.filter { if case .spectra = entries[$0.key] { true } else { false } }
    try gathering.forEach(weights, members: { w in layers.filter { $0.key == w.key } }, patches: false, work: work) {
      chunk, work throws(Failure) in
      let found = try work.concurrentMap(
        chunk, cost: { $0.weight.spectrumFlops(method) }, naming: { "singular values of '\($0.weight.name)'" }
      ) { item, work throws(Failure) -> [Spectrum]? in
        guard let inputs = item.inputs else { return nil }
        return try item.weight.whitenedSpectra(method, inputs.whitening, gathering.algebra, work)
      }
      for (item, modes) in zip(chunk, found) {
        guard let modes, modes[0].energy > 0, case .spectra(let plain) = entries[item.weight.key] else { continue }
        table.entries[item.weight.key] = .spectra(WeightSpectra(plain, whitened: modes))
      }
    }
    return table
  }

  private static func entry(
    _ layer: DecomposableLayer, _ method: DecompositionMethod, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> Entry {
    let modes: [Spectrum]?
    switch method {
    case .svd: modes = try Spectrum.of(layer.matrix, algebra, work: work).map { [$0] }
    case .tucker:
      modes = try Spectrum.ofUnfoldings(of: layer.matrix, positions: layer.taps, algebra, work: work).map {
        [$0.input, $0.output]
      }
    // What bounds a sum of products of vectors is none of its unfoldings; the matrix tells zero and what is no number.
    case .cp: modes = try Spectrum.of(layer.matrix, algebra, work: work).map { [$0] }
    }
    guard let modes else { return .unavailable("non_finite_weights: its weight holds NaN or infinity") }
    guard modes[0].energy > 0 else { return .unavailable("zero_weight: its weight is zero") }
    return .spectra(WeightSpectra(modes))
  }
}

extension Spectrum {
  /// What the best approximation of a rank loses of the squared norm.
  func lostShare(rank: Int) -> Double {
    let error = relativeError(rank: rank)
    return error * error
  }
}

extension DecomposableLayer {
  /// The weight, `[O, I * taps]`.
  var matrix: MatrixSource {
    let isContiguous = weight.strides == StoredWeight.rowMajor(weight.shape)
    if isContiguous, outputAxis == 0, let whole = MatrixSource(weight.tensor, rows: outputChannels) { return whole }
    if isContiguous, kernel.isEmpty, let turned = MatrixSource(weight.tensor, rows: inputChannels) {
      return turned.transposed
    }
    if kernel.isEmpty, weight.strides.reversed() == StoredWeight.rowMajor(weight.shape.reversed()) {
      // A transposed matrix.
      if outputAxis == 1, let whole = MatrixSource(weight.tensor, rows: outputChannels) { return whole }
      if let turned = MatrixSource(weight.tensor, rows: inputChannels) { return turned.transposed }
    }
    return MatrixSource(kernelElements, rows: outputChannels, columns: inputChannels * taps)
  }

  /// The spectra of the weight times a factor of its inputs' covariance.
  fileprivate func whitenedSpectra(
    _ method: DecompositionMethod, _ whitening: Whitening, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> [Spectrum]? {
    // [O * taps, I], whose rows are what the whitening works on.
    let unfolding = matrix.inputUnfolding(positions: taps)
    var elements = try unfolding.elements(work: work)
    try elements.withUnsafeMutableBuffer { base throws(Failure) in
      for start in stride(from: 0, to: unfolding.rows, by: 512) {
        try work.checkCancellation()
        whitening.apply(to: base + start * inputChannels, count: min(512, unfolding.rows - start), algebra)
      }
    }
    guard
      let byInput = try Spectrum.of(
        MatrixSource(elements, rows: unfolding.rows, columns: inputChannels), algebra, work: work)
    else { return nil }
    guard method == .tucker else { return [byInput] }
    return try Spectrum.of(
      MatrixSource(elements, rows: outputChannels, columns: inputChannels * taps), algebra, work: work
    ).map { [byInput, $0] }
  }

  /// Floating-point operations that its spectra take, about: Gram matrices and their eigenvalues.
  func spectrumFlops(_ method: DecompositionMethod) -> Double {
    func flops(_ rows: Int, _ columns: Int) -> Double {
      let (small, large) = (Double(min(rows, columns)), Double(max(rows, columns)))
      return small * small * large + 4 * small * small * small / 3
    }
    let first = flops(outputChannels, inputChannels * taps)
    return method == .svd ? first : first + flops(inputChannels, outputChannels * taps)
  }
}

extension [DecomposableLayer] {
  /// The first layer of every weight, in order.
  var distinctWeights: [DecomposableLayer] {
    var seen: Set<DecomposableLayer.Key> = []
    return filter { seen.insert($0.key).inserted }
  }
}
