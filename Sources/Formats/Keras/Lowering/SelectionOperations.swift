import JSON
import ModelGraph

/// Operations that pick elements, and products of tensors.
enum SelectionOperations {
  static let rules: [String: KerasRule] = [
    "GetItem": KerasRule("x key") { (l, a) throws(Failure) in .tensor(try l.item(a.tensor("x"), a["key"])) },
    "Take": KerasRule("x indices axis") { (l, a) throws(Failure) in
      guard a.has("axis") else { throw l.unsupported("it says no axis") }
      let x = try a.tensor("x")
      let axis = try l.axis(a.int("axis"), of: x)
      l.hold(x, axis: axis, "'\(l.base)' takes some of these by number")
      let indices: ValueID
      if let tensor = a["indices"].tensor {
        indices = try l.cast(l.asWritten(tensor), to: .int64)
      } else {
        indices = try l.constant(a["indices"], .int64)
      }
      return .tensor(l.tensor(try l.node("Gather", [l.asWritten(x), indices], ["axis": .int(axis)])))
    },
    "TakeAlongAxis": KerasRule("x indices axis") { (l, a) throws(Failure) in
      guard a.has("axis") else { throw l.unsupported("it says no axis") }
      let x = try a.tensor("x")
      let indices = try l.cast(l.asWritten(a.tensor("indices")), to: .int64)
      let axis = try l.axis(a.int("axis"), of: x)
      return .tensor(l.tensor(try l.node("GatherElements", [l.asWritten(x), indices], ["axis": .int(axis)])))
    },
    "Slice": KerasRule("inputs start_indices shape") { (l, a) throws(Failure) in
      let x = try a.tensor("inputs")
      let (starts, lengths) = (try a.ints("start_indices"), try a.ints("shape"))
      guard starts.count == l.rank(x), lengths.count == starts.count else {
        throw l.malformed("it takes \(lengths) from \(starts)")
      }
      return .tensor(
        try l.sliced(
          x, starts.indices.map { ($0, starts[$0], lengths[$0] < 0 ? Int.max : starts[$0] + lengths[$0]) }))
    },
    "Matmul": KerasRule("x1 x2") { (l, a) throws(Failure) in
      let both = try l.promoted([a["x1"], a["x2"]])
      return .tensor(l.tensor(try l.node("MatMul", [l.asWritten(both[0]), l.asWritten(both[1])])))
    },
    "Dot": KerasRule("x1 x2") { (l, a) throws(Failure) in
      let both = try l.promoted([a["x1"], a["x2"]])
      guard l.rank(both[1]) <= 2, l.rank(both[0]) > 0, l.rank(both[1]) > 0 else {
        throw l.unsupported("it multiplies \(l.rank(both[0])) by \(l.rank(both[1])) axes")
      }
      return .tensor(l.tensor(try l.node("MatMul", [l.asWritten(both[0]), l.asWritten(both[1])])))
    },
    "Einsum": KerasRule("*operands") { (l, a) throws(Failure) in
      let tensors = try l.promoted(a.tensors("operands").map(LoweredOperand.tensor))
      var values: [ValueID] = []
      for tensor in tensors { values.append(try l.asWritten(tensor)) }
      let equation = String(try a.string("subscripts", "").filter { $0 != " " })
      return .tensor(l.tensor(try l.node("Einsum", values, ["equation": .string(equation)])))
    },
    "Cumsum": KerasRule("x axis") { (l, a) throws(Failure) in
      let x = try a.tensor("x")
      guard a.has("axis"), !a.has("dtype") else { throw l.unsupported("it says no axis, or a type") }
      let source = l.primary(x)
      let axis = try l.scalar(Double(l.place(of: l.axis(a.int("axis"), of: x), in: x)), .int64, as: "axis")
      return .tensor(l.tensor(try l.node("CumSum", [source.value, axis]), source.axes))
    },
    "Tril": triangle(isUpper: false), "Triu": triangle(isUpper: true),
    "OnesLike": filled(1), "ZerosLike": filled(0),
    "FullLike": KerasRule("x fill_value dtype") { (l, a) throws(Failure) in
      try l.filled(a.float("fill_value"), a)
    },
    "OneHot": KerasRule("x num_classes axis dtype") { (l, a) throws(Failure) in
      let indices = try l.cast(l.asWritten(a.tensor("x")), to: .int64)
      let depth = l.integers([try a.int("num_classes")], as: "depth")
      let type = a.has("dtype") ? DType(kerasName: try a.string("dtype", "float32")) ?? .float32 : .float32
      let y = try l.node(
        "OneHot", [indices, depth, l.constant(.list([]), zeroAndOneOf: type)], ["axis": .int(a.int("axis", -1))],
        dtype: type)
      return .tensor(l.tensor(y))
    },
    "Arange": KerasRule("start stop step dtype") { (l, a) throws(Failure) in
      guard let first = a["start"].number else { throw l.unsupported("its bounds are computed") }
      let (start, stop) = a.has("stop") ? (first, try a.float("stop")) : (0, first)
      let step = try a.float("step", 1)
      guard step != 0, abs((stop - start) / step) < 1e6 else {
        throw l.unsupported("it counts from \(start) to \(stop)")
      }
      let isReal = a["start"].isReal || a["stop"].isReal || a["step"].isReal
      let type = try a.has("dtype") ? DType(kerasName: a.string("dtype", "")) : nil
      let elements = Array(stride(from: start, to: stop, by: step))
      let numbers =
        isReal ? try l.vector(elements, .float32, as: "range") : l.integers(elements.map { Int($0) }, as: "range")
      return .tensor(l.tensor(try l.cast(numbers, to: type ?? (isReal ? .float32 : .int32))))
    },
  ]

  private static func triangle(isUpper: Bool) -> KerasRule {
    KerasRule("x k") { (l, a) throws(Failure) in
      let k = try l.scalar(Double(a.int("k", 0)), .int64, as: "k")
      let x = try l.asWritten(a.tensor("x"))
      return .tensor(l.tensor(try l.node("Trilu", [x, k], ["upper": .int(isUpper ? 1 : 0)])))
    }
  }

  private static func filled(_ value: Double) -> KerasRule {
    KerasRule("x dtype") { (l, a) throws(Failure) in try l.filled(value, a) }
  }
}

extension KerasLowering {
  fileprivate mutating func filled(_ value: Double, _ a: KerasArguments) throws(Failure) -> LoweredOperand {
    let x = try a.tensor("x")
    let type = try a.has("dtype") ? DType(kerasName: a.string("dtype", "")) ?? dtype(x) : dtype(x)
    let shape = try node("Shape", [asWritten(x)], as: "shape")
    return .tensor(tensor(try node("Expand", [scalar(value, type), shape])))
  }

  fileprivate mutating func constant(_: LoweredOperand, zeroAndOneOf type: DType) throws(Failure) -> ValueID {
    try cast(integers([0, 1], as: "values"), to: type)
  }

  /// What square brackets pick: numbers, ranges, new axes, "...".
  mutating func item(_ x: KerasTensor, _ key: LoweredOperand) throws(Failure) -> KerasTensor {
    let keys: [LoweredOperand] = if case .list(let elements) = key { elements } else { [key] }
    let rank = rank(x)
    let taken = keys.count { !$0.isNone && !Self.isEllipsis($0) }
    guard taken <= rank, keys.count(where: Self.isEllipsis) <= 1 else {
      throw malformed("it picks along \(taken) axes")
    }
    var result = x
    var (axis, place): (Int, Int) = (0, 0)
    /// By place of the result: axes to be taken away, and new ones.
    var (single, new): ([Int], [Int]) = ([], [])
    for key in keys {
      if Self.isEllipsis(key) {
        axis += rank - taken
        place += rank - taken
      } else if key.isNone {
        new.append(place)
        place += 1
      } else if let index = key.integer {
        let end = KerasInteger(value: index.value == -1 ? Int.max : index.value + 1)
        result = try range(of: result, axis: axis, KerasInteger(value: index.value), end, as: "index")
        single.append(axis)
        axis += 1
      } else if let bounds = Self.slice(key) {
        let step = bounds.step?.value ?? 1
        guard step != 0 else { throw malformed("it picks with a step of 0") }
        if bounds.start != nil || bounds.end != nil || step != 1 {
          let start = bounds.start ?? KerasInteger(value: step > 0 ? 0 : Int.max)
          let end = bounds.end ?? KerasInteger(value: step > 0 ? Int.max : Int.min)
          result = try range(of: result, axis: axis, start, end, step: step, as: "range")
        }
        axis += 1
        place += 1
      } else {
        throw unsupported("it picks by \(key.kind)")
      }
    }
    result = try squeezed(result, single, as: new.isEmpty ? "" : "squeezed")
    return new.isEmpty ? result : try expanded(result, new)
  }

  private static func isEllipsis(_ key: LoweredOperand) -> Bool {
    guard case .literal(let element) = key else { return false }
    return element["class_name"]?.equals("__ellipsis__") == true || element.equals("...") || element.equals("Ellipsis")
  }

  private static func slice(
    _ key: LoweredOperand
  ) -> (start: KerasInteger?, end: KerasInteger?, step: KerasInteger?)? {
    switch key {
    case .literal(let element) where element.kind == .object:
      guard let config = element["config"] ?? Optional(element), config["step"] != nil || config["start"] != nil
      else { return nil }
      func bound(_ element: JSONElement?) -> KerasInteger? { element.flatMap { LoweredOperand($0).integer } }
      return (bound(config["start"]), bound(config["stop"]), bound(config["step"]))
    case .dictionary(let entries):
      func bound(_ name: String) -> KerasInteger? { entries.first { $0.name == name }?.value.integer }
      guard entries.allSatisfy({ $0.value.tensor == nil }), entries.contains(where: { $0.name == "start" }) else {
        return nil
      }
      return (bound("start"), bound("stop"), bound("step"))
    default: return nil
    }
  }
}
