import ModelGraph
import Numerics

/// One operand of a product of activations, as letters over axes.
struct ProductOperand {
  /// The labels of the group's channels.
  let set: LabelSet
  let value: LabelledValue
  let shape: [Int]
  let letters: [Letter]

  /// Operand `k` of a product, a value of `shape`. Where the rule saw it split into heads and the value is not (fused
  /// attention, heads packed in the last axis), it is split alike.
  /// - Returns: nil if the value holds no channels of the group, or the shape does not fit the analysis.
  init?(
    _ value: LabelledValue, shape: [Int], operand k: Int, of product: Facts.Product, group: Int,
    _ coupling: ChannelCoupling
  ) {
    let (ruled, lengths) = (product.letters[k], product.lengths[k])
    var (value, shape, letters) = (value, shape, ruled)
    if ruled.count != shape.count {
      // (N, heads..., tokens, width) against (N, tokens, heads * width).
      guard shape.count == 3, value.axes.count == 3, ruled.count > 3 else { return nil }
      let last = ruled.count - 1
      let packed = Array(1..<last - 1) + [last]
      var facts = coupling.facts
      guard
        let split = value.splitting(
          axis: 2, into: packed.map { Extent(lengths[$0], original: lengths[$0]) }, at: product.node, &facts)
      else { return nil }
      (value, shape) = (split, shape[..<2] + packed.map { lengths[$0] })
      letters = [ruled[0], ruled[last - 1]] + packed.map { ruled[$0] }
    }
    guard let set = value.channels(of: group, coupling), AxisParts.of(value, set, shape: shape) != nil else {
      return nil
    }
    (self.set, self.value, self.shape, self.letters) = (set, value, shape, letters)
  }

  func axis(_ letter: Letter) -> Int? { letters.firstIndex(of: letter) }

  /// Whether the axis of `letter` is labelled with the group's channels.
  func isLabelled(_ letter: Letter) -> Bool {
    axis(letter).map { value.axes[$0].contains(where: set.contains) } ?? false
  }

  func length(_ letter: Letter) -> Int { axis(letter).map { shape[$0] } ?? 1 }
  func stride(_ letter: Letter) -> Int {
    guard let axis = axis(letter), shape[axis] > 1 else { return 0 }
    return shape[(axis + 1)...].reduce(1, *)
  }

  /// What an index of the axis of `letter` contributes to a position in the flat label set.
  func position(ofIndex index: Int, along letter: Letter, _ parts: [[AxisPart]]) -> Int {
    guard let axis = axis(letter), shape[axis] > 1 else { return 0 }
    var strides = [Int](repeating: 1, count: set.factors.count)
    for d in Swift.stride(from: set.factors.count - 2, through: 0, by: -1) {
      strides[d] = strides[d + 1] * set.factors[d + 1].size
    }
    var (rest, result) = (index, 0)
    for part in parts[axis].reversed() {
      if let position = part.position { result += rest % part.dimension.size * strides[position] }
      rest /= part.dimension.size
    }
    return result
  }
}

/// Where the matrices of a batched product lie: for every combination of batch indices one of each operand.
struct ProductLayout {
  struct Matrix {
    /// Elements from one index to the next, along the batch axes (0 where it is broadcast), the axis that is summed,
    /// and the operand's own axes.
    var batch: [Int]
    var inner: Int
    var free: [ChannelView.Dimension]

    func offset(ofEntry index: [Int]) -> Int { zip(index, batch).reduce(0) { $0 + $1.0 * $1.1 } }

    /// The products of the matrix's columns over its own axes, `[inner, inner]`.
    func gram(
      of elements: UnsafeBufferPointer<Float>, from start: Int, inner count: Int, _ algebra: LinearAlgebra
    ) -> [Double] {
      var result = [Double](repeating: 0, count: count * count)
      let length = free.reduce(1) { $0 * $1.size }
      let view = ChannelView(map: free)
      withUnsafeTemporaryAllocation(of: Double.self, capacity: max(1, count * length)) { columns in
        for i in 0..<count where length > 0 {
          view.copyMap(
            of: elements, from: start + i * inner,
            to: UnsafeMutableBufferPointer(rebasing: columns[i * length..<(i + 1) * length]))
        }
        if let base = columns.baseAddress {
          algebra.addGram(of: base, count: count, length: length, layout: .vectors, to: &result)
        }
      }
      return result
    }
  }

  let matrices: [Matrix]
  /// Length of the summed axis.
  let inner: Int
  /// Per combination of batch indices: the indices, and per index of the summed axis its cell, or -1.
  private(set) var entries: [(index: [Int], cells: [Int])] = []
  /// Combinations per head.
  let samples: Double

  init?(_ operands: [ProductOperand], output: [Letter], group: Int, _ coupling: ChannelCoupling) {
    // The operand with more labelled factors tells heads apart that share the other one.
    let teller = operands[1].set.factors.count > operands[0].set.factors.count ? operands[1] : operands[0]
    let batch = output.filter { letter in
      operands.allSatisfy { $0.axis(letter) != nil } || teller.isLabelled(letter)
    }
    let summed = teller.letters.first { letter in
      !output.contains(letter) && operands.allSatisfy { $0.axis(letter) != nil } && teller.isLabelled(letter)
    }
    guard let summed, let parts = AxisParts.of(teller.value, teller.set, shape: teller.shape) else { return nil }
    inner = teller.length(summed)
    matrices = operands.map { operand in
      Matrix(
        batch: batch.map(operand.stride), inner: operand.stride(summed),
        free: operand.letters.filter { !batch.contains($0) && $0 != summed }.map {
          ChannelView.Dimension(size: operand.length($0), stride: operand.stride($0))
        })
    }
    let lengths = batch.map { letter in operands.map { $0.length(letter) }.max() ?? 1 }
    let labels = teller.set.labels.flattened()
    let along = (0..<inner).map { teller.position(ofIndex: $0, along: summed, parts) }
    var heads: Set<Int> = []
    var index = [Int](repeating: 0, count: lengths.count)
    for _ in 0..<lengths.reduce(1, *) {
      let head = zip(batch, index).reduce(0) { $0 + teller.position(ofIndex: $1.1, along: $1.0, parts) }
      heads.insert(head)
      let cells = along.map { offset -> Int in
        let label = labels[head + offset]
        return coupling.group(of: label) == group ? coupling.cell(of: label) ?? -1 : -1
      }
      entries.append((index, cells))
      for d in index.indices.reversed() {
        index[d] += 1
        if index[d] < lengths[d] { break }
        index[d] = 0
      }
    }
    samples = Double(entries.count) / Double(max(heads.count, 1))
  }
}
