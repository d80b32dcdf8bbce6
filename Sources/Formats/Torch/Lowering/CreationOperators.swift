import ModelGraph

/// Tensors made from nothing but a size, and element types.
enum CreationOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [
      "full": TorchFunction("*size fill_value dtype layout device pin_memory requires_grad out") {
        (l, a) throws(Failure) in
        // `full(size, value)` gives both by position.
        guard case .list(let given) = a["size"] else { throw l.unsupported("its size is \(a["size"].kind)") }
        if given.count == 2, case .list(let size) = given[0] { return try l.made(size, given[1], a) }
        return try l.made(given, a["fill_value"], a)
      },
      "new_full": TorchFunction("input size fill_value dtype layout device pin_memory") { (l, a) throws(Failure) in
        guard case .list(let size) = a["size"] else { throw l.unsupported("its size is \(a["size"].kind)") }
        return try l.made(size, a["fill_value"], a, like: a.tensor("input"))
      },
      "full_like": TorchFunction("input fill_value dtype layout device pin_memory memory_format") {
        (l, a) throws(Failure) in
        try l.made(like: a.tensor("input"), a["fill_value"], a)
      },
      "arange": TorchFunction("start end step dtype layout device pin_memory requires_grad out") {
        (l, a) throws(Failure) in
        try l.range(a)
      },
      "linspace": TorchFunction("start end steps out dtype layout device pin_memory requires_grad") {
        (l, a) throws(Failure) in
        let (start, end, steps) = (try a.float("start"), try a.float("end"), try a.int("steps"))
        guard (1...1 << 24).contains(steps) else { throw l.unsupported("it makes \(steps) numbers") }
        let step = steps > 1 ? (end - start) / Double(steps - 1) : 0
        let numbers = Tensor(float32: (0..<steps).map { Float(start + step * Double($0)) })
        let id = l.assembler.constant("\(l.base).numbers", numbers)
        l.fixed[id] = "'\(l.base)' makes as many numbers as it says"
        return .tensor(try a.has("dtype") ? l.cast(id, to: l.type(named: a["dtype"])) : id)
      },
      "meshgrid": TorchFunction("*tensors indexing") { (l, a) throws(Failure) in
        .list(try l.grid(a.tensors("tensors"), isMatrix: a.string("indexing", "ij") == "ij"))
      },
      "scalar_tensor": TorchFunction("value dtype layout device pin_memory") { (l, a) throws(Failure) in
        .tensor(try l.tensor(a["value"], a.has("dtype") ? l.type(named: a["dtype"]) : l.type(of: a["value"])))
      },
      "tensor": TorchFunction("value dtype device requires_grad") { (l, a) throws(Failure) in
        if case .list = a["value"] { throw l.unsupported("it holds a list; register it as a buffer") }
        return .tensor(try l.tensor(a["value"], a.has("dtype") ? l.type(named: a["dtype"]) : l.type(of: a["value"])))
      },
      "type_as": TorchFunction("input other") { (l, a) throws(Failure) in
        .tensor(try l.cast(a.tensor("input"), to: l.dtype(a.tensor("other"))))
      },
      "to": TorchFunction("input target second non_blocking copy dtype device memory_format layout") {
        (l, a) throws(Failure) in
        let x = try a.tensor("input")
        for name in ["dtype", "target", "second"] {
          if case .tensor(let other) = a[name] { return .tensor(try l.cast(x, to: l.dtype(other))) }
          if let type = l.knownType(a[name]) { return .tensor(try l.cast(x, to: type)) }
        }
        return .tensor(x)
      },
      "_to_copy": TorchFunction("input dtype layout device pin_memory non_blocking memory_format") {
        (l, a) throws(Failure) in
        let x = try a.tensor("input")
        return .tensor(a.has("dtype") ? try l.cast(x, to: l.type(named: a["dtype"])) : x)
      },
      "type": TorchFunction("input dtype") { (l, a) throws(Failure) in
        .tensor(try l.cast(a.tensor("input"), to: l.type(named: a["dtype"])))
      },
    ]
    for (name, value) in ["zeros": 0.0, "ones": 1.0, "empty": 0.0] {
      table[name] = TorchFunction("*size dtype layout device pin_memory requires_grad memory_format out") {
        (l, a) throws(Failure) in
        guard case .list(let size) = a["size"] else { throw l.unsupported("its size is \(a["size"].kind)") }
        return try l.made(size, .float(value), a)
      }
      table["new_\(name)"] = TorchFunction("input *size dtype layout device pin_memory requires_grad") {
        (l, a) throws(Failure) in
        guard case .list(let size) = a["size"] else { throw l.unsupported("its size is \(a["size"].kind)") }
        return try l.made(size, .float(value), a, like: a.tensor("input"))
      }
      table["\(name)_like"] = TorchFunction("input dtype layout device pin_memory requires_grad memory_format") {
        (l, a) throws(Failure) in
        try l.made(like: a.tensor("input"), .float(value), a)
      }
    }
    for (name, type) in [
      "float": DType.float32, "half": .float16, "double": .float64, "long": .int64, "int": .int32, "bool": .bool,
      "bfloat16": .bfloat16,
    ] {
      table[name] = TorchFunction("input") { (l, a) throws(Failure) in
        switch a["input"] {
        case .tensor(let id): return .tensor(try l.cast(id, to: type))
        case .integer, .float, .bool: return a["input"]
        default: throw l.unsupported("it converts \(a["input"].kind)")
        }
      }
    }
    return table
  }()
}

extension TorchLowering {
  private static let types: [String: DType] = [
    "float32": .float32, "float": .float32, "float64": .float64, "double": .float64, "float16": .float16,
    "half": .float16, "bfloat16": .bfloat16, "int64": .int64, "long": .int64, "int32": .int32, "int": .int32,
    "int16": .int16, "short": .int16, "int8": .int8, "uint8": .uint8, "bool": .bool,
  ]

  /// The element type that "torch.float32" names; nil for anything else.
  func knownType(_ value: TorchValue) -> DType? {
    guard case .symbol(let name) = value, name.hasPrefix("torch.") else { return nil }
    return Self.types[String(name.dropFirst("torch.".count))]
  }

  func type(named value: TorchValue) throws(Failure) -> DType {
    guard let type = knownType(value) else { throw unsupported("\(value.kind) is no element type with a rule") }
    return type
  }

  func type(of number: TorchValue) -> DType {
    switch number {
    case .integer: .int64
    case .bool: .bool
    default: .float32
    }
  }

  fileprivate mutating func made(
    _ size: [TorchValue], _ value: TorchValue, _ a: OperatorArguments, like: ValueID? = nil
  ) throws(Failure) -> TorchValue {
    // A list may be given as one argument.
    var size = size
    if size.count == 1, case .list(let inner) = size[0] { size = inner }
    let lengths = try size.map { element throws(Failure) -> TorchInteger in
      guard case .integer(let integer) = element else { throw unsupported("a length is \(element.kind)") }
      return integer
    }
    let fallback = like.map { dtype($0) } ?? type(of: value)
    let type = a.has("dtype") ? try type(named: a["dtype"]) : fallback
    let number = try tensor(value, type)
    return .tensor(try node("Expand", [number, vector(lengths, as: "shape")]))
  }

  fileprivate mutating func made(
    like x: ValueID, _ value: TorchValue, _ a: OperatorArguments
  ) throws(Failure) -> TorchValue {
    let type = a.has("dtype") ? try type(named: a["dtype"]) : dtype(x)
    let number = try tensor(value, type)
    return .tensor(try node("Expand", [number, node("Shape", [x], as: "shape")]))
  }

  /// Every vector spread over the axes of all.
  fileprivate mutating func grid(_ vectors: [ValueID], isMatrix: Bool) throws(Failure) -> [TorchValue] {
    var axes = Array(vectors.indices)
    if !isMatrix, axes.count > 1 { axes.swapAt(0, 1) }
    var lengths = [TorchInteger](repeating: TorchInteger(1), count: vectors.count)
    for (vector, axis) in zip(vectors, axes) {
      guard try rank(vector) == 1 else { throw unsupported("it spreads \(try rank(vector)) axes") }
      lengths[axis] = try length(vector, 0)
    }
    var result: [TorchValue] = []
    for (vector, axis) in zip(vectors, axes) {
      let shape = axes.indices.map { $0 == axis ? -1 : 1 }
      let line = try node("Reshape", [vector, integers(shape, as: "line")], as: "line")
      result.append(.tensor(try node("Expand", [line, self.vector(lengths, as: "shape")], as: "grid")))
    }
    return result
  }

  fileprivate mutating func range(_ a: OperatorArguments) throws(Failure) -> TorchValue {
    // One bound is the end.
    let (start, end): (TorchValue, TorchValue) =
      a.has("start") && a.has("end")
      ? (a["start"], a["end"]) : (.integer(TorchInteger(0)), a.has("end") ? a["end"] : a["start"])
    let step: TorchValue = a.has("step") ? a["step"] : .integer(TorchInteger(1))
    var type = DType.int64
    for value in [start, end, step] {
      switch value {
      case .float, .computed: type = .float32
      default: break
      }
    }
    let bounds = [try tensor(start, type), try tensor(end, type), try tensor(step, type)]
    let range = try node("Range", bounds)
    return .tensor(a.has("dtype") ? try cast(range, to: self.type(named: a["dtype"])) : range)
  }
}
