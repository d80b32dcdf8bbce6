import ModelGraph

/// What only moves elements: views, transpositions, repetitions.
enum ShapeOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [
      "flatten": TorchFunction("input start_dim end_dim") { (l, a) throws(Failure) in
        .tensor(try l.flattened(a.tensor("input"), from: a.int("start_dim", 0), to: a.int("end_dim", -1)))
      },
      "ravel": TorchFunction("input") { (l, a) throws(Failure) in
        .tensor(try l.flattened(a.tensor("input"), from: 0, to: -1))
      },
      "unflatten": TorchFunction("input dim sizes") { (l, a) throws(Failure) in
        .tensor(try l.unflattened(a.tensor("input"), a.int("dim"), a.integers("sizes")))
      },
      "view_as": TorchFunction("input other") { (l, a) throws(Failure) in
        .tensor(try l.node("Reshape", [a.tensor("input"), l.node("Shape", [a.tensor("other")], as: "shape")]))
      },
      "reshape_as": TorchFunction("input other") { (l, a) throws(Failure) in
        .tensor(try l.node("Reshape", [a.tensor("input"), l.node("Shape", [a.tensor("other")], as: "shape")]))
      },
      "permute": TorchFunction("input *dims") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        return .tensor(try l.permuted(x, a.ints("dims")))
      },
      "transpose": TorchFunction("input dim0 dim1") { (l, a) throws(Failure) in
        try l.exchanged(a.tensor("input"), a.int("dim0"), a.int("dim1"))
      },
      "swapaxes": TorchFunction("input dim0 dim1") { (l, a) throws(Failure) in
        try l.exchanged(a.tensor("input"), a.int("dim0"), a.int("dim1"))
      },
      "t": TorchFunction("input") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        return try l.rank(x) < 2 ? .tensor(x) : .tensor(l.permuted(x, [1, 0]))
      },
      "movedim": TorchFunction("input source destination") { (l, a) throws(Failure) in
        .tensor(try l.moved(a.tensor("input"), a.ints("source"), a.ints("destination")))
      },
      "squeeze": TorchFunction("input dim") { (l, a) throws(Failure) in
        .tensor(try l.squeezed(a.tensor("input"), a.has("dim") ? a.ints("dim") : nil))
      },
      "unsqueeze": TorchFunction("input dim") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        let (axis, rank) = (try a.int("dim"), try l.rank(x))
        return .tensor(try l.node("Unsqueeze", [x, l.integers([axis < 0 ? axis + rank + 1 : axis], as: "axes")]))
      },
      "expand": TorchFunction("input *size implicit") { (l, a) throws(Failure) in
        .tensor(try l.expanded(a.tensor("input"), a.integers("size")))
      },
      "broadcast_to": TorchFunction("input *size") { (l, a) throws(Failure) in
        .tensor(try l.expanded(a.tensor("input"), a.integers("size")))
      },
      "expand_as": TorchFunction("input other") { (l, a) throws(Failure) in
        .tensor(try l.node("Expand", [a.tensor("input"), l.node("Shape", [a.tensor("other")], as: "shape")]))
      },
      "repeat": TorchFunction("input *repeats") { (l, a) throws(Failure) in
        .tensor(try l.tiled(a.tensor("input"), a.integers("repeats")))
      },
      "tile": TorchFunction("input *dims") { (l, a) throws(Failure) in
        .tensor(try l.tiled(a.tensor("input"), a.integers("dims")))
      },
      "repeat_interleave": TorchFunction("input repeats dim output_size") { (l, a) throws(Failure) in
        .tensor(try l.interleaved(a.tensor("input"), a.int("repeats"), a.int("dim")))
      },
      "flip": TorchFunction("input *dims") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        let axes = try a.ints("dims").map { axis throws(Failure) in try l.axis(axis, of: x) }
        return .tensor(
          try l.node(
            "Slice",
            [
              x, l.integers(axes.map { _ in -1 }, as: "starts"),
              l.integers(axes.map { _ in Int(Int32.min) }, as: "ends"),
              l.integers(axes, as: "axes"), l.integers(axes.map { _ in -1 }, as: "steps"),
            ]))
      },
      "roll": TorchFunction("input shifts dims") { (l, a) throws(Failure) in
        .tensor(try l.rolled(a.tensor("input"), a.integers("shifts"), a.ints("dims")))
      },
    ]
    for name in ["view", "reshape", "_unsafe_view", "_reshape_alias"] {
      table[name] = TorchFunction("input *size stride") { (l, a) throws(Failure) in
        .tensor(try l.reshaped(a.tensor("input"), a))
      }
    }
    return table
  }()
}

extension TorchLowering {
  fileprivate mutating func reshaped(_ x: ValueID, _ a: OperatorArguments) throws(Failure) -> ValueID {
    // view(dtype) reads the bytes anew.
    if case .symbol = a["size"] { throw unsupported("it reads the bytes as another type") }
    let target = try a.integers("size")
    var attributes: [String: Attribute] = [:]
    if target.contains(where: { $0.value == 0 }) { attributes["allowzero"] = .int(1) }
    return try node("Reshape", [x, vector(target, as: "shape")], attributes)
  }

  mutating func flattened(_ x: ValueID, from start: Int, to end: Int) throws(Failure) -> ValueID {
    let rank = try rank(x)
    if rank == 0 { return try node("Reshape", [x, integers([1], as: "shape")]) }
    let (first, last) = (try axis(start, of: x), try axis(end, of: x))
    if first >= last { return x }
    if first == 1, last == rank - 1 { return try node("Flatten", [x], ["axis": .int(1)]) }
    // Zero keeps an axis, as long as it stands at the same place.
    var target = [TorchInteger](repeating: TorchInteger(0), count: first) + [TorchInteger(-1)]
    for axis in last + 1..<max(rank, last + 1) { target.append(try length(x, axis)) }
    return try node("Reshape", [x, vector(target, as: "shape")])
  }

  mutating func unflattened(_ x: ValueID, _ dim: Int, _ sizes: [TorchInteger]) throws(Failure) -> ValueID {
    let (rank, axis) = (try rank(x), try axis(dim, of: x))
    var target: [TorchInteger] = []
    for k in 0..<axis { target.append(try length(x, k)) }
    target += sizes
    for k in axis + 1..<max(rank, axis + 1) { target.append(try length(x, k)) }
    return try node("Reshape", [x, vector(target, as: "shape")])
  }

  mutating func permuted(_ x: ValueID, _ dims: [Int]) throws(Failure) -> ValueID {
    let order = try dims.map { dim throws(Failure) in try axis(dim, of: x) }
    guard Set(order).count == order.count, order.count == (try rank(x)) else {
      throw malformed("\(dims) is no order of its axes")
    }
    return try node("Transpose", [x], ["perm": .ints(order)])
  }

  fileprivate mutating func exchanged(_ x: ValueID, _ a: Int, _ b: Int) throws(Failure) -> TorchValue {
    var order = Array(0..<(try rank(x)))
    if order.isEmpty { return .tensor(x) }
    order.swapAt(try axis(a, of: x), try axis(b, of: x))
    return .tensor(try permuted(x, order))
  }

  fileprivate mutating func moved(_ x: ValueID, _ from: [Int], _ to: [Int]) throws(Failure) -> ValueID {
    let rank = try rank(x)
    guard from.count == to.count else { throw malformed("it moves \(from.count) axes to \(to.count) places") }
    let sources = try from.map { dim throws(Failure) in try axis(dim, of: x) }
    let targets = try to.map { dim throws(Failure) in try axis(dim, of: x) }
    var order = [Int](repeating: -1, count: rank)
    for (source, target) in zip(sources, targets) { order[target] = source }
    var rest = (0..<rank).filter { !sources.contains($0) }[...]
    for k in 0..<rank where order[k] < 0 { order[k] = rest.popFirst() ?? -1 }
    return try permuted(x, order)
  }

  mutating func squeezed(_ x: ValueID, _ dims: [Int]?) throws(Failure) -> ValueID {
    let shape = try shape(x)
    let axes: [Int]
    if let dims {
      axes = try dims.map { dim throws(Failure) in try axis(dim, of: x) }.filter { $0 < shape.count && shape[$0] == 1 }
    } else {
      axes = shape.indices.filter { shape[$0] == 1 }
    }
    return axes.isEmpty ? x : try node("Squeeze", [x, integers(axes, as: "axes")])
  }

  fileprivate mutating func expanded(_ x: ValueID, _ size: [TorchInteger]) throws(Failure) -> ValueID {
    // -1 keeps a length, which for ONNX is 1.
    let target = size.map { $0.isLiteral && $0.value == -1 ? TorchInteger(1) : $0 }
    return try node("Expand", [x, vector(target, as: "shape")])
  }

  fileprivate mutating func tiled(_ x: ValueID, _ repeats: [TorchInteger]) throws(Failure) -> ValueID {
    let rank = try rank(x)
    var (x, repeats) = (x, repeats)
    if repeats.count < rank {
      repeats = [TorchInteger](repeating: TorchInteger(1), count: rank - repeats.count) + repeats
    } else if repeats.count > rank {
      x = try node("Unsqueeze", [x, integers(Array(0..<repeats.count - rank), as: "axes")], as: "ranked")
    }
    return try node("Tile", [x, vector(repeats, as: "repeats")])
  }

  /// Every entry along an axis `times` times in a row.
  fileprivate mutating func interleaved(_ x: ValueID, _ times: Int, _ dim: Int) throws(Failure) -> ValueID {
    let (rank, axis) = (try rank(x), try axis(dim, of: x))
    let single = try node("Unsqueeze", [x, integers([axis + 1], as: "axes")], as: "single")
    var counts = [Int](repeating: 1, count: rank + 1)
    counts[axis + 1] = times
    let repeated = try node("Expand", [single, integers(counts, as: "times")], as: "repeated")
    var target: [TorchInteger] = []
    for k in 0..<rank { target.append(k == axis ? TorchInteger(-1) : try length(x, k)) }
    return try node("Reshape", [repeated, vector(target, as: "shape")])
  }

  /// Both parts of a cut along each axis, the other way round.
  mutating func rolled(_ x: ValueID, _ shifts: [TorchInteger], _ dims: [Int]) throws(Failure) -> ValueID {
    guard shifts.count == dims.count, !dims.isEmpty else { throw unsupported("it rolls the flattened tensor") }
    var x = x
    for (shift, dim) in zip(shifts, dims) {
      let axis = try axis(dim, of: x)
      let length = try shape(x)[axis]
      guard length > 0 else { continue }
      guard shift.isLiteral else { throw unsupported("it rolls by a computed length") }
      var cut = -shift.value % length
      if cut == 0 { continue }
      hold([LengthUse(value: x, axis: axis)], "'\(base)' moves these on by a number of places")
      // From the front where it is the longer way from the end.
      if shift.value > 0 { cut = -shift.value }
      let axes = integers([axis], as: "axes")
      let tail = try node(
        "Slice", [x, integers([cut], as: "cut"), integers([Int(Int32.max)], as: "end"), axes], as: "tail")
      let head = try node(
        "Slice", [x, integers([0], as: "start"), integers([cut], as: "cut"), axes], as: "head")
      x = try node("Concat", [tail, head], ["axis": .int(axis)])
    }
    return x
  }
}
