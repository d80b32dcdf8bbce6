/// A length that the file states as an expression of other lengths, such as "past_sequence_length + 1" or "4*s0":
/// whole numbers, names, `+`, `-`, `*`, `//` and parentheses. Anything else is a plain name.
package struct SymbolicLength {
  private indirect enum Term {
    case number(Int)
    case symbol(String)
    case operation(Character, Term, Term)
  }

  private let root: Term
  /// The names it is computed from.
  let symbols: Set<String>

  /// nil if `text` is no expression or only a name.
  package init?(_ text: String) {
    guard text.utf8.count <= 256, text.contains(where: { "+-*/(".contains($0) }) else { return nil }
    var parser = Parser(text)
    guard let term = parser.sum(depth: 0), parser.isAtEnd else { return nil }
    root = term
    symbols = parser.symbols
  }

  /// The length under the given ones; nil if a name is missing or the result is no length.
  package func value(_ symbols: [String: Int]) -> Int? {
    Self.value(root, symbols).flatMap { $0 >= 0 ? $0 : nil }
  }

  private static func value(_ term: Term, _ symbols: [String: Int]) -> Int? {
    switch term {
    case .number(let number): return number
    case .symbol(let name): return symbols[name]
    case .operation(let operation, let left, let right):
      guard let a = value(left, symbols), let b = value(right, symbols) else { return nil }
      let result: (partialValue: Int, overflow: Bool)
      switch operation {
      case "+": result = a.addingReportingOverflow(b)
      case "-": result = a.subtractingReportingOverflow(b)
      case "*": result = a.multipliedReportingOverflow(by: b)
      default:
        guard b > 0, a >= 0 else { return nil }
        result = a.dividedReportingOverflow(by: b)
      }
      return result.overflow ? nil : result.partialValue
    }
  }

  private struct Parser {
    private var rest: Substring
    private(set) var symbols: Set<String> = []

    init(_ text: String) { rest = text[...] }

    var isAtEnd: Bool { rest.allSatisfy { $0 == " " } }

    private mutating func take(_ token: String) -> Bool {
      rest = rest.drop { $0 == " " }
      guard rest.hasPrefix(token) else { return false }
      rest = rest.dropFirst(token.count)
      return true
    }

    mutating func sum(depth: Int) -> Term? {
      guard var term = product(depth: depth) else { return nil }
      while true {
        let operation: Character
        if take("+") { operation = "+" } else if take("-") { operation = "-" } else { return term }
        guard let next = product(depth: depth) else { return nil }
        term = .operation(operation, term, next)
      }
    }

    private mutating func product(depth: Int) -> Term? {
      guard var term = factor(depth: depth) else { return nil }
      while true {
        let operation: Character
        if take("*") { operation = "*" } else if take("//") { operation = "/" } else { return term }
        guard let next = factor(depth: depth) else { return nil }
        term = .operation(operation, term, next)
      }
    }

    private mutating func factor(depth: Int) -> Term? {
      if take("(") {
        guard depth < 16, let term = sum(depth: depth + 1), take(")") else { return nil }
        return term
      }
      let word = rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "." }
      guard let first = word.first else { return nil }
      rest = rest.dropFirst(word.count)
      if first.isNumber { return Int(word).map(Term.number) }
      symbols.insert(String(word))
      return .symbol(String(word))
    }
  }
}
