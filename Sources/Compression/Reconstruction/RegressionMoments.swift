import ModelGraph
import Numerics

/// Sums over positions from which a linear regression of what a layer should compute on what it reads follows, group by
/// group: their size does not depend on how many positions there are. Where there are many inputs and few positions,
/// these are kept instead, and what follows from sums follows from them sooner.
package struct RegressionMoments: Sendable {
  let groups: Int
  /// Inputs and outputs of one group.
  let inputs: Int
  let outputs: Int
  package private(set) var count = 0
  typealias Rows = (x: [Double], y: [Double])
  /// `[count, inputs]` and `[count, outputs]`, of one group; nil once there are sums.
  private(set) var rows: Rows?
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
    rows = groups == 1 && InputMoments.keeps(1, ofSize: inputs) ? ([], []) : nil
    squares = [Double](repeating: 0, count: rows == nil ? groups * inputs * inputs : 0)
    products = [Double](repeating: 0, count: rows == nil ? groups * outputs * inputs : 0)
    inputSums = [Double](repeating: 0, count: groups * inputs)
    outputSums = [Double](repeating: 0, count: groups * outputs)
    outputSquares = outputSums
  }

  static func byteCount(groups: Int, inputs: Int, outputs: Int) -> Int {
    groups * (inputs * (inputs + outputs + 1) + 2 * outputs) * MemoryLayout<Double>.size
  }

  /// Whether all that was added are numbers.
  var isFinite: Bool { isInputFinite && outputSums.allSatisfy(\.isFinite) }
  var isInputFinite: Bool { inputSums.allSatisfy(\.isFinite) }

  /// - Parameters:
  ///   - x: `[count, inputs]` of group `group`.
  ///   - y: `[count, outputs]`.
  package mutating func add(
    _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>, count: Int, group: Int, _ algebra: LinearAlgebra
  ) {
    let (inputs, outputs) = (inputs, outputs)
    if rows != nil, InputMoments.keeps(self.count + count, ofSize: inputs) {
      rows?.x.append(contentsOf: UnsafeBufferPointer(start: x, count: count * inputs))
      rows?.y.append(contentsOf: UnsafeBufferPointer(start: y, count: count * outputs))
    } else {
      sum(algebra)
      addProducts(x, y, count: count, group: group, algebra)
    }
    inputSums.withUnsafeMutableBufferPointer { sums in
      for k in 0..<count { for i in 0..<inputs { sums[group * inputs + i] += x[k * inputs + i] } }
    }
    outputSums.withUnsafeMutableBufferPointer { sums in
      outputSquares.withUnsafeMutableBufferPointer { squares in
        for k in 0..<count {
          for o in 0..<outputs {
            let element = y[k * outputs + o]
            sums[group * outputs + o] += element
            squares[group * outputs + o] += element * element
          }
        }
      }
    }
    if group == groups - 1 { self.count += count }
  }

  private mutating func addProducts(
    _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>, count: Int, group: Int, _ algebra: LinearAlgebra
  ) {
    let (inputs, outputs) = (inputs, outputs)
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
  }

  /// Makes sums of positions that were kept.
  package mutating func sum(_ algebra: LinearAlgebra) {
    guard let kept = rows else { return }
    rows = nil
    squares = [Double](repeating: 0, count: inputs * inputs)
    products = [Double](repeating: 0, count: outputs * inputs)
    addProducts(kept.x, kept.y, count: kept.x.count / max(1, inputs), group: 0, algebra)
  }

  // MARK: From sums to means, in place: matrices may be large

  /// Makes means of sums, about the means where constants are fitted, else about zero, and fills in what lies below the
  /// diagonals.
  mutating func average(isCentred: Bool) {
    let n = Double(max(1, count))
    func divide(_ sums: inout [Double]) {
      sums.withUnsafeMutableBufferPointer { for k in $0.indices { $0[k] /= n } }
    }
    divide(&squares)
    divide(&products)
    divide(&inputSums)
    divide(&outputSums)
    divide(&outputSquares)
    if isCentred { shift(inputSums, outputSums, by: -1) }
    let (inputs, size) = (inputs, inputs * inputs)
    squares.withUnsafeMutableBufferPointer { squares in
      guard let base = squares.baseAddress else { return }
      for group in 0..<groups { LinearAlgebra.mirrorUpper(base + group * size, size: inputs) }
    }
  }

  /// Means over all that either knows.
  mutating func merge(_ other: RegressionMoments, isCentred: Bool) {
    let total = Double(max(1, count + other.count))
    let (mine, others) = (Double(count) / total, Double(other.count) / total)
    func mix(_ a: inout [Double], _ b: [Double]) {
      a.withUnsafeMutableBufferPointer { a in
        b.withUnsafeBufferPointer { b in for k in a.indices { a[k] = mine * a[k] + others * b[k] } }
      }
    }
    let inputs = zip(inputSums, other.inputSums).map { $0 - $1 }
    let outputs = zip(outputSums, other.outputSums).map { $0 - $1 }
    mix(&squares, other.squares)
    mix(&products, other.products)
    mix(&outputSquares, other.outputSquares)
    if isCentred { shift(inputs, outputs, by: mine * others) }
    mix(&inputSums, other.inputSums)
    mix(&outputSums, other.outputSums)
    count += other.count
  }

  /// Adds the products of vectors, times a factor.
  private mutating func shift(_ x: [Double], _ y: [Double], by factor: Double) {
    let (inputs, outputs) = (inputs, outputs)
    for group in 0..<groups {
      squares.withUnsafeMutableBufferPointer { squares in
        for i in 0..<inputs {
          let (row, scale) = ((group * inputs + i) * inputs, factor * x[group * inputs + i])
          for j in 0..<inputs { squares[row + j] += scale * x[group * inputs + j] }
        }
      }
      products.withUnsafeMutableBufferPointer { products in
        for o in 0..<outputs {
          let (row, scale) = ((group * outputs + o) * inputs, factor * y[group * outputs + o])
          for i in 0..<inputs { products[row + i] += scale * x[group * inputs + i] }
        }
      }
      for o in group * outputs..<(group + 1) * outputs { outputSquares[o] += factor * y[o] * y[o] }
    }
  }
}
