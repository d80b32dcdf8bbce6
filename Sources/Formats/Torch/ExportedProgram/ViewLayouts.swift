/// The layouts of results that are views of a call's first argument, from the argument's own layout: PyTorch's rules for
/// strides and offsets, operator by operator.
struct ViewLayouts {
  let call: EditedCall
  /// Values for open lengths, to compare strides.
  let probe: [String: Int]

  /// - Parameters:
  ///   - input: of the first argument.
  ///   - sizes: of the call's results.
  /// - Returns: per result; nil if the results have memory of their own.
  func layouts(_ input: TensorLayout, sizes: [[SizeExpression]]) -> [TensorLayout]? {
    guard let first = sizes.first else { return nil }
    if sizes.count == 1 { return layout(input, first).map { [$0] } }
    switch call.function {
    case "unbind":
      guard let axis = axis("dim", 1, 0, input.rank) else { return nil }
      return sizes.indices.map {
        input.sliced(axis, start: .number($0), length: .number(1)).removing(axis)
      }
    case "chunk", "split", "split_with_sizes", "tensor_split":
      return parts(input, sizes)
    default: return nil
    }
  }

  private func parts(_ input: TensorLayout, _ sizes: [[SizeExpression]]) -> [TensorLayout]? {
    guard let axis = axis("dim", 2, 0, input.rank) else { return nil }
    var start = SizeExpression.number(0)
    var parts: [TensorLayout] = []
    for size in sizes {
      guard axis < size.count else { return nil }
      parts.append(input.sliced(axis, start: start, length: size[axis]))
      start = SizeExpression.sum(start, size[axis])
    }
    return parts
  }

  private func layout(_ input: TensorLayout, _ sizes: [SizeExpression]) -> TensorLayout? {
    if call.isInPlace { return sizes == input.sizes ? input : nil }
    switch call.function {
    case "alias", "detach", "contiguous", "to", "dropout", "lift_fresh", "positive", "view_as_real", "type_as":
      return sizes == input.sizes ? input : nil
    case "chunk", "split", "split_with_sizes", "tensor_split": return parts(input, [sizes])?.first
    case "transpose", "swapaxes", "swapdims":
      guard let a = axis(["dim0", "axis0"], 1, nil, input.rank), let b = axis(["dim1", "axis1"], 2, nil, input.rank)
      else { return nil }
      var axes = Array(0..<input.rank)
      axes.swapAt(a, b)
      return input.permuted(axes)
    case "t", "mT", "numpy_T", "adjoint":
      guard input.rank >= 2 else { return input }
      var axes = Array(0..<input.rank)
      if call.function == "numpy_T" { axes.reverse() } else { axes.swapAt(input.rank - 1, input.rank - 2) }
      return input.permuted(axes)
    case "permute":
      guard let axes = ints("dims", 1)?.map({ $0 < 0 ? $0 + input.rank : $0 }), axes.sorted() == Array(0..<input.rank)
      else { return nil }
      return input.permuted(axes)
    case "select":
      guard let axis = axis("dim", 1, nil, input.rank), let index = int("index", 2) else { return nil }
      let start = index < 0 ? SizeExpression.sum(input.sizes[axis], .number(index)) : .number(index)
      return input.sliced(axis, start: start, length: .number(1)).removing(axis)
    case "slice":
      guard let axis = axis("dim", 1, 0, input.rank), axis < sizes.count, let start = start(input.sizes[axis]) else {
        return nil
      }
      return input.sliced(axis, start: start, length: sizes[axis], step: int("step", 4) ?? 1)
    case "narrow":
      guard let axis = axis("dim", 1, nil, input.rank), axis < sizes.count, let start = int("start", 2) else {
        return nil
      }
      return input.sliced(axis, start: .number(start), length: sizes[axis])
    case "unsqueeze":
      guard let axis = axis("dim", 1, nil, input.rank + 1) else { return nil }
      var result = input
      let stride = axis < input.rank ? input.sizes[axis] * input.strides[axis] : .number(1)
      result.sizes.insert(.number(1), at: axis)
      result.strides.insert(stride, at: axis)
      return result
    case "squeeze":
      var given: [Int]?
      if let list = ints("dim", 1) { given = list } else if let one = int("dim", 1) { given = [one] }
      let axes = given.map { Set($0.map { $0 < 0 ? $0 + input.rank : $0 }) } ?? Set(0..<input.rank)
      let kept = (0..<input.rank).filter { !(axes.contains($0) && input.sizes[$0] == .number(1)) }
      return input.permuted(kept)
    case "expand", "expand_as", "broadcast_to":
      let added = sizes.count - input.rank
      guard added >= 0 else { return nil }
      let strides = sizes.indices.map { axis -> SizeExpression in
        guard axis >= added else { return .number(0) }
        return sizes[axis] == input.sizes[axis - added] ? input.strides[axis - added] : .number(0)
      }
      return TensorLayout(sizes: sizes, strides: strides, offset: input.offset)
    case "view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as", "ravel":
      return input.viewed(sizes, probe)
    default: return nil
    }
  }

  /// Where a slice starts.
  private func start(_ length: SizeExpression) -> SizeExpression? {
    switch call.argument("start", 2) {
    case nil, .some(.none): .number(0)
    case .int(let value)? where value >= 0: .number(value)
    case .int(let value)?: SizeExpression.sum(length, .number(value))
    default: nil
    }
  }

  // MARK: Arguments

  private func int(_ name: String, _ position: Int) -> Int? {
    if case .int(let value)? = call.argument(name, position) { value } else { nil }
  }

  private func ints(_ name: String, _ position: Int) -> [Int]? {
    guard case .list(let elements)? = call.argument(name, position) else { return nil }
    let values = elements.compactMap { if case .int(let value) = $0 { value } else { nil } }
    return values.count == elements.count ? values : nil
  }

  private func axis(_ name: String, _ position: Int, _ fallback: Int?, _ rank: Int) -> Int? {
    axis([name], position, fallback, rank)
  }

  private func axis(_ names: [String], _ position: Int, _ fallback: Int?, _ rank: Int) -> Int? {
    let given = names.lazy.compactMap { int($0, position) }.first ?? fallback
    guard let given else { return nil }
    let axis = given < 0 ? given + rank : given
    return (0..<rank).contains(axis) ? axis : nil
  }
}
