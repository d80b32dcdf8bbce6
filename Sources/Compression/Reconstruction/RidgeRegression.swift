import ModelGraph
import Numerics

/// A layer's weight as the regression has it.
package struct RefitSolution: Sendable {
  /// `[groups * outputs, inputs]`.
  package var rows: [Double]
  /// What has to be added to the outputs of `rows`; nil where no constant was fitted.
  package var constants: [Double]?
  /// Of the mean variance of the inputs; nil where the old weight stays.
  package var ridge: Double?
  /// Of what the layer computes, on inputs that chose the ridge if there were such: root mean square over that of the
  /// variation of what it should compute.
  package var errorBefore: Double
  package var errorAfter: Double
}

/// Ridge regression toward an old weight W0: min |Y - W X|^2 + r m |W - W0|^2, with m the mean variance of the inputs.
package enum RidgeRegression {
  /// Shares of the mean variance of the inputs. The smallest would do with many inputs; with few, larger ones keep to
  /// the old weight what the inputs say nothing of.
  package static let ridges = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1]
  /// Where nothing tells which is best.
  static let usual = 2

  /// - Parameters:
  ///   - fitting: what weights are fitted to.
  ///   - choosing: what the ridge is chosen by; the weight is then fitted to both. nil for the usual ridge.
  ///   - old: `[groups * outputs, inputs]`.
  ///   - oldConstants: what the layer adds to its outputs, that `Y` includes; nil if it cannot add anything.
  package static func solve(
    _ fitting: consuming RegressionMoments, choosing: consuming RegressionMoments?, old: [Double],
    oldConstants: [Double]?, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> RefitSolution {
    let isCentred = oldConstants != nil
    var known = consume fitting
    var judge = choosing.flatMap { $0.count > 0 ? $0 : nil }
    if let rows = known.rows, judge == nil || judge?.rows != nil {
      return try solve(
        rows, choosing: judge?.rows, inputs: known.inputs, outputs: known.outputs, old: old, oldConstants: oldConstants,
        algebra, work)
    }
    known.sum(algebra)
    judge?.sum(algebra)
    known.average(isCentred: isCentred)
    judge?.average(isCentred: isCentred)
    var ridge: Double? = ridges[usual]
    if let judge {
      ridge = try best(known, judge, old, algebra, work)
      known.merge(judge, isCentred: isCentred)
    }
    var solution = RefitSolution(rows: old, constants: oldConstants, ridge: ridge, errorBefore: 0, errorAfter: 0)
    if let ridge {
      solution.rows = try fit(known, old, ridge: ridge, algebra, work) ?? old
    }
    if isCentred { solution.constants = known.constants(of: solution.rows) }
    let judging = judge ?? known
    return judged(
      solution, old: old, before: judging.error(of: old, constants: oldConstants, algebra),
      after: judging.error(of: solution.rows, constants: solution.constants, algebra),
      total: judging.outputSquares.reduce(0) { $0 + max(0, $1) })
  }

  /// A solution with its errors; what computes what it should, but for rounding, stays as it is.
  /// - Parameters:
  ///   - before: the mean squared error, as `after`.
  ///   - total: the mean square of what is to be computed.
  static func judged(
    _ solution: RefitSolution, old: [Double], before: Double, after: Double, total: Double
  ) -> RefitSolution {
    guard total > 0, before > smallestError * smallestError * total else {
      return RefitSolution(rows: old, constants: nil, ridge: nil, errorBefore: 0, errorAfter: 0)
    }
    var solution = solution
    (solution.errorBefore, solution.errorAfter) = ((before / total).squareRoot(), (after / total).squareRoot())
    return solution
  }

  private static let smallestError = 1e-5

  /// The ridge with the least error on what chooses: from the usual one on as long as it gets less, first toward
  /// smaller ones. Of equals the larger; nil if none gains anything over the old weight.
  private static func best(
    _ known: RegressionMoments, _ judge: RegressionMoments, _ old: [Double], _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> Double? {
    try best(than: judge.error(of: old, constants: nil, algebra)) { ridge throws(Failure) in
      try work.checkCancellation()
      guard let rows = try fit(known, old, ridge: ridges[ridge], algebra, work) else { return .infinity }
      return judge.error(of: rows, constants: nil, algebra)
    }
  }

  /// - Parameters:
  ///   - old: the error of the old weight.
  ///   - error: of one of `ridges`.
  static func best(
    than old: Double, error: (_ ridge: Int) throws(Failure) -> Double
  ) throws(Failure) -> Double? {
    var (ridge, least) = (usual, try error(usual))
    for step in [-1, 1] {
      let start = ridge
      var next = ridge + step
      while ridges.indices.contains(next) {
        let found = try error(next)
        guard found < least || (found == least && step > 0) else { break }
        (ridge, least) = (next, found)
        next += step
      }
      if ridge != start { break }
    }
    return old <= least ? nil : ridges[ridge]
  }

  /// The rows; nil where an input's covariance has no factor. A group of which there is nothing to fit to keeps its
  /// own.
  private static func fit(
    _ moments: borrowing RegressionMoments, _ old: [Double], ridge: Double, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> [Double]? {
    let (inputs, outputs) = (moments.inputs, moments.outputs)
    var result = old
    var factor = [Double](repeating: 0, count: inputs * inputs)
    var (rest, isFactored) = ([Double](repeating: 0, count: outputs * inputs), true)
    for group in 0..<moments.groups {
      if group % 64 == 0 { try work.checkCancellation() }
      let (square, product) = (group * inputs * inputs, group * outputs * inputs)
      moments.squares.withUnsafeBufferPointer { squares in
        moments.products.withUnsafeBufferPointer { products in
          result.withUnsafeMutableBufferPointer { result in
            guard let squares = squares.baseAddress, let products = products.baseAddress,
              let rows = result.baseAddress
            else { return }
            var mean = 0.0
            for k in 0..<inputs { mean += squares[square + k * (inputs + 1)] / Double(inputs) }
            guard mean > 0, mean.isFinite else { return }
            // W = W0 + (C - W0 G) (G + r m I)^-1.
            rest.withUnsafeMutableBufferPointer { rest in
              factor.withUnsafeMutableBufferPointer { factor in
                guard let rest = rest.baseAddress, let factor = factor.baseAddress else { return }
                rest.update(from: products + product, count: outputs * inputs)
                algebra.multiply(
                  rows + product, .asIs, squares + square, .asIs, rows: outputs, columns: inputs, depth: inputs,
                  scale: -1, addend: 1, to: rest)
                factor.update(from: squares + square, count: inputs * inputs)
                for k in 0..<inputs { factor[k * (inputs + 1)] += ridge * mean }
                guard algebra.cholesky(of: factor, size: inputs) else {
                  isFactored = false
                  return
                }
                algebra.solve(rest, count: outputs, byCholesky: factor, size: inputs)
                for k in 0..<outputs * inputs { rows[product + k] += rest[k] }
              }
            }
          }
        }
      }
    }
    return isFactored && result.allSatisfy(\.isFinite) ? result : nil
  }
}

extension RegressionMoments {
  // Of means (`average`).

  /// The mean squared error of `rows`, `[groups * outputs, inputs]`, summed over outputs.
  /// - Parameter constants: what is added to outputs; nil for the best ones, or none where none are fitted.
  fileprivate func error(of rows: [Double], constants: [Double]?, _ algebra: LinearAlgebra) -> Double {
    var image = [Double](repeating: 0, count: outputs * inputs)
    var error = 0.0
    for group in 0..<groups {
      let base = group * outputs * inputs
      rows.withUnsafeBufferPointer { rows in
        squares.withUnsafeBufferPointer { squares in
          guard let rows = rows.baseAddress, let squares = squares.baseAddress else { return }
          algebra.multiply(
            rows + base, .asIs, squares + group * inputs * inputs, .asIs, rows: outputs, columns: inputs, depth: inputs,
            to: &image)
        }
      }
      for o in 0..<outputs {
        let output = group * outputs + o
        var sum = outputSquares[output]
        for i in 0..<inputs {
          let k = o * inputs + i
          sum += rows[base + k] * (image[k] - 2 * products[base + k])
        }
        if let constants {
          let offset = constant(of: rows, output: output) - constants[output]
          sum += offset * offset
        }
        error += max(0, sum)
      }
    }
    return error
  }

  /// The best one to add to each output of `rows`.
  fileprivate func constants(of rows: [Double]) -> [Double] {
    (0..<groups * outputs).map { constant(of: rows, output: $0) }
  }

  private func constant(of rows: [Double], output: Int) -> Double {
    let group = output / max(1, outputs)
    return (0..<inputs).reduce(outputSums[output]) {
      $0 - rows[output * inputs + $1] * inputSums[group * inputs + $1]
    }
  }
}
