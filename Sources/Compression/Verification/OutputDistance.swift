import ModelGraph

/// How far outputs are from what they should be, over any number of runs.
///
/// Distances are taken element by element. The relative one is in units of the largest magnitude of the output it
/// belongs to, since elements near zero are differences of large numbers and mean nothing by themselves.
package struct OutputDistance: Sendable, Equatable {
  package private(set) var maxAbsolute = 0.0
  /// Infinite where an output should be zero throughout and is not.
  package private(set) var maxRelative = 0.0
  /// The output of the largest relative distance.
  package private(set) var worstOutput: String?
  /// Elements compared, and how many of them were finite.
  package private(set) var count = 0
  package private(set) var finiteCount = 0
  /// Why the outputs cannot be compared at all: they differ in type or shape, or are not finite in the same places.
  package private(set) var mismatch: String?

  package init() {}

  package mutating func add(_ name: String, expected: Tensor, found: Tensor) {
    guard mismatch == nil else { return }
    guard expected.dtype == found.dtype, expected.shape == found.shape else {
      mismatch =
        "output '\(name)' is \(found.dtype) \(found.shape) where \(expected.dtype) \(expected.shape) is expected"
      return
    }
    guard let distance = Self.distance(expected, found) else {
      mismatch = "output '\(name)' is of type \(found.dtype), which is not compared"
      return
    }
    if distance.differsInFinity {
      mismatch = "output '\(name)' is not finite where it should be, or the other way round"
      return
    }
    count += expected.elementCount
    finiteCount += distance.finiteCount
    maxAbsolute = max(maxAbsolute, distance.largest)
    let relative = distance.largest == 0 ? 0 : distance.scale == 0 ? .infinity : distance.largest / distance.scale
    if relative > maxRelative || worstOutput == nil { (maxRelative, worstOutput) = (relative, name) }
  }

  private struct Distance {
    var largest = 0.0
    var scale = 0.0
    var finiteCount = 0
    var differsInFinity = false

    @inline(__always)
    mutating func add(_ a: Double, _ b: Double) {
      guard a.isFinite, b.isFinite else {
        if a != b && !(a.isNaN && b.isNaN) { differsInFinity = true }
        return
      }
      finiteCount += 1
      scale = max(scale, a.magnitude)
      largest = max(largest, (a - b).magnitude)
    }
  }

  /// nil for types that hold no numbers.
  private static func distance(_ expected: Tensor, _ found: Tensor) -> Distance? {
    var distance = Distance()
    let (x, y) = (expected.bytes.buffer, found.bytes.buffer)
    func each<Stored: BitwiseCopyable>(_ type: Stored.Type, _ number: (Stored) -> Double) {
      for offset in stride(
        from: 0, to: expected.elementCount * MemoryLayout<Stored>.size, by: MemoryLayout<Stored>.size)
      {
        distance.add(
          number(x.loadUnaligned(fromByteOffset: offset, as: type)),
          number(y.loadUnaligned(fromByteOffset: offset, as: type)))
      }
    }
    switch expected.dtype {
    case .float32: each(Float.self) { Double($0) }
    case .float64: each(Double.self) { $0 }
    case .float16: each(Float16.self) { Double($0) }
    case .bfloat16: each(UInt16.self) { Double(Float(bitPattern: UInt32($0) << 16)) }
    case .int8: each(Int8.self) { Double($0) }
    case .uint8, .bool: each(UInt8.self) { Double($0) }
    case .int16: each(Int16.self) { Double($0) }
    case .uint16: each(UInt16.self) { Double($0) }
    case .int32: each(Int32.self) { Double($0) }
    case .uint32: each(UInt32.self) { Double($0) }
    case .int64: each(Int64.self) { Double($0) }
    case .uint64: each(UInt64.self) { Double($0) }
    default: return nil
    }
    return distance
  }
}
