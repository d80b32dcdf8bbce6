import Compression
import ModelGraph
import Numerics
import TestSupport
import Testing

@Suite("Work that threads share") struct SharedWorkTests {
  /// As large as is cut into pieces, along all sides and by both triangles and the square between.
  @Test("A large kernel has the same factors whatever the number of threads, and they make what they say")
  func tucker() throws {
    let (outputs, inputs, positions) = (240, 232, 9)
    var random = SeededGenerator(seed: 5)
    let kernel = (0..<outputs * inputs * positions).map { element in
      let (output, input) = (element / (inputs * positions), element / positions % inputs)
      return Double.random(in: -1...1, using: &random) / Double((1 + output) * (1 + input)).squareRoot()
    }
    let source = MatrixSource(kernel, rows: outputs, columns: inputs * positions)
    let algebra = try LinearAlgebra()
    let found = try [1, 2, 5].map { threads in
      try #require(
        try Tucker2.of(
          source, positions: positions, ranks: .init(output: 112, input: 120), algebra, work: Work(threads: threads)))
    }
    for other in found.dropFirst() {
      #expect(other.first == found[0].first && other.core == found[0].core && other.last == found[0].last)
    }
    let product = found[0].product(outputs: outputs, inputs: inputs, positions: positions)
    let lost = zip(kernel, product).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let error = (lost / kernel.reduce(0) { $0 + $1 * $1 }).squareRoot()
    #expect(error > 0.01 && abs(error - found[0].relativeError) < 1e-9)
  }
}
