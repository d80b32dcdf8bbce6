/// Copies a row-major tensor with its axes in another order, in blocks that the cache holds.
///
/// The elements that lie together in the source go a cache line at a time to as many rows of the result, each of which
/// is written from its beginning to its end; so every line of either side is fetched about once.
package struct AxisPermutation: Sendable {
  /// The axes of the result, neighbours that stay together as one: length and distance in source and result, in
  /// elements.
  private struct Axis {
    let length: Int
    let from: Int
    let to: Int
  }

  private let axes: [Axis]
  private let elementBytes: Int
  package let byteCount: Int

  /// - Parameters:
  ///   - shape: of the source.
  ///   - order: which axis of the source each axis of the result is; each occurs once.
  package init(shape: [Int], order: [Int], elementBytes: Int) {
    precondition(order.sorted() == Array(shape.indices), "an order names every axis once")
    var strides = [Int](repeating: 1, count: shape.count)
    for axis in shape.indices.dropLast().reversed() { strides[axis] = strides[axis + 1] * shape[axis + 1] }
    // Axes of length 1 and such as follow each other in both are none of their own.
    var merged: [(length: Int, from: Int)] = []
    for axis in order where shape[axis] != 1 {
      if let last = merged.last, last.from == shape[axis] * strides[axis] {
        merged[merged.count - 1] = (last.length * shape[axis], strides[axis])
      } else {
        merged.append((shape[axis], strides[axis]))
      }
    }
    var axes: [Axis] = []
    var distance = 1
    for axis in merged.reversed() {
      axes.insert(Axis(length: axis.length, from: axis.from, to: distance), at: 0)
      distance *= axis.length
    }
    (self.axes, self.elementBytes) = (axes, elementBytes)
    byteCount = shape.reduce(elementBytes, *)
  }

  /// Whether the elements stay where they are.
  package var isIdentity: Bool { axes.count <= 1 }

  /// - Precondition: both hold `byteCount` bytes and do not overlap.
  package func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer) {
    if byteCount == 0 { return }
    if isIdentity { return target.copyMemory(from: source, byteCount: byteCount) }
    switch elementBytes {
    case 1: copy(UInt8.self, source, target)
    case 2: copy(UInt16.self, source, target)
    case 4: copy(UInt32.self, source, target)
    default: copyWide(source, target)
    }
  }

  /// As many elements as are taken from the source at once: a cache line of 4-byte ones.
  private static let block = 16

  private func copy<Element: FixedWidthInteger>(
    _: Element.Type, _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer
  ) {
    let width = MemoryLayout<Element>.stride
    forEachBlock { from, to, count, distance in
      let (source, target) = (source + from * width, target + to * width)
      for k in 0..<count {
        let element = source.loadUnaligned(fromByteOffset: k * width, as: Element.self)
        target.storeBytes(of: element, toByteOffset: k * distance * width, as: Element.self)
      }
    }
  }

  private func copyWide(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer) {
    forEachBlock { from, to, count, distance in
      for k in 0..<count {
        (target + (to + k * distance) * elementBytes)
          .copyMemory(from: source + (from + k) * elementBytes, byteCount: elementBytes)
      }
    }
  }

  /// Runs of elements that lie together in the source: where they begin in both, how many, and how far apart they are
  /// in the result.
  @inline(__always)
  private func forEachBlock(_ body: (_ from: Int, _ to: Int, _ count: Int, _ distance: Int) -> Void) {
    guard let together = axes.indices.min(by: { axes[$0].from < axes[$1].from }) else { return }
    let run = axes[together]
    var others = axes
    others.remove(at: together)
    guard let inner = others.popLast() else { return }
    var start = 0
    while start < run.length {
      let count = min(Self.block, run.length - start)
      var positions = [Int](repeating: 0, count: others.count)
      var (from, to) = (start, start * run.to)
      while true {
        for k in 0..<inner.length { body(from + k * inner.from, to + k * inner.to, count, run.to) }
        var axis = others.count - 1
        while axis >= 0 {
          positions[axis] += 1
          from += others[axis].from
          to += others[axis].to
          if positions[axis] < others[axis].length { break }
          from -= others[axis].from * others[axis].length
          to -= others[axis].to * others[axis].length
          positions[axis] = 0
          axis -= 1
        }
        if axis < 0 { break }
      }
      start += count
    }
  }
}
