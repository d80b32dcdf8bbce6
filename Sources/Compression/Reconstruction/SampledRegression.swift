import ModelGraph
import Numerics

/// Positions of a regression with many inputs: what few of them say of a weight lies in the space that they span.
///
/// With X the positions, `[n, inputs]`, and R what the old weight W0 leaves of the outputs there, W = W0 + A' X with
/// A = (X X' + n r m I)^-1 R: the ridge regression that `RidgeRegression` has from sums over positions, in matrices of
/// n.
struct SampledRegression {
  private let count: Int
  private let inputs: Int
  private let outputs: Int
  /// About their mean if constants are fitted.
  private let x: [Double]
  /// `[count, outputs]`, likewise.
  private let residual: [Double]
  private let inputMeans: [Double]
  private let outputMeans: [Double]
  /// The mean square of the outputs, about their mean if constants are fitted, summed over outputs.
  let total: Double
  private let algebra: LinearAlgebra

  typealias Rows = RegressionMoments.Rows

  /// - Parameter old: `[outputs, inputs]`.
  init(_ rows: Rows, old: [Double], inputs: Int, outputs: Int, isCentred: Bool, _ algebra: LinearAlgebra) {
    let count = inputs > 0 ? rows.x.count / inputs : 0
    func means(_ elements: [Double], _ width: Int) -> [Double] {
      var means = [Double](repeating: 0, count: width)
      for k in 0..<count { for i in 0..<width { means[i] += elements[k * width + i] } }
      return means.map { $0 / Double(max(1, count)) }
    }
    func centred(_ elements: [Double], _ means: [Double]) -> [Double] {
      var elements = elements
      for k in 0..<count { for i in means.indices { elements[k * means.count + i] -= means[i] } }
      return elements
    }
    (inputMeans, outputMeans) = (means(rows.x, inputs), means(rows.y, outputs))
    x = isCentred ? centred(rows.x, inputMeans) : rows.x
    let y = isCentred ? centred(rows.y, outputMeans) : rows.y
    total = y.reduce(0) { $0 + $1 * $1 } / Double(max(1, count))
    var residual = y
    algebra.multiply(
      x, .asIs, old, .transposed, rows: count, columns: outputs, depth: inputs, scale: -1, addend: 1, to: &residual)
    self.residual = residual
    (self.count, self.inputs, self.outputs, self.algebra) = (count, inputs, outputs, algebra)
  }

  /// A', `[outputs, count]`; nil where the inputs' products have no factor.
  func coefficients(ridge: Double) -> [Double]? {
    var products = [Double](repeating: 0, count: count * count)
    algebra.addGram(of: x, count: count, length: inputs, layout: .vectors, to: &products)
    let sum = (0..<count).reduce(0) { $0 + products[$1 * count + $1] }
    guard sum.isFinite else { return nil }
    var result = residual.transposed(rows: count, columns: outputs)
    guard sum > 0 else { return result.map { _ in 0 } }
    // The mean variance of the inputs, as often as there are positions.
    for k in 0..<count { products[k * count + k] += ridge * sum / Double(inputs) }
    guard algebra.cholesky(of: &products, size: count) else { return nil }
    algebra.solve(&result, count: outputs, byCholesky: products, size: count)
    return result.allSatisfy(\.isFinite) ? result : nil
  }

  /// A' X, `[outputs, inputs]`.
  func change(_ coefficients: [Double]) -> [Double] {
    var change = [Double](repeating: 0, count: outputs * inputs)
    algebra.multiply(
      coefficients, .asIs, x, .asIs, rows: outputs, columns: inputs, depth: count, to: &change)
    return change
  }

  /// The mean squared error that a changed weight has on these positions, with the best constants where any are fitted,
  /// summed over outputs.
  /// - Parameter change: `[outputs, inputs]`; nil for the old weight.
  func error(changing change: [Double]?) -> Double {
    var left = residual
    if let change {
      algebra.multiply(
        x, .asIs, change, .transposed, rows: count, columns: outputs, depth: inputs, scale: -1, addend: 1, to: &left)
    }
    return left.reduce(0) { $0 + $1 * $1 } / Double(max(1, count))
  }

  /// What constants other than the best ones add to the error of `rows`.
  func error(of constants: [Double]?, with rows: [Double]) -> Double {
    guard let constants else { return 0 }
    return zip(self.constants(of: rows), constants).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
  }

  /// The best one to add to each output of `rows`.
  func constants(of rows: [Double]) -> [Double] {
    (0..<outputs).map { output in
      (0..<inputs).reduce(outputMeans[output]) { $0 - rows[output * inputs + $1] * inputMeans[$1] }
    }
  }
}

extension RidgeRegression {
  /// As of sums.
  static func solve(
    _ fitting: RegressionMoments.Rows, choosing: RegressionMoments.Rows?, inputs: Int, outputs: Int, old: [Double],
    oldConstants: [Double]?, _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> RefitSolution {
    let isCentred = oldConstants != nil
    func regression(_ rows: RegressionMoments.Rows) -> SampledRegression {
      SampledRegression(rows, old: old, inputs: inputs, outputs: outputs, isCentred: isCentred, algebra)
    }
    var known = regression(fitting)
    let judge = choosing.map(regression)
    var ridge: Double? = ridges[usual]
    if let judge, let choosing {
      let fitted = known
      ridge = try best(than: judge.error(changing: nil)) { index throws(Failure) in
        try work.checkCancellation()
        guard let found = fitted.coefficients(ridge: ridges[index]) else { return .infinity }
        return judge.error(changing: fitted.change(found))
      }
      known = regression((x: fitting.x + choosing.x, y: fitting.y + choosing.y))
    }
    try work.checkCancellation()
    var solution = RefitSolution(rows: old, constants: oldConstants, ridge: ridge, errorBefore: 0, errorAfter: 0)
    var change: [Double]?
    if let ridge, let found = known.coefficients(ridge: ridge) {
      let difference = known.change(found)
      solution.rows = zip(old, difference).map { $0 + $1 }
      change = difference
    }
    if isCentred { solution.constants = known.constants(of: solution.rows) }
    let judging = judge ?? known
    return judged(
      solution, old: old, before: judging.error(changing: nil) + judging.error(of: oldConstants, with: old),
      after: judging.error(changing: change) + judging.error(of: solution.constants, with: solution.rows),
      total: judging.total)
  }
}
