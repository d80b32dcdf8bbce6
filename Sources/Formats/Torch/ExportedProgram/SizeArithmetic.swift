import JSON

/// Calculating with sizes that may be expressions: products in one form, values under given lengths, and the expression
/// of a size that has become smaller.
extension SizeExpression {
  /// The value when the open lengths are `symbols`; nil if one is missing or the function is none of whole numbers.
  func value(_ symbols: [String: Int]) -> Int? {
    switch self {
    case .number(let value): return value
    case .symbol(let name, _): return symbols[name]
    case .call(let function, let arguments):
      let values = arguments.compactMap { $0.value(symbols) }
      guard values.count == arguments.count, let first = values.first else { return nil }
      switch function {
      case .add: return Self.fold(values) { $0.addingReportingOverflow($1) }
      case .multiply: return Self.fold(values) { $0.multipliedReportingOverflow(by: $1) }
      case .power:
        guard values.count == 2, (0...64).contains(values[1]) else { return nil }
        return Self.fold([1] + [Int](repeating: first, count: values[1])) { $0.multipliedReportingOverflow(by: $1) }
      case .floorDivision, .cleanDivision: return Self.quotient(values) { $0 / $1 }
      case .ceilingDivision: return Self.quotient(values) { ($0 - 1 + $1) / $1 }
      case .modulo, .pythonModulo: return Self.quotient(values) { $0 % $1 }
      case .minimum: return values.min()
      case .maximum: return values.max()
      case .identity: return first
      default: return nil
      }
    }
  }

  private static func fold(
    _ values: [Int], _ operation: (Int, Int) -> (partialValue: Int, overflow: Bool)
  ) -> Int? {
    var result = values[0]
    for value in values.dropFirst() {
      let (next, overflow) = operation(result, value)
      if overflow { return nil }
      result = next
    }
    return result
  }

  private static func quotient(_ values: [Int], _ operation: (Int, Int) -> Int) -> Int? {
    guard values.count == 2, values[0] >= 0, values[1] > 0 else { return nil }
    return operation(values[0], values[1])
  }

  // MARK: Products

  static func * (a: SizeExpression, b: SizeExpression) -> SizeExpression { product([a, b]) }

  /// With one number, first, and the other factors in a fixed order, so that equal products are equal.
  static func product(_ factors: [SizeExpression]) -> SizeExpression {
    var number = 1
    var rest: [SizeExpression] = []
    var pending = Array(factors.reversed())
    while let factor = pending.popLast() {
      switch factor {
      case .number(let value):
        let (product, overflow) = number.multipliedReportingOverflow(by: value)
        // Nothing so large has a place in memory; kept as factors it stays what it is.
        if overflow { rest.append(factor) } else { number = product }
      case .call(.multiply, let factors): pending += factors.reversed()
      default: rest.append(factor)
      }
    }
    if number == 0 { return .number(0) }
    if rest.isEmpty { return .number(number) }
    if number == 1, rest.count == 1 { return rest[0] }
    let ordered = rest.sorted { $0.source < $1.source }
    return .call(.multiply, (number == 1 ? [] : [.number(number)]) + ordered)
  }

  /// The same with its products in one form.
  var canonical: SizeExpression {
    switch self {
    case .number, .symbol: self
    case .call(.multiply, let factors): Self.product(factors.map(\.canonical))
    case .call(let function, let arguments): .call(function, arguments.map(\.canonical))
    }
  }

  static func sum(_ a: SizeExpression, _ b: SizeExpression) -> SizeExpression {
    switch (a, b) {
    case (.number(let x), .number(let y)): .number(x &+ y)
    case (.number(0), let other), (let other, .number(0)): other
    default: .call(.add, [b, a])
    }
  }

  static func floorDivision(_ a: SizeExpression, by divisor: Int) -> SizeExpression {
    if divisor == 1 { return a }
    if case .number(let value) = a, value >= 0 { return .number(value / divisor) }
    return .call(.floorDivision, [a, .number(divisor)])
  }

  // MARK: New lengths

  /// The expression that has the value `length` where this one has another: with a smaller number among its factors, where
  /// one does it, as when a number of channels goes into it.
  /// - Parameter symbols: the lengths under which it is to have that value.
  func resized(to length: Int, _ symbols: [String: Int]) -> SizeExpression {
    if case .number = self { return .number(length) }
    guard let old = value(symbols), old > 0, old != length else { return self }
    let divisor = Self.greatestCommonDivisor(length, old)
    let (p, q) = (length / divisor, old / divisor)
    if let scaled = scaled(p, q), scaled.value(symbols) == length { return scaled }
    return Self.floorDivision(Self.product([self, .number(p)]), by: q)
  }

  /// With the first number that can be multiplied by `p / q` so multiplied.
  private func scaled(_ p: Int, _ q: Int) -> SizeExpression? {
    guard case .call(let function, var arguments) = self, function == .multiply || function == .identity else {
      if case .call(.floorDivision, var arguments) = self, let first = arguments.first?.scaled(p, q) {
        arguments[0] = first
        return .call(.floorDivision, arguments)
      }
      return nil
    }
    for (index, argument) in arguments.enumerated() {
      if case .number(let value) = argument, value % q == 0 {
        arguments[index] = .number(value / q * p)
        return Self.product(arguments)
      }
      if let inner = argument.scaled(p, q) {
        arguments[index] = inner
        return Self.product(arguments)
      }
    }
    return nil
  }

  private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
    var (a, b) = (a, b)
    while b != 0 { (a, b) = (b, a % b) }
    return max(a, 1)
  }

  // MARK: Text

  /// As a size stands in a program: a number, or an expression with the value it had at the export.
  /// - Parameter lengths: those of the export.
  func json(_ lengths: [String: Int]) -> String {
    if case .number(let value) = self { return "{\"as_int\": \(value)}" }
    let hint = value(lengths).map { "{\"as_int\": \($0)}" } ?? "null"
    return "{\"as_expr\": {\"expr_str\": \(JSONEscapes.encoded(source)), \"hint\": \(hint)}}"
  }
}
