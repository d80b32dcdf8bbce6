import Compression
import Foundation
import ModelGraph
import Numerics
import TestSupport
import Testing

// Ridge regression toward an old weight, from sums alone: reference answers in Golden/reconstruction.json, by direct
// textbook formulas.

@Suite struct RegressionTests {
  private let algebra: LinearAlgebra

  init() throws { algebra = try LinearAlgebra() }

  private struct Golden: Decodable {
    let weight: [[Double]], bias: [Double], inputs: [[Double]], keep: [Int]
    let newWeight: [[Double]], newBias: [Double]
    let rmsErrorPlain: Double, rmsErrorReconstructed: Double
    let reluMeanFromBn: [Mean]
    struct Mean: Decodable { let beta: Double, gamma: Double, mean: Double }

    enum CodingKeys: String, CodingKey {
      case weight, bias, inputs, keep
      case newWeight = "new_weight"
      case newBias = "new_bias"
      case rmsErrorPlain = "rms_error_plain"
      case rmsErrorReconstructed = "rms_error_reconstructed"
      case reluMeanFromBn = "relu_mean_from_bn"
    }

    var samples: Int { inputs[0].count }
    /// `[samples, kept]` and `[samples, outputs]`.
    var x: [Double] { (0..<samples).flatMap { s in keep.map { inputs[$0][s] } } }
    var y: [Double] {
      (0..<samples).flatMap { s in
        weight.indices.map { o in bias[o] + weight[o].indices.reduce(0) { $0 + weight[o][$1] * inputs[$1][s] } }
      }
    }
  }

  private func moments(_ x: [Double], _ y: [Double], inputs: Int, outputs: Int) -> RegressionMoments {
    var moments = RegressionMoments(groups: 1, inputs: inputs, outputs: outputs)
    // In parts, as data come.
    let count = x.count / inputs
    for range in [0..<count / 3, count / 3..<count] where !range.isEmpty {
      x.withUnsafeBufferPointer { x in
        y.withUnsafeBufferPointer { y in
          guard let x = x.baseAddress, let y = y.baseAddress else { return }
          moments.add(
            x + range.lowerBound * inputs, y + range.lowerBound * outputs, count: range.count, group: 0, algebra)
        }
      }
    }
    return moments
  }

  @Test("Few positions of many inputs give the weight that their sums give", arguments: [false, true])
  func fewPositions(addsConstants: Bool) throws {
    let (inputs, outputs) = (1024, 3)
    var generator = SeededGenerator(seed: 5)
    func random(_ count: Int) -> [Double] { (0..<count).map { _ in Double.random(in: -1...1, using: &generator) } }
    let old = random(outputs * inputs)
    let constants = addsConstants ? random(outputs) : nil
    func positions(_ count: Int) -> RegressionMoments {
      // Along a few directions mostly, off zero, and what the old weight does not quite give.
      let directions = random(3 * inputs)
      let x = (0..<count).flatMap { _ -> [Double] in
        let shares = random(3)
        return random(inputs).enumerated().map { i, noise in
          1 + 0.1 * noise + (0..<3).reduce(0) { $0 + shares[$1] * directions[$1 * inputs + i] }
        }
      }
      let y = (0..<count).flatMap { k in
        (0..<outputs).map { o in
          (0..<inputs).reduce(0.5) { $0 + 0.8 * old[o * inputs + $1] * x[k * inputs + $1] }
        }
      }
      return moments(x, y, inputs: inputs, outputs: outputs)
    }
    let (fitting, choosing) = (positions(30), positions(9))
    for judge in [nil, choosing] {
      var (summed, summedJudge) = (fitting, judge)
      summed.sum(algebra)
      summedJudge?.sum(algebra)
      let found = try RidgeRegression.solve(
        fitting, choosing: judge, old: old, oldConstants: constants, algebra, Work())
      let expected = try RidgeRegression.solve(
        summed, choosing: summedJudge, old: old, oldConstants: constants, algebra, Work())
      #expect(found.ridge == expected.ridge)
      #expect(zip(found.rows, expected.rows).allSatisfy { abs($0 - $1) < 1e-7 })
      #expect(zip(found.constants ?? [], expected.constants ?? []).allSatisfy { abs($0 - $1) < 1e-4 })
      #expect(abs(found.errorBefore - expected.errorBefore) < 1e-7 * expected.errorBefore)
      #expect(abs(found.errorAfter - expected.errorAfter) < 1e-5 * expected.errorBefore)
    }
  }

  @Test("The golden consumer of four of six channels") func goldenUpdate() throws {
    let reference: Golden = try golden("reconstruction.json")
    let (inputs, outputs) = (reference.keep.count, reference.weight.count)
    let known = moments(reference.x, reference.y, inputs: inputs, outputs: outputs)
    let old = reference.weight.flatMap { row in reference.keep.map { row[$0] } }
    let solution = try RidgeRegression.solve(
      known, choosing: known, old: old, oldConstants: reference.bias, algebra, Work())
    #expect(solution.ridge == RidgeRegression.ridges.first)
    #expect(zip(solution.rows, reference.newWeight.flatMap { $0 }).allSatisfy { abs($0 - $1) < 1e-4 })
    let constants = try #require(solution.constants)
    #expect(zip(constants, reference.newBias).allSatisfy { abs($0 - $1) < 1e-4 })
    // Errors are told relative to the variation of the outputs.
    var variation = 0.0
    for o in 0..<outputs {
      let column = (0..<reference.samples).map { reference.y[$0 * outputs + o] }
      let mean = column.reduce(0, +) / Double(column.count)
      variation += column.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(column.count)
    }
    let scale = (variation / Double(outputs)).squareRoot()
    #expect(abs(solution.errorBefore * scale - reference.rmsErrorPlain) < 1e-6)
    #expect(abs(solution.errorAfter * scale - reference.rmsErrorReconstructed) < 1e-6)
  }

  @Test("Layers that add nothing are fitted about zero") func withoutConstants() throws {
    // y = 3 a - b, of which only a is left; b = a + 1.
    let a = (0..<40).map { Double($0 % 7) - 2 }
    let y = a.map { 3 * $0 - ($0 + 1) }
    let known = moments(a, y, inputs: 1, outputs: 1)
    let solution = try RidgeRegression.solve(known, choosing: known, old: [3], oldConstants: nil, algebra, Work())
    let best = zip(a, y).reduce(0) { $0 + $1.0 * $1.1 } / a.reduce(0) { $0 + $1 * $1 }
    #expect(abs(solution.rows[0] - best) < 1e-5 && solution.constants == nil)
    let free = try RidgeRegression.solve(known, choosing: known, old: [3], oldConstants: [0], algebra, Work())
    let constants = try #require(free.constants)
    #expect(abs(free.rows[0] - 2) < 1e-5 && abs(constants[0] + 1) < 1e-5)
    #expect(free.errorAfter < 1e-5 && solution.errorAfter > 0.1)
  }

  @Test("What computes what it should stays, and so does what is fed nothing") func unchanged() throws {
    let a = (0..<40).map { Double($0 % 5) }
    let right = moments(a, a.map { 2 * $0 + 1 }, inputs: 1, outputs: 1)
    let same = try RidgeRegression.solve(right, choosing: nil, old: [2], oldConstants: [1], algebra, Work())
    #expect(same.ridge == nil && same.constants == nil && same.rows == [2] && same.errorBefore == 0)
    let zeros = [Double](repeating: 0, count: 40)
    let dead = moments(zeros, a, inputs: 1, outputs: 1)
    let kept = try RidgeRegression.solve(dead, choosing: dead, old: [2], oldConstants: [0], algebra, Work())
    let constants = try #require(kept.constants)
    #expect(kept.rows == [2] && abs(constants[0] - 2) < 1e-12)
  }

  @Test("Noise in few samples chooses a large ridge, or the old weight") func choosesRidge() throws {
    var generator = SeededGenerator(seed: 5)
    func noise(_ count: Int) -> [Double] { (0..<count).map { _ in Double.random(in: -1...1, using: &generator) } }
    let (inputs, truth) = (20, noise(20))
    func data(_ count: Int, noise level: Double) -> RegressionMoments {
      let x = noise(count * inputs)
      let y = (0..<count).map { s in
        (0..<inputs).reduce(0) { $0 + truth[$1] * x[s * inputs + $1] } + level
          * Double.random(in: -1...1, using: &generator)
      }
      return moments(x, y, inputs: inputs, outputs: 1)
    }
    let few = try RidgeRegression.solve(
      data(12, noise: 3), choosing: data(400, noise: 3), old: truth, oldConstants: nil, algebra, Work())
    #expect(few.ridge.map { $0 >= 0.1 } ?? true)
    let many = try RidgeRegression.solve(
      data(4000, noise: 0.01), choosing: data(400, noise: 0.01), old: [Double](repeating: 0, count: inputs),
      oldConstants: nil, algebra, Work())
    let ridge = try #require(many.ridge)
    #expect(ridge <= 1e-4 && many.errorAfter < 0.02)
  }

  @Test("Means behind a normalization and a rectifier, golden") func means() throws {
    let reference: Golden = try golden("reconstruction.json")
    let channels = reference.reluMeanFromBn
    let g = GraphBuilder()
    let x = g.input("x", [1, .fixed(channels.count), 4, 4])
    let ones = g.floats([Float](repeating: 1, count: channels.count))
    let y = g(
      "Relu",
      g(
        "BatchNormalization", x, g.floats(channels.map { Float($0.gamma) }), g.floats(channels.map { Float($0.beta) }),
        ones, ones))
    g.output(y)
    let graph = g.build()
    let shapes = try graph.inferShapes(given: [:]).nominal
    let found = try #require(ChannelStatistics.of(graph, shapes: shapes)[y.index])
    #expect(zip(found.means, channels).allSatisfy { abs($0 - $1.mean) < 1e-4 })
  }
}
