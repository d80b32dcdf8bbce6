import ModelGraph

/// Operations that only move, join, split and repeat elements.
enum MovementOperations {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Reshape": KerasRule("x newshape") { (l, a) throws(Failure) in
        .tensor(try l.reshaped(a.tensor("x"), toward: a.first("newshape", "shape")))
      },
      "Ravel": KerasRule("x") { (l, a) throws(Failure) in
        .tensor(try l.reshaped(a.tensor("x"), [KerasInteger(value: -1)]))
      },
      "Transpose": KerasRule("x axes") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let rank = l.rank(x)
        return .tensor(try l.transposed(x, l.counted(a.ints("axes", Array((0..<rank).reversed())), rank)))
      },
      "Swapaxes": KerasRule("x axis1 axis2") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        var order = Array(0..<l.rank(x))
        order.swapAt(try l.axis(a.int("axis1"), of: x), try l.axis(a.int("axis2"), of: x))
        return .tensor(try l.transposed(x, order))
      },
      "Moveaxis": KerasRule("x source destination") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let rank = l.rank(x)
        let (from, to) = (try l.counted(a.ints("source"), rank), try l.counted(a.ints("destination"), rank))
        guard from.count == to.count else { throw l.malformed("it moves \(from) to \(to)") }
        var rest = (0..<rank).filter { !from.contains($0) }[...]
        let order = (0..<rank).compactMap { axis in to.firstIndex(of: axis).map { from[$0] } ?? rest.popFirst() }
        return .tensor(try l.transposed(x, order))
      },
      "Concatenate": KerasRule("xs axis") { (l, a) throws(Failure) in
        .tensor(try l.concatenated(a.tensors("xs"), axis: a.int("axis", 0)))
      },
      "Stack": KerasRule("x axis") { (l, a) throws(Failure) in
        let tensors = try a.tensors("x")
        guard let first = tensors.first else { throw l.malformed("it stacks nothing") }
        let axis = try KerasLowering.axis(a.int("axis", 0), rank: l.rank(first) + 1, l.context)
        var single: [KerasTensor] = []
        for tensor in tensors { single.append(try l.expanded(tensor, [axis], as: "single")) }
        return .tensor(try l.concatenated(single, axis: axis))
      },
      "Unstack": KerasRule("x num axis") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let axis = try l.axis(a.int("axis", 0), of: x)
        let parts = try l.parts(of: x, axis: axis, count: l.shape(x)[axis])
        var single: [LoweredOperand] = []
        for part in parts { single.append(.tensor(try l.squeezed(part, [axis]))) }
        return .list(single)
      },
      "Split": KerasRule("x indices_or_sections axis") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let axis = try l.axis(a.int("axis", 0), of: x)
        if let count = a["indices_or_sections"].integer {
          return try l.equalParts(of: x, axis: axis, count: count, areSizes: false)
        }
        // Where the parts begin.
        let bounds = try a.integers("indices_or_sections")
        var (parts, start): ([LoweredOperand], KerasInteger) = ([], KerasInteger(value: 0))
        for end in bounds + [KerasInteger(value: Int.max)] {
          parts.append(.tensor(try l.range(of: x, axis: axis, start, end)))
          start = end
        }
        return .list(parts)
      },
      "Squeeze": KerasRule("x axis") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let shape = try l.shape(x)
        let axes = try a.has("axis") ? l.counted(a.ints("axis"), shape.count) : shape.indices.filter { shape[$0] == 1 }
        return .tensor(try l.squeezed(x, axes))
      },
      "ExpandDims": KerasRule("x axis") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let axes = try a.ints("axis")
        return .tensor(try l.expanded(x, l.counted(axes, l.rank(x) + axes.count)))
      },
      "Repeat": KerasRule("x repeats axis") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        guard a.has("axis"), let times = a["repeats"].integer else {
          throw l.unsupported("it says no axis or several numbers")
        }
        return .tensor(try l.repeated(x, axis: l.axis(a.int("axis"), of: x), times: times.value))
      },
      "Tile": KerasRule("x repeats") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let times = try a.ints("repeats")
        guard times.count <= l.rank(x) else { throw l.unsupported("it repeats more axes than there are") }
        let all = [Int](repeating: 1, count: l.rank(x) - times.count) + times
        return .tensor(l.tensor(try l.node("Tile", [l.asWritten(x), l.integers(all, as: "times")])))
      },
      "Pad": KerasRule("x pad_width mode constant_values") { (l, a) throws(Failure) in
        .tensor(try l.padded(a.tensor("x"), a))
      },
      "Roll": KerasRule("x shift axis") { (l, a) throws(Failure) in
        var x = try a.tensor("x")
        let (shifts, axes) = (try a.ints("shift"), try a.ints("axis"))
        guard shifts.count == axes.count, !l.hasOpenLengths else {
          throw l.unsupported("it shifts by \(shifts) along \(axes)")
        }
        for (shift, axis) in zip(shifts, axes) {
          let axis = try l.axis(axis, of: x)
          let length = try l.shape(x)[axis]
          let start = length == 0 ? 0 : ((-shift % length) + length) % length
          if start == 0 { continue }
          l.hold(x, axis: axis, "'\(l.base)' moves these on by a number of places")
          let tail = try l.sliced(x, [(axis, start, Int.max)], as: "tail")
          x = try l.concatenated([tail, l.sliced(x, [(axis, 0, start)], as: "head")], axis: axis)
        }
        return .tensor(x)
      },
      "Flip": KerasRule("x axis") { (l, a) throws(Failure) in
        let x = try a.tensor("x")
        let axes = try l.reducedAxes("axis", a, of: x)
        let y = try l.node(
          "Slice",
          [
            l.asWritten(x), l.integers(axes.map { _ in -1 }, as: "start"),
            l.integers(axes.map { _ in Int.min }, as: "end"),
            l.integers(axes, as: "axes"), l.integers(axes.map { _ in -1 }, as: "steps"),
          ])
        return .tensor(l.tensor(y))
      },
      "BroadcastTo": KerasRule("x shape") { (l, a) throws(Failure) in
        .tensor(
          l.tensor(try l.node("Expand", [l.asWritten(a.tensor("x")), l.integers(a.integers("shape"), as: "shape")])))
      },
    ]
    table["Concat"] = table["Concatenate"]
    return table
  }()
}

extension KerasLowering {
  /// Axes counted from the front.
  func counted(_ axes: [Int], _ rank: Int) throws(Failure) -> [Int] {
    var result: [Int] = []
    for axis in axes { result.append(try Self.axis(axis, rank: rank, context)) }
    return result
  }

  /// Lengths of which some may be computed.
  fileprivate mutating func reshaped(_ x: KerasTensor, toward target: LoweredOperand) throws(Failure) -> KerasTensor {
    switch target {
    case .literal:
      guard let length = target.integer else { throw unsupported("its shape is \(target.kind)") }
      return try reshaped(x, [length])
    case .tensor(let shape):
      return tensor(try node("Reshape", [asWritten(x), cast(asWritten(shape), to: .int64)]))
    case .list(let elements):
      if !elements.contains(where: { $0.tensor != nil }) {
        var lengths: [KerasInteger] = []
        for element in elements {
          // An open length is what is left.
          guard let length = element.isNone ? KerasInteger(value: -1) : element.integer else {
            throw unsupported("a length of its shape is \(element.kind)")
          }
          lengths.append(length)
        }
        return try reshaped(x, lengths)
      }
      var parts: [ValueID] = []
      for element in elements {
        if let tensor = element.tensor {
          let flat = integers([1], as: "one")
          parts.append(try node("Reshape", [cast(asWritten(tensor), to: .int64), flat], as: "length"))
        } else if let length = element.integer {
          parts.append(integers([length], as: "length"))
        } else {
          throw unsupported("a length of its shape is \(element.kind)")
        }
      }
      return tensor(try node("Reshape", [asWritten(x), node("Concat", parts, ["axis": .int(0)], as: "shape")]))
    default: throw unsupported("its shape is \(target.kind)")
    }
  }

  /// New axes of length 1, at these places of the result.
  mutating func expanded(_ x: KerasTensor, _ axes: [Int], as suffix: String = "") throws(Failure) -> KerasTensor {
    tensor(try node("Unsqueeze", [asWritten(x), integers(axes.sorted(), as: "axes")], as: suffix))
  }

  mutating func squeezed(_ x: KerasTensor, _ axes: [Int], as suffix: String = "") throws(Failure) -> KerasTensor {
    axes.isEmpty ? x : tensor(try node("Squeeze", [asWritten(x), integers(axes, as: "axes")], as: suffix))
  }

  /// As many parts of one length.
  mutating func parts(of x: KerasTensor, axis: Int, count: Int) throws(Failure) -> [KerasTensor] {
    guard (1...4096).contains(count), try shape(x)[axis] % count == 0 else {
      throw malformed("axis \(axis) of \(try shape(x)) makes no \(count) parts")
    }
    if count == 1 { return [x] }
    let source = primary(x)
    let values = try nodes(
      "Split", [source.value], ["axis": .int(place(of: axis, in: x)), "num_outputs": .int(count)], count: count,
      as: "part")
    return values.map { tensor($0, source.axes) }
  }

  /// So many parts of one length.
  /// - Parameter areSizes: whether parts of several lengths would stand in the place of `count` by their lengths; else
  ///   by where they begin.
  mutating func equalParts(
    of x: KerasTensor, axis: Int, count: KerasInteger, areSizes: Bool
  ) throws(Failure) -> LoweredOperand {
    let parts = try parts(of: x, axis: axis, count: count.value)
    if count.value > 1, let place = count.place {
      settings[NodeSetting(node: lastNode, attribute: "num_outputs")] = .parts(place, areSizes: areSizes)
    }
    return .list(parts.map(LoweredOperand.tensor))
  }

  /// The indices from `start` up to `end`.
  mutating func range(
    of x: KerasTensor, axis: Int, _ start: KerasInteger, _ end: KerasInteger, step: Int = 1, as suffix: String = ""
  ) throws(Failure) -> KerasTensor {
    let source = primary(x)
    if abs(step) > 1 { hold(x, axis: axis, "'\(base)' takes every so many of these") }
    var operands = [
      source.value, integers([start], as: "start"), integers([end], as: "end"),
      integers([place(of: axis, in: x)], as: "axes"),
    ]
    if step != 1 { operands.append(integers([step], as: "step")) }
    return tensor(try node("Slice", operands, as: suffix), source.axes)
  }

  /// Every index several times in a row.
  fileprivate mutating func repeated(_ x: KerasTensor, axis: Int, times: Int) throws(Failure) -> KerasTensor {
    guard (1...4096).contains(times) else { throw malformed("it repeats \(times) times") }
    if times == 1 { return x }
    let rank = rank(x)
    let single = try expanded(x, [axis + 1], as: "single")
    let target = (0...rank).map { $0 == axis + 1 ? times : 1 }
    let wide = try node("Expand", [asWritten(single), integers(target, as: "times")], as: "repeated")
    let before = try node("Shape", [asWritten(x)], ["start": .int(0), "end": .int(axis)], as: "before")
    let after = try node("Shape", [asWritten(x)], ["start": .int(axis + 1)], as: "after")
    let shape = try node("Concat", [before, integers([-1], as: "all"), after], ["axis": .int(0)], as: "shape")
    return tensor(try node("Reshape", [wide, shape]))
  }

  fileprivate mutating func padded(_ x: KerasTensor, _ a: KerasArguments) throws(Failure) -> KerasTensor {
    let word = try a.string("mode", "constant").lowercased()
    let modes = ["constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"]
    guard let mode = modes[word] else { throw unsupported("its mode is '\(word)'") }
    var bounds: [(axis: Int, before: Int, after: Int)] = []
    if let all = a["pad_width"].integer?.value {
      bounds = (0..<rank(x)).map { ($0, all, all) }
    } else if case .list(let elements) = a["pad_width"] {
      for axis in 0..<rank(x) {
        // One pair, or one number, stands for all axes.
        guard let element = elements.count == 1 ? elements[0] : axis < elements.count ? elements[axis] : nil else {
          throw a.wrong("pad_width", "as many pairs as there are axes")
        }
        if let both = element.integer?.value {
          bounds.append((axis, both, both))
        } else if case .list(let two) = element, two.count == 2, let b = two[0].integer, let e = two[1].integer {
          bounds.append((axis, b.value, e.value))
        } else {
          throw a.wrong("pad_width", "pairs of numbers")
        }
      }
    }
    bounds.removeAll { $0.before == 0 && $0.after == 0 }
    if bounds.isEmpty { return x }
    return try padded(x, bounds, mode: mode, value: a.float("constant_values", 0))
  }
}
