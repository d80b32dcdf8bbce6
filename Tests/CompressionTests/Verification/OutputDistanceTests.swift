import Compression
import ModelGraph
import Testing

@Suite("Distance of outputs") struct OutputDistanceTests {
  private func distance(_ expected: Tensor, _ found: Tensor) -> OutputDistance {
    var distance = OutputDistance()
    distance.add("y", expected: expected, found: found)
    return distance
  }

  private func floats(_ numbers: [Float]) -> Tensor { Tensor(float32: numbers) }

  @Test("Relative to the largest magnitude of its own output")
  func scale() {
    var distance = OutputDistance()
    distance.add("small", expected: floats([0, 0.5, -1]), found: floats([0.25, 0.5, -1]))
    distance.add("large", expected: floats([0, 1000]), found: floats([1, 1000]))
    #expect(distance.maxAbsolute == 1 && distance.maxRelative == 0.25)
    #expect(distance.worstOutput == "small" && distance.count == 5 && distance.mismatch == nil)
  }

  @Test("What should be nothing throughout must be nothing")
  func zeros() {
    #expect(distance(floats([0, 0]), floats([0, 0])).maxRelative == 0)
    let found = distance(floats([0, 0]), floats([0, 1e-30]))
    #expect(found.maxRelative == .infinity && found.mismatch == nil)
    #expect(!RoundingTolerance(noise: OutputDistance()).allows(found))
  }

  @Test("Not finite in the same places is equal, in others is no comparison")
  func infinities() {
    let numbers: [Float] = [.infinity, -.infinity, .nan, 1]
    #expect(distance(floats(numbers), floats(numbers)).maxAbsolute == 0)
    for other: [Float] in [[.infinity, .infinity, .nan, 1], [1, -.infinity, .nan, 1], [.infinity, -.infinity, 2, 1]] {
      #expect(distance(floats(numbers), floats(other)).mismatch != nil)
    }
  }

  @Test("Other shapes and types are no comparison, and stay none")
  func mismatches() {
    var found = distance(Tensor(float32: [1, 2], shape: [1, 2]), Tensor(float32: [1, 2], shape: [2]))
    #expect(found.mismatch?.contains("[2]") == true)
    found.add("z", expected: floats([1]), found: floats([1]))
    #expect(found.mismatch?.contains("'y'") == true && found.count == 0)
    #expect(distance(Tensor(int64: [1]), floats([1, 1])).mismatch != nil)
    let strings = Tensor(dtype: .string, shape: [1], bytes: TensorBytes(copying: [UInt8]()))
    #expect(distance(strings, strings).mismatch != nil)
  }

  @Test(
    "Every type of number",
    arguments: [
      (DType.float16, [0x3c00, 0x4000]), (.bfloat16, [0x3f80, 0x4000]), (.int16, [1, 2]), (.uint16, [1, 2]),
    ] as [(DType, [UInt16])])
  func types(dtype: DType, oneAndTwo: [UInt16]) {
    func tensor(_ bits: [UInt16]) -> Tensor { Tensor(dtype: dtype, shape: [2], bytes: TensorBytes(copying: bits)) }
    let found = distance(tensor(oneAndTwo), tensor([oneAndTwo[0], oneAndTwo[0]]))
    #expect(found.maxAbsolute == 1 && found.maxRelative == 0.5)
  }

  @Test("Rounding is what the model's own is a multiple of, within bounds")
  func tolerance() {
    func noise(_ relative: Float) -> RoundingTolerance {
      RoundingTolerance(noise: distance(floats([1]), floats([1 + relative])))
    }
    #expect(RoundingTolerance(noise: OutputDistance()).relative == 1e-5)
    #expect(abs(noise(0.0001).relative - 0.0016) < 1e-5)
    #expect(noise(0.005).relative == 0.02)
    #expect(abs(noise(0.05).relative - 0.1) < 1e-6)
    #expect(noise(0.5).relative == 0.2)
    #expect(!noise(0.5).allows(distance(floats([1]), floats([1.21]))))
    #expect(noise(0.5).allows(distance(floats([1]), floats([1.19]))))
  }
}
