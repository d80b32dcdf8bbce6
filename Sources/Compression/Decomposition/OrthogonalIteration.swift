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
  private let products: SharedProducts
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
    products = SharedProducts(algebra, work)
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
  /// - Parameter start: the Gram matrix of the inputs' slices, reduced.
  /// - Returns: the number of sweeps, begun ones included; nil if eigenvalues did not converge.
  mutating func run(
    _ convergence: Tucker2.Convergence, start: SymmetricForm<Double>? = nil
  ) throws(Failure) -> Int? {
    var (norm, sweeps) = (0.0, 0)
    if startsInSingle(convergence) {
      guard let first = try sweepInSingle(start) else { return nil }
      (norm, sweeps) = (first, 1)
      // Where next to nothing is lost, what single precision leaves out of the bases is seen, and advancing them would
      // be long in bringing it back.
      if energy - norm * norm < 1e-5 * energy { mayAdvance = false }
    } else {
      if reducesInputs {
        if let start {
          inputBasis = algebra.leadingEigenvectors(of: start, count: ranks.input)?.vectors
        } else {
          inputBasis = try leadingInputs(of: kernel, rows: outputs * positions)
        }
        if inputBasis == nil { return nil }
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
    }
    while true {
      let onInputs = try projectedOnInputs()
      guard let outputs = try leadingOutputs(of: onInputs, columns: positions * ranks.input) else { return nil }
      outputBasis = outputs
      if sweeps > 0, convergence.tolerance > 0 {
        core = try product(outputs, onInputs, columns: positions * ranks.input)
        let halfway = FactorScaling.energy(of: core, count: core.count).squareRoot()
        if convergence.isReachedHalfway(norm: halfway, previous: norm, energy: energy) { return sweeps + 1 }
      }
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
    guard let inputBasis else { return kernel }
    return try products.multiply(
      kernel, .asIs, inputBasis, .transposed, rows: outputs * positions, columns: ranks.input, depth: inputs)
  }

  /// `[ranks.output, positions, inputs]`.
  private func projectedOnOutputs() throws(Failure) -> [Double] {
    guard let outputBasis else { return kernel }
    return try product(outputBasis, kernel, columns: positions * inputs)
  }

  /// A basis of the outputs times `[outputs, columns]`.
  private func product(_ basis: [Double], _ matrix: [Double], columns: Int) throws(Failure) -> [Double] {
    try products.multiply(basis, .asIs, matrix, .asIs, rows: ranks.output, columns: columns, depth: outputs)
  }

  /// From the kernel projected on the outputs' basis.
  private func coreOfBases(_ projection: [Double]) throws(Failure) -> [Double] {
    guard let inputBasis else { return projection }
    return try products.multiply(
      projection, .asIs, inputBasis, .transposed, rows: ranks.output * positions, columns: ranks.input, depth: inputs)
  }

  // MARK: The first sweep

  /// Kernels of fewer elements are done before conversions pay.
  private static let smallestSingle = 1 << 16

  /// Squared norms whose parts single precision can hold, the smallest that matter among them.
  private static let singleEnergies = 1e-20...1e20

  private func startsInSingle(_ convergence: Tucker2.Convergence) -> Bool {
    convergence.startsInSingle && reducesOutputs && reducesInputs && kernel.count >= Self.smallestSingle
      && max(outputs, inputs) <= LinearAlgebra.largestWhole && Self.singleEnergies.contains(energy)
  }

  /// One sweep in single precision, at twice the rate. Its last basis is orthonormal as a double one.
  ///
  /// - Returns: the norm of the core, as good as single precision gives it; nil if eigenvalues did not converge.
  private mutating func sweepInSingle(_ start: SymmetricForm<Double>?) throws(Failure) -> Double? {
    let single = try products.single(kernel)
    var form = start?.single
    if start == nil {
      let gram = try products.gram(of: single, count: inputs, length: outputs * positions, layout: .elements)
      form = algebra.reduced(gram, size: inputs)
    }
    guard let first = form.flatMap({ algebra.leadingEigenvectors(of: $0, count: ranks.input)?.vectors }) else {
      return nil
    }
    let onInputs = try products.multiply(
      single, .asIs, first, .transposed, rows: outputs * positions, columns: ranks.input, depth: inputs)
    try work.checkCancellation()
    form = algebra.reduced(
      try products.gram(of: onInputs, count: outputs, length: positions * ranks.input, layout: .vectors), size: outputs)
    guard let byOutputs = form.flatMap({ algebra.leadingEigenvectors(of: $0, count: ranks.output)?.vectors }) else {
      return nil
    }
    outputBasis = products.double(byOutputs)

    let onOutputs = try products.multiply(
      byOutputs, .asIs, single, .asIs, rows: ranks.output, columns: positions * inputs, depth: outputs)
    var gram = products.double(
      try products.gram(of: onOutputs, count: inputs, length: ranks.output * positions, layout: .elements))
    guard let byInputs = try leading(ranks.input, of: &gram, size: inputs, near: products.double(first)) else {
      return nil
    }
    inputBasis = byInputs

    let core = try products.multiply(
      onOutputs, .asIs, try products.single(byInputs), .transposed, rows: ranks.output * positions,
      columns: ranks.input, depth: inputs)
    return core.reduce(0) { $0 + Double($1) * Double($1) }.squareRoot()
  }

  // MARK: Bases

  /// The leading directions of the outputs of `[outputs, columns]`.
  private func leadingOutputs(of matrix: [Double], columns: Int) throws(Failure) -> [Double]? {
    var gram = try products.gram(of: matrix, count: outputs, length: columns, layout: .vectors)
    return try leading(ranks.output, of: &gram, size: outputs, near: outputBasis)
  }

  /// The leading directions of the inputs of `[rows, inputs]`.
  private func leadingInputs(of matrix: [Double], rows: Int) throws(Failure) -> [Double]? {
    var gram = try products.gram(of: matrix, count: inputs, length: rows, layout: .elements)
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
