/// Arithmetic, comparison and logic on elements, with broadcasting. Integers are exact or unknown, reals are computed
/// in double precision and rounded to their type afterwards.
enum ElementwiseElements {
  static let rules: [String: ElementRule] = [
    // Two operands
    "Sub": binary({ checked($0.subtractingReportingOverflow($1)) }, { $0 - $1 }),
    "Div": binary({ $1 == 0 ? nil : checked($0.dividedReportingOverflow(by: $1)) }, { $0 / $1 }),
    "Mod": { call, shapes in (call.node.int("fmod", default: 0) == 0 ? flooredModulo : truncatedModulo)(call, shapes) },
    "Pow": { call, shapes in [power(call, shapes)] },
    "Equal": comparison({ $0 == $1 }, { $0 == $1 }),
    "Less": comparison({ $0 < $1 }, { $0 < $1 }), "LessOrEqual": comparison({ $0 <= $1 }, { $0 <= $1 }),
    "Greater": comparison({ $0 > $1 }, { $0 > $1 }), "GreaterOrEqual": comparison({ $0 >= $1 }, { $0 >= $1 }),
    "And": binary({ $0 & $1 }), "Or": binary({ $0 | $1 }), "Xor": binary({ $0 ^ $1 }),
    // Any number of operands
    "Add": variadic({ checked($0.addingReportingOverflow($1)) }, { $0 + $1 }),
    "Sum": variadic({ checked($0.addingReportingOverflow($1)) }, { $0 + $1 }),
    "Mul": variadic({ checked($0.multipliedReportingOverflow(by: $1)) }, { $0 * $1 }),
    "Min": variadic({ min($0, $1) }, { $0.isNaN || $1.isNaN ? .nan : min($0, $1) }),
    "Max": variadic({ max($0, $1) }, { $0.isNaN || $1.isNaN ? .nan : max($0, $1) }),
    // One operand
    "Neg": unary({ checked(Int64(0).subtractingReportingOverflow($0)) }, { -$0 }),
    "Abs": unary({ $0 == .min ? nil : abs($0) }, { abs($0) }),
    "Sign": unary({ $0.signum() }, { $0 > 0 ? 1 : $0 < 0 ? -1 : $0 }),
    "Not": unary({ $0 == 0 ? 1 : 0 }, nil),
    "Sqrt": unary(nil, { $0.squareRoot() }), "Reciprocal": unary(nil, { 1 / $0 }),
    "Floor": unary(nil, { $0.rounded(.down) }), "Ceil": unary(nil, { $0.rounded(.up) }),
    "Round": unary(nil, { $0.rounded(.toNearestOrEven) }),
    // Others
    "Clip": { call, shapes in [clip(call, shapes)] },
    "Where": { call, shapes in [choose(call, shapes)] },
    "Cast": { call, _ in [call.elements(0).flatMap { cast($0, to: call.node.int("to")) }] },
    "CastLike": { call, _ in
      guard let array = call.elements(0), let like = call.elements(1) else { return [nil] }
      // The type of the second operand's elements tells integers from reals; `rounded(to:)` does the rest.
      return [cast(array, to: (like.integers == nil ? DType.float64 : .int64).rawValue)]
    },
  ]

  private static func checked(_ result: (partialValue: Int64, overflow: Bool)) -> Int64? {
    result.overflow ? nil : result.partialValue
  }

  // MARK: Shapes of functions

  private typealias IntegerOperation = @Sendable (Int64, Int64) -> Int64?
  private typealias RealOperation = @Sendable (Double, Double) -> Double

  private static func combine(
    _ a: ElementArray, _ b: ElementArray, _ shape: [Int], _ integers: IntegerOperation, _ reals: RealOperation?
  ) -> ElementArray? {
    switch (a.broadcast(to: shape).elements, b.broadcast(to: shape).elements) {
    case (.integers(let a), .integers(let b)):
      var result: [Int64] = []
      result.reserveCapacity(a.count)
      for (x, y) in zip(a, b) {
        guard let z = integers(x, y) else { return nil }
        result.append(z)
      }
      return ElementArray(result, shape: shape)
    case (.reals(let a), .reals(let b)):
      return reals.map { operation in ElementArray(zip(a, b).map { operation($0, $1) }, shape: shape) }
    default: return nil
    }
  }

  private static func binary(_ integers: @escaping IntegerOperation, _ reals: RealOperation? = nil) -> ElementRule {
    { call, shapes in
      guard let a = call.elements(0), let b = call.elements(1), let shape = shapes.first ?? nil else { return [nil] }
      return [combine(a, b, shape, integers, reals)]
    }
  }

  private static func variadic(_ integers: @escaping IntegerOperation, _ reals: @escaping RealOperation)
    -> ElementRule
  {
    { call, shapes in
      guard let shape = shapes.first ?? nil, var result = call.elements(0)?.broadcast(to: shape) else { return [nil] }
      for position in 1..<max(call.node.inputs.count, 1) {
        guard let next = call.elements(position),
          let combined = combine(result, next, result.shape, integers, reals)
        else { return [nil] }
        result = combined
      }
      return [result]
    }
  }

  private static func comparison(
    _ integers: @escaping @Sendable (Int64, Int64) -> Bool, _ reals: @escaping @Sendable (Double, Double) -> Bool
  ) -> ElementRule {
    { call, shapes in
      guard let a = call.elements(0), let b = call.elements(1), let shape = shapes.first ?? nil else { return [nil] }
      switch (a.broadcast(to: shape).elements, b.broadcast(to: shape).elements) {
      case (.integers(let a), .integers(let b)):
        return [ElementArray(zip(a, b).map { integers($0, $1) ? 1 : Int64(0) }, shape: shape)]
      case (.reals(let a), .reals(let b)):
        return [ElementArray(zip(a, b).map { reals($0, $1) ? 1 : Int64(0) }, shape: shape)]
      default: return [nil]
      }
    }
  }

  private static func unary(
    _ integers: (@Sendable (Int64) -> Int64?)?, _ reals: (@Sendable (Double) -> Double)?
  ) -> ElementRule {
    { call, _ in
      guard let x = call.elements(0) else { return [nil] }
      switch x.elements {
      case .integers(let elements):
        let result = integers.map { elements.compactMap($0) }
        return [result.flatMap { $0.count == elements.count ? ElementArray($0, shape: x.shape) : nil }]
      case .reals(let elements):
        return [reals.map { ElementArray(elements.map($0), shape: x.shape) }]
      }
    }
  }

  // MARK: Single operators

  /// The remainder with the divisor's sign, as in Python; for integers only.
  private static let flooredModulo = binary { a, b in
    guard b != 0, let remainder = checked(a.remainderReportingOverflow(dividingBy: b)) else { return nil }
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder
  }

  /// The remainder with the dividend's sign, as in C.
  private static let truncatedModulo = binary(
    { $1 == 0 ? nil : checked($0.remainderReportingOverflow(dividingBy: $1)) },
    { $0.truncatingRemainder(dividingBy: $1) })

  /// Base and exponent may differ in type; the result has the base's. Reals only with exponents that need no
  /// transcendental function: whole numbers and one half.
  private static func power(_ call: OperatorCall, _ shapes: [[Int]?]) -> ElementArray? {
    guard let base = call.elements(0), let exponent = call.elements(1), let shape = shapes.first ?? nil else {
      return nil
    }
    let exponents: [Double]
    switch exponent.broadcast(to: shape).elements {
    case .integers(let integers): exponents = integers.map(Double.init)
    case .reals(let reals): exponents = reals
    }
    switch base.broadcast(to: shape).elements {
    case .integers(let bases):
      var result: [Int64] = []
      for (base, exponent) in zip(bases, exponents) {
        guard let power = wholePower(exponent, of: base, one: 1, { checked($0.multipliedReportingOverflow(by: $1)) })
        else { return nil }
        result.append(power)
      }
      return ElementArray(result, shape: shape)
    case .reals(let bases):
      var result: [Double] = []
      for (base, exponent) in zip(bases, exponents) {
        if exponent.magnitude == 0.5 {
          result.append(exponent > 0 ? base.squareRoot() : 1 / base.squareRoot())
        } else {
          guard let power = wholePower(exponent.magnitude, of: base, one: 1, { $0 * $1 }) else { return nil }
          result.append(exponent < 0 ? 1 / power : power)
        }
      }
      return ElementArray(result, shape: shape)
    }
  }

  /// `base` multiplied `exponent` times; nil for exponents that are no small whole number.
  private static func wholePower<Number>(
    _ exponent: Double, of base: Number, one: Number, _ multiply: (Number, Number) -> Number?
  ) -> Number? {
    guard let times = Int(exactly: exponent), (0...64).contains(times) else { return nil }
    var result = one
    for _ in 0..<times {
      guard let product = multiply(result, base) else { return nil }
      result = product
    }
    return result
  }

  private static func clip(_ call: OperatorCall, _ shapes: [[Int]?]) -> ElementArray? {
    guard var x = call.elements(0), call.node.float("min") == nil, call.node.float("max") == nil else { return nil }
    for position in 1...2 where call.isPresent(position) {
      guard let bound = call.elements(position), bound.count == 1 else { return nil }
      let clipped =
        position == 1
        ? combine(x, bound.reshaped([]), x.shape, { max($0, $1) }, { max($0, $1) })
        : combine(x, bound.reshaped([]), x.shape, { min($0, $1) }, { min($0, $1) })
      guard let clipped else { return nil }
      x = clipped
    }
    return x
  }

  private static func choose(_ call: OperatorCall, _ shapes: [[Int]?]) -> ElementArray? {
    guard let condition = call.elements(0)?.integersBroadcast(to: shapes.first ?? nil), let shape = shapes.first ?? nil
    else { return nil }
    // One branch need not be known where the condition never takes it.
    let (yes, no) = (call.elements(1)?.broadcast(to: shape), call.elements(2)?.broadcast(to: shape))
    if condition.allSatisfy({ $0 != 0 }) { return yes }
    if condition.allSatisfy({ $0 == 0 }) { return no }
    switch (yes?.elements, no?.elements) {
    case (.integers(let yes), .integers(let no)):
      return ElementArray(condition.indices.map { condition[$0] != 0 ? yes[$0] : no[$0] }, shape: shape)
    case (.reals(let yes), .reals(let no)):
      return ElementArray(condition.indices.map { condition[$0] != 0 ? yes[$0] : no[$0] }, shape: shape)
    default: return nil
    }
  }

  /// - Parameter code: of an ONNX data type.
  private static func cast(_ array: ElementArray, to code: Int?) -> ElementArray? {
    guard let code, let dtype = DType(rawValue: code) else { return nil }
    switch dtype {
    case .bool:
      let nonZero = Set(array.nonZeroPositions)
      return ElementArray((0..<array.count).map { nonZero.contains($0) ? 1 : Int64(0) }, shape: array.shape)
    case .float16, .bfloat16, .float32, .float64:
      guard let integers = array.integers else { return array }
      return ElementArray(integers.map(Double.init), shape: array.shape)
    case .int64, .int32, .int16, .int8, .uint64, .uint32, .uint16, .uint8:
      guard case .reals(let reals) = array.elements else { return array }
      let whole = reals.compactMap { Int64(exactly: $0.rounded(.towardZero)) }
      return whole.count == reals.count ? ElementArray(whole, shape: array.shape) : nil
    default: return nil
    }
  }
}

extension ElementArray {
  fileprivate func integersBroadcast(to shape: [Int]?) -> [Int64]? { shape.flatMap { broadcast(to: $0).integers } }
}
