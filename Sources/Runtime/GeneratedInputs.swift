import Glibc
import ModelGraph

/// Inputs made up from a seed, for comparing a model with another where no data are given: floats are normal with mean
/// 0 and variance 1, booleans even, integers even within bounds. Of no use where numbers are to mean something.
package struct GeneratedInputs: SampleSource {
  private let inputs: [Input]
  private let batchCount: Int
  private let batchRows: Int
  private let seed: UInt64

  package struct Input: Sendable {
    package var name: String
    package var dtype: DType
    package var shape: [Int]
    /// For integers: what they may be. Where they are positions in a table, its rows.
    package var bounds: ClosedRange<Int>

    /// Integers are 0 or 1 unless told otherwise: right for masks and types of tokens, safe for positions.
    package init(name: String, dtype: DType, shape: [Int], bounds: ClosedRange<Int> = 0...1) {
      (self.name, self.dtype, self.shape, self.bounds) = (name, dtype, shape, bounds)
    }
  }

  /// - Parameter batches: how many; every one has the shapes that `inputs` say.
  /// - Throws: `Failure(.datasetRequired)` where an input is of a type that nothing sensible can be made up for, or
  ///   resourceLimit.
  package init(_ inputs: [Input], batches: Int = 1, seed: UInt64) throws(Failure) {
    for input in inputs {
      guard Self.canMake(input.dtype) else {
        throw Failure(
          .datasetRequired, "nothing can be made up for input '\(input.name)' of type \(input.dtype); give a dataset",
          details: ["input": .string(input.name)])
      }
      guard let bytes = byteCount(input.shape, input.dtype), bytes <= batchByteLimit else {
        throw Failure(
          .resourceLimit, "input '\(input.name)' of shape \(shapeText(input.shape)) is too large to be made up",
          details: ["input": .string(input.name)])
      }
    }
    (self.inputs, self.seed, batchCount) = (inputs, seed, max(0, batches))
    batchRows = max(1, inputs.first?.shape.first ?? 1)
  }

  package var sampleCount: Int { batchCount * batchRows }

  package func forEachBatch(work: Work, _ body: (Batch) throws(Failure) -> Void) throws(Failure) {
    for batch in 0..<batchCount {
      var tensors: [String: Tensor] = [:]
      for (position, input) in inputs.enumerated() {
        try work.checkCancellation()
        // Streams of their own, so that no input's numbers depend on another's shape.
        var numbers = SplitMix64(seed: seed)
        numbers = SplitMix64(seed: numbers.next() ^ UInt64(position))
        numbers = SplitMix64(seed: numbers.next() ^ UInt64(batch))
        tensors[input.name] = input.tensor(&numbers)
      }
      try body(
        Batch(samples: batch * batchRows..<(batch + 1) * batchRows, sampleCount: sampleCount, inputs: tensors))
    }
  }

  package static func canMake(_ dtype: DType) -> Bool {
    switch dtype {
    case .float16, .bfloat16, .float32, .float64, .bool: true
    case .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .uint64: true
    default: false
    }
  }
}

extension GeneratedInputs.Input {
  fileprivate func tensor(_ numbers: inout SplitMix64) -> Tensor {
    let bytes: TensorBytes =
      switch dtype {
      case .float16: fill { Float16(numbers.normal()) }
      case .bfloat16: fill { bfloat16Bits(Float(numbers.normal())) }
      case .float32: fill { Float(numbers.normal()) }
      case .float64: fill { numbers.normal() }
      case .bool: fill { UInt8(numbers.next() >> 63) }
      case .int8: fill { Int8(truncatingIfNeeded: integer(&numbers)) }
      case .uint8: fill { UInt8(truncatingIfNeeded: integer(&numbers)) }
      case .int16: fill { Int16(truncatingIfNeeded: integer(&numbers)) }
      case .uint16: fill { UInt16(truncatingIfNeeded: integer(&numbers)) }
      case .int32: fill { Int32(truncatingIfNeeded: integer(&numbers)) }
      case .uint32: fill { UInt32(truncatingIfNeeded: integer(&numbers)) }
      default: fill { Int64(integer(&numbers)) }
      }
    return Tensor(dtype: dtype, shape: shape, bytes: bytes)
  }

  private func integer(_ numbers: inout SplitMix64) -> Int { Int.random(in: bounds, using: &numbers) }

  private func fill<Element: BitwiseCopyable>(_ next: () -> Element) -> TensorBytes {
    TensorBytes(count: shape.reduce(MemoryLayout<Element>.size, *)) { bytes in
      for offset in stride(from: 0, to: bytes.count, by: MemoryLayout<Element>.size) {
        bytes.storeBytes(of: next(), toByteOffset: offset, as: Element.self)
      }
    }
  }
}

/// Rounds to the nearest, ties to even; for finite numbers.
private func bfloat16Bits(_ number: Float) -> UInt16 {
  let bits = number.bitPattern
  return UInt16(truncatingIfNeeded: (bits &+ 0x7fff &+ (bits >> 16 & 1)) >> 16)
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for a seed everywhere.
private struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64
  private var spare: Double?

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A standard normal number (Box and Muller 1958), which come in pairs.
  mutating func normal() -> Double {
    if let number = spare.take() { return number }
    // In 0 < u <= 1, so that the logarithm is finite.
    let radius = (-2 * log((Double(next() >> 11) + 1) * 0x1p-53)).squareRoot()
    let angle = 2 * Double.pi * Double(next() >> 11) * 0x1p-53
    spare = radius * sin(angle)
    return radius * cos(angle)
  }
}
