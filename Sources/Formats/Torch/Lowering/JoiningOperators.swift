import ModelGraph

/// Joining tensors, and taking them apart again.
enum JoiningOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [
      "stack": TorchFunction("tensors dim") { (l, a) throws(Failure) in
        let parts = try a.tensors("tensors")
        guard let first = parts.first else { throw l.malformed("it stacks nothing") }
        let dim = try a.int("dim", 0)
        let axis = dim < 0 ? dim + (try l.rank(first)) + 1 : dim
        var raised: [ValueID] = []
        for part in parts {
          raised.append(try l.node("Unsqueeze", [part, l.integers([axis], as: "axes")], as: "part"))
        }
        return .tensor(try l.node("Concat", raised, ["axis": .int(axis)]))
      },
      "split": TorchFunction("input split_size dim") { (l, a) throws(Failure) in try l.split(a, "split_size") },
      "split_with_sizes": TorchFunction("input split_sizes dim") { (l, a) throws(Failure) in
        try l.split(a, "split_sizes")
      },
      "chunk": TorchFunction("input chunks dim") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        let axis = try l.axis(a.int("dim", 0), of: x)
        let (length, chunks) = (try l.shape(x)[axis], try a.int("chunks"))
        guard chunks > 0 else { throw l.malformed("it makes \(chunks) chunks") }
        let size = max((length + chunks - 1) / chunks, 1)
        return .list(try l.parts(of: x, axis: axis, size: size, length: length).map(TorchValue.tensor))
      },
      "diff": TorchFunction("input n dim prepend append") { (l, a) throws(Failure) in
        guard try a.int("n", 1) == 1 else { throw l.unsupported("it takes differences of differences") }
        var x = try a.tensor("input")
        let axis = try l.axis(a.int("dim", -1), of: x)
        let ends = [try a.optionalTensor("prepend"), x, try a.optionalTensor("append")].compactMap { $0 }
        if ends.count > 1 { x = try l.node("Concat", ends, ["axis": .int(axis)], as: "joined") }
        guard l.dtype(x) != .bool else { throw l.unsupported("it compares truth values") }
        let axes = l.integers([axis], as: "axes")
        let later = try l.node(
          "Slice", [x, l.integers([1], as: "one"), l.integers([Int(Int32.max)], as: "end"), axes], as: "later")
        let earlier = try l.node(
          "Slice", [x, l.integers([0], as: "zero"), l.integers([-1], as: "last"), axes], as: "earlier")
        return .tensor(try l.node("Sub", [later, earlier]))
      },
      "unbind": TorchFunction("input dim") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        let axis = try l.axis(a.int("dim", 0), of: x)
        return .list(
          try (0..<(try l.shape(x)[axis])).map { index throws(Failure) in
            .tensor(try l.node("Gather", [x, l.integers([index], shape: [], as: "index")], ["axis": .int(axis)]))
          })
      },
    ]
    table["tensor_split"] = TorchFunction("input indices_or_sections dim") { (l, a) throws(Failure) in
      let x = try a.tensor("input")
      let axis = try l.axis(a.int("dim", 0), of: x)
      let (length, count) = (try l.shape(x)[axis], try a.int("indices_or_sections"))
      guard (1...4096).contains(count) else { throw l.unsupported("it makes \(count) parts") }
      // The first ones are longer by one where it does not come out even, which no other call says.
      l.hold([LengthUse(value: x, axis: axis)], "'\(l.base)' shares it out")
      let sizes = (0..<count).map { TorchInteger(length / count + ($0 < length % count ? 1 : 0)) }
      return .list(try l.parts(of: x, axis: axis, sizes: sizes, count: count).map(TorchValue.tensor))
    }
    table["hstack"] = TorchFunction("tensors") { (l, a) throws(Failure) in
      let parts = try a.tensors("tensors")
      guard let first = parts.first else { throw l.malformed("it joins nothing") }
      return .tensor(try l.node("Concat", parts, ["axis": .int(l.rank(first) > 1 ? 1 : 0)]))
    }
    for name in ["cat", "concat", "concatenate"] {
      table[name] = TorchFunction("tensors dim") { (l, a) throws(Failure) in
        // Empty tensors of one axis count for nothing, whatever the others are.
        var parts: [ValueID] = []
        for part in try a.tensors("tensors") where try l.shape(part) != [0] { parts.append(part) }
        guard let first = parts.first else { throw l.malformed("it joins nothing") }
        let axis = try l.axis(a.int("dim", 0), of: first)
        return .tensor(try l.node("Concat", parts, ["axis": .int(axis)]))
      }
    }
    return table
  }()
}

extension TorchLowering {
  fileprivate mutating func split(_ a: OperatorArguments, _ name: String) throws(Failure) -> TorchValue {
    let x = try a.tensor("input")
    let axis = try axis(a.int("dim", 0), of: x)
    if case .list = a[name] {
      let sizes = try a.integers(name)
      return .list(try parts(of: x, axis: axis, sizes: sizes, count: sizes.count).map(TorchValue.tensor))
    }
    let size = try a.int(name)
    guard size > 0 else { throw malformed("its parts have the length \(size)") }
    return .list(try parts(of: x, axis: axis, size: size, length: shape(x)[axis]).map(TorchValue.tensor))
  }

  /// Parts of one size; the last may be shorter.
  fileprivate mutating func parts(of x: ValueID, axis: Int, size: Int, length: Int) throws(Failure) -> [ValueID] {
    let count = max((length + size - 1) / size, 1)
    guard count <= 4096 else { throw unsupported("it makes \(count) parts") }
    if count == 1 { return [try node("Identity", [x])] }
    let sizes = (0..<count).map { min(size, length - size * $0) }
    let id = assembler.constant("\(base).sizes", Tensor(int64: sizes.map(Int64.init)))
    literals[id] = .parts(call: call)
    return try nodes("Split", [x, id], ["axis": .int(axis)], count: count)
  }

  /// - Parameter sizes: nil for `count` equal ones.
  mutating func parts(of x: ValueID, axis: Int, sizes: [TorchInteger]?, count: Int) throws(Failure) -> [ValueID] {
    guard let sizes else {
      return try nodes("Split", [x], ["axis": .int(axis), "num_outputs": .int(count)], count: count)
    }
    if count == 1 { return [try node("Identity", [x])] }
    return try nodes("Split", [x, vector(sizes, as: "sizes")], ["axis": .int(axis)], count: count)
  }
}
