import Compression
import Numerics
import Testing

// Reference answers for ranks and factors, in Golden/: computed by direct textbook formulas in double precision (NumPy)
// from the inputs that the same files hold. Ranks are exact; factors are unique up to signs and rotations only, so
// products and errors are compared.

func source(_ matrix: [[Double]]) -> MatrixSource {
  MatrixSource(matrix.flatMap { $0 }, rows: matrix.count, columns: matrix[0].count)
}

func source(_ kernel: [[[[Double]]]]) -> MatrixSource {
  source(kernel.map { $0.flatMap { $0.flatMap { $0 } } })
}

@Suite struct VBMFGoldens {
  struct Contents: Decodable {
    struct Minimum: Decodable { let objective: Double, rank: Int }
    struct Expected: Decodable {
      let rank: Int, sigma2: Double, objective: Double?, zero_floor: Double?
      let singular_values: [Double]?, local_minima: [Minimum]?
    }
    struct Matrix: Decodable { let name: String, matrix: [[Double]], expected: Expected }
    struct Kernel: Decodable { let name: String, kernel: [[[[Double]]]], in_rank: Int, out_rank: Int }
    let matrices: [Matrix], kernels: [Kernel]
  }

  let contents: Contents
  let algebra: LinearAlgebra
  init() throws { (contents, algebra) = (try golden("vbmf.json"), try LinearAlgebra()) }

  @Test func matrices() throws {
    #expect(contents.matrices.count == 29)
    for matrix in contents.matrices {
      for turned in [false, true] {
        let source = turned ? source(matrix.matrix).transposed : source(matrix.matrix)
        let spectrum = try #require(try Spectrum.of(source, algebra))
        let expected = matrix.expected
        if let values = expected.singular_values {
          for (found, value) in zip(spectrum.values, values) {
            #expect(abs(found - value) <= 4e-8 * values[0], "\(matrix.name)")
            if value > 1e-3 * values[0] { #expect(isClose([found], [value]), "\(matrix.name)") }
          }
        }
        let estimate = VBMF(spectrum)
        #expect(estimate.rank == expected.rank, "\(matrix.name)")
        // The minimum is flat: its place is known to the root of the precision of its value.
        #expect(isClose([estimate.noiseVariance], [expected.sigma2], relative: 1e-6), "\(matrix.name)")
        guard let objective = expected.objective, let found = estimate.objective else {
          #expect(expected.objective == nil && estimate.objective == nil, "\(matrix.name)")
          continue
        }
        // Not above the reference's minimum; below it only by what its search by value leaves.
        let size = 1e-9 * max(1, abs(objective))
        #expect(found <= objective + size && found >= objective - 1e-6 * max(1, abs(objective)), "\(matrix.name)")
      }
    }
  }

  @Test func kernels() throws {
    #expect(contents.kernels.count == 2)
    for kernel in contents.kernels {
      let positions = kernel.kernel[0][0].count * kernel.kernel[0][0][0].count
      let spectra = try #require(
        try Spectrum.ofUnfoldings(of: source(kernel.kernel), positions: positions, algebra))
      #expect(VBMF(spectra.output).rank == kernel.out_rank, "\(kernel.name)")
      #expect(VBMF(spectra.input).rank == kernel.in_rank, "\(kernel.name)")
    }
  }

  @Test func calibration() throws {
    struct Contents: Decodable { let rows: [[Double]] }
    let rows = try golden("calibration.json", as: Contents.self).rows
    #expect(rows.count == 220)
    for row in rows {
      let calibration = RankCalibration(ratio: row[2], minimum: Int(row[3]))
      #expect(calibration.rank(estimate: Int(row[1]), full: Int(row[0])) == Int(row[4]), "\(row)")
    }
  }
}

@Suite struct SVDGoldens {
  struct Contents: Decodable {
    struct Rank: Decodable { let rank: Int, relative_error: Double }
    struct Matrix: Decodable {
      let name: String, weight: [[Double]], singular_values: [Double], by_rank: [Rank], rank_3_product: [[Double]]
    }
    struct Whitened: Decodable {
      let weight: [[Double]], inputs: [[Double]], rank: Int, singular_values: [Double], weight_approx: [[Double]]
      let bias_shift: [Double], rms_output_error_whitened: Double
    }
    let matrices: [Matrix], whitened: Whitened
  }

  let contents: Contents
  let algebra: LinearAlgebra
  init() throws { (contents, algebra) = (try golden("svd.json"), try LinearAlgebra()) }

  @Test func matrices() throws {
    #expect(contents.matrices.count == 4)
    for matrix in contents.matrices {
      let source = source(matrix.weight)
      let spectrum = try #require(try Spectrum.of(source, algebra))
      for (found, value) in zip(spectrum.values, matrix.singular_values) {
        #expect(abs(found - value) <= 1e-7 * matrix.singular_values[0], "\(matrix.name)")
      }
      for row in matrix.by_rank {
        #expect(abs(spectrum.relativeError(rank: row.rank) - row.relative_error) < 1e-9, "\(matrix.name) \(row.rank)")
        let found = try #require(try TruncatedSVD.of(source, rank: row.rank, algebra))
        #expect(abs(found.relativeError - row.relative_error) < 1e-9, "\(matrix.name) \(row.rank)")
      }
      let found = try #require(try TruncatedSVD.of(source, rank: 3, algebra))
      let expected = matrix.rank_3_product.flatMap { $0 }
      #expect(largestDifference(found.product, expected) < 1e-9, "\(matrix.name)")
    }
  }

  @Test func whitened() throws {
    let whitened = contents.whitened
    let inputs = whitened.inputs.count
    var samples = (0..<whitened.inputs[0].count).flatMap { n in whitened.inputs.map { $0[n] } }
    var moments = InputMoments(size: inputs)
    samples.withUnsafeMutableBufferPointer { moments.add($0, algebra) }
    let whitening = try #require(Whitening(covariance: moments.covariance, size: inputs, algebra))
    #expect(whitening.regularization == 0)
    do {
      let source = source(whitened.weight)
      let found = try #require(
        try TruncatedSVD.of(source, rank: whitened.rank, whitening: whitening, algebra))
      #expect(largestDifference(found.product, whitened.weight_approx.flatMap { $0 }) < 1e-9)
      let outputs = Double(source.rows)
      let error = try #require(found.outputError)
      #expect(isClose([(error.meanSquare / outputs).squareRoot()], [whitened.rms_output_error_whitened]))
      let tail = whitened.singular_values[whitened.rank...].reduce(0) { $0 + $1 * $1 }
      #expect(isClose([error.meanSquare], [tail]))
      #expect(isClose(found.biasShift(of: source, mean: moments.mean), whitened.bias_shift, relative: 1e-8))
    }
  }
}

@Suite struct TuckerGoldens {
  struct Contents: Decodable {
    struct Result: Decodable { let relative_error: Double, core_norm: Double }
    struct IO: Decodable { let input: [[[Double]]], stride: Int, padding: Int, output_of_hooi_kernel: [[[Double]]] }
    struct Kernel: Decodable {
      let name: String, kernel: [[[[Double]]]], in_rank: Int, out_rank: Int, norm: Double
      let hosvd: Result, hooi_1: Result, hooi: Result, io: IO?
    }
    let kernels: [Kernel]
  }

  let contents: Contents
  let algebra: LinearAlgebra
  init() throws { (contents, algebra) = (try golden("tucker.json"), try LinearAlgebra()) }

  @Test func errors() throws {
    #expect(contents.kernels.count == 4)
    for kernel in contents.kernels {
      let source = source(kernel.kernel)
      let positions = kernel.kernel[0][0].count * kernel.kernel[0][0][0].count
      let ranks = Tucker2.Ranks(output: kernel.out_rank, input: kernel.in_rank)
      func error(sweeps: Int) throws -> Double {
        let found = try Tucker2.of(
          source, positions: positions, ranks: ranks,
          convergence: Tucker2.Convergence(tolerance: 0, maximumSweeps: sweeps), algebra)
        return try #require(found).relativeError
      }
      #expect(abs(try error(sweeps: 0) - kernel.hosvd.relative_error) < 1e-9, "\(kernel.name)")
      #expect(abs(try error(sweeps: 1) - kernel.hooi_1.relative_error) < 1e-9, "\(kernel.name)")
      #expect(abs(try error(sweeps: 500) - kernel.hooi.relative_error) < 1e-9, "\(kernel.name)")
      let full = try #require(
        try Tucker2.of(
          source, positions: positions, ranks: .init(output: source.rows, input: source.columns / positions), algebra))
      #expect(full.relativeError < 1e-13, "\(kernel.name)")
    }
  }

  /// The three layers' weights do to an input what the reference's kernel does.
  @Test func outputs() throws {
    let kernel = try #require(contents.kernels.first { $0.io != nil })
    let io = try #require(kernel.io)
    let (outputs, inputs) = (kernel.kernel.count, kernel.kernel[0].count)
    let (high, wide) = (kernel.kernel[0][0].count, kernel.kernel[0][0][0].count)
    let found = try #require(
      try Tucker2.of(
        source(kernel.kernel), positions: high * wide, ranks: .init(output: kernel.out_rank, input: kernel.in_rank),
        // Where the reference stops, too: its factors are converged to the root of that.
        convergence: Tucker2.Convergence(tolerance: 0, maximumSweeps: 500), algebra))
    let product = found.product(outputs: outputs, inputs: inputs, positions: high * wide)
    for (o, plane) in io.output_of_hooi_kernel.enumerated() {
      for (y, row) in plane.enumerated() {
        for (x, expected) in row.enumerated() {
          var sum = 0.0
          for i in 0..<inputs {
            for dy in 0..<high {
              for dx in 0..<wide {
                let (iy, ix) = (y * io.stride + dy - io.padding, x * io.stride + dx - io.padding)
                guard io.input[i].indices.contains(iy), io.input[i][iy].indices.contains(ix) else { continue }
                sum += product[((o * inputs + i) * high + dy) * wide + dx] * io.input[i][iy][ix]
              }
            }
          }
          #expect(abs(sum - expected) < 1e-6)
        }
      }
    }
  }
}

func largestDifference(_ a: [Double], _ b: [Double]) -> Double {
  a.count == b.count ? zip(a, b).reduce(0) { max($0, abs($1.0 - $1.1)) } : .infinity
}

extension TruncatedSVD {
  /// `last first`, by the definition.
  var product: [Double] {
    let (outputs, inputs) = (last.count / rank, first.count / rank)
    return (0..<outputs * inputs).map { element in
      let (o, i) = element.quotientAndRemainder(dividingBy: inputs)
      return (0..<rank).reduce(0) { $0 + last[o * rank + $1] * first[$1 * inputs + i] }
    }
  }

}

extension Tucker2 {
  /// The kernel that the factors stand for, `[outputs, inputs, positions]`.
  func product(outputs: Int, inputs: Int, positions: Int) -> [Double] {
    let width = inputs * positions
    // [outputRank, inputs, positions].
    var mixed = [Double](repeating: 0, count: outputRank * width)
    for a in 0..<outputRank {
      for b in 0..<inputRank {
        for i in 0..<inputs {
          let right = first.map { $0[b * inputs + i] } ?? (b == i ? 1 : 0)
          for k in 0..<positions {
            mixed[a * width + i * positions + k] += core[(a * inputRank + b) * positions + k] * right
          }
        }
      }
    }
    var kernel = [Double](repeating: 0, count: outputs * width)
    for o in 0..<outputs {
      for a in 0..<outputRank {
        let left = last.map { $0[o * outputRank + a] } ?? (o == a ? 1 : 0)
        for element in 0..<width { kernel[o * width + element] += left * mixed[a * width + element] }
      }
    }
    return kernel
  }
}
