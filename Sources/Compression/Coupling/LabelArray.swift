/// A dense or restrided array of labels over some factors, the storage behind a `LabelSet`.
///
/// Splitting, permuting, broadcasting and taking a run only change shape and strides; the labels themselves are shared.
/// Gathers, concatenations and fusions copy, and respect `limit`.
package struct LabelArray: Sendable {
  /// No single array grows beyond this many labels; what would is frozen instead. Labels exist for stored axes only,
  /// so real models stay far below it.
  package static let limit = 1 << 22

  private(set) var storage: [Int32]
  private(set) var offset: Int
  package private(set) var shape: [Int]
  private(set) var strides: [Int]

  /// A dense array, row-major.
  package init(_ storage: [Int32], shape: [Int]) {
    assert(storage.count == shape.reduce(1, *))
    (self.storage, self.shape, self.offset) = (storage, shape, 0)
    strides = Self.denseStrides(shape)
  }

  /// The same label everywhere, stored once.
  init(repeating label: Int32, shape: [Int]) {
    (storage, offset, self.shape) = ([label], 0, shape)
    strides = shape.map { _ in 0 }
  }

  private static func denseStrides(_ shape: [Int]) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.count)
    for d in stride(from: shape.count - 2, through: 0, by: -1) { strides[d] = strides[d + 1] * shape[d + 1] }
    return strides
  }

  /// What tells label arrays that share their labels from others, without comparing labels.
  struct Identity: Hashable {
    fileprivate let address: UInt
    fileprivate let offset: Int
    fileprivate let shape: [Int]
    fileprivate let strides: [Int]
  }

  var identity: Identity {
    let address = storage.withUnsafeBufferPointer { UInt(bitPattern: $0.baseAddress) }
    return Identity(address: address, offset: offset, shape: shape, strides: strides)
  }

  package var count: Int { shape.reduce(1, *) }
  package var rank: Int { shape.count }
  /// The label at index 0 of every dimension.
  var first: Int32 { storage[offset] }

  subscript(index: [Int]) -> Int32 {
    var position = offset
    for d in index.indices { position += index[d] * strides[d] }
    return storage[position]
  }

  /// Dimension `d` read as dimensions of `sizes` (their product is its length).
  package func splitting(_ d: Int, into sizes: [Int]) -> LabelArray {
    var copy = self
    var inner = strides[d]
    var newStrides = [Int](repeating: 0, count: sizes.count)
    for k in sizes.indices.reversed() {
      newStrides[k] = inner
      inner *= sizes[k]
    }
    copy.shape.replaceSubrange(d...d, with: sizes)
    copy.strides.replaceSubrange(d...d, with: newStrides)
    return copy
  }

  /// Dimension k of the result is dimension `order[k]`.
  package func permuted(_ order: [Int]) -> LabelArray {
    var copy = self
    copy.shape = order.map { shape[$0] }
    copy.strides = order.map { strides[$0] }
    return copy
  }

  /// A new dimension before `d` along which the labels repeat.
  package func broadcast(at d: Int, size: Int) -> LabelArray {
    var copy = self
    copy.shape.insert(size, at: d)
    copy.strides.insert(0, at: d)
    return copy
  }

  /// Dimension `d` fixed to `index`, and dropped.
  package func selecting(_ d: Int, index: Int) -> LabelArray {
    var copy = self
    copy.offset += index * strides[d]
    copy.shape.remove(at: d)
    copy.strides.remove(at: d)
    return copy
  }

  /// The indices `indices` of dimension `d`, in that order.
  package func taking(_ d: Int, indices: [Int]) -> LabelArray {
    if let first = indices.first, indices.count == 1 || isRun(indices) {
      var copy = self
      copy.offset += first * strides[d]
      copy.shape[d] = indices.count
      return copy
    }
    var result = [Int32]()
    result.reserveCapacity(count / max(shape[d], 1) * indices.count)
    let order = [d] + (0..<rank).filter { $0 != d }
    let slices = permuted(order)
    for index in indices { slices.selecting(0, index: index).forEach { result.append($0) } }
    let permutedShape = [indices.count] + order.dropFirst().map { shape[$0] }
    var inverse = [Int](repeating: 0, count: rank)
    for (k, dim) in order.enumerated() { inverse[dim] = k }
    return LabelArray(result, shape: permutedShape).permuted(inverse)
  }

  private func isRun(_ indices: [Int]) -> Bool {
    for k in 1..<indices.count where indices[k] != indices[k - 1] + 1 { return false }
    return true
  }

  /// Calls `body` with every label in row-major order of the present shape.
  @inline(__always)
  func forEach(_ body: (Int32) -> Void) {
    storage.withUnsafeBufferPointer { labels in forEachOffset { body(labels[$0]) } }
  }

  /// Calls `body` with labels that together are all labels of the array; those that are only repeated come once.
  @inline(__always)
  func forEachDistinct(_ body: (Int32) -> Void) {
    var distinct = self
    for d in (0..<rank).reversed() where strides[d] == 0 && shape[d] > 1 { distinct = distinct.selecting(d, index: 0) }
    distinct.forEach(body)
  }

  /// The labels in row-major order.
  package func flattened() -> [Int32] {
    if isDense { return offset == 0 && count == storage.count ? storage : Array(storage[offset..<offset + count]) }
    var result = [Int32]()
    result.reserveCapacity(count)
    forEach { result.append($0) }
    return result
  }

  var isDense: Bool {
    var inner = 1
    for d in shape.indices.reversed() {
      if strides[d] != inner { return false }
      inner *= shape[d]
    }
    return true
  }

  /// Calls `body` with the storage offset of every element in row-major order.
  @inline(__always)
  func forEachOffset(_ body: (Int) -> Void) {
    guard count > 0 else { return }
    guard rank > 0 else { return body(offset) }
    let last = rank - 1
    let (innerSize, innerStride) = (shape[last], strides[last])
    var index = [Int](repeating: 0, count: rank)
    var base = offset
    while true {
      var position = base
      for _ in 0..<innerSize {
        body(position)
        position += innerStride
      }
      var d = last - 1
      while d >= 0 {
        index[d] += 1
        base += strides[d]
        if index[d] < shape[d] { break }
        base -= strides[d] * shape[d]
        index[d] = 0
        d -= 1
      }
      if d < 0 { return }
    }
  }

  /// The labels mapped one by one.
  func mapping(_ transform: (Int32) -> Int32) -> LabelArray {
    LabelArray(flattened().map(transform), shape: shape)
  }
}
