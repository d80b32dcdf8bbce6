import Compression
import ModelGraph
import Numerics
import TestSupport
import Testing

/// Of many inputs and few samples no covariance is made; what comes of them is what comes of one.
@Suite struct FewSampleTests {
  let algebra: LinearAlgebra
  init() throws { algebra = try LinearAlgebra() }

  private func moments(size: Int, samples: Int) -> InputMoments {
    var generator = SeededGenerator(seed: 3)
    var moments = InputMoments(size: size)
    for _ in 0..<samples {
      var x = (0..<size).map { _ in Double.random(in: -1...1, using: &generator) }
      for i in 1..<size { x[i] += 0.8 * x[i - 1] + 0.3 }
      x.withUnsafeMutableBufferPointer { moments.add($0, algebra) }
    }
    return moments
  }

  @Test("A decomposition is that of the covariance", arguments: [false, true])
  func decomposition(isCentred: Bool) throws {
    let (size, outputs) = (1024, 40)
    let moments = moments(size: size, samples: 50)
    var generator = SeededGenerator(seed: 4)
    let weight = MatrixSource(
      (0..<outputs * size).map { _ in Double.random(in: -1...1, using: &generator) }, rows: outputs, columns: size)
    var covariance = moments.covariance
    let mean = moments.mean
    if !isCentred {
      for i in 0..<size { for j in i..<size { covariance[i * size + j] += mean[i] * mean[j] } }
    }
    let few = try #require(Whitening(moments, isCentred: isCentred, algebra))
    let whole = try #require(Whitening(covariance: covariance, size: size, algebra))
    #expect(abs(few.regularization - whole.regularization) <= 1e-9 * whole.regularization)
    let found = try #require(try TruncatedSVD.of(weight, rank: 12, whitening: few, algebra))
    let expected = try #require(try TruncatedSVD.of(weight, rank: 12, whitening: whole, algebra))
    let scale = expected.last.map(abs).max() ?? 0
    #expect(zip(found.last, expected.last).allSatisfy { abs($0 - $1) < 1e-5 * scale })
    let rows = expected.first.map(abs).max() ?? 0
    #expect(zip(found.first, expected.first).allSatisfy { abs($0 - $1) < 1e-5 * rows })
    let (a, b) = (try #require(found.outputError), try #require(expected.outputError))
    #expect(abs(a.relative - b.relative) < 1e-6)
  }

  @Test("More samples make a covariance of those that were kept")
  func overflow() throws {
    let (few, many) = (moments(size: 1024, samples: 512), moments(size: 1024, samples: 520))
    #expect(few.count == 512 && many.count == 520)
    // Both hold the same first samples: what the last eight add is little.
    let (a, b) = (few.covariance, many.covariance)
    let apart = (0..<1024).map { abs(a[$0 * 1025] - b[$0 * 1025]) }.max() ?? 0
    #expect(0 < apart && apart < 0.2)
    #expect(zip(few.mean, many.mean).allSatisfy { abs($0 - $1) < 0.2 })
  }
}
