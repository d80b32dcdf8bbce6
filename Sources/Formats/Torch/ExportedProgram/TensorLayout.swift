import JSON
import ModelGraph

/// Where a tensor's elements lie in its memory: what an exported program says of every value besides its type.
struct TensorLayout: Equatable {
  var sizes: [SizeExpression]
  var strides: [SizeExpression]
  var offset: SizeExpression

  init(sizes: [SizeExpression], strides: [SizeExpression], offset: SizeExpression = .number(0)) {
    (self.sizes, self.strides, self.offset) = (sizes, strides, offset)
  }

  init(_ element: JSONElement, _ expressions: SizeExpressions) throws(Failure) {
    let meta = try TensorMeta(element, in: expressions.text)
    func list(_ list: JSONElement) throws(Failure) -> [SizeExpression] {
      var result: [SizeExpression] = []
      for element in list.elements { result.append(try expressions.expression(element).canonical) }
      return result
    }
    (sizes, strides) = (try list(meta.sizes), try list(meta.strides))
    offset = try expressions.expression(try expressions.text.member("storage_offset", of: element)).canonical
    guard sizes.count == strides.count else { throw expressions.text.malformed("sizes and strides differ", element) }
  }

  var rank: Int { sizes.count }

  // MARK: Memory of its own

  /// The elements one after another, axes in the order in which `old` has them: the layout that an operator gives its
  /// result when its inputs are laid out as they were.
  /// - Parameter probe: values for open lengths, to compare strides.
  static func dense(_ sizes: [SizeExpression], orderedAs old: TensorLayout, _ probe: [String: Int]) -> TensorLayout {
    let strides = old.strides.map { $0.value(probe) ?? 0 }
    // Innermost first; of equal strides the later axis, whose length is then 1 or whose neighbour's is.
    let order = sizes.indices.sorted { (strides[$0], $1) < (strides[$1], $0) }
    var result = [SizeExpression](repeating: .number(1), count: sizes.count)
    var step = SizeExpression.number(1)
    for axis in order {
      result[axis] = step
      // An axis without elements counts as one of one element, as in PyTorch.
      if sizes[axis] != .number(0) { step = step * sizes[axis] }
    }
    return TensorLayout(sizes: sizes, strides: result)
  }

  /// Whether it is what `dense` makes of its own order.
  func isDense(_ probe: [String: Int]) -> Bool { Self.dense(sizes, orderedAs: self, probe) == self }

  // MARK: Views

  func permuted(_ axes: [Int]) -> TensorLayout {
    TensorLayout(sizes: axes.map { sizes[$0] }, strides: axes.map { strides[$0] }, offset: offset)
  }

  func removing(_ axis: Int) -> TensorLayout {
    var result = self
    result.sizes.remove(at: axis)
    result.strides.remove(at: axis)
    return result
  }

  /// From index `start` of `axis` on, `length` indices, every `step`th.
  func sliced(_ axis: Int, start: SizeExpression, length: SizeExpression, step: Int = 1) -> TensorLayout {
    var result = self
    result.offset = SizeExpression.sum(offset, start * strides[axis])
    result.strides[axis] = strides[axis] * .number(step)
    result.sizes[axis] = length
    return result
  }

  /// The same elements under other sizes without copying (at::detail::computeStride); nil if that needs a copy.
  func viewed(_ newSizes: [SizeExpression], _ probe: [String: Int]) -> TensorLayout? {
    func value(_ size: SizeExpression) -> Int { size.value(probe) ?? 0 }
    func result(_ strides: [SizeExpression]) -> TensorLayout {
      TensorLayout(sizes: newSizes, strides: strides, offset: offset)
    }
    var newStrides = [SizeExpression](repeating: .number(1), count: newSizes.count)
    guard var base = strides.last else { return result(newStrides) }
    guard !sizes.contains(where: { value($0) == 0 }) else { return nil }
    var axis = newSizes.count - 1
    var (elements, viewElements) = (1, SizeExpression.number(1))
    for old in sizes.indices.reversed() {
      elements = elements &* value(sizes[old])
      let continues = old > 0 && (value(sizes[old - 1]) == 1 || value(strides[old - 1]) == elements &* value(base))
      if continues { continue }
      while axis >= 0, value(viewElements) < elements || value(newSizes[axis]) == 1 {
        newStrides[axis] = viewElements * base
        viewElements = viewElements * newSizes[axis]
        axis -= 1
      }
      guard value(viewElements) == elements else { return nil }
      if old > 0 { (base, elements, viewElements) = (strides[old - 1], 1, .number(1)) }
    }
    return axis < 0 ? result(newStrides) : nil
  }

  // MARK: Text

  /// Writes what differs from `old` over the description `element`.
  func write(over element: JSONElement, old: TensorLayout, _ lengths: [String: Int], to changes: inout JSONTextChanges)
  {
    func replace(_ list: JSONElement?, _ new: [SizeExpression], _ old: [SizeExpression]) {
      guard let list, new != old else { return }
      guard new.count == old.count else {
        return changes.replace(list, with: "[" + new.map { $0.json(lengths) }.joined(separator: ", ") + "]")
      }
      for (index, element) in list.elements.enumerated() where index < new.count && new[index] != old[index] {
        changes.replace(element, with: new[index].json(lengths))
      }
    }
    replace(element["sizes"], sizes, old.sizes)
    replace(element["strides"], strides, old.strides)
    if offset != old.offset, let place = element["storage_offset"] {
      changes.replace(place, with: offset.json(lengths))
    }
  }
}
