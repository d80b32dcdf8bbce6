// Sums over slices of a stored tensor, of squares or of magnitudes, in double, in one pass through memory in the order
// it lies.
//
// Invariant: the order of every addition depends on the layout alone, so equal bytes give equal sums; NaN or infinity
// among the elements of a slice makes its sum NaN or infinite, whatever the format. Squares are exact for all formats
// narrower than double. Elements need not be aligned.

package enum SliceSums {
  /// What is added up of every element.
  package enum Term: Sendable {
    case magnitudes
    /// Each element is multiplied by `scale` before squaring: a power of two that keeps squares of doubles in range.
    case squares(scale: Double)
  }

  /// Adds to `sums[i]` the terms of all elements `[*, i, *]` of a row-major array `[outer, sums.count, inner]`.
  package static func add(
    _ term: Term, _ format: FloatFormat, at base: UnsafeRawPointer, outer: Int, inner: Int,
    to sums: UnsafeMutableBufferPointer<Double>
  ) {
    switch term {
    case .magnitudes: add(Magnitudes(), format, base, outer, inner, sums)
    case .squares(let scale): add(Squares(scale: scale), format, base, outer, inner, sums)
    }
  }

  private static func add(
    _ term: some SummedTerm, _ format: FloatFormat, _ base: UnsafeRawPointer, _ outer: Int, _ inner: Int,
    _ sums: UnsafeMutableBufferPointer<Double>
  ) {
    switch format {
    case .float16: add(Binary16.self, term, base, outer, inner, sums)
    case .bfloat16: add(BFloat16.self, term, base, outer, inner, sums)
    case .float32: add(Binary32.self, term, base, outer, inner, sums)
    case .float64: add(Binary64.self, term, base, outer, inner, sums)
    }
  }

  /// From this length on, a run is added up by itself; below it the horizontal sums at its end would cost more than
  /// keeping a sum per column.
  private static let shortestRun = 16

  private static func add<Format: StoredFloat>(
    _: Format.Type, _ term: some SummedTerm, _ base: UnsafeRawPointer, _ outer: Int, _ inner: Int,
    _ sums: UnsafeMutableBufferPointer<Double>
  ) {
    guard outer > 0, inner > 0, !sums.isEmpty else { return }
    if inner == 1 {
      addRows(Format.self, term, base, outer, sums)
    } else if outer == 1 || inner >= shortestRun {
      var run = base
      for _ in 0..<outer {
        for slice in sums.indices {
          sums[slice] += runSum(Format.self, term, run, inner)
          run += inner * Format.width
        }
      }
    } else {
      withUnsafeTemporaryAllocation(of: Double.self, capacity: sums.count * inner) { columns in
        columns.initialize(repeating: 0)
        addRows(Format.self, term, base, outer, columns)
        for slice in sums.indices {
          for column in slice * inner..<(slice + 1) * inner { sums[slice] += columns[column] }
        }
      }
    }
  }

  /// The sum over `count` consecutive elements.
  private static func runSum<Format: StoredFloat>(
    _: Format.Type, _ term: some SummedTerm, _ base: UnsafeRawPointer, _ count: Int
  ) -> Double {
    var (even, odd) = (SIMD8<Double>(), SIMD8<Double>())
    var (next, left) = (base, count)
    while left >= 16 {
      even += term.of(Format.load(next))
      odd += term.of(Format.load(next + 8 * Format.width))
      (next, left) = (next + 16 * Format.width, left - 16)
    }
    while left > 0 {
      even += left >= 8 ? term.of(Format.load(next)) : term.of(Format.loadPartially(next, left))
      (next, left) = (next + 8 * Format.width, left - 8)
    }
    return (even + odd).sum()
  }

  /// Adds the terms of each row of `columns.count` elements to `columns`, four rows at a time so that the sums are
  /// loaded and stored a quarter as often.
  private static func addRows<Format: StoredFloat>(
    _: Format.Type, _ term: some SummedTerm, _ base: UnsafeRawPointer, _ rows: Int,
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
        var sum = term.of(Format.load(next))
        for below in 1..<4 where below < height { sum += term.of(Format.load(next + below * stride)) }
        let target = UnsafeMutableRawPointer(columns.baseAddress! + column)
        let before = target.loadUnaligned(as: SIMD8<Double>.self)
        target.storeBytes(of: before + sum, as: SIMD8<Double>.self)
        column += 8
      }
      if column < columns.count {
        for r in 0..<height {
          let next = top + r * stride + column * Format.width
          let rest = term.of(Format.loadPartially(next, columns.count - column))
          for lane in 0..<columns.count - column { columns[column + lane] += rest[lane] }
        }
      }
      row += height
    }
  }
}

/// What is added up of eight elements.
private protocol SummedTerm {
  func of(_ x: SIMD8<Double>) -> SIMD8<Double>
}

private struct Squares: SummedTerm {
  let scale: Double
  @inline(__always) func of(_ x: SIMD8<Double>) -> SIMD8<Double> {
    let scaled = x * scale
    return scaled * scaled
  }
}

private struct Magnitudes: SummedTerm {
  @inline(__always) func of(_ x: SIMD8<Double>) -> SIMD8<Double> {
    let bits = unsafeBitCast(x, to: SIMD8<UInt64>.self) & 0x7fff_ffff_ffff_ffff
    return unsafeBitCast(bits, to: SIMD8<Double>.self)
  }
}
