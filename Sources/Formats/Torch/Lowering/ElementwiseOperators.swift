import Glibc
import ModelGraph

/// Arithmetic and comparison, element by element. Between integers of the program it is the program's own arithmetic.
enum ElementwiseOperators {
  static let functions: [String: TorchFunction] = {
    var table: [String: TorchFunction] = [
      "add": TorchFunction("input other alpha") { (l, a) throws(Failure) in try l.sum("Add", a) },
      "sub": TorchFunction("input other alpha") { (l, a) throws(Failure) in try l.sum("Sub", a) },
      "subtract": TorchFunction("input other alpha") { (l, a) throws(Failure) in try l.sum("Sub", a) },
      "rsub": TorchFunction("input other alpha") { (l, a) throws(Failure) in
        guard try a.float("alpha", 1) == 1 else { throw l.unsupported("alpha is not 1") }
        return try l.binary("Sub", a["other"], a["input"])
      },
      "div": TorchFunction("input other rounding_mode") { (l, a) throws(Failure) in
        switch try a.string("rounding_mode", "") {
        case "": return try l.quotient(a["input"], a["other"])
        case "floor": return try l.floorQuotient(a["input"], a["other"])
        default:
          guard case .tensor(let quotient) = try l.quotient(a["input"], a["other"]) else {
            throw l.unsupported("it divides numbers")
          }
          let magnitude = try l.node("Floor", [l.node("Abs", [quotient], as: "abs")], as: "floor")
          return .tensor(try l.node("Mul", [magnitude, l.node("Sign", [quotient], as: "sign")]))
        }
      },
      "truediv": TorchFunction("input other") { (l, a) throws(Failure) in try l.quotient(a["input"], a["other"]) },
      "floordiv": TorchFunction("input other") { (l, a) throws(Failure) in
        try l.floorQuotient(a["input"], a["other"])
      },
      "pow": TorchFunction("input exponent") { (l, a) throws(Failure) in
        try l.binary("Pow", a["input"], a["exponent"])
      },
      "neg": TorchFunction("input") { (l, a) throws(Failure) in
        switch a["input"] {
        case .integer(let integer): return try l.binary("Sub", .integer(TorchInteger(0)), .integer(integer))
        case .float, .computed: return try l.binary("Sub", .float(0), a["input"])
        default: return .tensor(try l.node("Neg", [a.tensor("input")]))
        }
      },
      "where": TorchFunction("condition input other") { (l, a) throws(Failure) in
        let (x, y) = try l.operands(a["input"], a["other"])
        return .tensor(try l.node("Where", [a.tensor("condition"), x, y]))
      },
      "masked_fill": TorchFunction("input mask value") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        let (_, value) = try l.operands(.tensor(x), a["value"])
        return .tensor(try l.node("Where", [a.tensor("mask"), value, x]))
      },
      "clamp": TorchFunction("input min max") { (l, a) throws(Failure) in try l.clamped(a) },
      "clip": TorchFunction("input min max") { (l, a) throws(Failure) in try l.clamped(a) },
      "clamp_min": TorchFunction("input min") { (l, a) throws(Failure) in try l.clamped(a) },
      "clamp_max": TorchFunction("input max") { (l, a) throws(Failure) in try l.clamped(a) },
      "ne": TorchFunction("input other") { (l, a) throws(Failure) in
        let equal = try l.binary("Equal", a["input"], a["other"])
        if case .bool(let value) = equal { return .bool(!value) }
        guard case .tensor(let id) = equal else { return equal }
        return .tensor(try l.node("Not", [id]))
      },
      "addcmul": TorchFunction("input tensor1 tensor2 value") { (l, a) throws(Failure) in
        var product = try l.binary("Mul", a["tensor1"], a["tensor2"])
        if a.has("value") { product = try l.binary("Mul", product, a["value"]) }
        return try l.binary("Add", a["input"], product)
      },
      "log2": TorchFunction("input") { (l, a) throws(Failure) in
        let natural = try l.node("Log", [l.floating(a.tensor("input"))], as: "log")
        return try l.binary("Mul", .tensor(natural), .float(1 / log(2)))
      },
      "log10": TorchFunction("input") { (l, a) throws(Failure) in
        let natural = try l.node("Log", [l.floating(a.tensor("input"))], as: "log")
        return try l.binary("Mul", .tensor(natural), .float(1 / log(10)))
      },
      "expm1": TorchFunction("input") { (l, a) throws(Failure) in
        let exp = try l.node("Exp", [l.floating(a.tensor("input"))], as: "exp")
        return try l.binary("Sub", .tensor(exp), .float(1))
      },
      "hypot": TorchFunction("input other") { (l, a) throws(Failure) in
        let (x, y) = try l.operands(a["input"], a["other"])
        let squares = try [l.node("Mul", [x, x], as: "square"), l.node("Mul", [y, y], as: "square")]
        return .tensor(try l.node("Sqrt", [l.node("Add", squares, as: "sum")]))
      },
      "fmod": TorchFunction("input other") { (l, a) throws(Failure) in
        let (x, y) = try l.operands(a["input"], a["other"])
        return .tensor(try l.node("Mod", [x, y], ["fmod": .int(1)]))
      },
      "rsqrt": TorchFunction("input") { (l, a) throws(Failure) in
        let root = try l.node("Sqrt", [l.floating(a.tensor("input"))], as: "sqrt")
        return .tensor(try l.node("Reciprocal", [root]))
      },
      "square": TorchFunction("input") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        return .tensor(try l.node("Mul", [x, x]))
      },
      "log1p": TorchFunction("input") { (l, a) throws(Failure) in
        guard case .tensor(let sum) = try l.binary("Add", a["input"], .float(1)) else { return .none }
        return .tensor(try l.node("Log", [sum]))
      },
      "sym_max": TorchFunction("input other") { (l, a) throws(Failure) in
        try l.binary("Max", a["input"], a["other"])
      },
      "sym_min": TorchFunction("input other") { (l, a) throws(Failure) in
        try l.binary("Min", a["input"], a["other"])
      },
      "copy": TorchFunction("input src") { (l, a) throws(Failure) in
        let target = try l.node("Shape", [a.tensor("input")], as: "shape")
        return .tensor(try l.node("Expand", [a.tensor("src"), target]))
      },
      "lerp": TorchFunction("input end weight") { (l, a) throws(Failure) in
        let distance = try l.binary("Sub", a["end"], a["input"])
        return try l.binary("Add", a["input"], l.binary("Mul", distance, a["weight"]))
      },
    ]
    let binary = [
      "mul": "Mul", "multiply": "Mul", "maximum": "Max", "minimum": "Min", "eq": "Equal", "lt": "Less", "gt": "Greater",
      "le": "LessOrEqual", "ge": "GreaterOrEqual", "logical_and": "And", "logical_or": "Or", "logical_xor": "Xor",
      "and_": "And", "or_": "Or", "bitwise_and": "And", "bitwise_or": "Or", "mod": "Mod", "remainder": "Mod",
      "__and__": "And", "__or__": "Or", "and": "And", "or": "Or",
    ]
    for (name, op) in binary {
      table[name] = TorchFunction("input other") { (l, a) throws(Failure) in
        try l.binary(op, a["input"], a["other"])
      }
    }
    let unary = [
      "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "abs": "Abs", "erf": "Erf", "sin": "Sin", "cos": "Cos", "tan": "Tan",
      "floor": "Floor", "ceil": "Ceil", "round": "Round", "reciprocal": "Reciprocal", "sign": "Sign", "tanh": "Tanh",
      "logical_not": "Not", "bitwise_not": "Not", "special_expit": "Sigmoid", "isnan": "IsNaN", "sinh": "Sinh",
      "cosh": "Cosh", "atan": "Atan",
    ]
    for (name, op) in unary {
      table[name] = TorchFunction("input") { (l, a) throws(Failure) in
        let x = try a.tensor("input")
        let needsReal = !["Abs", "Sign", "Not"].contains(op)
        return .tensor(try l.node(op, [needsReal ? l.floating(x) : x]))
      }
    }
    return table
  }()
}

extension TorchLowering {
  // MARK: Types

  /// Element types in the order in which PyTorch promotes them.
  private static let promotion: [DType] = [
    .bool, .uint8, .int8, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64,
  ]

  private static func promoted(_ a: DType, _ b: DType) -> DType {
    if a == b { return a }
    // The two halves meet above both.
    if Set([a, b]) == [.float16, .bfloat16] { return .float32 }
    let (ka, kb) = (promotion.firstIndex(of: a) ?? promotion.count, promotion.firstIndex(of: b) ?? promotion.count)
    return ka > kb ? a : b
  }

  mutating func cast(_ id: ValueID, to type: DType) throws(Failure) -> ValueID {
    dtype(id) == type ? id : try node("Cast", [id], ["to": .int(type.rawValue)], as: "cast")
  }

  /// The tensor as real numbers.
  mutating func floating(_ id: ValueID) throws(Failure) -> ValueID {
    dtype(id).isFloat ? id : try cast(id, to: .float32)
  }

  /// Both operands as tensors of one type; at least one is a tensor already.
  mutating func operands(_ a: TorchValue, _ b: TorchValue) throws(Failure) -> (ValueID, ValueID) {
    switch (a, b) {
    case (.tensor(let x), .tensor(let y)):
      var type = Self.promoted(dtype(x), dtype(y))
      // A scalar tensor gives way within its category.
      let (rx, ry) = (try rank(x), try rank(y))
      if rx == 0, ry > 0, dtype(x).isFloat == dtype(y).isFloat || dtype(y).isFloat {
        type = dtype(y)
      } else if ry == 0, rx > 0, dtype(x).isFloat == dtype(y).isFloat || dtype(x).isFloat {
        type = dtype(x)
      }
      return (try cast(x, to: type), try cast(y, to: type))
    case (.tensor(let x), _):
      let type = try type(of: b, beside: dtype(x))
      return (try cast(x, to: type), try tensor(b, type))
    case (_, .tensor(let y)):
      let type = try type(of: a, beside: dtype(y))
      return (try tensor(a, type), try cast(y, to: type))
    default: throw unsupported("neither operand is a tensor")
    }
  }

  private func type(of number: TorchValue, beside type: DType) throws(Failure) -> DType {
    switch number {
    case .float, .computed: type.isFloat ? type : .float32
    case .integer: type == .bool ? .int64 : type
    default: type
    }
  }

  /// A number of Python's as a scalar tensor.
  mutating func tensor(_ value: TorchValue, _ type: DType) throws(Failure) -> ValueID {
    switch value {
    case .tensor(let id): return try cast(id, to: type)
    case .integer(let integer): return try scalar(integer, type)
    case .float(let number), .computed(let number, _): return try scalar(number, type)
    case .bool(let bool): return try scalar(bool ? 1 : 0, type)
    default: throw unsupported("an operand is \(value.kind)")
    }
  }

  // MARK: Operators

  mutating func binary(_ op: String, _ a: TorchValue, _ b: TorchValue) throws(Failure) -> TorchValue {
    if let result = try numbers(op, a, b) { return result }
    let (x, y) = try operands(a, b)
    switch op {
    case "Mod" where dtype(x).isFloat:
      // The remainder has the sign of the divisor.
      let whole = try node("Floor", [node("Div", [x, y], as: "quotient")], as: "floor")
      return .tensor(try node("Sub", [x, node("Mul", [whole, y], as: "multiple")]))
    case "And", "Or", "Xor":
      guard dtype(x) == .bool else { throw unsupported("it works on the bits of integers") }
    default: break
    }
    return .tensor(try node(op, [x, y]))
  }

  /// The program's own arithmetic; nil if a tensor takes part.
  private mutating func numbers(_ op: String, _ a: TorchValue, _ b: TorchValue) throws(Failure) -> TorchValue? {
    if case .bool(let x) = a, case .bool(let y) = b {
      switch op {
      case "And": return .bool(x && y)
      case "Or": return .bool(x || y)
      case "Equal": return .bool(x == y)
      default: throw unsupported("\(op) of truth values has no rule")
      }
    }
    if case .integer(let x) = a, case .integer(let y) = b { return try integers(op, x, y) }
    guard let x = Self.number(a), let y = Self.number(b) else { return nil }
    let uses = Self.uses(a) + Self.uses(b)
    func number(_ value: Double) -> TorchValue { uses.isEmpty ? .float(value) : .computed(value, from: uses) }
    switch op {
    case "Add": return number(x + y)
    case "Sub": return number(x - y)
    case "Mul": return number(x * y)
    case "Div": return number(x / y)
    case "Max": return number(max(x, y))
    case "Min": return number(min(x, y))
    case "Equal": return .bool(x == y)
    case "Less": return .bool(x < y)
    case "Greater": return .bool(x > y)
    case "LessOrEqual": return .bool(x <= y)
    case "GreaterOrEqual": return .bool(x >= y)
    case "Pow": return number(pow(x, y))
    default: throw unsupported("\(op) of numbers has no rule")
    }
  }

  private static func number(_ value: TorchValue) -> Double? {
    switch value {
    case .float(let number), .computed(let number, _): number
    case .integer(let integer): Double(integer.value)
    default: nil
    }
  }

  private static func uses(_ value: TorchValue) -> [LengthUse] {
    switch value {
    case .computed(_, let uses): uses
    case .integer(let integer): integer.uses
    default: []
    }
  }

  private mutating func integers(_ op: String, _ a: TorchInteger, _ b: TorchInteger) throws(Failure) -> TorchValue {
    switch op {
    case "Equal":
      remember(a, equals: b)
      return .bool(a.value == b.value)
    case "Less": return .bool(a.value < b.value)
    case "Greater": return .bool(a.value > b.value)
    case "LessOrEqual": return .bool(a.value <= b.value)
    case "GreaterOrEqual": return .bool(a.value >= b.value)
    default: break
    }
    let result: (partialValue: Int, overflow: Bool)
    switch op {
    case "Add": result = a.value.addingReportingOverflow(b.value)
    case "Sub": result = a.value.subtractingReportingOverflow(b.value)
    case "Mul": result = a.value.multipliedReportingOverflow(by: b.value)
    case "Max": result = (max(a.value, b.value), false)
    case "Min": result = (min(a.value, b.value), false)
    case "Div", "Mod":
      guard b.value > 0 else { throw unsupported("it divides by \(b.value)") }
      // Towards minus infinity, as Python does.
      let (quotient, rest) = a.value.quotientAndRemainder(dividingBy: b.value)
      result = op == "Div" ? (rest < 0 ? quotient - 1 : quotient, false) : (rest < 0 ? rest + b.value : rest, false)
    default: throw unsupported("\(op) of integers has no rule")
    }
    guard !result.overflow else { throw unsupported("an integer overflows") }
    let isLiteral = a.isLiteral && b.isLiteral
    return .integer(TorchInteger(result.partialValue, isLiteral ? .literal(nil) : .operation(op, a, b)))
  }

  /// A comparison that must come out as it does now: a literal in it repeats a length.
  private mutating func remember(_ a: TorchInteger, equals b: TorchInteger) {
    guard a.value == b.value else { return }
    for (length, literal) in [(a, b), (b, a)] {
      if case .length(let value, let axis) = length.source, let place = literal.place {
        repeated.append(RepeatedLength(place: place, value: value, axis: axis))
      }
    }
  }

  /// `a + alpha * b`.
  fileprivate mutating func sum(_ op: String, _ a: OperatorArguments) throws(Failure) -> TorchValue {
    var other = a["other"]
    if a.has("alpha") {
      let alpha = try a.float("alpha")
      if alpha != 1 { other = try binary("Mul", other, a["alpha"]) }
    }
    // Lists are joined by a plus sign.
    if case .list(let x) = a["input"], case .list(let y) = other, op == "Add" { return .list(x + y) }
    return try binary(op, a["input"], other)
  }

  fileprivate mutating func quotient(_ a: TorchValue, _ b: TorchValue) throws(Failure) -> TorchValue {
    if let quotient = try numbers("Div", a.asReal, b.asReal) { return quotient }
    let (x, y) = try operands(a, b)
    return .tensor(try node("Div", [floating(x), floating(y)]))
  }

  fileprivate mutating func floorQuotient(_ a: TorchValue, _ b: TorchValue) throws(Failure) -> TorchValue {
    if case .integer = a, case .integer = b { return try binary("Div", a, b) }
    guard case .tensor(let quotient) = try quotient(a, b) else { throw unsupported("it divides numbers") }
    let floor = try node("Floor", [quotient], as: "floor")
    if case .tensor(let x) = a, !dtype(x).isFloat {
      if case .float = b { return .tensor(floor) }
      if case .computed = b { return .tensor(floor) }
      return .tensor(try cast(floor, to: dtype(x)))
    }
    return .tensor(floor)
  }

  fileprivate mutating func clamped(_ a: OperatorArguments) throws(Failure) -> TorchValue {
    let x = try a.tensor("input")
    if a["min"].isTensor || a["max"].isTensor {
      var result = TorchValue.tensor(x)
      if a.has("min") { result = try binary("Max", result, a["min"]) }
      return a.has("max") ? try binary("Min", result, a["max"]) : result
    }
    let low = a.has("min") ? try tensor(a["min"], dtype(x)) : nil
    let high = a.has("max") ? try tensor(a["max"], dtype(x)) : nil
    return .tensor(try node("Clip", [x, low, high]))
  }
}

extension TorchValue {
  fileprivate var isTensor: Bool { if case .tensor = self { true } else { false } }

  /// An integer as the real number it is divided as.
  fileprivate var asReal: TorchValue {
    guard case .integer(let integer) = self else { return self }
    let uses = integer.uses
    return uses.isEmpty ? .float(Double(integer.value)) : .computed(Double(integer.value), from: uses)
  }
}
