/// The layouts of stored real numbers.
package enum FloatFormat: Sendable {
  case float16, bfloat16, float32, float64

  /// Bytes per element.
  package var width: Int {
    switch self {
    case .float16, .bfloat16: 2
    case .float32: 4
    case .float64: 8
    }
  }
}

// Stored real numbers as doubles, eight at a time as SIMD8: the compiler turns it into the baseline's two-lane
// instructions, which already read memory faster than it delivers.
//
// Invariant: every number of the narrower formats is exact as a double; NaN and infinity stay what they are. Elements
// need not be aligned.

/// A format of which eight consecutive elements can be read.
protocol StoredFloat {
  /// Bytes per element.
  static var width: Int { get }
  static func load(_ base: UnsafeRawPointer) -> SIMD8<Double>
}

extension StoredFloat {
  /// Fewer than eight elements, zero in the lanes beyond.
  static func loadPartially(_ base: UnsafeRawPointer, _ count: Int) -> SIMD8<Double> {
    var padded = SIMD8<UInt64>()
    return withUnsafeMutableBytes(of: &padded) { bytes in
      bytes.copyMemory(from: UnsafeRawBufferPointer(start: base, count: count * width))
      return load(UnsafeRawPointer(bytes.baseAddress!))
    }
  }
}

enum Binary64: StoredFloat {
  static var width: Int { 8 }
  @inline(__always) static func load(_ base: UnsafeRawPointer) -> SIMD8<Double> {
    base.loadUnaligned(as: SIMD8<Double>.self)
  }
}

enum Binary32: StoredFloat {
  static var width: Int { 4 }
  @inline(__always) static func load(_ base: UnsafeRawPointer) -> SIMD8<Double> {
    SIMD8<Double>(base.loadUnaligned(as: SIMD8<Float>.self))
  }
}

enum BFloat16: StoredFloat {
  static var width: Int { 2 }
  /// The upper half of a binary32.
  @inline(__always) static func load(_ base: UnsafeRawPointer) -> SIMD8<Double> {
    let bits = SIMD8<UInt32>(truncatingIfNeeded: base.loadUnaligned(as: SIMD8<UInt16>.self)) &<< 16
    return SIMD8<Double>(unsafeBitCast(bits, to: SIMD8<Float>.self))
  }
}

enum Binary16: StoredFloat {
  static var width: Int { 2 }
  /// The magnitude is widened by moving its exponent and fraction into a binary32 and rebasing the exponent. Fractions
  /// without an implicit 1 get one too many, which is subtracted as a number; the largest exponent (infinity, NaN)
  /// moves up to the largest of binary32. Cases are told apart by sign bits spread over a lane, which the compiler
  /// vectorizes where it would not a comparison (ten times slower).
  @inline(__always) static func load(_ base: UnsafeRawPointer) -> SIMD8<Double> {
    let exponentUnit: Int32 = 1 << 23
    // 2^-14 as a binary32.
    let smallestNormal: Int32 = (127 - 14) << 23
    let halves = SIMD8<Int32>(truncatingIfNeeded: base.loadUnaligned(as: SIMD8<UInt16>.self))
    let magnitude = halves & 0x7fff
    let isSubnormal = (magnitude &- 0x0400) &>> 31
    let isSpecial = (0x7bff &- magnitude) &>> 31
    var bits: SIMD8<Int32> = magnitude &<< 13
    bits = bits &+ exponentUnit &* (127 - 15)
    bits = bits &+ (isSubnormal & exponentUnit)
    bits = bits &+ (isSpecial & (exponentUnit &* (128 - 16)))
    let excess = isSubnormal & smallestNormal
    let value = unsafeBitCast(bits, to: SIMD8<Float>.self) - unsafeBitCast(excess, to: SIMD8<Float>.self)
    let sign = (halves & 0x8000) &<< 16
    return SIMD8<Double>(unsafeBitCast(unsafeBitCast(value, to: SIMD8<Int32>.self) | sign, to: SIMD8<Float>.self))
  }
}
