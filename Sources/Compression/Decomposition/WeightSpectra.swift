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
  /// Of a kernel whose factors are to follow, the Gram matrix of its inputs' slices, reduced: where they start from.
  private(set) var start: SymmetricForm<Double>?

  init(_ modes: [Spectrum], start: SymmetricForm<Double>? = nil) {
    self.modes = modes
    estimated = modes.map { VBMF($0).rank }
    isWhitened = false
    self.start = start
  }

  /// What is worth keeping once the factors are made.
  var withoutStart: WeightSpectra {
    var spectra = self
    spectra.start = nil
    return spectra
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

  /// What is worth keeping once factors are made.
  var withoutStarts: SpectrumTable {
    SpectrumTable(
      entries: entries.mapValues { if case .spectra(let spectra) = $0 { .spectra(spectra.withoutStart) } else { $0 } })
  }

  var byteCount: Int {
    entries.values.reduce(0) { if case .spectra(let spectra) = $1 { $0 + spectra.byteCount } else { $0 } }
  }
}

extension SpectrumTable {
  /// - Parameters:
  ///   - layers: those that the method takes; layers with the same weight count once.
  ///   - keepsStarts: whether factors are to follow.
  init(
    _ layers: [DecomposableLayer], _ method: DecompositionMethod, keepsStarts: Bool, _ algebra: LinearAlgebra,
    work: Work
  ) throws(Failure) {
    let distinct = layers.distinctWeights
    let modes = distinct.flatMap { layer in
      (method == .tucker ? [Mode.inputs, .outputs] : [.matrix]).map { (layer: layer, mode: $0) }
    }
    let found = try work.concurrentMap(
      modes, cost: { $0.layer.spectrumFlops($0.mode) }, naming: { "singular values of '\($0.layer.name)'" }
    ) { item, work throws(Failure) in
      let found = try Spectrum.withForm(of: item.layer.unfolding(item.mode), algebra, work)
      let keepsForm = keepsStarts && item.mode == .inputs && item.layer.startIsSmall
      return found.map { ($0.spectrum, keepsForm ? $0.form : nil) }
    }
    let perLayer = modes.count / max(1, distinct.count)
    for (k, layer) in distinct.enumerated() {
      entries[layer.key] = Self.entry(Array(found[k * perLayer..<(k + 1) * perLayer]))
    }
  }

  private static func entry(_ modes: [(spectrum: Spectrum, start: SymmetricForm<Double>?)?]) -> Entry {
    let known = modes.compactMap { $0 }
    guard known.count == modes.count else {
      return .unavailable("non_finite_weights: its weight holds NaN or infinity")
    }
    guard known[0].spectrum.energy > 0 else { return .unavailable("zero_weight: its weight is zero") }
    return .spectra(WeightSpectra(known.map(\.spectrum), start: known[0].start))
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

  /// A matrix that a weight is read as.
  fileprivate enum Mode {
    /// The weight itself. Of CP: what bounds a sum of products of vectors is none of the unfoldings, but the matrix
    /// tells zero and what is no number.
    case matrix
    case inputs, outputs
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
    method == .svd ? spectrumFlops(.matrix) : spectrumFlops(.outputs) + spectrumFlops(.inputs)
  }

  fileprivate func spectrumFlops(_ mode: SpectrumTable.Mode) -> Double {
    let (rows, columns) =
      mode == .inputs ? (inputChannels, outputChannels * taps) : (outputChannels, inputChannels * taps)
    let (small, large) = (Double(min(rows, columns)), Double(max(rows, columns)))
    return small * small * large + 4 * small * small * small / 3
  }

  fileprivate func unfolding(_ mode: SpectrumTable.Mode) -> MatrixSource {
    mode == .inputs ? matrix.inputUnfolding(positions: taps) : matrix
  }

  /// Whether the reduced Gram matrix of the inputs' slices takes no more memory than the weight, and is one that Tucker-2
  /// starts from.
  fileprivate var startIsSmall: Bool {
    2 * inputChannels <= outputChannels * taps && Tucker2.startsFromForm(inputs: inputChannels)
  }
}

extension [DecomposableLayer] {
  /// The first layer of every weight, in order.
  var distinctWeights: [DecomposableLayer] {
    var seen: Set<DecomposableLayer.Key> = []
    return filter { seen.insert($0.key).inserted }
  }
}
