import ModelGraph

/// Which elements of one value stay, over the axes that lose some, under the lengths of one run.
///
/// Labels were given under the lengths of the analysis; lengths that a run chooses otherwise belong to factors along
/// which nothing is removed, and are found again here from the length of the axis.
struct KeptElements {
  /// The value's lengths in the run.
  let lengths: [Int]
  /// Per axis, whether anything is removed along it.
  let isCut: [Bool]
  /// Row-major over the lengths of the cut axes.
  let mask: [Bool]

  /// - Returns: nil if the value loses nothing.
  /// - Throws: `verifyImpossible` if the run's lengths cannot be told apart along a cut axis.
  init?(_ value: LabelledValue, _ removal: Removal, lengths: [Int]) throws(Failure) {
    let sets = value.sets.compactMap { set -> (set: LabelSet, kept: [Bool])? in
      let kept = set.labels.flattened().map { !removal.isRemoved($0) }
      return kept.contains(false) ? (set, kept) : nil
    }
    guard !sets.isEmpty else { return nil }
    isCut = value.axes.map { axis in axis.contains { factor in sets.contains { $0.set.contains(factor) } } }
    self.lengths = lengths
    guard lengths.count == value.axes.count else { throw Self.unclear(lengths) }
    var factors: [(factor: Factor, size: Int)] = []
    for (axis, isCut) in isCut.enumerated() where isCut {
      let isOpen = value.axes[axis].map { factor in !sets.contains { $0.set.contains(factor) } }
      guard let sizes = Self.sizes(value.axes[axis].map(\.size), isOpen: isOpen, length: lengths[axis]) else {
        throw Self.unclear(lengths)
      }
      factors += zip(value.axes[axis], sizes).map { (factor: $0, size: $1) }
    }
    var mask = [Bool](repeating: true, count: factors.reduce(1) { $0 * $1.size })
    for (set, kept) in sets {
      let strides = factors.map { factor, _ in
        set.position(of: factor).map { set.factors[($0 + 1)...].reduce(1) { $0 * $1.size } } ?? 0
      }
      Self.forEachIndex(factors.map(\.size), strides) { position, offset in
        if !kept[offset] { mask[position] = false }
      }
    }
    self.mask = mask
  }

  /// The sizes of an axis's factors where its length is `length`: the open ones take what the others leave.
  private static func sizes(_ sizes: [Int], isOpen: [Bool], length: Int) -> [Int]? {
    var sizes = sizes
    if sizes.reduce(1, *) == length { return sizes }
    let open = sizes.indices.filter { isOpen[$0] }
    let fixed = sizes.indices.reduce(1) { isOpen[$1] ? $0 : $0 * sizes[$1] }
    // Neighbours along which nothing is removed are as one.
    guard let first = open.first, let last = open.last, last - first == open.count - 1, length % fixed == 0 else {
      return nil
    }
    for k in open { sizes[k] = 1 }
    sizes[first] = length / fixed
    return sizes
  }

  private static func unclear(_ lengths: [Int]) -> Failure {
    Failure(
      .verifyImpossible,
      "a value of shape \(lengths) joins channels with lengths that the inputs leave open, in a way that cannot be told "
        + "apart; verify with input_shapes that fix them")
  }

  /// Calls `body` with every row-major position over `sizes` and the offset that `strides` give it.
  private static func forEachIndex(_ sizes: [Int], _ strides: [Int], _ body: (Int, Int) -> Void) {
    var index = [Int](repeating: 0, count: sizes.count)
    var offset = 0
    let count = sizes.reduce(1, *)
    for position in 0..<count {
      body(position, offset)
      for d in sizes.indices.reversed() {
        index[d] += 1
        offset += strides[d]
        if index[d] < sizes[d] { break }
        offset -= strides[d] * sizes[d]
        index[d] = 0
      }
    }
  }

  // MARK: What a graph is given of it

  /// True where an element stays, to be broadcast against the value.
  var broadcastMask: Tensor {
    let shape = zip(lengths, isCut).map { $1 ? $0 : 1 }
    return Tensor(dtype: .bool, shape: shape, bytes: TensorBytes(copying: mask.map { $0 ? UInt8(1) : 0 }))
  }

  /// The axes from the first cut one to the last.
  var span: ClosedRange<Int> { (isCut.firstIndex(of: true) ?? 0)...(isCut.lastIndex(of: true) ?? 0) }

  /// The positions that stay, ascending, counted over the axes of `span` as if they were one.
  var keptPositions: [Int] {
    let sizes = span.map { lengths[$0] }
    var strides = [Int](repeating: 0, count: sizes.count)
    var stride = 1
    for (k, axis) in span.enumerated().reversed() where isCut[axis] {
      strides[k] = stride
      stride *= sizes[k]
    }
    var positions: [Int] = []
    Self.forEachIndex(sizes, strides) { position, offset in
      if mask[offset] { positions.append(position) }
    }
    return positions
  }
}
