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
