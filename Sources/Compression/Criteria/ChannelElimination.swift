import ModelGraph
import Numerics

/// What one layer loses of its output by the removal of channels that it reads, after the best refit of what is left
/// (optimal brain surgeon by channels: Hassibi and Stork 1993; Frantar et al., NeurIPS 2022).
///
/// With A the Gram matrix of the weight's columns and S the covariance of the channels, a set R that goes, of which the
/// rest K makes up what it can, costs tr(A_RR (S_RR - S_RK S_KK^-1 S_KR)). Kernels are taken as if all their taps read
/// the same channels. Costs are shares of the variance of the layer's output, or of the sum that it joins.
struct ChannelLoss {
  let size: Int
  /// By cell, the layer's inputs that go with it.
  let inputs: [[Int]]
  /// `[size, size]`: the Gram matrix of the weight's columns, over what costs are shares of.
  let weights: [Double]
  /// `[size, size]`, both triangles; every channel's variance a little larger than it is, by `extra`.
  let covariance: [Double]
  let extra: [Double]

  /// Of every channel's own variance, so that what channels are measured in does not matter.
  private static let ridge = 1e-3
  /// Of the mean variance: what silent channels get.
  private static let silence = 1e-9

  /// What a channel's variance is taken to be larger.
  static func lift(of variance: Double, mean: Double) -> Double { ridge * max(variance, silence * mean) }

  /// - Parameters:
  ///   - cells: by channel that the layer reads, the cell that it goes with, negative if none.
  ///   - total: the variance of the sum that the layer's output joins, if it joins one.
  /// - Returns: nil where nothing varies.
  init?(
    _ layer: RefitLayer, _ moments: InputMoments, cells: [Int], cellCount: Int, total: Double?, _ algebra: LinearAlgebra
  ) {
    let size = moments.size
    self.size = size
    guard cells.count == size else { return nil }
    var inputs = [[Int]](repeating: [], count: cellCount)
    for (input, cell) in cells.enumerated() where cell >= 0 { inputs[cell].append(input) }
    self.inputs = inputs
    var covariance: [Double]
    if case .none = layer.intercept { covariance = moments.secondMoment } else { covariance = moments.covariance }
    LinearAlgebra.mirrorUpper(&covariance, size: size)
    let mean = (0..<size).reduce(0) { $0 + covariance[$1 * size + $1] } / Double(size)
    guard mean > 0, mean.isFinite else { return nil }
    var weights = layer.columnGram(size: size, algebra)
    var own = 0.0
    for k in 0..<size * size { own += weights[k] * covariance[k] }
    let whole = max(own, total ?? 0)
    guard whole > 0, whole.isFinite else { return nil }
    for k in 0..<size * size { weights[k] /= whole }
    var extra = [Double](repeating: 0, count: size)
    for k in 0..<size {
      extra[k] = Self.lift(of: covariance[k * size + k], mean: mean)
      covariance[k * size + k] += extra[k]
    }
    (self.weights, self.covariance, self.extra) = (weights, covariance, extra)
  }

  /// What all of `cells` cost together: a share of the variance, not below zero; nil where the covariance has no
  /// factor.
  func share(of cells: [Int], _ algebra: LinearAlgebra) -> Double? {
    let removed = cells.flatMap { inputs[$0] }.sorted()
    var isKept = [Bool](repeating: true, count: size)
    for input in removed { isKept[input] = false }
    let kept = (0..<size).filter { isKept[$0] }
    func part(_ rows: [Int], _ columns: [Int], of matrix: [Double]) -> [Double] {
      rows.flatMap { row in columns.map { matrix[row * size + $0] } }
    }
    var explained = [Double](repeating: 0, count: removed.count * removed.count)
    if !kept.isEmpty, !removed.isEmpty {
      var factor = part(kept, kept, of: covariance)
      var cross = part(removed, kept, of: covariance)
      guard algebra.cholesky(of: &factor, size: kept.count) else { return nil }
      algebra.solve(&cross, count: removed.count, byUpper: factor, size: kept.count)
      algebra.addGram(of: cross, count: removed.count, length: kept.count, layout: .vectors, to: &explained)
    }
    var share = 0.0
    for (i, row) in removed.enumerated() {
      share +=
        weights[row * size + row] * (covariance[row * size + row] - extra[row] - explained[i * removed.count + i])
      for j in i + 1..<max(i + 1, removed.count) {
        let k = row * size + removed[j]
        share += 2 * weights[k] * (covariance[k] - explained[i * removed.count + j])
      }
    }
    return max(0, share)
  }
}

/// Greedy elimination of the channels that a layer reads, cell by cell.
protocol CellElimination {
  /// What the removal of a cell would cost now.
  func cost(of cell: Int) -> Double
  /// - Returns: what it costs, and which part of that is due to variances that are larger than measured.
  mutating func remove(_ cell: Int) -> (cost: Double, excess: Double)
}

/// Greedy elimination of the channels that a layer reads, in the inverse of their covariance, P = S^-1: a channel c
/// that goes costs A_cc / P_cc, and what is left makes up for it, A <- A - a u' - u a' + A_cc u u' with u = P_c / P_cc
/// and a = A_c, and P <- P - P_cc u u'.
///
/// Only diagonals are always as they should be; of the matrices so many changes are put off that a product of matrices
/// carries them out, without the channels that are gone.
struct ChannelElimination: CellElimination {
  private let inputs: [[Int]]
  private let extra: [Double]
  private let ownWeights: [Double]
  private let algebra: LinearAlgebra
  /// By input, its row in the matrices.
  private var places: [Int]
  private var isGone: [Bool]
  /// Rows of the matrices.
  private var count: Int
  private var weights: [Double]
  private var precision: [Double]
  private var weightDiagonal: [Double]
  private var precisionDiagonal: [Double]
  /// What is put off: rows u, and a - A_cc u / 2, and P_cc.
  private var directions: [Double] = []
  private var changes: [Double] = []
  private var pivots: [Double] = []

  private static let mostPending = 32

  /// - Returns: nil where the covariance has no inverse.
  init?(_ loss: ChannelLoss, _ algebra: LinearAlgebra) {
    let size = loss.size
    (inputs, extra, count) = (loss.inputs, loss.extra, size)
    self.algebra = algebra
    var factor = loss.covariance
    guard algebra.cholesky(of: &factor, size: size) else { return nil }
    var precision = [Double](repeating: 0, count: size * size)
    for k in 0..<size { precision[k * size + k] = 1 }
    algebra.solve(&precision, count: size, byCholesky: factor, size: size)
    places = Array(0..<size)
    isGone = [Bool](repeating: false, count: size)
    weightDiagonal = (0..<size).map { loss.weights[$0 * size + $0] }
    precisionDiagonal = (0..<size).map { precision[$0 * size + $0] }
    (weights, self.precision, ownWeights) = (loss.weights, precision, weightDiagonal)
  }

  func cost(of cell: Int) -> Double {
    inputs[cell].reduce(0) { sum, input in
      let place = places[input]
      return sum + max(0, weightDiagonal[place]) / precisionDiagonal[place]
    }
  }

  mutating func remove(_ cell: Int) -> (cost: Double, excess: Double) {
    var (cost, excess) = (0.0, 0.0)
    for input in inputs[cell] {
      let place = places[input]
      let (pivot, own) = (precisionDiagonal[place], max(0, weightDiagonal[place]))
      isGone[input] = true
      guard pivot > 0 else { continue }
      cost += own / pivot
      excess += ownWeights[input] * extra[input]
      remove(place, pivot: pivot, own: own)
      if pivots.count == Self.mostPending { carryOut() }
    }
    return (cost, excess)
  }

  private mutating func remove(_ place: Int, pivot: Double, own: Double) {
    let count = count
    var direction = Array(precision[place * count..<(place + 1) * count])
    var change = Array(weights[place * count..<(place + 1) * count])
    direction.withUnsafeMutableBufferPointer { u in
      change.withUnsafeMutableBufferPointer { a in
        directions.withUnsafeBufferPointer { directions in
          changes.withUnsafeBufferPointer { changes in
            for (k, earlier) in pivots.enumerated() {
              let base = k * count
              let (shared, changed) = (directions[base + place], changes[base + place])
              let scale = earlier * shared
              for j in 0..<count {
                u[j] -= scale * directions[base + j]
                a[j] -= changed * directions[base + j] + shared * changes[base + j]
              }
            }
          }
        }
        precisionDiagonal.withUnsafeMutableBufferPointer { precisions in
          weightDiagonal.withUnsafeMutableBufferPointer { weights in
            for j in 0..<count {
              u[j] /= pivot
              a[j] -= 0.5 * own * u[j]
              precisions[j] -= pivot * u[j] * u[j]
              weights[j] -= 2 * a[j] * u[j]
            }
          }
        }
      }
    }
    directions += direction
    changes += change
    pivots.append(pivot)
  }

  private mutating func carryOut() {
    let (count, pending) = (count, pivots.count)
    var scaled = directions
    for k in 0..<pending { for j in 0..<count { scaled[k * count + j] *= pivots[k] } }
    algebra.multiply(
      scaled, .transposed, directions, .asIs, rows: count, columns: count, depth: pending, scale: -1, addend: 1,
      to: &precision)
    algebra.multiply(
      changes + directions, .transposed, directions + changes, .asIs, rows: count, columns: count, depth: 2 * pending,
      scale: -1, addend: 1, to: &weights)
    (directions, changes, pivots) = ([], [], [])
    leaveOutWhatIsGone()
  }

  private mutating func leaveOutWhatIsGone() {
    let left = places.indices.filter { !isGone[$0] }
    guard left.count < count else { return }
    let rows = left.map { places[$0] }
    func part(_ matrix: [Double]) -> [Double] {
      var result = [Double](repeating: 0, count: rows.count * rows.count)
      for (i, row) in rows.enumerated() {
        for (j, column) in rows.enumerated() { result[i * rows.count + j] = matrix[row * count + column] }
      }
      return result
    }
    (weights, precision) = (part(weights), part(precision))
    (weightDiagonal, precisionDiagonal) = (rows.map { weightDiagonal[$0] }, rows.map { precisionDiagonal[$0] })
    for (place, input) in left.enumerated() { places[input] = place }
    count = rows.count
  }
}

extension RefitLayer {
  /// Where its input channels are met, those of all groups.
  var tap: InputTap? {
    switch form {
    case .convolution(let geometry, let groups):
      InputTap(value: input, axis: 1, channels: length / geometry.kernel.reduce(1, *) * groups)
    case .product(let inputAxis, _): InputTap(value: input, axis: inputAxis, channels: length)
    case .mixing: nil
    }
  }

  private static let largestCopy = 1 << 24

  /// The Gram matrix of what input channels are multiplied with, over outputs (weighed by what a normalization behind
  /// multiplies them with) and taps: `[size, size]`, zero between groups.
  func columnGram(size: Int, _ algebra: LinearAlgebra) -> [Double] {
    var gram = [Double](repeating: 0, count: size * size)
    let (rows, channels) = (self.rows, size / groups)
    let (outputs, taps) = (outputsPerGroup, max(1, length / max(1, channels)))
    for group in 0..<groups {
      var block = [Double](repeating: 0, count: channels * channels)
      // Copies of parts of a large weight are small.
      let step = max(1, Self.largestCopy / max(1, taps * channels))
      for start in stride(from: 0, to: outputs, by: step) {
        let count = min(step, outputs - start)
        var columns = [Double](repeating: 0, count: count * taps * channels)
        for o in 0..<count {
          let output = group * outputs + start + o
          let gain = gains?[output] ?? 1
          for channel in 0..<channels {
            for tap in 0..<taps {
              columns[(o * taps + tap) * channels + channel] = gain * rows[output * length + channel * taps + tap]
            }
          }
        }
        algebra.addGram(of: columns, count: channels, length: count * taps, layout: .elements, to: &block)
      }
      LinearAlgebra.mirrorUpper(&block, size: channels)
      for i in 0..<channels {
        for j in 0..<channels {
          gram[(group * channels + i) * size + group * channels + j] = block[i * channels + j]
        }
      }
    }
    return gram
  }
}
