import ModelGraph

/// Picking entries: by position, by range, by tables.
enum SelectionOperators {
  static let functions: [String: TorchFunction] = [
    "select": TorchFunction("input dim index") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      return .tensor(try l.selected(x, l.axis(a.int("dim"), of: x), a.integer("index")))
    },
    "narrow": TorchFunction("input dim start length") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      let (start, length) = (try a.integer("start"), try a.integer("length"))
      return .tensor(try l.narrowed(x, l.axis(a.int("dim"), of: x), start, length))
    },
    "slice": TorchFunction("input dim start end step") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      return .tensor(
        try l.sliced(
          x,
          [
            (
              l.axis(a.int("dim", 0), of: x), a.has("start") ? a.integer("start") : nil,
              a.has("end") ? a.integer("end") : nil, a.int("step", 1)
            )
          ]))
    },
    "getitem": TorchFunction("input index") { (l, a) throws(Failure) in try l.item(a["input"], a["index"]) },
    "index_select": TorchFunction("input dim index") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      let axis = try l.axis(a.int("dim"), of: x)
      return .tensor(try l.picked(x, axis, a.tensor("index")))
    },
    "gather": TorchFunction("input dim index sparse_grad") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      return .tensor(
        try l.node("GatherElements", [x, a.tensor("index")], ["axis": .int(l.axis(a.int("dim"), of: x))]))
    },
    "index": TorchFunction("input indices") { (l, a) throws(Failure) in
      guard case .list(let indices) = a["indices"] else { throw l.unsupported("its indices are no list") }
      return try l.item(
        a["input"], .list(indices.map { $0.isNone ? .slice(start: .none, end: .none, step: .none) : $0 }))
    },
    "topk": TorchFunction("input k dim largest sorted") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      let axis = try l.axis(a.int("dim", -1), of: x)
      return .list(
        try l.largest(a.integer("k"), of: x, axis, isDescending: a.bool("largest", true)).map(TorchValue.tensor))
    },
    "sort": TorchFunction("input dim descending stable") { (l, a) throws(Failure) in
      .list(try l.sorted(a).map(TorchValue.tensor))
    },
    "argsort": TorchFunction("input dim descending stable") { (l, a) throws(Failure) in .tensor(try l.sorted(a)[1]) },
    "one_hot": TorchFunction("input num_classes") { (l, a) throws(Failure) in
      let count = try a.int("num_classes", -1)
      guard count > 0 else { throw l.unsupported("how many classes there are depends on the data") }
      return .tensor(
        try l.node(
          "OneHot", [a.tensor("input"), l.integers([count], as: "depth"), l.integers([0, 1], as: "values")],
          ["axis": .int(-1)]))
    },
    "embedding": TorchFunction(
      "weight indices padding_idx scale_grad_by_freq sparse max_norm norm_type input"
    ) { (l, a) throws(Failure) in
      // torch.nn.functional.embedding has the indices first, the operator the table.
      let first = try a.tensor("weight")
      let second = try a.tensor(a.has("indices") ? "indices" : "input")
      let (table, indices) = l.dtype(first).isFloat ? (first, second) : (second, first)
      return .tensor(try l.node("Gather", [table, indices], ["axis": .int(0)]))
    },
    "fill_": TorchFunction("input value") { (l, a) throws(Failure) in
      .tensor(try l.filled(a.tensor("input"), a["value"]))
    },
    "triu": TorchFunction("input diagonal") { (l, a) throws(Failure) in
      .tensor(
        try l.node(
          "Trilu", [a.tensor("input"), l.integers([a.int("diagonal", 0)], shape: [], as: "k")], ["upper": .int(1)]))
    },
    "tril": TorchFunction("input diagonal") { (l, a) throws(Failure) in
      .tensor(
        try l.node(
          "Trilu", [a.tensor("input"), l.integers([a.int("diagonal", 0)], shape: [], as: "k")], ["upper": .int(0)]))
    },
  ]
}

extension TorchLowering {
  mutating func selected(_ x: ValueID, _ axis: Int, _ index: TorchInteger) throws(Failure) -> ValueID {
    let position: ValueID
    if index.isLiteral {
      position = assembler.constant("\(base).index", Tensor(int64: [Int64(index.value)], shape: []))
      literals[position] = .elements([index.place])
    } else {
      position = try scalar(index, .int64)
    }
    return try node("Gather", [x, position], ["axis": .int(axis)])
  }

  /// - Parameter ranges: per axis; nil for what a slice leaves out.
  mutating func sliced(
    _ x: ValueID, _ ranges: [(axis: Int, start: TorchInteger?, end: TorchInteger?, step: Int)]
  ) throws(Failure) -> ValueID {
    let end = TorchInteger(Int(Int64.max))
    let open = ranges.filter { range in
      let keepsStart = range.start == nil || (range.start.map { $0.isLiteral && $0.value == 0 } ?? true)
      let keepsEnd = range.end == nil || (range.end.map { $0.isLiteral && $0.value >= Int(Int32.max) } ?? true)
      return !(keepsStart && keepsEnd && range.step == 1)
    }
    if open.isEmpty { return x }
    guard open.allSatisfy({ $0.step > 0 }) else { throw malformed("a step is not positive") }
    for range in open where range.step != 1 {
      hold([LengthUse(value: x, axis: range.axis)], "'\(base)' takes every so many of these")
    }
    let starts = try vector(open.map { $0.start ?? TorchInteger(0) }, as: "starts")
    let ends = try vector(open.map { $0.end ?? end }, as: "ends")
    let result = try node(
      "Slice",
      [x, starts, ends, integers(open.map(\.axis), as: "axes"), integers(open.map(\.step), as: "steps")])
    sliceOrigins[result] = SliceOrigin(
      source: x, ranges: open.map { ($0.axis, $0.start?.value ?? 0, $0.end?.value, $0.step) })
    return result
  }

  /// `length` positions from `start` on.
  fileprivate mutating func narrowed(
    _ x: ValueID, _ axis: Int, _ start: TorchInteger, _ length: TorchInteger
  ) throws(Failure) -> ValueID {
    guard case .integer(let end) = try binary("Add", .integer(start), .integer(length)) else { return x }
    guard start.isLiteral, length.isLiteral, let place = length.place else {
      let whole = LengthUse(value: x, axis: axis)
      hold(start.uses + length.uses + [whole], "'\(base)' narrows by computed numbers")
      return try sliced(x, [(axis, start, end, 1)])
    }
    let (starts, ends) = (try vector([start], as: "starts"), try vector([end], as: "ends"))
    literals[ends] = .end(start: starts, length: place)
    let axes = integers([axis], as: "axes")
    let result = try node("Slice", [x, starts, ends, axes])
    sliceOrigins[result] = SliceOrigin(source: x, ranges: [(axis, start.value, end.value, 1)])
    return result
  }

  /// The `count` largest entries along an axis, or the smallest, in order, and where they were.
  fileprivate mutating func largest(
    _ count: TorchInteger, of x: ValueID, _ axis: Int, isDescending: Bool
  ) throws(Failure) -> [ValueID] {
    try nodes(
      "TopK", [x, vector([count], as: "k")], ["axis": .int(axis), "largest": .int(isDescending ? 1 : 0)], count: 2)
  }

  fileprivate mutating func sorted(_ a: OperatorArguments) throws(Failure) -> [ValueID] {
    let x = try a.tensor("input")
    let axis = try axis(a.int("dim", -1), of: x)
    return try largest(length(x, axis), of: x, axis, isDescending: a.bool("descending", false))
  }

  /// The entries along an axis that a table lists, in its order.
  fileprivate mutating func picked(
    _ x: ValueID, _ axis: Int, _ index: ValueID, as suffix: String = ""
  ) throws(Failure) -> ValueID {
    // Only a number that stands in the call can be another, and no list of them becomes shorter.
    let count = try shape(index).reduce(1, *)
    if literals[index] == nil || count > 1 {
      hold([LengthUse(value: x, axis: axis)], "'\(base)' picks entries by a table")
    }
    return try node("Gather", [x, index], ["axis": .int(axis)], as: suffix)
  }

  /// Writes `value` into a part of a tensor, which all names of that tensor then show.
  ///
  /// The part is known by positions, so that the whole becomes a choice between what was there and the value.
  fileprivate mutating func filled(_ part: ValueID, _ value: TorchValue) throws(Failure) -> ValueID {
    var whole = part
    var chain: [SliceOrigin] = []
    while let origin = sliceOrigins[whole] {
      chain.append(origin)
      whole = origin.source
    }
    let shape = try shape(whole)
    guard !chain.isEmpty, shape.reduce(1, *) <= 1 << 22 else { throw unsupported("it writes into a tensor") }
    // Per axis, the positions that the part shows.
    var positions = shape.map { Array(0..<$0) }
    for origin in chain.reversed() {
      for range in origin.ranges {
        let all = positions[range.axis]
        func place(_ index: Int) -> Int { min(max(index < 0 ? index + all.count : index, 0), all.count) }
        let (start, end) = (place(range.start), range.end.map(place) ?? all.count)
        positions[range.axis] = stride(from: start, to: max(end, start), by: range.step).map { all[$0] }
      }
    }
    var mask = [UInt8](repeating: 0, count: shape.reduce(1, *))
    var offsets = [0]
    for (axis, length) in shape.enumerated() {
      offsets = offsets.flatMap { base in positions[axis].map { base * length + $0 } }
    }
    for offset in offsets { mask[offset] = 1 }
    let places = assembler.constant(
      "\(base).places", Tensor(dtype: .bool, shape: shape, bytes: TensorBytes(copying: mask)))
    let number = try tensor(value, dtype(whole))
    let changed = try node("Where", [places, number, whole], as: "whole")
    rebind(whole, to: changed)
    return changed
  }

  /// `input[index]` of a list, a dictionary or a tensor.
  fileprivate mutating func item(_ input: TorchValue, _ index: TorchValue) throws(Failure) -> TorchValue {
    switch (input, index) {
    case (.list(let elements), .integer(let position)):
      let k = position.value < 0 ? position.value + elements.count : position.value
      guard elements.indices.contains(k) else { throw malformed("it takes entry \(k) of \(elements.count)") }
      return elements[k]
    case (.list(let elements), .slice(let start, let end, let step)):
      let stride: Int
      switch step {
      case .none: stride = 1
      case .integer(let integer) where integer.value != 0: stride = integer.value
      default: throw unsupported("it takes every so many entries of a list")
      }
      // Backwards, a list starts at its last entry and ends before its first.
      let (least, most) = stride > 0 ? (0, elements.count) : (-1, elements.count - 1)
      func bound(_ value: TorchValue, _ fallback: Int) throws(Failure) -> Int {
        switch value {
        case .none: return fallback
        case .integer(let integer):
          let k = integer.value < 0 ? integer.value + elements.count : integer.value
          return min(max(k, least), most)
        default: throw unsupported("a bound is \(value.kind)")
        }
      }
      let first = try bound(start, stride > 0 ? least : most)
      let last = try bound(end, stride > 0 ? most : least)
      return .list(Swift.stride(from: first, to: last, by: stride).map { elements[$0] })
    case (.dictionary(let entries), .string(let key)):
      guard let entry = entries.first(where: { $0.key == key }) else { throw malformed("there is no entry '\(key)'") }
      return entry.value
    case (.tensor(let id), .list(let indices)): return .tensor(try indexed(id, indices))
    case (.tensor(let id), _): return .tensor(try indexed(id, [index]))
    default: throw unsupported("it takes an entry of \(input.kind)")
    }
  }

  /// NumPy's indexing with integers, slices, None, an ellipsis and at most one tensor of indices.
  private mutating func indexed(_ x: ValueID, _ indices: [TorchValue]) throws(Failure) -> ValueID {
    let rank = try rank(x)
    let consumed = indices.filter { if case .ellipsis = $0 { false } else { !$0.isNone } }.count
    guard consumed <= rank else { throw malformed("\(consumed) indices of a tensor of \(rank) axes") }
    var ranges: [(axis: Int, start: TorchInteger?, end: TorchInteger?, step: Int)] = []
    var picks: [(axis: Int, index: TorchInteger)] = []
    var tables: [(axis: Int, index: ValueID)] = []
    /// Positions, in the result before picks are taken away, of new axes.
    var layout: [Int?] = []
    var axis = 0
    for index in indices {
      switch index {
      case .none: layout.append(nil)
      case .ellipsis:
        for _ in 0..<rank - consumed {
          layout.append(axis)
          axis += 1
        }
        continue
      case .integer(let position): picks.append((axis, position))
      case .slice(let start, let end, let step):
        ranges.append((axis, try bound(start), try bound(end), try bound(step)?.value ?? 1))
        layout.append(axis)
      case .tensor(let id):
        tables.append((axis, id))
        layout.append(axis)
      case .list(let elements):
        let list = try elements.map { element throws(Failure) -> TorchInteger in
          guard case .integer(let integer) = element else { throw unsupported("an index is \(element.kind)") }
          return integer
        }
        tables.append((axis, try vector(list, as: "indices")))
        layout.append(axis)
      default: throw unsupported("an index is \(index.kind)")
      }
      if !index.isNone { axis += 1 }
    }
    while axis < rank {
      layout.append(axis)
      axis += 1
    }
    var result = try sliced(x, ranges)
    if tables.count > 1 {
      guard picks.isEmpty, !layout.contains(nil), tables.map(\.axis) == Array(0..<tables.count),
        tables.allSatisfy({ dtype($0.index) == .int64 || dtype($0.index) == .int32 })
      else { throw unsupported("it is indexed by several tensors in a way without a rule") }
      return try gathered(result, by: tables.map(\.index))
    }
    if let table = tables.first {
      guard dtype(table.index) != .bool else { throw unsupported("it picks entries by truth values") }
      guard try self.rank(table.index) == 1 || picks.isEmpty && !layout.contains(nil) else {
        throw unsupported("it mixes tables of indices with other indices")
      }
      result = try picked(result, table.axis, table.index, as: picks.isEmpty ? "" : "picked")
    }
    // From the back, so that axes keep their numbers.
    for pick in picks.sorted(by: { $0.axis > $1.axis }) { result = try selected(result, pick.axis, pick.index) }
    let new = layout.indices.filter { layout[$0] == nil }
    return new.isEmpty ? result : try node("Unsqueeze", [result, integers(Array(new), as: "axes")])
  }

  /// `x[i, j, ...]` with tensors of indices for its first axes, which broadcast against each other.
  private mutating func gathered(_ x: ValueID, by indices: [ValueID]) throws(Failure) -> ValueID {
    hold(indices.indices.map { LengthUse(value: x, axis: $0) }, "'\(base)' picks entries by tables")
    var total = indices[0]
    for index in indices.dropFirst() { total = try node("Add", [total, index], as: "shape_of_all") }
    let target = try node("Shape", [total], as: "shape")
    var columns: [ValueID] = []
    for index in indices {
      let spread = try node("Expand", [cast(index, to: .int64), target], as: "index")
      columns.append(try node("Unsqueeze", [spread, integers([-1], as: "axes")], as: "column"))
    }
    return try node("GatherND", [x, node("Concat", columns, ["axis": .int(-1)], as: "places")])
  }

  private func bound(_ value: TorchValue) throws(Failure) -> TorchInteger? {
    switch value {
    case .none: return nil
    case .integer(let integer): return integer
    default: throw unsupported("a bound is \(value.kind)")
    }
  }
}

/// Where a slice was taken from.
struct SliceOrigin {
  let source: ValueID
  let ranges: [(axis: Int, start: Int, end: Int?, step: Int)]
}
