import ModelGraph
import Numerics

/// Higher-order orthogonal iteration for the two channel modes of a kernel (De Lathauwer, De Moor, Vandewalle, 2000):
/// each basis in turn is the best for the kernel projected on the other.
///
/// The kernel lies as `[outputs, positions, inputs]`. Both unfoldings, both projections and their Gram matrices are
/// then plain matrix products on it, and nothing is ever permuted.
///
/// Of large Gram matrices only the first decomposition is complete; from then on a basis is advanced from that of the
/// sweep before, which gains as much at a fraction of the cost.
///
/// Invariant: bases have orthonormal rows; a sweep never makes the core's norm less, hence the error never more.
struct OrthogonalIteration {
  /// `[outputs, positions, inputs]`.
  var kernel: [Double]
  let outputs: Int
  let positions: Int
  let inputs: Int
  let ranks: Tucker2.Ranks
  let algebra: LinearAlgebra
  let work: Work
  /// ||kernel||^2.
  var energy: Double
  /// `[ranks.output, outputs]`; nil = all outputs as they are.
  var outputBasis: [Double]?
  /// `[ranks.input, inputs]`; nil = all inputs as they are.
  var inputBasis: [Double]?
  /// `[ranks.output, positions, ranks.input]`, once run.
  var core: [Double] = []
  private var mayAdvance = true

  init(
    kernel: [Double], outputs: Int, positions: Int, inputs: Int, ranks: Tucker2.Ranks, _ algebra: LinearAlgebra,
    _ work: Work
  ) {
    precondition(kernel.count == outputs * positions * inputs, "the elements fill the kernel")
    (self.kernel, self.outputs, self.positions, self.inputs) = (kernel, outputs, positions, inputs)
    (self.ranks, self.algebra, self.work) = (ranks, algebra, work)
    energy = FactorScaling.energy(of: kernel, count: kernel.count)
  }

  mutating func whiten(by whitening: Whitening) {
    whitening.apply(to: &kernel, count: outputs * positions, algebra)
    energy = FactorScaling.energy(of: kernel, count: kernel.count)
  }

  private var reducesOutputs: Bool { ranks.output < outputs }
  private var reducesInputs: Bool { ranks.input < inputs }

  /// Finds the bases and the core.
  ///
  /// - Returns: the number of sweeps; nil if eigenvalues did not converge.
  mutating func run(_ convergence: Tucker2.Convergence) throws(Failure) -> Int? {
    if reducesInputs {
      guard let basis = try leadingInputs(of: kernel, rows: outputs * positions) else { return nil }
      inputBasis = basis
    }
    guard reducesOutputs else {
      core = try projectedOnInputs()
      return 0
    }
    guard reducesInputs, convergence.maximumSweeps > 0 else {
      guard let basis = try leadingOutputs(of: kernel, columns: positions * inputs) else { return nil }
      outputBasis = basis
      core = try coreOfBases(projectedOnOutputs())
      return 0
    }
    var (norm, sweeps) = (0.0, 0)
    while true {
      guard let outputs = try leadingOutputs(of: projectedOnInputs(), columns: positions * ranks.input) else {
        return nil
      }
      outputBasis = outputs
      let projection = try projectedOnOutputs()
      guard let inputs = try leadingInputs(of: projection, rows: ranks.output * positions) else { return nil }
      inputBasis = inputs
      core = try coreOfBases(projection)
      sweeps += 1
      let previous = norm
      norm = FactorScaling.energy(of: core, count: core.count).squareRoot()
      // A step that is no decomposition does not quite promise to gain; the next ones do.
      if norm < previous { mayAdvance = false }
      if sweeps == convergence.maximumSweeps { break }
      if sweeps > 1, convergence.isReached(norm: norm, previous: previous, energy: energy) { break }
    }
    return sweeps
  }

  // MARK: Projections

  /// `[outputs, positions, ranks.input]`.
  private func projectedOnInputs() throws(Failure) -> [Double] {
    try work.checkCancellation()
    guard let inputBasis else { return kernel }
    var projection = [Double](repeating: 0, count: outputs * positions * ranks.input)
    algebra.multiply(
      kernel, .asIs, inputBasis, .transposed, rows: outputs * positions, columns: ranks.input, depth: inputs,
      to: &projection)
    return projection
  }

  /// `[ranks.output, positions, inputs]`.
  private func projectedOnOutputs() throws(Failure) -> [Double] {
    try work.checkCancellation()
    guard let outputBasis else { return kernel }
    var projection = [Double](repeating: 0, count: ranks.output * positions * inputs)
    algebra.multiply(
      outputBasis, .asIs, kernel, .asIs, rows: ranks.output, columns: positions * inputs, depth: outputs,
      to: &projection)
    return projection
  }

  /// From the kernel projected on the outputs' basis.
  private func coreOfBases(_ projection: [Double]) throws(Failure) -> [Double] {
    try work.checkCancellation()
    guard let inputBasis else { return projection }
    var core = [Double](repeating: 0, count: ranks.output * positions * ranks.input)
    algebra.multiply(
      projection, .asIs, inputBasis, .transposed, rows: ranks.output * positions, columns: ranks.input, depth: inputs,
      to: &core)
    return core
  }

  // MARK: Bases

  /// The leading directions of the outputs of `[outputs, columns]`.
  private func leadingOutputs(of matrix: [Double], columns: Int) throws(Failure) -> [Double]? {
    try work.checkCancellation()
    var gram = [Double](repeating: 0, count: outputs * outputs)
    algebra.addGram(of: matrix, count: outputs, length: columns, layout: .vectors, to: &gram)
    return try leading(ranks.output, of: &gram, size: outputs, near: outputBasis)
  }

  /// The leading directions of the inputs of `[rows, inputs]`.
  private func leadingInputs(of matrix: [Double], rows: Int) throws(Failure) -> [Double]? {
    try work.checkCancellation()
    var gram = [Double](repeating: 0, count: inputs * inputs)
    algebra.addGram(of: matrix, count: inputs, length: rows, layout: .elements, to: &gram)
    return try leading(ranks.input, of: &gram, size: inputs, near: inputBasis)
  }

  /// Sizes below this are decomposed in less than two milliseconds.
  private static let smallestAdvanced = 160

  private func leading(
    _ count: Int, of gram: inout [Double], size: Int, near basis: [Double]?
  ) throws(Failure) -> [Double]? {
    try work.checkCancellation()
    guard mayAdvance, var basis, size >= Self.smallestAdvanced else {
      return algebra.leadingEigenvectors(ofSymmetric: &gram, size: size, count: count)?.vectors
    }
    return algebra.advance(&basis, count: count, towardsLeadingOf: &gram, size: size) ? basis : nil
  }
}
