import Numerics
import Testing

/// Permuted copies against the definition, one element at a time.
@Suite struct AxisPermutationTests {
  private func permuted<T: FixedWidthInteger & BitwiseCopyable>(
    _: T.Type, _ shape: [Int], _ order: [Int]
  ) -> [T] {
    let source = (0..<shape.reduce(1, *)).map { T(truncatingIfNeeded: $0) }
    let permutation = AxisPermutation(shape: shape, order: order, elementBytes: MemoryLayout<T>.size)
    // A guard element behind the result must stay as it is.
    var target = [T](repeating: 0x55, count: source.count + 1)
    source.withUnsafeBytes { from in
      target.withUnsafeMutableBytes { to in
        if let from = from.baseAddress, let to = to.baseAddress { permutation.copy(from: from, to: to) }
      }
    }
    #expect(target.removeLast() == 0x55)
    return target
  }

  private func reference(_ shape: [Int], _ order: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in shape.indices.dropLast().reversed() { strides[axis] = strides[axis + 1] * shape[axis + 1] }
    var result = [0]
    for axis in order {
      result = result.flatMap { base in (0..<shape[axis]).map { base + $0 * strides[axis] } }
    }
    return result
  }

  @Test func everyOrderOfEveryWidth() {
    for shape in [[3, 1, 5, 33], [2, 17, 16, 1], [1, 1, 40, 19], [4, 3, 2, 5]] {
      for order in permutations(4) {
        let expected = reference(shape, order)
        #expect(permuted(UInt8.self, shape, order) == expected.map { UInt8(truncatingIfNeeded: $0) })
        #expect(permuted(UInt16.self, shape, order) == expected.map { UInt16(truncatingIfNeeded: $0) })
        #expect(permuted(UInt32.self, shape, order) == expected.map { UInt32(truncatingIfNeeded: $0) })
        #expect(permuted(UInt64.self, shape, order) == expected.map { UInt64(truncatingIfNeeded: $0) })
      }
    }
  }

  @Test func axesThatStayTogetherAreTold() {
    #expect(AxisPermutation(shape: [4, 5], order: [0, 1], elementBytes: 4).isIdentity)
    #expect(AxisPermutation(shape: [1, 5, 1, 7], order: [2, 1, 0, 3], elementBytes: 4).isIdentity)
    #expect(!AxisPermutation(shape: [4, 5], order: [1, 0], elementBytes: 4).isIdentity)
  }

  @Test func nothingAndOneElement() {
    #expect(permuted(UInt32.self, [0, 5], [1, 0]).isEmpty)
    #expect(permuted(UInt32.self, [], []) == [0])
    #expect(permuted(UInt32.self, [1, 1], [1, 0]) == [0])
  }

  private func permutations(_ count: Int) -> [[Int]] {
    guard count > 0 else { return [[]] }
    return permutations(count - 1).flatMap { rest in
      (0...rest.count).map { place in Array(rest[..<place]) + [count - 1] + Array(rest[place...]) }
    }
  }
}
