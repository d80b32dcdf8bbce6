import ModelGraph

/// What a program says in Python rather than in operators: lengths, types, assertions.
enum LanguageOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [
      "getattr": TorchFunction("input name") { (l, a) throws(Failure) in
        let name = try a.string("name", "")
        // Of what `max` and the like return.
        if case .list(let parts) = a["input"], let part = ["values": 0, "indices": 1][name], part < parts.count {
          return parts[part]
        }
        return try l.attribute(name, of: a.tensor("input"))
      },
      "size": TorchFunction("input dim") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        return a.has("dim") ? .integer(try l.length(x, a.int("dim"))) : try l.attribute("shape", of: x)
      },
      "sym_size": TorchFunction("input dim") { (l, a) throws(Failure) in
        .integer(try l.length(a.tensor("input"), a.int("dim")))
      },
      "dim": TorchFunction("input") { (l, a) throws(Failure) in .integer(TorchInteger(try l.rank(a.tensor("input")))) },
      "numel": TorchFunction("input") { (l, a) throws(Failure) in try l.elementCount(a.tensor("input")) },
      "sym_numel": TorchFunction("input") { (l, a) throws(Failure) in try l.elementCount(a.tensor("input")) },
      "len": TorchFunction("input") { (l, a) throws(Failure) in
        switch a["input"] {
        case .list(let elements): return .integer(TorchInteger(elements.count))
        case .tensor(let id): return .integer(try l.length(id, 0))
        default: throw l.unsupported("it measures \(a["input"].kind)")
        }
      },
      "item": TorchFunction("input") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        guard let value = l.assembler.contents(x)?.integers?.first else {
          throw l.unsupported("its value depends on the data")
        }
        return .integer(TorchInteger(Int(value), .element(x)))
      },
      "is_floating_point": TorchFunction("input") { (l, a) throws(Failure) in
        .bool(l.dtype(try a.tensor("input")).isFloat)
      },
      "pos": TorchFunction("input") { (_, a) throws(Failure) in a["input"] },
      "not_": TorchFunction("input") { (l, a) throws(Failure) in
        guard case .bool(let value) = a["input"] else { throw l.unsupported("it negates \(a["input"].kind)") }
        return .bool(!value)
      },
      "tuple": TorchFunction("input") { (_, a) throws(Failure) in a["input"] },
      "list": TorchFunction("input") { (_, a) throws(Failure) in a["input"] },
      "dict": TorchFunction("input") { (_, a) throws(Failure) in a["input"] },
      "sym_int": TorchFunction("input") { (_, a) throws(Failure) in a["input"] },
      "sym_float": TorchFunction("input") { (_, a) throws(Failure) in
        if case .integer(let integer) = a["input"] { return .float(Double(integer.value)) }
        return a["input"]
      },
    ]
    for name in ["cond", "while_loop", "map_impl", "scan"] {
      table[name] = TorchFunction("*operands") { (l, _) throws(Failure) in
        throw l.unsupported(
          "which operators run depends on the data; write the choice with torch.where, or export the branch that is "
            + "served")
      }
    }
    // What only checks. A condition that fails under these shapes would fail in PyTorch too.
    let checks = [
      "_assert": "condition message", "_assert_scalar": "condition message", "_assert_async": "condition message",
      "sym_constrain_range": "size min max", "sym_constrain_range_for_size": "size min max",
      "_check": "condition message",
      "_assert_tensor_metadata": "a size stride dtype device layout", "_log_api_usage_once": "message",
      "lazy_load_decompositions": "", "_set_grad_enabled": "mode", "_enter_autocast": "a b c d", "_exit_autocast": "a",
    ]
    for (name, parameters) in checks {
      table[name] = TorchFunction(parameters) { (l, a) throws(Failure) in
        if case .bool(false) = a["condition"] {
          throw Failure(
            .inputShapeMismatch,
            "the model refuses inputs of these shapes: \(try a.string("message", "an assertion fails"))",
            details: ["node": .string(l.base)])
        }
        l.rememberAssertion()
        return .none
      }
    }
    return table
  }()
}

extension TorchLowering {
  fileprivate mutating func attribute(_ name: String, of x: ValueID) throws(Failure) -> TorchValue {
    switch name {
    case "shape":
      var lengths: [TorchValue] = []
      for axis in try shape(x).indices { lengths.append(.integer(try length(x, axis))) }
      return .list(lengths)
    case "ndim": return .integer(TorchInteger(try rank(x)))
    case "dtype": return .symbol("torch.\(dtype(x).pythonName)")
    case "device": return .symbol("device")
    case "requires_grad", "is_cuda", "is_quantized", "is_sparse", "is_mkldnn", "is_nested": return .bool(false)
    case "T", "mT":
      guard try rank(x) == 2 || name == "mT" else { throw unsupported("it transposes \(try rank(x)) axes") }
      return .tensor(try matrixTransposed(x))
    case "data": return .tensor(x)
    default: throw unsupported("the attribute '\(name)' of a tensor has no rule")
    }
  }

  fileprivate mutating func elementCount(_ x: ValueID) throws(Failure) -> TorchValue {
    var count = TorchValue.integer(TorchInteger(1))
    for axis in try shape(x).indices { count = try binary("Mul", count, .integer(length(x, axis))) }
    return count
  }
}

extension DType {
  /// What PyTorch calls it.
  fileprivate var pythonName: String {
    switch self {
    case .float32: "float32"
    case .float64: "float64"
    case .float16: "float16"
    case .bfloat16: "bfloat16"
    case .int64: "int64"
    case .int32: "int32"
    case .int16: "int16"
    case .int8: "int8"
    case .uint8: "uint8"
    case .bool: "bool"
    default: "\(self)"
    }
  }
}
