import Glibc

/// Copies the elements of a row-major tensor that stay when indices are removed along some of its axes, all axes in one
/// pass.
///
/// A *row* is everything that one combination of positions on the axes before the innermost cut axis contributes; the
/// result is the rows one after another, so any range of them can be copied alone into a buffer of its own.
/// Invariant: with a source as large as the shape, nothing outside source and target is touched.
package struct Gather: Sendable {
  /// What stays along one axis.
  package struct Axis: Sendable {
    package enum Kept: Sendable {
      /// Ascending indices.
      case indices([Int])
      /// Another list for every one of `blocks.count` equal runs of the earlier axis `blockAxis`, all of one length,
      /// or empty where no index of the run stays along `blockAxis`.
      case perBlock(blockAxis: Int, [[Int]])
    }

    package let axis: Int
    package let kept: Kept
    package init(axis: Int, kept: Kept) { (self.axis, self.kept) = (axis, kept) }
  }

  /// Indices that do not fit the tensor.
  package struct Misfit: Error {
    package let reason: String
  }

  package let outputShape: [Int]
  package let rowCount: Int
  package let rowBytes: Int
  package var outputBytes: Int { rowCount * rowBytes }

  /// The axes before the innermost cut one, outermost first.
  private let outer: [OuterAxis]
  private let inner: InnerAxis

  /// - Parameters:
  ///   - shape: of the tensor; its product times `elementBytes` must not overflow.
  ///   - axes: by ascending axis, at most one each.
  /// - Throws: `Misfit` if an axis or index is out of range, indices are not ascending, or blocks do not divide.
  package init(shape: [Int], elementBytes: Int, axes: [Axis]) throws(Misfit) {
    try Self.check(shape, axes)
    let last = axes.last?.axis ?? 0
    var strides = [Int](repeating: elementBytes, count: shape.count + 1)
    for axis in shape.indices.reversed() { strides[axis] = strides[axis + 1] * shape[axis] }

    var output = shape
    for cut in axes { output[cut.axis] = cut.kept.count }
    outputShape = output
    outer = (0..<min(last, shape.count)).map { axis in
      OuterAxis(
        length: output[axis], stride: strides[axis + 1], kept: axes.first { $0.axis == axis }?.kept,
        blockLength: { shape[$0] })
    }
    if let cut = axes.last {
      inner = InnerAxis(cut.kept, blockBytes: strides[last + 1], blockLength: { shape[$0] })
    } else {
      inner = InnerAxis(whole: strides[0])
    }
    rowCount = outer.reduce(1) { $0 * $1.length }
    rowBytes = inner.rowBytes
  }

  /// Copies the rows `rows` of the result to `target`, which has room for `rows.count * rowBytes`.
  package func copyRows(_ rows: Range<Int>, from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer) {
    var to = target
    forEachRow(rows) { base, list in
      inner.lists[list].copy(from: source + base, to: to, blockBytes: inner.blockBytes)
      to += rowBytes
    }
  }

  /// Calls `body` with the byte offset in the source and the byte count of every contiguous piece of one row, in order.
  package func forEachRun<E: Error>(ofRow row: Int, _ body: (_ offset: Int, _ count: Int) throws(E) -> Void) throws(E) {
    var position = (base: 0, list: 0)
    forEachRow(row..<(row + 1)) { position = ($0, $1) }
    for run in inner.lists[position.list].runs { try body(position.base + run.offset, run.count) }
  }

  /// Calls `body` with the byte offset in the source at which each row starts and the number of its index list.
  private func forEachRow(_ rows: Range<Int>, _ body: (_ base: Int, _ list: Int) -> Void) {
    guard !rows.isEmpty else { return }
    var positions = [Int](repeating: 0, count: outer.count)
    var rest = rows.lowerBound
    for axis in outer.indices.reversed() {
      (rest, positions[axis]) = rest.quotientAndRemainder(dividingBy: outer[axis].length)
    }
    var indices = [Int](repeating: 0, count: outer.count)
    for _ in rows {
      var base = 0
      for axis in outer.indices {
        indices[axis] = outer[axis].index(at: positions[axis], outerIndices: indices)
        base += indices[axis] * outer[axis].stride
      }
      body(base, inner.blockAxis.map { indices[$0] / inner.blockLength } ?? 0)
      for axis in outer.indices.reversed() {
        positions[axis] += 1
        if positions[axis] < outer[axis].length { break }
        positions[axis] = 0
      }
    }
  }

  private static func check(_ shape: [Int], _ axes: [Axis]) throws(Misfit) {
    var previous = -1
    for cut in axes {
      guard cut.axis > previous, cut.axis < shape.count else {
        throw Misfit(reason: "axis \(cut.axis) of shape \(shape)")
      }
      previous = cut.axis
      switch cut.kept {
      case .indices(let indices): try check(indices, below: shape[cut.axis])
      case .perBlock(let blockAxis, let blocks):
        guard blockAxis >= 0, blockAxis < cut.axis, !blocks.isEmpty, shape[blockAxis] % blocks.count == 0 else {
          throw Misfit(reason: "\(blocks.count) blocks of axis \(blockAxis) of shape \(shape)")
        }
        for indices in blocks {
          try check(indices, below: shape[cut.axis])
          guard indices.isEmpty || indices.count == cut.kept.count else {
            throw Misfit(reason: "blocks keep \(cut.kept.count) and \(indices.count) indices")
          }
        }
        // A block that is visited must have indices to visit.
        let length = shape[blockAxis] / blocks.count
        let outer = axes.first { $0.axis == blockAxis }
        for (block, indices) in blocks.enumerated() where indices.isEmpty && cut.kept.count > 0 {
          let range = (block * length)..<((block + 1) * length)
          guard case .indices(let kept)? = outer?.kept, !kept.contains(where: range.contains) else {
            throw Misfit(reason: "block \(block) keeps nothing although parts of it stay")
          }
        }
      }
    }
  }

  private static func check(_ indices: [Int], below length: Int) throws(Misfit) {
    var previous = -1
    for index in indices {
      guard index > previous, index < length else {
        throw Misfit(reason: "index \(index) after \(previous) on an axis of length \(length)")
      }
      previous = index
    }
  }
}

extension Gather.Axis.Kept {
  /// How many indices stay along the axis.
  package var count: Int {
    switch self {
    case .indices(let indices): indices.count
    case .perBlock(_, let blocks): blocks.lazy.map(\.count).max() ?? 0
    }
  }
}

/// An axis that rows are counted along.
private struct OuterAxis: Sendable {
  /// In the result.
  let length: Int
  /// Bytes from one index to the next in the source.
  let stride: Int
  /// nil if the axis stays whole.
  let lists: [[Int]]?
  let blockAxis: Int?
  /// Indices of `blockAxis` in one block.
  let blockLength: Int

  init(length: Int, stride: Int, kept: Gather.Axis.Kept?, blockLength: (_ axis: Int) -> Int) {
    (self.length, self.stride) = (length, stride)
    switch kept {
    case nil: (lists, blockAxis, self.blockLength) = (nil, nil, 1)
    case .indices(let indices)?: (lists, blockAxis, self.blockLength) = ([indices], nil, 1)
    case .perBlock(let axis, let blocks)?:
      (lists, blockAxis, self.blockLength) = (blocks, axis, max(1, blockLength(axis) / blocks.count))
    }
  }

  /// The source index of position `position`, given the indices of the axes further out.
  func index(at position: Int, outerIndices: [Int]) -> Int {
    guard let lists else { return position }
    return lists[blockAxis.map { outerIndices[$0] / blockLength } ?? 0][position]
  }
}

/// The innermost cut axis together with all axes behind it, which stay whole.
private struct InnerAxis: Sendable {
  /// Bytes from one index to the next.
  let blockBytes: Int
  let rowBytes: Int
  /// One, or one for every block.
  let lists: [KeptList]
  let blockAxis: Int?
  let blockLength: Int

  init(_ kept: Gather.Axis.Kept, blockBytes: Int, blockLength: (_ axis: Int) -> Int) {
    self.blockBytes = blockBytes
    rowBytes = kept.count * blockBytes
    switch kept {
    case .indices(let indices):
      (lists, blockAxis, self.blockLength) = ([KeptList(indices, blockBytes: blockBytes)], nil, 1)
    case .perBlock(let axis, let blocks):
      lists = blocks.map { KeptList($0, blockBytes: blockBytes) }
      (blockAxis, self.blockLength) = (axis, max(1, blockLength(axis) / blocks.count))
    }
  }

  /// A tensor that stays whole is one row.
  init(whole bytes: Int) {
    (blockBytes, rowBytes, lists) = (bytes, bytes, [KeptList([0], blockBytes: bytes)])
    (blockAxis, blockLength) = (nil, 1)
  }
}

/// Kept indices, and the same as runs of neighbours.
private struct KeptList: Sendable {
  let indices: [Int]
  let runs: [(offset: Int, count: Int)]
  /// Elements of a machine word's size are moved one by one where runs are short: a call of memcpy costs as much as
  /// eight of them.
  private let movesElements: Bool

  init(_ indices: [Int], blockBytes: Int) {
    var runs: [(offset: Int, count: Int)] = []
    for index in indices {
      let offset = index * blockBytes
      if let last = runs.last, last.offset + last.count == offset {
        runs[runs.count - 1].count += blockBytes
      } else {
        runs.append((offset, blockBytes))
      }
    }
    (self.indices, self.runs) = (indices, runs)
    movesElements = [1, 2, 4, 8, 16].contains(blockBytes) && indices.count < 8 * runs.count
  }

  func copy(from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, blockBytes: Int) {
    guard movesElements else {
      var to = target
      for run in runs {
        memcpy(to, source + run.offset, run.count)
        to += run.count
      }
      return
    }
    switch blockBytes {
    case 1: move(UInt8.self, from: source, to: target)
    case 2: move(UInt16.self, from: source, to: target)
    case 4: move(UInt32.self, from: source, to: target)
    case 8: move(UInt64.self, from: source, to: target)
    default: move(SIMD2<UInt64>.self, from: source, to: target)
    }
  }

  @inline(__always)
  private func move<T: BitwiseCopyable>(
    _ type: T.Type, from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer
  ) {
    indices.withUnsafeBufferPointer { indices in
      for position in indices.indices {
        let element = source.loadUnaligned(fromByteOffset: indices[position] * MemoryLayout<T>.size, as: T.self)
        target.storeBytes(of: element, toByteOffset: position * MemoryLayout<T>.size, as: T.self)
      }
    }
  }
}
