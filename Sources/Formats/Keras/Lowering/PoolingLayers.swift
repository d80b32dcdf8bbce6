import ModelGraph

/// Pooling: by windows, over everything, and to a given number of places.
enum PoolingLayers {
  static let rules: [String: KerasRule] = {
    var table: [String: KerasRule] = [:]
    for rank in 1...3 {
      for (word, op) in [("Max", "MaxPool"), ("Average", "AveragePool"), ("Avg", "AveragePool")] {
        let windows = KerasRule { (l, a, x) throws(Failure) in
          let kernel = try a.ints("pool_size", count: rank, [2])
          return try l.pool(op, x, kernel, a)
        }
        table["\(word)Pooling\(rank)D"] = windows
        table["\(word)Pool\(rank)D"] = windows
        let global = KerasRule("inputs mask") { (l, a) throws(Failure) in
          .tensor(try l.globalPool(a, op == "MaxPool" ? "ReduceMax" : "ReduceMean", rank))
        }
        table["Global\(word)Pooling\(rank)D"] = global
        table["Global\(word)Pool\(rank)D"] = global
        table["Adaptive\(word)Pooling\(rank)D"] = KerasRule("inputs mask training") { (l, a) throws(Failure) in
          try l.adaptivePool(op == "MaxPool" ? "ReduceMax" : "ReduceMean", a.tensor("inputs"), a, rank)
        }
      }
    }
    return table
  }()
}

extension KerasLowering {
  mutating func pool(
    _ op: String, _ x: KerasTensor, _ kernel: [Int], _ a: KerasArguments
  ) throws(Failure) -> KerasTensor {
    let isChannelsFirst = try a.isChannelsFirst()
    var geometry = try geometry(a, kernel: kernel)
    // As far as the window is long, where nothing is said.
    if !a.has("strides") { geometry.strides = kernel }
    let x = try channelsSecond(x, isChannelsFirst: isChannelsFirst)
    let y = try node(op, [x], geometry.attributes(lengths: spatialLengths(x)))
    return try tensor(y, isChannelsFirst: isChannelsFirst)
  }

  fileprivate mutating func globalPool(
    _ a: KerasArguments, _ op: String, _ rank: Int
  ) throws(Failure) -> KerasTensor {
    let x = try a.tensor("inputs")
    guard self.rank(x) == rank + 2 else { throw malformed("it pools a tensor of \(self.rank(x)) axes") }
    let first = try a.isChannelsFirst() ? 2 : 1
    let keepsAxes = try a.bool("keepdims", false)
    if op == "ReduceMean", rank == 1, let mask = try a.optionalTensor("mask") ?? masks[x] {
      return try maskedMean(x, mask, steps: first, keepsAxes: keepsAxes)
    }
    return try reduced(op, x, axes: Array(first..<first + rank), keepsAxes: keepsAxes)
  }

  /// The mean of the steps that count.
  private mutating func maskedMean(
    _ x: KerasTensor, _ mask: KerasTensor, steps: Int, keepsAxes: Bool
  ) throws(Failure) -> KerasTensor {
    let counts = try cast(mask, to: dtype(x))
    let weights = tensor(
      try node("Unsqueeze", [asWritten(counts), integers([steps == 1 ? 2 : 1], as: "axes")], as: "weights"))
    let sum = try reduced("ReduceSum", product(x, weights), axes: [steps], keepsAxes: keepsAxes, as: "sum")
    let count = try reduced("ReduceSum", weights, axes: [steps], keepsAxes: keepsAxes, as: "count")
    return try binary("Div", sum, count)
  }

  /// - Parameter axes: of Keras's tensor.
  mutating func reduced(
    _ op: String, _ x: KerasTensor, axes: [Int], keepsAxes: Bool, as suffix: String = ""
  ) throws(Failure) -> KerasTensor {
    let source = primary(x)
    let places = axes.compactMap { source.axes.firstIndex(of: $0) }.sorted()
    let list = integers(places, as: "axes")
    let y = try node(op, [source.value, list], ["keepdims": .int(keepsAxes ? 1 : 0)], as: suffix)
    if keepsAxes { return tensor(y, source.axes) }
    // The axes that are left move up.
    let left = source.axes.filter { !axes.contains($0) }
    return tensor(y, left.map { axis in axis - axes.count { $0 < axis } })
  }

  /// Windows that share out the input over the places: [floor(i n / m), ceil((i + 1) n / m)).
  fileprivate mutating func adaptivePool(
    _ reduction: String, _ x: KerasTensor, _ a: KerasArguments, _ rank: Int
  ) throws(Failure) -> LoweredOperand {
    let (targets, isChannelsFirst) = (try a.ints("output_size", count: rank), try a.isChannelsFirst())
    var pooled = lengths(x)
    guard pooled.count == rank + 2 else { throw malformed("it pools a tensor of \(pooled.count) axes") }
    let first = isChannelsFirst ? 2 : 1
    pooled.replaceSubrange(first..<first + rank, with: targets.map(OpaqueLength.fixed))
    let new = pooled
    return try runnable(a, [x]) { (l) throws(Failure) in
      .tensor(try l.adaptivePool(reduction, x, targets: targets, isChannelsFirst: isChannelsFirst))
    } orOpaqueOf: { (_) throws(Failure) in
      [new]
    }
  }

  mutating func adaptivePool(
    _ reduction: String, _ x: KerasTensor, targets: [Int], isChannelsFirst: Bool
  ) throws(Failure) -> KerasTensor {
    guard !hasOpenLengths else { throw unsupported("its windows depend on lengths that the model leaves open") }
    var y = try channelsSecond(x, isChannelsFirst: isChannelsFirst)
    guard targets.allSatisfy({ (1...256).contains($0) }) else { throw unsupported("its output size is \(targets)") }
    for (k, target) in targets.enumerated() {
      let (axis, length) = (2 + k, try shape(y)[2 + k])
      if length == target { continue }
      let axes = integers([axis], as: "axes")
      var windows: [ValueID] = []
      for i in 0..<target {
        let bounds = [i * length / target, ((i + 1) * length + target - 1) / target]
        let window =
          target == 1
          ? y
          : try node(
            "Slice", [y, integers([bounds[0]], as: "start"), integers([bounds[1]], as: "end"), axes], as: "window")
        windows.append(try node(reduction, [window, axes], ["keepdims": .int(1)], as: "pooled"))
      }
      y = windows.count == 1 ? windows[0] : try node("Concat", windows, ["axis": .int(axis)], as: "places")
    }
    return try tensor(y, isChannelsFirst: isChannelsFirst)
  }
}
