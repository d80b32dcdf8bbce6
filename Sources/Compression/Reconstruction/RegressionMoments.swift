import ModelGraph
import Numerics

/// Sums over positions from which a linear regression of what a layer should compute on what it reads follows, group by
/// group: their size does not depend on how many positions there are.
package struct RegressionMoments: Sendable {
  let groups: Int
  /// Inputs and outputs of one group.
  let inputs: Int
  let outputs: Int
  package private(set) var count = 0
  /// `[groups, inputs, inputs]`; entries on and above the diagonals.
  private(set) var squares: [Double]
  /// `[groups, outputs, inputs]`.
  private(set) var products: [Double]
  /// `[groups, inputs]`, `[groups, outputs]`.
  private(set) var inputSums: [Double]
  private(set) var outputSums: [Double]
  /// `[groups, outputs]`.
  private(set) var outputSquares: [Double]

  package init(groups: Int, inputs: Int, outputs: Int) {
    (self.groups, self.inputs, self.outputs) = (groups, inputs, outputs)
    squares = [Double](repeating: 0, count: groups * inputs * inputs)
    products = [Double](repeating: 0, count: groups * outputs * inputs)
    inputSums = [Double](repeating: 0, count: groups * inputs)
    outputSums = [Double](repeating: 0, count: groups * outputs)
    outputSquares = outputSums
  }

  static func byteCount(groups: Int, inputs: Int, outputs: Int) -> Int {
    groups * (inputs * (inputs + outputs + 1) + 2 * outputs) * MemoryLayout<Double>.size
  }

  /// - Parameters:
  ///   - x: `[count, inputs]` of group `group`.
  ///   - y: `[count, outputs]`.
  package mutating func add(
    _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>, count: Int, group: Int, _ algebra: LinearAlgebra
  ) {
    squares.withUnsafeMutableBufferPointer { target in
      guard let base = target.baseAddress else { return }
      algebra.addGram(of: x, count: inputs, length: count, layout: .elements, to: base + group * inputs * inputs)
    }
    products.withUnsafeMutableBufferPointer { target in
      guard let base = target.baseAddress else { return }
      algebra.addProducts(
        of: y, rows: outputs, with: x, columns: inputs, length: count, layout: .elements,
        to: base + group * outputs * inputs)
    }
    for k in 0..<count {
      for i in 0..<inputs { inputSums[group * inputs + i] += x[k * inputs + i] }
      for o in 0..<outputs {
        let element = y[k * outputs + o]
        outputSums[group * outputs + o] += element
        outputSquares[group * outputs + o] += element * element
      }
    }
    if group == groups - 1 { self.count += count }
  }

  static func + (a: RegressionMoments, b: RegressionMoments) -> RegressionMoments {
    var sum = a
    func add(_ x: inout [Double], _ y: [Double]) { for k in x.indices { x[k] += y[k] } }
    add(&sum.squares, b.squares)
    add(&sum.products, b.products)
    add(&sum.inputSums, b.inputSums)
    add(&sum.outputSums, b.outputSums)
    add(&sum.outputSquares, b.outputSquares)
    sum.count += b.count
    return sum
  }
}

/// One group of a regression, in means over positions.
private struct GroupMoments {
  let inputs: Int
  let outputs: Int
  /// About the means where constants are fitted, else about zero; entries on and above the diagonal.
  var squares: [Double]
  var products: [Double]
  let inputMeans: [Double]
  let outputMeans: [Double]
  var outputSquares: [Double]

  init(_ moments: RegressionMoments, group: Int, isCentred: Bool) {
    (inputs, outputs) = (moments.inputs, moments.outputs)
    let n = Double(max(1, moments.count))
    func mean(_ sums: [Double], _ width: Int) -> [Double] { sums[group * width..<(group + 1) * width].map { $0 / n } }
    squares = mean(moments.squares, inputs * inputs)
    products = mean(moments.products, outputs * inputs)
    outputSquares = mean(moments.outputSquares, outputs)
    inputMeans = mean(moments.inputSums, inputs)
    outputMeans = mean(moments.outputSums, outputs)
    guard isCentred else { return }
    for i in 0..<inputs { for j in i..<inputs { squares[i * inputs + j] -= inputMeans[i] * inputMeans[j] } }
    for o in 0..<outputs {
      for i in 0..<inputs { products[o * inputs + i] -= outputMeans[o] * inputMeans[i] }
      outputSquares[o] -= outputMeans[o] * outputMeans[o]
    }
  }

  var meanSquare: Double { (0..<inputs).reduce(0) { $0 + squares[$1 * inputs + $1] } / Double(inputs) }

  /// The mean squared error of `rows`, `[outputs, inputs]`, summed over outputs.
  /// - Parameters:
  ///   - constants: what is added to outputs; nil for the best ones, or none where none are fitted.
  ///   - full: `squares`, both triangles.
  func error(
    of rows: [Double], constants: ArraySlice<Double>? = nil, full: [Double], _ algebra: LinearAlgebra
  ) -> Double {
    var image = [Double](repeating: 0, count: outputs * inputs)
    algebra.multiply(rows, .asIs, full, .asIs, rows: outputs, columns: inputs, depth: inputs, to: &image)
    var error = 0.0
    for o in 0..<outputs {
      var sum = outputSquares[o]
      for i in 0..<inputs {
        let k = o * inputs + i
        sum += rows[k] * (image[k] - 2 * products[k])
      }
      if let constants {
        let offset = constant(of: rows, output: o) - constants[constants.startIndex + o]
        sum += offset * offset
      }
      error += max(0, sum)
    }
    return error
  }

  /// The best one to add to an output of `rows`.
  func constant(of rows: [Double], output: Int) -> Double {
    (0..<inputs).reduce(outputMeans[output]) { $0 - rows[output * inputs + $1] * inputMeans[$1] }
  }

  var fullSquares: [Double] {
    var full = squares
    LinearAlgebra.mirrorUpper(&full, size: inputs)
    return full
  }
}

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
  /// Shares of the mean variance of the inputs. The smallest would do with many inputs; with few, larger ones keep to the
  /// old weight what the inputs say nothing of.
  package static let ridges = [1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1]
  /// Where nothing tells which is best.
  static let usualRidge = 1e-3

  /// - Parameters:
  ///   - fitting: what weights are fitted to.
  ///   - choosing: what the ridge is chosen by; the weight is then fitted to both. nil for the usual ridge.
  ///   - old: `[groups * outputs, inputs]`.
  ///   - oldConstants: what the layer adds to its outputs, that `Y` includes; nil if it cannot add anything.
  package static func solve(
    _ fitting: RegressionMoments, choosing: RegressionMoments?, old: [Double], oldConstants: [Double]?,
    _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> RefitSolution {
    let fitsConstants = oldConstants != nil
    var ridge: Double? = usualRidge
    var all = fitting
    if let choosing, choosing.count > 0 {
      let errors = try errors(fitting, choosing, old, fitsConstants, algebra, work)
      // Of equals the larger ridge; nothing at all if no ridge gains anything.
      let best = errors.enumerated().min { ($0.element, -$0.offset) < ($1.element, -$1.offset) }
      ridge = best.flatMap { $0.offset < ridges.count ? ridges[$0.offset] : nil }
      all = fitting + choosing
    }
    let judging = choosing.flatMap { $0.count > 0 ? $0 : nil } ?? fitting
    let unchanged = RefitSolution(rows: old, constants: nil, ridge: nil, errorBefore: 0, errorAfter: 0)
    var solution = RefitSolution(rows: old, constants: oldConstants, ridge: ridge, errorBefore: 0, errorAfter: 0)
    var (before, after, total) = (0.0, 0.0, 0.0)
    for group in 0..<all.groups {
      try work.checkCancellation()
      let moments = GroupMoments(all, group: group, isCentred: fitsConstants)
      let range = group * all.outputs * all.inputs..<(group + 1) * all.outputs * all.inputs
      let outputs = group * all.outputs..<(group + 1) * all.outputs
      let start = Array(old[range])
      var rows = start
      if let ridge, let found = fit(moments, start, ridges: [ridge], algebra).first, let found { rows = found }
      solution.rows.replaceSubrange(range, with: rows)
      if fitsConstants {
        for o in 0..<all.outputs { solution.constants?[outputs.lowerBound + o] = moments.constant(of: rows, output: o) }
      }
      let judge = GroupMoments(judging, group: group, isCentred: fitsConstants)
      let full = judge.fullSquares
      before += judge.error(of: start, constants: oldConstants?[outputs], full: full, algebra)
      after += judge.error(of: rows, constants: solution.constants?[outputs], full: full, algebra)
      total += judge.outputSquares.reduce(0) { $0 + max(0, $1) }
    }
    // What computes what it should, but for rounding, stays as it is.
    guard total > 0, before > smallestError * smallestError * total else { return unchanged }
    (solution.errorBefore, solution.errorAfter) = ((before / total).squareRoot(), (after / total).squareRoot())
    return solution
  }

  private static let smallestError = 1e-5

  /// By ridge, and last of the old weight, the error on what chooses.
  private static func errors(
    _ fitting: RegressionMoments, _ choosing: RegressionMoments, _ old: [Double], _ isCentred: Bool,
    _ algebra: LinearAlgebra, _ work: Work
  ) throws(Failure) -> [Double] {
    var errors = [Double](repeating: 0, count: ridges.count + 1)
    for group in 0..<fitting.groups {
      try work.checkCancellation()
      let moments = GroupMoments(fitting, group: group, isCentred: isCentred)
      let judge = GroupMoments(choosing, group: group, isCentred: isCentred)
      let full = judge.fullSquares
      let width = fitting.outputs * fitting.inputs
      let start = Array(old[group * width..<(group + 1) * width])
      for (k, rows) in (fit(moments, start, ridges: ridges, algebra) + [start]).enumerated() {
        errors[k] += judge.error(of: rows ?? start, full: full, algebra)
      }
    }
    return errors
  }

  /// By ridge, the rows; nil where the inputs' covariance has no factor, or there is nothing to fit to.
  private static func fit(
    _ moments: GroupMoments, _ old: [Double], ridges: [Double], _ algebra: LinearAlgebra
  ) -> [[Double]?] {
    let (inputs, outputs) = (moments.inputs, moments.outputs)
    let mean = moments.meanSquare
    guard mean > 0, mean.isFinite else { return ridges.map { _ in nil } }
    // W = W0 + (C - W0 G) (G + r m I)^-1.
    var rest = moments.products
    algebra.multiply(
      old, .asIs, moments.fullSquares, .asIs, rows: outputs, columns: inputs, depth: inputs, scale: -1, addend: 1,
      to: &rest)
    return ridges.map { ridge in
      var factor = moments.squares
      for k in 0..<inputs { factor[k * inputs + k] += ridge * mean }
      guard algebra.cholesky(of: &factor, size: inputs) else { return nil }
      var rows = rest
      algebra.solve(&rows, count: outputs, byCholesky: factor, size: inputs)
      for k in rows.indices { rows[k] += old[k] }
      return rows.allSatisfy(\.isFinite) ? rows : nil
    }
  }
}
