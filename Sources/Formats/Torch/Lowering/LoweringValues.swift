import ModelGraph

// What the rules append besides nodes: constants, and the program's integers as tensors. Everything that
// a literal or a length of the program went into is remembered with its place.

extension TorchLowering {
  // MARK: Axes

  /// `axis` counted from the front of `id`.
  func axis(_ axis: Int, of id: ValueID) throws(Failure) -> Int {
    let rank = try rank(id)
    // PyTorch counts axes of scalars as if there were one.
    guard axis >= -max(rank, 1), axis < max(rank, 1) else {
      throw malformed("axis \(axis) of a tensor of \(rank) axes")
    }
    return axis < 0 ? axis + max(rank, 1) : axis
  }

  // MARK: Constants

  /// Integers that nobody wrote and that no length enters.
  mutating func integers(_ elements: [Int], shape: [Int]? = nil, as suffix: String) -> ValueID {
    let id = assembler.constant("\(base).\(suffix)", Tensor(int64: elements.map(Int64.init), shape: shape))
    literals[id] = .elements(elements.map { _ in nil })
    return id
  }

  /// A number of type `dtype`, as a scalar.
  mutating func scalar(_ value: Double, _ dtype: DType, as suffix: String = "value") throws(Failure) -> ValueID {
    guard let tensor = Tensor(scalar: value, dtype) else {
      throw unsupported("the number \(value) is not written as \(dtype)")
    }
    return assembler.constant("\(base).\(suffix)", tensor)
  }

  // MARK: Integers of the program

  /// The tensor `[value]` of an integer that depends on lengths, or of a literal.
  mutating func vector(_ integer: TorchInteger) throws(Failure) -> ValueID {
    switch integer.source {
    case .literal(let place):
      let id = assembler.constant("\(base).length", Tensor(int64: [Int64(integer.value)]))
      literals[id] = .elements([place])
      return id
    case .length(let value, let axis):
      return try node("Shape", [value], ["start": .int(axis), "end": .int(axis + 1)], as: "length")
    case .operation(let op, let left, let right):
      let (a, b) = (try vector(left), try vector(right))
      return try node(op, [a, b], as: "length")
    case .element(let value):
      let flat = integers([1], as: "shape")
      return try node("Reshape", [value, flat], as: "length")
    }
  }

  /// The tensor of a list of integers: one constant where all are literals.
  mutating func vector(_ list: [TorchInteger], as suffix: String) throws(Failure) -> ValueID {
    func constant(_ run: ArraySlice<TorchInteger>) -> ValueID {
      let id = assembler.constant("\(base).\(suffix)", Tensor(int64: run.map { Int64($0.value) }))
      literals[id] = .elements(run.map(\.place))
      return id
    }
    if list.allSatisfy(\.isLiteral) { return constant(list[...]) }
    var parts: [ValueID] = []
    var start = 0
    while start < list.count {
      var end = start
      while end < list.count, list[end].isLiteral { end += 1 }
      if end > start {
        parts.append(constant(list[start..<end]))
        start = end
      } else {
        parts.append(try vector(list[start]))
        start += 1
      }
    }
    let id = parts.count == 1 ? parts[0] : try node("Concat", parts, ["axis": .int(0)], as: suffix)
    lists[id] = list.map { $0.place ?? $0.readAt }
    return id
  }

  /// An integer as a scalar tensor of type `dtype`.
  mutating func scalar(_ integer: TorchInteger, _ dtype: DType) throws(Failure) -> ValueID {
    if integer.isLiteral { return try scalar(Double(integer.value), dtype) }
    let flat = integers([], as: "shape")
    var id = try node("Reshape", [vector(integer), flat], as: "number")
    if dtype != .int64 { id = try node("Cast", [id], ["to": .int(dtype.rawValue)], as: "number") }
    if let place = integer.readAt, place.isWholeArgument {
      scalars[id] = ComputedInteger(place: place, value: integer.value)
    } else {
      hold(integer.uses, "'\(base)' computes with this length")
    }
    return id
  }

  /// The length of an axis.
  func length(_ id: ValueID, _ axis: Int) throws(Failure) -> TorchInteger {
    let shape = try shape(id)
    let axis = try self.axis(axis, of: id)
    guard axis < shape.count else { throw malformed("a scalar has no axes") }
    return TorchInteger(shape[axis], .length(id, axis: axis))
  }
}
