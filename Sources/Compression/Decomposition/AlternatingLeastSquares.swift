import ModelGraph
import Numerics

/// Alternating least squares for a canonical polyadic decomposition: each factor in turn is the best for the others.
///
/// The kernel lies as `[outputs, positions, inputs]`. Its product with the inputs' factor serves the outputs and all
/// axes, so that a sweep reads the kernel twice, in plain matrix products.
///
/// Invariant: a sweep never makes the error more, but for rounding. Factors are `[length, rank]`; those of all modes but
/// the inputs have columns of norm 1 after a sweep.
struct AlternatingLeastSquares {
  struct Factor {
    let rows: Int
    var elements: [Double]
  }

  struct State {
    /// Of the outputs, the inputs, and every axis.
    var factors: [Factor]
    /// Relative.
    var error = Double.infinity
    var sweeps = 0
    var isDone = false
    var isDegenerate = false
  }

  /// `[outputs, positions, inputs]`.
  let kernel: [Double]
  let outputs: Int
  let inputs: Int
  let shape: [Int]
  let positions: Int
  let rank: Int
  let energy: Double
  private let algebra: LinearAlgebra
  private let work: Work

  /// Components larger than so many kernels cancel each other.
  private static let largestComponent = 1e3

  init(
    kernel: [Double], outputs: Int, inputs: Int, shape: [Int], rank: Int, _ algebra: LinearAlgebra, _ work: Work
  ) {
    (self.kernel, self.outputs, self.inputs, self.shape, self.rank) = (kernel, outputs, inputs, shape, rank)
    (self.algebra, self.work) = (algebra, work)
    positions = shape.reduce(1, *)
    precondition(kernel.count == outputs * inputs * positions, "the elements fill the kernel")
    energy = FactorScaling.energy(of: kernel, count: kernel.count)
  }

  // MARK: Starts

  /// Start 0 has the leading singular vectors of every mode; what a mode has too few of, and all other starts, are
  /// random numbers that depend on the number of the start alone.
  func start(_ number: Int) throws(Failure) -> State {
    var random = SplitMix(state: UInt64(number + 1))
    var factors = ([outputs, inputs] + shape).map { rows in
      Factor(rows: rows, elements: (0..<rows * rank).map { _ in random.next() })
    }
    if number == 0 {
      for mode in factors.indices {
        try work.checkCancellation()
        let length = factors[mode].rows
        var gram = gram(ofMode: mode)
        let count = min(rank, length)
        guard let vectors = algebra.leadingEigenvectors(ofSymmetric: &gram, size: length, count: count)?.vectors
        else { continue }
        for r in 0..<count {
          for row in 0..<length { factors[mode].elements[row * rank + r] = vectors[r * length + row] }
        }
      }
    }
    for mode in factors.indices { normalize(&factors[mode]) }
    return State(factors: factors)
  }

  private func gram(ofMode mode: Int) -> [Double] {
    switch mode {
    case 0:
      var gram = [Double](repeating: 0, count: outputs * outputs)
      algebra.addGram(of: kernel, count: outputs, length: positions * inputs, layout: .vectors, to: &gram)
      return gram
    case 1:
      var gram = [Double](repeating: 0, count: inputs * inputs)
      algebra.addGram(of: kernel, count: inputs, length: outputs * positions, layout: .elements, to: &gram)
      return gram
    default:
      // Of positions, then of those with equal coordinates on the other axes.
      var all = [Double](repeating: 0, count: positions * positions)
      kernel.withUnsafeBufferPointer { kernel in
        guard let base = kernel.baseAddress else { return }
        for o in 0..<outputs {
          algebra.addGram(
            of: base + o * positions * inputs, count: positions, length: inputs, layout: .vectors, to: &all)
        }
      }
      let (length, stride) = (shape[mode - 2], shape[(mode - 1)...].reduce(1, *))
      var gram = [Double](repeating: 0, count: length * length)
      for k in 0..<positions where k / stride % length == 0 {
        for a in 0..<length {
          for b in a..<length { gram[a * length + b] += all[(k + a * stride) * positions + k + b * stride] }
        }
      }
      return gram
    }
  }

  // MARK: Sweeps

  /// Sweeps until `state.sweeps` is `sweeps`, the error stands still, or components diverge.
  func run(_ state: inout State, tolerance: Double, sweeps: Int) throws(Failure) {
    guard energy > 0 else {
      for mode in state.factors.indices { state.factors[mode].elements.replaceAll(with: 0) }
      (state.error, state.isDone) = (0, true)
      return
    }
    while state.sweeps < sweeps, !state.isDone {
      var factors = state.factors
      guard let (error, largest) = try sweep(&factors) else {
        (state.isDone, state.isDegenerate) = (true, true)
        return
      }
      state.sweeps += 1
      // The bounded iterate before is kept; the first sweep from a start is kept in any case.
      if largest > Self.largestComponent * energy.squareRoot(), state.error.isFinite {
        (state.isDone, state.isDegenerate) = (true, true)
        return
      }
      // Before the first sweep the error is infinite, and nothing compares with that.
      state.isDone = (state.error.isFinite && state.error - error <= tolerance * state.error) || error < 1e-14
      (state.factors, state.error) = (factors, error)
    }
  }

  /// - Returns: the relative error and the norm of the largest component; nil if the equations cannot be solved.
  private func sweep(_ factors: inout [Factor]) throws(Failure) -> (error: Double, largest: Double)? {
    try work.checkCancellation()
    normalize(&factors[1])
    // [outputs, positions, rank]
    var image = [Double](repeating: 0, count: outputs * positions * rank)
    algebra.multiply(
      kernel, .asIs, factors[1].elements, .asIs, rows: outputs * positions, columns: rank, depth: inputs, to: &image)

    var spatial = product(of: factors, without: nil)
    var target = [Double](repeating: 0, count: outputs * rank)
    for o in 0..<outputs {
      for k in 0..<positions {
        for r in 0..<rank { target[o * rank + r] += image[(o * positions + k) * rank + r] * spatial[k * rank + r] }
      }
    }
    guard solve(&factors, mode: 0, target) else { return nil }
    normalize(&factors[0])
    try work.checkCancellation()

    var byPosition = [Double](repeating: 0, count: positions * rank)
    for o in 0..<outputs {
      for k in 0..<positions {
        for r in 0..<rank {
          byPosition[k * rank + r] += image[(o * positions + k) * rank + r] * factors[0].elements[o * rank + r]
        }
      }
    }
    for axis in shape.indices {
      let others = product(of: factors, without: axis)
      let stride = shape[(axis + 1)...].reduce(1, *)
      target = [Double](repeating: 0, count: shape[axis] * rank)
      for k in 0..<positions {
        let row = k / stride % shape[axis]
        for r in 0..<rank { target[row * rank + r] += byPosition[k * rank + r] * others[k * rank + r] }
      }
      guard solve(&factors, mode: axis + 2, target) else { return nil }
      normalize(&factors[axis + 2])
    }
    try work.checkCancellation()

    spatial = product(of: factors, without: nil)
    for o in 0..<outputs {
      for k in 0..<positions {
        for r in 0..<rank {
          image[(o * positions + k) * rank + r] = factors[0].elements[o * rank + r] * spatial[k * rank + r]
        }
      }
    }
    target = [Double](repeating: 0, count: inputs * rank)
    algebra.multiply(
      kernel, .transposed, image, .asIs, rows: inputs, columns: rank, depth: outputs * positions, to: &target)
    guard solve(&factors, mode: 1, target) else { return nil }
    return (try error(factors, image, target), largestColumn(factors[1]))
  }

  /// From the inner product with the kernel and the model's norm; where these cancel, directly.
  private func error(_ factors: [Factor], _ image: [Double], _ target: [Double]) throws(Failure) -> Double {
    let inner = zip(target, factors[1].elements).reduce(0) { $0 + $1.0 * $1.1 }
    let norm = normalMatrix(factors, without: nil).reduce(0, +)
    let lost = energy - 2 * inner + norm
    if lost > 1e-6 * energy { return (lost / energy).squareRoot() }
    try work.checkCancellation()
    var difference = kernel
    algebra.multiply(
      image, .asIs, factors[1].elements, .transposed, rows: outputs * positions, columns: inputs, depth: rank,
      scale: -1, addend: 1, to: &difference)
    return (FactorScaling.energy(of: difference, count: difference.count) / energy).squareRoot()
  }

  /// `[positions, rank]`: products of the axes' factors, all or all but one.
  private func product(of factors: [Factor], without left: Int?) -> [Double] {
    var product = [Double](repeating: 1, count: positions * rank)
    for axis in shape.indices where axis != left {
      let stride = shape[(axis + 1)...].reduce(1, *)
      for k in 0..<positions {
        let row = k / stride % shape[axis]
        for r in 0..<rank { product[k * rank + r] *= factors[axis + 2].elements[row * rank + r] }
      }
    }
    return product
  }

  /// `[rank, rank]`: the element-wise product of the factors' Gram matrices, all or all but one.
  private func normalMatrix(_ factors: [Factor], without left: Int?) -> [Double] {
    var matrix = [Double](repeating: 1, count: rank * rank)
    for mode in factors.indices where mode != left {
      var gram = [Double](repeating: 0, count: rank * rank)
      algebra.addGram(of: factors[mode].elements, count: rank, length: factors[mode].rows, layout: .elements, to: &gram)
      LinearAlgebra.mirrorUpper(&gram, size: rank)
      for k in matrix.indices { matrix[k] *= gram[k] }
    }
    return matrix
  }

  /// Solves the normal equations `factor (matrix + mu I) = target`, mu = 1e-12 of the trace, more if that is too little.
  private func solve(_ factors: inout [Factor], mode: Int, _ target: [Double]) -> Bool {
    let matrix = normalMatrix(factors, without: mode)
    let trace = (0..<rank).reduce(0) { $0 + matrix[$1 * rank + $1] }
    guard trace.isFinite, trace > 0 else { return false }
    for share in [1e-12, 1e-10, 1e-8] {
      var lifted = matrix
      for r in 0..<rank { lifted[r * rank + r] += share * trace }
      guard algebra.cholesky(of: &lifted, size: rank) else { continue }
      factors[mode].elements = target
      algebra.solve(&factors[mode].elements, count: factors[mode].rows, byCholesky: lifted, size: rank)
      return factors[mode].elements.allSatisfy(\.isFinite)
    }
    return false
  }

  /// Squared norms of columns.
  private func columnSquares(_ factor: Factor) -> [Double] {
    var squares = [Double](repeating: 0, count: rank)
    for row in 0..<factor.rows {
      for r in 0..<rank { squares[r] += factor.elements[row * rank + r] * factor.elements[row * rank + r] }
    }
    return squares
  }

  private func largestColumn(_ factor: Factor) -> Double { (columnSquares(factor).max() ?? 0).squareRoot() }

  /// Brings columns to norm 1; columns of zeros stay.
  private func normalize(_ factor: inout Factor) {
    let inverse = columnSquares(factor).map { $0 > 0 ? 1 / $0.squareRoot() : 0 }
    for row in 0..<factor.rows { for r in 0..<rank { factor.elements[row * rank + r] *= inverse[r] } }
  }
}

extension Array {
  fileprivate mutating func replaceAll(with element: Element) {
    for index in indices { self[index] = element }
  }
}

/// SplitMix64 (Steele, Lea, Flood 2014), as numbers between -1 and 1.
private struct SplitMix {
  var state: UInt64

  mutating func next() -> Double {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return Double((z ^ (z >> 31)) >> 11) / 0x1p52 - 1
  }
}
