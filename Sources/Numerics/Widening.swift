/// Stored real numbers copied out as doubles, for arithmetic that needs them more than once.
package enum Widening {
  /// Writes `target.count` consecutive elements.
  package static func copy(
    _ format: FloatFormat, at base: UnsafeRawPointer, to target: UnsafeMutableBufferPointer<Double>
  ) {
    switch format {
    case .float16: copy(Binary16.self, base, target)
    case .bfloat16: copy(BFloat16.self, base, target)
    case .float32: copy(Binary32.self, base, target)
    case .float64: copy(Binary64.self, base, target)
    }
  }

  /// The largest magnitude of `count` consecutive elements, or nil if one is NaN or infinite.
  package static func peak(_ format: FloatFormat, at base: UnsafeRawPointer, count: Int) -> Double? {
    switch format {
    case .float16: peak(Binary16.self, base, count)
    case .bfloat16: peak(BFloat16.self, base, count)
    case .float32: peak(Binary32.self, base, count)
    case .float64: peak(Binary64.self, base, count)
    }
  }

  private static func peak<Format: StoredFloat>(
    _: Format.Type, _ base: UnsafeRawPointer, _ count: Int
  ) -> Double? {
    var (peak, defect) = (SIMD8<Double>(), SIMD8<Double>())
    @inline(__always) func add(_ lanes: SIMD8<Double>) {
      // 0 for numbers, NaN otherwise; a sum keeps it.
      defect += lanes - lanes
      let magnitudes = unsafeBitCast(
        unsafeBitCast(lanes, to: SIMD8<UInt64>.self) & (.max >> 1), to: SIMD8<Double>.self)
      peak.replace(with: magnitudes, where: magnitudes .> peak)
    }
    let whole = count & ~7
    for element in stride(from: 0, to: whole, by: 8) { add(Format.load(base + element * Format.width)) }
    if whole < count { add(Format.loadPartially(base + whole * Format.width, count - whole)) }
    return defect.sum() == 0 ? peak.max() : nil
  }

  private static func copy<Format: StoredFloat>(
    _: Format.Type, _ base: UnsafeRawPointer, _ target: UnsafeMutableBufferPointer<Double>
  ) {
    guard let start = target.baseAddress else { return }
    let whole = target.count & ~7
    for element in stride(from: 0, to: whole, by: 8) {
      UnsafeMutableRawPointer(start + element).storeBytes(
        of: Format.load(base + element * Format.width), as: SIMD8<Double>.self)
    }
    if whole < target.count {
      let rest = Format.loadPartially(base + whole * Format.width, target.count - whole)
      for lane in 0..<target.count - whole { target[whole + lane] = rest[lane] }
    }
  }
}
