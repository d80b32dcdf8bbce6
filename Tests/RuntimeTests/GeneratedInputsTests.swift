import Foundation
import ModelGraph
import Runtime
import Testing

struct GeneratedInputsTests {
  private func elements<T: BitwiseCopyable>(
    _ dtype: DType, _ type: T.Type, bounds: ClosedRange<Int> = 0...1, count: Int = 10_000, seed: UInt64 = 1
  ) throws -> [T] {
    let source = try GeneratedInputs(
      [.init(name: "x", dtype: dtype, shape: [count], bounds: bounds)], seed: seed)
    var elements: [T] = []
    try source.forEachBatch(work: Work()) { elements = $0.inputs["x"]?.elements(type) ?? [] }
    #expect(elements.count == count)
    return elements
  }

  @Test("Floats are normal with mean 0 and variance 1, in every width")
  func floats() throws {
    let double = try elements(.float64, Double.self)
    let mean = double.reduce(0, +) / 10_000
    let variance = double.reduce(0) { $0 + $1 * $1 } / 10_000
    // Four standard errors each.
    #expect(abs(mean) < 0.04)
    #expect(abs(variance - 1) < 0.06)
    // Of a normal distribution, 68.3 % are within one standard deviation and 4.6 % beyond two.
    #expect(abs(Double(double.count { abs($0) < 1 }) / 10_000 - 0.683) < 0.02)
    #expect(abs(Double(double.count { abs($0) > 2 }) / 10_000 - 0.046) < 0.01)
    #expect(double.allSatisfy { $0.isFinite })
    #expect(try elements(.float32, Float.self) == double.map(Float.init))
    #expect(try elements(.float16, Float16.self) == double.map { Float16($0) })
    // Half a unit in the last of bfloat16's eight bits.
    let brain = try elements(.bfloat16, UInt16.self).map { Double(Float(bitPattern: UInt32($0) << 16)) }
    #expect(zip(brain, double).allSatisfy { abs($0 - $1) <= abs($1) * 0x1p-8 })
  }

  @Test("Integers fill their bounds evenly; truth is 0 or 1")
  func integers() throws {
    let ids = try elements(.int64, Int64.self, bounds: 5...14)
    for id in Int64(5)...14 { #expect(abs(ids.count { $0 == id } - 1000) < 130) }
    #expect(Set(ids) == Set(5...14))
    #expect(Set(try elements(.int8, Int8.self, bounds: -1...1)) == [-1, 0, 1])
    #expect(Set(try elements(.int32, Int32.self)) == [0, 1])
    #expect(Set(try elements(.uint8, UInt8.self, bounds: 255...255)) == [255])
    let truths = try elements(.bool, UInt8.self)
    #expect(Set(truths) == [0, 1])
    #expect(abs(truths.count { $0 == 1 } - 5000) < 250)
  }

  @Test("A seed gives the same numbers each time; seeds, inputs and batches differ")
  func seeds() throws {
    func all(_ seed: UInt64) throws -> [[Float]] {
      let inputs = ["x", "y"].map { GeneratedInputs.Input(name: $0, dtype: .float32, shape: [2, 3]) }
      let source = try GeneratedInputs(inputs, batches: 3, seed: seed)
      #expect(source.sampleCount == 6)
      var result: [[Float]] = []
      var samples: [Range<Int>] = []
      try source.forEachBatch(work: Work()) { batch in
        samples.append(batch.samples)
        for name in ["x", "y"] { result.append(batch.inputs[name]?.elements(Float.self) ?? []) }
      }
      #expect(samples == [0..<2, 2..<4, 4..<6])
      return result
    }
    #expect(try all(1) == all(1))
    #expect(Set(try all(1) + all(2)).count == 12)
  }

  @Test("What cannot be made up is refused")
  func refused() throws {
    let text = try failure { _ = try GeneratedInputs([.init(name: "x", dtype: .string, shape: [1])], seed: 1) }
    #expect(text?.kind == .datasetRequired)
    let huge = try failure {
      _ = try GeneratedInputs([.init(name: "x", dtype: .float32, shape: [Int.max, 2])], seed: 1)
    }
    #expect(huge?.kind == .resourceLimit)
  }
}
