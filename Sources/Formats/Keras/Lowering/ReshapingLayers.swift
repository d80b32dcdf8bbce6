import JSON
import ModelGraph

/// Layers that only move elements, pad and crop.
enum ReshapingLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [
      "Reshape": KerasRule { (l, a, x) throws(Failure) in
        guard case .list(let target) = a["target_shape"] else { throw a.wrong("target_shape", "a list") }
        var lengths = [KerasInteger(value: 0)]
        for element in target {
          guard let length = element.isNone ? KerasInteger(value: -1) : element.integer else {
            throw a.wrong("target_shape", "whole numbers")
          }
          lengths.append(length)
        }
        return try l.reshaped(x, lengths)
      },
      "Flatten": KerasRule { (l, a, x) throws(Failure) in
        let rank = l.rank(x)
        // Channels come last in what is flattened, wherever they were.
        let isTurned = try a.isChannelsFirst() && rank > 1
        let value = try isTurned ? l.arranged(x, [0] + Array(2..<rank) + [1]) : l.asWritten(x)
        return l.tensor(try l.node("Flatten", [value], ["axis": .int(1)]))
      },
      "Permute": KerasRule { (l, a, x) throws(Failure) in
        try l.transposed(x, [0] + a.ints("dims"))
      },
      "RepeatVector": KerasRule { (l, a, x) throws(Failure) in
        let row = try l.node("Unsqueeze", [l.asWritten(x), l.integers([1], as: "axes")], as: "row")
        let one = KerasInteger(value: 1)
        let target = l.integers([one, try a.integer("n"), one], as: "times")
        return l.tensor(try l.node("Expand", [row, target]))
      },
    ]
    for rank in 1...3 {
      table["ZeroPadding\(rank)D"] = KerasRule { (l, a, x) throws(Failure) in
        try l.padded(x, axes: a, bounds: l.bounds(a["padding"], rank, a), mode: "constant")
      }
      table["Cropping\(rank)D"] = KerasRule { (l, a, x) throws(Failure) in
        let bounds = try l.bounds(a["cropping"], rank, a)
        let first = try a.isChannelsFirst() ? 2 : 1
        return try l.sliced(
          x,
          bounds.indices.map { k in
            (first + k, bounds[k].before, bounds[k].after == 0 ? Int.max : -bounds[k].after)
          })
      }
    }
    return table
  }()
}

extension KerasLowering {
  /// - Parameter lengths: by axis of Keras's tensor, 0 for the length it has, -1 for what is left.
  mutating func reshaped(_ x: KerasTensor, _ lengths: [KerasInteger]) throws(Failure) -> KerasTensor {
    let target = integers(lengths, as: "shape")
    return tensor(try node("Reshape", [asWritten(x), target]))
  }

  /// The same values under other axes; nothing moves until somebody needs it.
  /// - Parameter order: which axis of `x` each axis is.
  mutating func transposed(_ x: KerasTensor, _ order: [Int]) throws(Failure) -> KerasTensor {
    guard order.sorted() == Array(0..<rank(x)) else {
      throw malformed("\(order) is no order of \(rank(x)) axes")
    }
    let all = arrangements[x.index].map { known in
      ArrangedValue(value: known.value, axes: known.axes.compactMap { order.firstIndex(of: $0) })
    }
    arrangements.append(all)
    return KerasTensor(index: arrangements.count - 1)
  }

  /// What is added or taken before and behind, by spatial axis: one number, one per axis, or two.
  fileprivate func bounds(
    _ setting: LoweredOperand, _ rank: Int, _ a: KerasArguments
  ) throws(Failure) -> [(before: Int, after: Int)] {
    func wrong() -> Failure { a.context.unsupported("it pads or crops by \(setting.kind)") }
    if let all = setting.integer?.value { return (0..<rank).map { _ in (all, all) } }
    guard case .list(let elements) = setting else { throw wrong() }
    // One axis has its two numbers by themselves.
    if rank == 1, elements.count == 2, let before = elements[0].integer, let after = elements[1].integer {
      return [(before.value, after.value)]
    }
    guard elements.count == rank else { throw wrong() }
    return try elements.map { element throws(Failure) -> (before: Int, after: Int) in
      if let both = element.integer?.value { return (both, both) }
      guard case .list(let two) = element, two.count == 2, let before = two[0].integer, let after = two[1].integer
      else { throw wrong() }
      return (before.value, after.value)
    }
  }

  fileprivate mutating func padded(
    _ x: KerasTensor, axes a: KerasArguments, bounds: [(before: Int, after: Int)], mode: String
  ) throws(Failure) -> KerasTensor {
    guard bounds.allSatisfy({ $0.before >= 0 && $0.after >= 0 }) else { throw malformed("it pads by \(bounds)") }
    let first = try a.isChannelsFirst() ? 2 : 1
    return try padded(x, bounds.indices.map { (first + $0, bounds[$0].before, bounds[$0].after) }, mode: mode, value: 0)
  }

  /// - Parameter bounds: by axis of Keras's tensor.
  mutating func padded(
    _ x: KerasTensor, _ bounds: [(axis: Int, before: Int, after: Int)], mode: String, value: Double
  ) throws(Failure) -> KerasTensor {
    let source = primary(x)
    let places = bounds.map { bound in source.axes.firstIndex(of: bound.axis) ?? bound.axis }
    let pads = integers(bounds.map(\.before) + bounds.map(\.after), as: "pads")
    let filling = mode == "constant" ? try scalar(value, dtype(source.value), as: "filling") : nil
    let y = try node(
      "Pad", [source.value, pads, filling, integers(places, as: "axes")], ["mode": .string(mode)])
    return tensor(y, source.axes)
  }

  /// - Parameter ranges: by axis of Keras's tensor; ends may count from the end.
  mutating func sliced(
    _ x: KerasTensor, _ ranges: [(axis: Int, start: Int, end: Int)], as suffix: String = ""
  ) throws(Failure) -> KerasTensor {
    let source = primary(x)
    let places = ranges.map { range in source.axes.firstIndex(of: range.axis) ?? range.axis }
    let y = try node(
      "Slice",
      [
        source.value, integers(ranges.map(\.start), as: "start"), integers(ranges.map(\.end), as: "end"),
        integers(places, as: "axes"),
      ], as: suffix)
    return tensor(y, source.axes)
  }
}
