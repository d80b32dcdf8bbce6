import JSON
import ModelGraph

/// A size or stride of an exported program: a number, or an expression of the lengths that the program leaves open, as
/// sympy writes it: `Mul(Integer(64), Symbol('s77', positive=True, integer=True))`.
///
/// PyTorch evaluates such text as Python when it loads the file, so that only the functions below are accepted, with
/// numbers and symbols in them.
indirect enum SizeExpression: Equatable {
  case number(Int)
  /// A length by name. `source` is the text as it stands, assumptions included.
  case symbol(String, source: String)
  case call(Function, [SizeExpression])

  /// Functions of sympy and of torch.utils._sympy.functions that sizes and conditions on them are made of.
  enum Function: String, CaseIterable {
    case add = "Add"
    case multiply = "Mul"
    case power = "Pow"
    case floorDivision = "FloorDiv"
    case minimum = "Min"
    case maximum = "Max"
    case modulo = "Mod"
    case pythonModulo = "PythonMod"
    case cleanDivision = "CleanDiv"
    case ceilingDivision = "CeilDiv"
    case rational = "Rational"
    case intTrueDivision = "IntTrueDiv"
    case floatTrueDivision = "FloatTrueDiv"
    case floorToInt = "FloorToInt"
    case ceilToInt = "CeilToInt"
    case truncateToInt = "TruncToInt"
    case roundToInt = "RoundToInt"
    case toFloat = "ToFloat"
    case identity = "Identity"
    case modularIndexing = "ModularIndexing"
    case symmetricWhere = "Where"
    case equal = "Equality"
    case unequal = "Unequality"
    case less = "StrictLessThan"
    case lessOrEqual = "LessThan"
    case greater = "StrictGreaterThan"
    case greaterOrEqual = "GreaterThan"
    case and = "And"
    case or = "Or"
    case not = "Not"
  }

  /// The expression that `source` writes; nil if it is none of these.
  init?(source: String) {
    var parser = SizeExpressionParser(source)
    guard let expression = parser.whole() else { return nil }
    self = expression
  }

  /// As the graph writes lengths; unknown where it has no word for it.
  var dimension: Dimension {
    switch self {
    case .number(let value): .fixed(value)
    case .symbol(let name, _): .symbol(name)
    case .call: arithmetic.map(Dimension.symbol) ?? .unknown
    }
  }

  /// With infix operators, as `SymbolicLength` reads them.
  private var arithmetic: String? {
    switch self {
    case .number(let value): return value >= 0 ? String(value) : "(0 - \(value.magnitude))"
    case .symbol(let name, _): return name
    case .call(let function, let arguments):
      let parts = arguments.compactMap(\.arithmetic)
      guard parts.count == arguments.count, !parts.isEmpty else { return nil }
      switch function {
      case .add: return "(" + parts.joined(separator: " + ") + ")"
      case .multiply: return "(" + parts.joined(separator: " * ") + ")"
      case .floorDivision, .cleanDivision: return parts.count == 2 ? "(\(parts[0]) // \(parts[1]))" : nil
      case .power:
        guard case .number(let exponent)? = arguments.last, parts.count == 2, (1...4).contains(exponent) else {
          return nil
        }
        return "(" + [String](repeating: parts[0], count: exponent).joined(separator: " * ") + ")"
      default: return nil
      }
    }
  }

  fileprivate func collectSymbols(_ symbols: inout Set<String>) {
    switch self {
    case .number: break
    case .symbol(let name, _): symbols.insert(name)
    case .call(_, let arguments): for argument in arguments { argument.collectSymbols(&symbols) }
    }
  }

  /// As PyTorch writes it.
  var source: String {
    switch self {
    case .number(let value): "Integer(\(value))"
    case .symbol(_, let source): source
    case .call(.rational, let arguments): "Rational(" + arguments.map(\.plainNumber).joined(separator: ", ") + ")"
    case .call(let function, let arguments):
      function.rawValue + "(" + arguments.map(\.source).joined(separator: ", ") + ")"
    }
  }

  private var plainNumber: String { if case .number(let value) = self { String(value) } else { source } }
}

/// Reads sympy's `srepr` of a size. Nesting is limited, so that no text exhausts the stack.
private struct SizeExpressionParser {
  private var rest: Substring
  private static let depthLimit = 64
  private static let lengthLimit = 1 << 14

  init(_ text: String) { rest = text[...] }

  mutating func whole() -> SizeExpression? {
    guard rest.utf8.count <= Self.lengthLimit, let expression = expression(depth: 0), rest.isEmpty else { return nil }
    return expression
  }

  private mutating func take(_ token: String) -> Bool {
    guard rest.hasPrefix(token) else { return false }
    rest.removeFirst(token.count)
    return true
  }

  private mutating func word() -> Substring {
    let word = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
    rest.removeFirst(word.count)
    return word
  }

  private mutating func number() -> Int? {
    let isNegative = take("-")
    return Int((isNegative ? "-" : "") + word())
  }

  private mutating func expression(depth: Int) -> SizeExpression? {
    guard depth < Self.depthLimit else { return nil }
    let start = rest
    if rest.first.map({ $0.isNumber || $0 == "-" }) ?? false { return number().map(SizeExpression.number) }
    let name = word()
    guard take("(") else { return nil }
    switch name {
    case "Integer":
      guard let value = number(), take(")") else { return nil }
      return .number(value)
    case "Symbol":
      guard take("'") else { return nil }
      let symbol = word()
      guard !symbol.isEmpty, take("'") else { return nil }
      // Assumptions: positive=True, integer=True.
      while take(", ") {
        guard !word().isEmpty, take("="), take("True") || take("False") else { return nil }
      }
      guard take(")") else { return nil }
      return .symbol(String(symbol), source: String(start[..<rest.startIndex]))
    default:
      guard let function = SizeExpression.Function(rawValue: String(name)) else { return nil }
      var arguments: [SizeExpression] = []
      repeat {
        guard let argument = expression(depth: depth + 1) else { return nil }
        arguments.append(argument)
      } while take(", ")
      return take(")") ? .call(function, arguments) : nil
    }
  }
}

/// The sizes of one program: few different ones, each of which stands in many places.
final class SizeExpressions {
  let text: ExportedText
  private var known: [String: (expression: SizeExpression, dimension: Dimension)] = [:]

  init(_ text: ExportedText) { self.text = text }

  /// The names of the open lengths that expressions so far have had.
  var symbols: Set<String> { known.values.reduce(into: []) { $1.expression.collectSymbols(&$0) } }

  /// - Parameter element: `{"as_int": 64}` or `{"as_expr": {"expr_str": …, "hint": …}}`.
  func expression(_ element: JSONElement) throws(Failure) -> SizeExpression {
    if let value = element["as_int"]?.int { return .number(value) }
    guard let expression = element["as_expr"]?["expr_str"] else { throw text.malformed("there is no size", element) }
    return try parsed(expression).expression
  }

  func dimension(_ element: JSONElement) throws(Failure) -> Dimension {
    if let value = element["as_int"]?.int {
      guard value >= 0 else { throw text.malformed("a size is negative", element) }
      return .fixed(value)
    }
    guard let expression = element["as_expr"]?["expr_str"] else { throw text.malformed("there is no size", element) }
    return try parsed(expression).dimension
  }

  /// Looks at every expression within `element`, wherever PyTorch would look for one.
  /// - Throws: `Failure(.modelUnsafe)` if one is more than arithmetic on sizes.
  func requireKnownExpressions(in element: JSONElement) throws(Failure) {
    for (name, value) in element.members {
      if name.equals("expr_str") { _ = try parsed(value) } else { try requireKnownExpressions(in: value) }
    }
    for value in element.elements { try requireKnownExpressions(in: value) }
  }

  private func parsed(_ element: JSONElement) throws(Failure) -> (expression: SizeExpression, dimension: Dimension) {
    guard let source = element.string else { throw text.malformed("an expression is no string", element) }
    if let known = known[source] { return known }
    guard let expression = SizeExpression(source: source) else {
      throw Failure(
        .modelUnsafe,
        "the program has the size '\(source.prefix(200))', which PyTorch would evaluate as Python; sizes may be made of "
          + "numbers, symbols and sympy's arithmetic",
        details: ["entry": .string(text.name), "offset": .int(element.range.lowerBound)])
    }
    let entry = (expression, expression.dimension)
    known[source] = entry
    return entry
  }
}
