import Compression
import ModelGraph
import Numerics
import TestSupport
import Testing

// What holds for every matrix and kernel: errors are what they say, full rank loses nothing, scale and orientation do
// not matter, degenerate input has a result or none.

private func random(_ count: Int, seed: UInt64 = 1) -> [Double] {
  var random = SeededGenerator(seed: seed)
  return (0..<count).map { _ in Double.random(in: -1...1, using: &random) }
}

/// `[rows, columns]` whose rows and columns have ever less weight.
private func decaying(_ rows: Int, _ columns: Int, seed: UInt64 = 1) -> [Double] {
  let elements = random(rows * columns, seed: seed)
  return elements.indices.map { elements[$0] / Double((1 + $0 / columns) * (1 + $0 % columns)).squareRoot() }
}

private func norm(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }

private func relativeDistance(_ a: [Double], _ b: [Double]) -> Double { norm(zip(a, b).map { $0 - $1 }) / norm(a) }

/// Samples of inputs that depend on each other, as a covariance.
private func covariance(_ size: Int, samples: Int, _ algebra: LinearAlgebra) -> [Double] {
  var moments = InputMoments(size: size)
  var x = random(samples * size, seed: 9)
  for s in 0..<samples { for i in 1..<size { x[s * size + i] = 0.8 * x[s * size + i - 1] + x[s * size + i] + 3 } }
  x.withUnsafeMutableBufferPointer { moments.add($0, algebra) }
  return moments.covariance
}

/// ||x S||^2 over rows for the covariance S S'.
private func outputEnergy(_ weight: [Double], _ covariance: [Double], size: Int) -> Double {
  var sum = 0.0
  for row in stride(from: 0, to: weight.count, by: size) {
    for i in 0..<size {
      for j in 0..<size {
        sum += weight[row + i] * weight[row + j] * covariance[min(i, j) * size + max(i, j)]
      }
    }
  }
  return sum
}

@Suite("Spectrum and VBMF") struct SpectrumTests {
  let algebra: LinearAlgebra
  init() throws { algebra = try LinearAlgebra() }

  @Test("The rank does not depend on scale or orientation", arguments: [1e-30, 1e-3, 1, 1e30, 1e180])
  func scale(factor: Double) throws {
    var matrix = decaying(20, 50)
    for row in 0..<3 { for column in 0..<50 { matrix[row * 50 + column] *= 5 } }
    let plain = try #require(try Spectrum.of(MatrixSource(matrix, rows: 20, columns: 50), algebra))
    let source = MatrixSource(matrix.map { $0 * factor }, rows: 20, columns: 50)
    for source in [source, source.transposed] {
      let spectrum = try #require(try Spectrum.of(source, algebra))
      #expect(isClose(spectrum.values, plain.values.map { $0 * factor }))
      #expect(VBMF(spectrum).rank == VBMF(plain).rank)
      #expect(spectrum.rank(forEnergy: 0.7) == plain.rank(forEnergy: 0.7))
    }
    #expect(VBMF(plain).rank > 0)
  }

  @Test func errorsAndEnergies() throws {
    let spectrum = Spectrum(values: [2, 1, 1, 0], rows: 9, columns: 4, peak: 1)
    #expect(spectrum.energy == 6)
    #expect(
      (0...5).map { spectrum.relativeError(rank: $0) * spectrum.relativeError(rank: $0) * 6 }.map {
        ($0 * 100).rounded() / 100
      } == [6, 2, 1, 0, 0, 0])
    #expect([0, 0.5, 0.66, 0.67, 0.84, 1].map { spectrum.rank(forEnergy: $0) } == [0, 1, 1, 2, 3, 3])
  }

  @Test func degenerate() throws {
    func spectrum(_ elements: [Double], _ rows: Int) throws -> Spectrum? {
      try Spectrum.of(MatrixSource(elements, rows: rows, columns: elements.count / rows), algebra)
    }
    for bad in [Double.nan, .infinity, -.infinity] {
      let none = try spectrum([1, 2, bad, 4], 2)
      #expect(none == nil)
    }
    let zero = try #require(try spectrum([Double](repeating: 0, count: 12), 3))
    #expect((zero.rank, VBMF(zero).rank, zero.relativeError(rank: 0), zero.rank(forEnergy: 1)) == (0, 0, 0, 0))
    let one = try #require(try spectrum([-0.5], 1))
    #expect((one.values, VBMF(one).rank, one.rank(forEnergy: 0.1)) == ([0.5], 0, 1))
    let constant = try #require(try spectrum([Double](repeating: 0.1, count: 600), 20))
    #expect((constant.rank, VBMF(constant).rank) == (1, 1))
    #expect(constant.relativeError(rank: 1) == 0)
  }

  @Test("Half precision and single precision are read as they are stored")
  func stored() throws {
    let elements = random(6 * 35).map { Float($0) }
    let source = try #require(MatrixSource(Tensor(float32: elements, shape: [6, 7, 5]), rows: 6))
    #expect(try source.elements(work: Work()) == elements.map(Double.init))
    let turned = source.inputUnfolding(positions: 5)
    #expect((turned.rows, turned.columns) == (30, 7))
    let all = try turned.elements(work: Work())
    #expect(all[13 * 7 + 4] == Double(elements[(2 * 7 + 4) * 5 + 3]))
    // A piece that begins and ends within an output.
    var piece = [Double](repeating: 0, count: 9 * 3)
    turned.read(3..<12, 2..<5, &piece)
    #expect(piece == (3..<12).flatMap { row in (2..<5).map { all[row * 7 + $0] } })
    #expect(MatrixSource(Tensor(int64: [1, 2]), rows: 1) == nil)
  }

  @Test func cancelled() {
    let work = Work()
    work.cancellation.set()
    let source = MatrixSource(random(64), rows: 8, columns: 8)
    #expect(throws: Failure.self) { try Spectrum.of(source, algebra, work: work) }
    #expect(throws: Failure.self) { try TruncatedSVD.of(source, rank: 2, algebra, work: work) }
    #expect(throws: Failure.self) {
      try Tucker2.of(source, positions: 2, ranks: .init(output: 2, input: 2), algebra, work: work)
    }
    #expect(throws: Failure.self) { try CanonicalPolyadic.of(source, shape: [2], rank: 2, algebra, work: work) }
  }
}

@Suite("Truncated SVD") struct TruncatedSVDTests {
  let algebra: LinearAlgebra
  init() throws { algebra = try LinearAlgebra() }

  @Test("Errors are those of the product, whitened or not", arguments: [(12, 30), (30, 12), (16, 16)], [1, 5, 12])
  func errors(shape: (Int, Int), rank: Int) throws {
    let (rows, columns) = shape
    let matrix = decaying(rows, columns)
    let source = MatrixSource(matrix, rows: rows, columns: columns)
    let spectrum = try #require(try Spectrum.of(source, algebra))
    let plain = try #require(try TruncatedSVD.of(source, rank: rank, algebra))
    #expect(abs(plain.relativeError - relativeDistance(matrix, plain.product)) < 1e-12)
    #expect(abs(plain.relativeError - spectrum.relativeError(rank: rank)) < 1e-9)
    if rank == min(rows, columns) { #expect(plain.relativeError < 1e-13) }

    let covariance = covariance(columns, samples: 200, algebra)
    let whitening = try #require(Whitening(covariance: covariance, size: columns, algebra))
    let found = try #require(try TruncatedSVD.of(source, rank: rank, whitening: whitening, algebra))
    #expect(abs(found.relativeError - relativeDistance(matrix, found.product)) < 1e-12)
    let error = try #require(found.outputError)
    func loss(_ product: [Double]) -> Double {
      outputEnergy(zip(matrix, product).map { $0 - $1 }, covariance, size: columns)
    }
    #expect(abs(error.meanSquare - loss(found.product)) < 1e-10 * error.energy)
    #expect(loss(found.product) <= loss(plain.product) + 1e-12 * error.energy)
    #expect(found.relativeError >= plain.relativeError - 1e-12)
  }

  @Test("Columns have one norm and a positive largest entry, in every run", arguments: [(7, 5), (5, 7)])
  func canonical(shape: (Int, Int)) throws {
    let source = MatrixSource(decaying(shape.0, shape.1), rows: shape.0, columns: shape.1)
    let found = try #require(try TruncatedSVD.of(source, rank: 4, algebra))
    for k in 0..<4 {
      let column = (0..<shape.0).map { found.last[$0 * 4 + k] }
      #expect(isClose([norm(column)], [norm(Array(found.first[k * shape.1..<(k + 1) * shape.1]))]))
      #expect(column.max { abs($0) < abs($1) }! > 0)
    }
    let again = try #require(try TruncatedSVD.of(source, rank: 4, algebra))
    #expect(again.last == found.last && again.first == found.first)
  }

  @Test func degenerate() throws {
    let zero = MatrixSource([Double](repeating: 0, count: 12), rows: 3, columns: 4)
    let nothing = try #require(try TruncatedSVD.of(zero, rank: 2, algebra))
    #expect(nothing.relativeError == 0 && (nothing.first + nothing.last).allSatisfy { $0 == 0 })
    let constant = try #require(
      try TruncatedSVD.of(MatrixSource([Double](repeating: -3, count: 40), rows: 8, columns: 5), rank: 3, algebra))
    #expect(constant.relativeError < 1e-14)
    #expect(constant.last[1] == 0 && constant.last[2] == 0)
    let none = try TruncatedSVD.of(MatrixSource([1, .nan], rows: 2, columns: 1), rank: 1, algebra)
    #expect(none == nil)
    let one = try #require(try TruncatedSVD.of(MatrixSource([-4], rows: 1, columns: 1), rank: 1, algebra))
    #expect(one.last == [2] && one.first == [-2])
    let huge = MatrixSource(random(20).map { $0 * 1e200 }, rows: 4, columns: 5)
    let scaled = try #require(try TruncatedSVD.of(huge, rank: 4, algebra))
    #expect(scaled.relativeError < 1e-13)
  }

  @Test("Fewer samples than inputs, dead inputs") func fewSamples() throws {
    let matrix = decaying(20, 12)
    var few = covariance(12, samples: 5, algebra)
    for k in 0..<12 { (few[k * 12 + 11], few[3 * 12 + k]) = (0, k == 3 ? few[3 * 12 + 3] : 0) }
    let whitening = try #require(Whitening(covariance: few, size: 12, algebra))
    #expect(whitening.regularization > 0)
    let source = MatrixSource(matrix, rows: 20, columns: 12)
    let found = try #require(try TruncatedSVD.of(source, rank: 4, whitening: whitening, algebra))
    #expect(found.relativeError <= 1 + 1e-9)
    #expect(Whitening(covariance: [Double](repeating: 0, count: 4), size: 2, algebra) == nil)
    #expect(Whitening(covariance: [.nan, 0, 0, 1], size: 2, algebra) == nil)
  }
}

@Suite("Tucker-2") struct Tucker2Tests {
  let algebra: LinearAlgebra
  init() throws { algebra = try LinearAlgebra() }

  @Test("Errors are those of the product; sweeps never raise them", arguments: [(10, 8, 9), (6, 12, 3), (9, 4, 27)])
  func errors(shape: (Int, Int, Int)) throws {
    let (outputs, inputs, positions) = shape
    let kernel = decaying(outputs, inputs * positions)
    let source = MatrixSource(kernel, rows: outputs, columns: inputs * positions)
    for ranks in [
      Tucker2.Ranks(output: 4, input: 3), .init(output: outputs, input: 2), .init(output: 5, input: inputs),
    ] {
      var previous = Double.infinity
      for sweeps in 0...4 {
        let found = try #require(
          try Tucker2.of(
            source, positions: positions, ranks: ranks, convergence: .init(tolerance: 0, maximumSweeps: sweeps), algebra
          ))
        #expect(found.relativeError <= previous + 1e-13)
        previous = found.relativeError
        #expect((found.first == nil, found.last == nil) == (ranks.input == inputs, ranks.output == outputs))
        let product = found.product(outputs: outputs, inputs: inputs, positions: positions)
        #expect(abs(found.relativeError - relativeDistance(kernel, product)) < 1e-9)
      }
      let whitening = try #require(
        Whitening(covariance: covariance(inputs, samples: 99, algebra), size: inputs, algebra))
      let found = try #require(
        try Tucker2.of(source, positions: positions, ranks: ranks, whitening: whitening, algebra))
      let product = found.product(outputs: outputs, inputs: inputs, positions: positions)
      #expect(abs(found.relativeError - relativeDistance(kernel, product)) < 1e-9)
      // [outputs, positions, inputs], to weigh inputs.
      func turned(_ x: [Double]) -> [Double] {
        x.indices.map {
          x[$0 / (positions * inputs) * inputs * positions + $0 % inputs * positions + $0 / inputs % positions]
        }
      }
      let loss = outputEnergy(
        turned(zip(kernel, product).map { $0 - $1 }), covariance(inputs, samples: 99, algebra), size: inputs)
      let error = try #require(found.outputError)
      #expect(abs(error.meanSquare - loss) < 1e-9 * error.energy)
    }
  }

  @Test("A large kernel, whose bases are advanced, ends where a small one does") func large() throws {
    let (channels, rank, positions) = (176, 12, 3)
    // Of multilinear rank 12 but for noise of one percent.
    let (u, v) = (random(channels * rank), random(channels * rank, seed: 2))
    let core = random(rank * rank * positions, seed: 3)
    let noise = random(channels * channels * positions, seed: 4)
    var kernel = noise.map { $0 * 0.05 }
    for o in 0..<channels {
      for i in 0..<channels {
        for k in 0..<positions {
          var sum = 0.0
          for a in 0..<rank {
            for b in 0..<rank {
              sum += u[o * rank + a] * v[i * rank + b] * core[(a * rank + b) * positions + k]
            }
          }
          kernel[(o * channels + i) * positions + k] += sum
        }
      }
    }
    let source = MatrixSource(kernel, rows: channels, columns: channels * positions)
    func error(_ convergence: Tucker2.Convergence) throws -> Double {
      let ranks = Tucker2.Ranks(output: rank + 8, input: rank + 8)
      return try #require(
        try Tucker2.of(source, positions: positions, ranks: ranks, convergence: convergence, algebra)
      ).relativeError
    }
    let errors = try (0...4).map { try error(.init(tolerance: 0, maximumSweeps: $0)) }
    for (before, after) in zip(errors, errors.dropFirst()) { #expect(after <= before + 1e-13) }
    let end = try error(.init(tolerance: 0, maximumSweeps: 200))
    let stopped = try error(.init())
    #expect(stopped < end * 1.005)

    // Where ranks were found first, factors start from what that reduced, and end the same.
    let unfolding = try source.inputUnfolding(positions: positions).elements(work: Work())
    var gram = [Double](repeating: 0, count: channels * channels)
    algebra.addGram(of: unfolding, count: channels, length: channels * positions, layout: .elements, to: &gram)
    let start = try #require(algebra.reduced(gram, size: channels))
    let ranks = Tucker2.Ranks(output: rank, input: rank)
    let alone = try #require(try Tucker2.of(source, positions: positions, ranks: ranks, algebra))
    let started = try #require(try Tucker2.of(source, positions: positions, ranks: ranks, start: start, algebra))
    #expect(abs(alone.relativeError - started.relativeError) < 1e-12)
    let product = started.product(outputs: channels, inputs: channels, positions: positions)
    #expect(abs(started.relativeError - relativeDistance(kernel, product)) < 1e-9)
  }

  @Test("A first sweep in single precision takes nothing from a kernel of low rank", arguments: [1.0, 1e-12, 1e30])
  func single(scale: Double) throws {
    let (channels, rank, positions) = (160, 5, 3)
    let (u, v) = (random(channels * rank), random(channels * rank, seed: 2))
    var kernel = [Double](repeating: 0, count: channels * channels * positions)
    for o in 0..<channels {
      for i in 0..<channels {
        for k in 0..<positions {
          let terms = (0..<rank).map { u[o * rank + $0] * v[i * rank + ($0 + k) % rank] }
          kernel[(o * channels + i) * positions + k] = scale * terms.reduce(0, +)
        }
      }
    }
    let found = try #require(
      try Tucker2.of(
        MatrixSource(kernel, rows: channels, columns: channels * positions), positions: positions,
        ranks: .init(output: rank, input: rank), algebra))
    #expect(found.relativeError < 1e-11)
  }

  @Test func ranksOfUse() {
    #expect(Tucker2.Ranks(output: 1, input: 64).clamped(outputs: 64, inputs: 64, positions: 9).input == 9)
    #expect(Tucker2.Ranks(output: 60, input: 2).clamped(outputs: 64, inputs: 64, positions: 9).output == 18)
    #expect(
      Tucker2.Ranks(output: 99, input: 0).clamped(outputs: 8, inputs: 4, positions: 3) == .init(output: 3, input: 1))
  }

  @Test func degenerate() throws {
    let zero = MatrixSource([Double](repeating: 0, count: 5 * 4 * 9), rows: 5, columns: 36)
    let nothing = try #require(try Tucker2.of(zero, positions: 9, ranks: .init(output: 2, input: 2), algebra))
    #expect(nothing.relativeError == 0)
    #expect((nothing.core + nothing.first! + nothing.last!).allSatisfy { $0.isFinite })
    let constant = MatrixSource([Double](repeating: 2, count: 5 * 4 * 9), rows: 5, columns: 36)
    for rank in 1...3 {
      let found = try #require(
        try Tucker2.of(constant, positions: 9, ranks: .init(output: rank, input: rank), algebra))
      #expect(found.relativeError < 1e-13)
      #expect((found.core + found.first! + found.last!).allSatisfy { $0.isFinite })
    }
    let none = try Tucker2.of(
      MatrixSource([1, .infinity], rows: 1, columns: 2), positions: 2, ranks: .init(output: 1, input: 1), algebra)
    #expect(none == nil)
  }
}

@Suite("Canonical polyadic") struct CanonicalPolyadicTests {
  let algebra: LinearAlgebra
  init() throws { algebra = try LinearAlgebra() }

  func product(_ cp: CanonicalPolyadic, _ shape: [Int]) -> [Double] {
    let (outputs, inputs) = (cp.last.count / cp.rank, cp.first.count / cp.rank)
    let positions = shape.reduce(1, *)
    return (0..<outputs * inputs * positions).map { element in
      let (o, i, k) = (element / (inputs * positions), element / positions % inputs, element % positions)
      return (0..<cp.rank).reduce(0) { sum, r in
        var term = cp.last[o * cp.rank + r] * cp.first[r * inputs + i]
        for axis in shape.indices {
          guard let vectors = cp.axes[axis] else { continue }
          term *= vectors[r * shape[axis] + k / shape[(axis + 1)...].reduce(1, *) % shape[axis]]
        }
        return sum + term
      }
    }
  }

  struct Golden: Decodable {
    struct Chain: Decodable { let rank: Int, kernel: [[[[Double]]]] }
    let cp_chain: Chain
  }

  @Test("A kernel of three components is found again") func chain() throws {
    let chain = try golden("tucker.json", as: Golden.self).cp_chain
    let kernel = chain.kernel.flatMap { $0.flatMap { $0.flatMap { $0 } } }
    let found = try #require(
      try CanonicalPolyadic.of(source(chain.kernel), shape: [3, 3], rank: chain.rank, tolerance: 1e-13, algebra))
    #expect(!found.isDegenerate)
    #expect(found.relativeError < 1e-4)
    #expect(abs(relativeDistance(kernel, product(found, [3, 3])) - found.relativeError) < 1e-9)
  }

  @Test(
    "Any number of axes; those of length 1 have no factor", arguments: [[5], [3, 1], [1, 3], [2, 3, 2], [1, 1]])
  func axes(shape: [Int]) throws {
    let positions = shape.reduce(1, *)
    let kernel = decaying(7, 6 * positions)
    let source = MatrixSource(kernel, rows: 7, columns: 6 * positions)
    var previous = 1.0
    for rank in [1, 3, 6] {
      let found = try #require(try CanonicalPolyadic.of(source, shape: shape, rank: rank, algebra))
      #expect(found.axes.map { $0 == nil } == shape.map { $0 == 1 })
      #expect(abs(relativeDistance(kernel, product(found, shape)) - found.relativeError) < 1e-9)
      #expect(found.relativeError < previous)
      previous = found.relativeError
      let again = try #require(try CanonicalPolyadic.of(source, shape: shape, rank: rank, algebra))
      #expect(again.last == found.last && again.first == found.first)
    }
    if positions == 1 { #expect(previous < 1e-6) }
  }

  @Test("Components that grow while they cancel are stopped") func divergence() throws {
    // a a b + a b a + b a a has rank 3, but is the limit of kernels of rank 2.
    let kernel: [Double] = [0, 1, 1, 0, 1, 0, 0, 0]
    let found = try #require(
      try CanonicalPolyadic.of(
        MatrixSource(kernel, rows: 2, columns: 4), shape: [2], rank: 2, tolerance: 0, maximumSweeps: 200_000, algebra))
    #expect(found.isDegenerate || found.sweeps == 200_000)
    #expect((found.first + found.last).allSatisfy { abs($0) < 20 })
    #expect(found.relativeError < 0.3)
  }

  @Test func degenerate() throws {
    let zero = try #require(
      try CanonicalPolyadic.of(
        MatrixSource([Double](repeating: 0, count: 36), rows: 2, columns: 18), shape: [3, 3], rank: 2, algebra))
    #expect(zero.relativeError == 0 && zero.last.allSatisfy { $0 == 0 })
    let constant = try #require(
      try CanonicalPolyadic.of(
        MatrixSource([Double](repeating: -7, count: 36), rows: 2, columns: 18), shape: [3, 3], rank: 3, algebra))
    #expect(constant.relativeError < 1e-6)
    let none = try CanonicalPolyadic.of(MatrixSource([.nan], rows: 1, columns: 1), shape: [1], rank: 1, algebra)
    #expect(none == nil)
  }
}
