// Sums of squares over slices of a stored tensor, in double, in one pass through memory in the order it lies.
//
// Invariant: the order of every addition depends on the layout alone, so equal bytes give equal sums; NaN or infinity
// among the elements of a slice makes its sum NaN or infinite, whatever the format. Squares are exact for all formats
// narrower than double. Elements need not be aligned.
//
// Eight elements at a time as SIMD8: the compiler turns it into the baseline's two-lane instructions, which already
// read memory faster than it delivers; nothing here needs a wider machine.

/// The layouts of stored real numbers.
package enum FloatFormat: Sendable {
  case float16, bfloat16, float32, float64
}

package enum SumOfSquares {
  /// Adds to `sums[i]` the squares of all elements `[*, i, *]` of a row-major array `[outer, sums.count, inner]`.
  ///
  /// - Parameter scale: each element is multiplied by it before squaring; a power of two that keeps squares of doubles
  ///   in range. The narrower formats need none and ignore it.
  package static func add(
    _ format: FloatFormat, at base: UnsafeRawPointer, outer: Int, inner: Int, scale: Double = 1,
    to sums: UnsafeMutableBufferPointer<Double>
  ) {
    switch format {
    case .float16: add(Binary16.self, base, outer, inner, scale, sums)
    case .bfloat16: add(BFloat16.self, base, outer, inner, scale, sums)
    case .float32: add(Binary32.self, base, outer, inner, scale, sums)
    case .float64: add(Binary64.self, base, outer, inner, scale, sums)
    }
  }

  /// From this length on, a run is added up by itself; below it the horizontal sums at its end would cost more than
  /// keeping a sum per column.
  private static let shortestRun = 16

  private static func add<Format: StoredFloat>(
    _: Format.Type, _ base: UnsafeRawPointer, _ outer: Int, _ inner: Int, _ scale: Double,
    _ sums: UnsafeMutableBufferPointer<Double>
  ) {
    guard outer > 0, inner > 0, !sums.isEmpty else { return }
    if inner == 1 {
      addRows(Format.self, base, outer, scale, sums)
    } else if outer == 1 || inner >= shortestRun {
      var run = base
      for _ in 0..<outer {
        for slice in sums.indices {
          sums[slice] += squares(Format.self, run, inner, scale)
          run += inner * Format.width
        }
      }
    } else {
      withUnsafeTemporaryAllocation(of: Double.self, capacity: sums.count * inner) { columns in
        columns.initialize(repeating: 0)
        addRows(Format.self, base, outer, scale, columns)
        for slice in sums.indices {
          for column in slice * inner..<(slice + 1) * inner { sums[slice] += columns[column] }
        }
      }
    }
  }

  /// The sum of the squares of `count` consecutive elements.
  private static func squares<Format: StoredFloat>(
    _: Format.Type, _ base: UnsafeRawPointer, _ count: Int, _ scale: Double
  ) -> Double {
    var (even, odd) = (SIMD8<Double>(), SIMD8<Double>())
    var (next, left) = (base, count)
    while left >= 16 {
      even += Format.squares(next, scale)
      odd += Format.squares(next + 8 * Format.width, scale)
      (next, left) = (next + 16 * Format.width, left - 16)
    }
    while left > 0 {
      even += left >= 8 ? Format.squares(next, scale) : partialSquares(Format.self, next, left, scale)
      (next, left) = (next + 8 * Format.width, left - 8)
    }
    return (even + odd).sum()
  }

  /// Adds the squares of each row of `columns.count` elements to `columns`, four rows at a time so that the sums are
  /// loaded and stored a quarter as often.
  private static func addRows<Format: StoredFloat>(
    _: Format.Type, _ base: UnsafeRawPointer, _ rows: Int, _ scale: Double,
    _ columns: UnsafeMutableBufferPointer<Double>
  ) {
    let stride = columns.count * Format.width
    var row = 0
    while row < rows {
      let height = min(4, rows - row)
      let top = base + row * stride
      var column = 0
      while column + 8 <= columns.count {
        let next = top + column * Format.width
        var sum = Format.squares(next, scale)
        for below in 1..<4 where below < height { sum += Format.squares(next + below * stride, scale) }
        let target = UnsafeMutableRawPointer(columns.baseAddress! + column)
        let before = target.loadUnaligned(as: SIMD8<Double>.self)
        target.storeBytes(of: before + sum, as: SIMD8<Double>.self)
        column += 8
      }
      if column < columns.count {
        for r in 0..<height {
          let next = top + r * stride + column * Format.width
          let rest = partialSquares(Format.self, next, columns.count - column, scale)
          for lane in 0..<columns.count - column { columns[column + lane] += rest[lane] }
        }
      }
      row += height
    }
  }

  /// The squares of fewer than eight elements, zero in the lanes beyond.
  private static func partialSquares<Format: StoredFloat>(
    _: Format.Type, _ base: UnsafeRawPointer, _ count: Int, _ scale: Double
  ) -> SIMD8<Double> {
    var padded = SIMD8<UInt64>()
    return withUnsafeMutableBytes(of: &padded) { bytes in
      bytes.copyMemory(from: UnsafeRawBufferPointer(start: base, count: count * Format.width))
      return Format.squares(UnsafeRawPointer(bytes.baseAddress!), scale)
    }
  }
}

/// A format of which eight consecutive elements can be read and squared.
private protocol StoredFloat {
  /// Bytes per element.
  static var width: Int { get }
  static func squares(_ base: UnsafeRawPointer, _ scale: Double) -> SIMD8<Double>
}

private enum Binary64: StoredFloat {
  static var width: Int { 8 }
  @inline(__always) static func squares(_ base: UnsafeRawPointer, _ scale: Double) -> SIMD8<Double> {
    let x = base.loadUnaligned(as: SIMD8<Double>.self) * scale
    return x * x
  }
}

private enum Binary32: StoredFloat {
  static var width: Int { 4 }
  @inline(__always) static func squares(_ base: UnsafeRawPointer, _ scale: Double) -> SIMD8<Double> {
    let x = SIMD8<Double>(base.loadUnaligned(as: SIMD8<Float>.self))
    return x * x
  }
}

private enum BFloat16: StoredFloat {
  static var width: Int { 2 }
  /// The upper half of a binary32.
  @inline(__always) static func squares(_ base: UnsafeRawPointer, _ scale: Double) -> SIMD8<Double> {
    let bits = SIMD8<UInt32>(truncatingIfNeeded: base.loadUnaligned(as: SIMD8<UInt16>.self)) &<< 16
    let x = SIMD8<Double>(unsafeBitCast(bits, to: SIMD8<Float>.self))
    return x * x
  }
}

private enum Binary16: StoredFloat {
  static var width: Int { 2 }
  /// The magnitude is widened by moving its exponent and fraction into a binary32 and rebasing the exponent. Fractions
  /// without an implicit 1 get one too many, which is subtracted as a number; the largest exponent (infinity, NaN)
  /// moves up to the largest of binary32. The sign does not matter to a square. Cases are told apart by sign bits spread
  /// over a lane, which the compiler vectorizes where it would not a comparison (ten times slower).
  @inline(__always) static func squares(_ base: UnsafeRawPointer, _ scale: Double) -> SIMD8<Double> {
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
    let x = SIMD8<Double>(value)
    return x * x
  }
}
