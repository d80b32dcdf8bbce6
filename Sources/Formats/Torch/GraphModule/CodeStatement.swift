import ModelGraph

/// One line of the code: an operation, what it is applied to, and where all of it stands.
///
/// Invariant: ranges are of the text's bytes, disjoint unless one is part of the other, and `operands` are in the order
/// in which a `TorchCall` has its arguments and keywords.
struct CodeStatement {
  enum Form {
    /// `self.path(...)`.
    case module(CodePath)
    /// `x.name(...)`; the receiver is the first operand.
    case method(name: Range<Int>)
    /// `torch.name(...)`, `torch.nn.functional.name(...)`, ...
    case function(name: Range<Int>)
    /// `name(...)`, of something the import block names.
    case imported(name: Range<Int>)
    case operation(CodeOperator)
    /// `x += y;  name = x`.
    case augmented(CodeOperator)
    /// `x.name`; the second operand is the name.
    case attribute
    /// `self.path`.
    case read(CodePath)
    /// `x`.
    case alias
    case returned
  }

  struct Operand {
    let keyword: Range<Int>?
    let expression: CodeExpression
    /// With the keyword.
    var range: Range<Int> { (keyword?.lowerBound ?? expression.range.lowerBound)..<expression.range.upperBound }
  }

  let form: Form
  /// The name that is bound; empty for `return`.
  let target: Range<Int>
  let operands: [Operand]
  /// What stands right of the `=` or of `return`.
  let value: Range<Int>
  /// Where a call's closing parenthesis is.
  let close: Int?
}

/// `self.a.b` or `getattr(self.a, "0").b`.
struct CodePath {
  let components: [Range<Int>]
}

enum CodeOperator: String {
  case add = "+"
  case sub = "-"
  case mul = "*"
  case truediv = "/"
  case floordiv = "//"
  case mod = "%"
  case pow = "**"
  case matmul = "@"
  case bitwiseAnd = "&"
  case bitwiseOr = "|"
  case bitwiseXor = "^"
  case lshift = "<<"
  case rshift = ">>"
  case eq = "=="
  case ne = "!="
  case lt = "<"
  case le = "<="
  case gt = ">"
  case ge = ">="
  case neg = "neg"
  case pos = "pos"
  case invert = "~"
  case getitem = "[]"

  /// The name of the operator as a call.
  var function: String {
    switch self {
    case .add: "add"
    case .sub: "sub"
    case .mul: "mul"
    case .truediv: "truediv"
    case .floordiv: "floordiv"
    case .mod: "mod"
    case .pow: "pow"
    case .matmul: "matmul"
    case .bitwiseAnd: "bitwise_and"
    case .bitwiseOr: "bitwise_or"
    case .bitwiseXor: "bitwise_xor"
    case .lshift: "lshift"
    case .rshift: "rshift"
    case .eq: "eq"
    case .ne: "ne"
    case .lt: "lt"
    case .le: "le"
    case .gt: "gt"
    case .ge: "ge"
    case .neg: "neg"
    case .pos: "pos"
    case .invert: "bitwise_not"
    case .getitem: "getitem"
    }
  }

  /// By two bytes, the second 0 where there is one only.
  static func binary(_ first: UInt8, _ second: UInt8) -> (CodeOperator, count: Int)? {
    let isDoubled = first == second
    return switch first {
    case UInt8(ascii: "+"): (.add, 1)
    case UInt8(ascii: "-"): (.sub, 1)
    case UInt8(ascii: "*"): isDoubled ? (.pow, 2) : (.mul, 1)
    case UInt8(ascii: "/"): isDoubled ? (.floordiv, 2) : (.truediv, 1)
    case UInt8(ascii: "%"): (.mod, 1)
    case UInt8(ascii: "@"): (.matmul, 1)
    case UInt8(ascii: "&"): (.bitwiseAnd, 1)
    case UInt8(ascii: "|"): (.bitwiseOr, 1)
    case UInt8(ascii: "^"): (.bitwiseXor, 1)
    case UInt8(ascii: "="): isDoubled ? (.eq, 2) : nil
    case UInt8(ascii: "!"): second == Ascii.equals ? (.ne, 2) : nil
    case UInt8(ascii: "<"): isDoubled ? (.lshift, 2) : second == Ascii.equals ? (.le, 2) : (.lt, 1)
    case UInt8(ascii: ">"): isDoubled ? (.rshift, 2) : second == Ascii.equals ? (.ge, 2) : (.gt, 1)
    default: nil
    }
  }
}

extension CodeScanner {
  /// The statement at the position, which is behind the line's indentation; afterwards it is behind the statement.
  mutating func statement() throws(Failure) -> CodeStatement {
    if take("return ") { return try returned() }
    let target = try identifier()
    skipSpaces()
    if byte == Ascii.colon {
      move(to: position + 1)
      try annotation()
      skipSpaces()
    }
    if let (operation, count) = CodeOperator.binary(byte, byte(at: position + 1)),
      byte(at: position + count) == Ascii.equals,
      byte != Ascii.equals
    {
      return try augmented(operation, count, receiver: target)
    }
    try expect(Ascii.equals)
    skipSpaces()
    return try assignment(target)
  }

  private mutating func returned() throws(Failure) -> CodeStatement {
    let value = try expression()
    return CodeStatement(
      form: .returned, target: 0..<0, operands: [.init(keyword: nil, expression: value)], value: value.range, close: nil
    )
  }

  /// `x += y;  name = x`, as torch.fx prints `operator.iadd(x, y)`.
  private mutating func augmented(
    _ operation: CodeOperator, _ count: Int, receiver: Range<Int>
  ) throws(Failure) -> CodeStatement {
    move(to: position + count + 1)
    let value = try expression()
    try expect(Ascii.semicolon)
    let target = try identifier()
    try expect(Ascii.equals)
    let again = try identifier()
    guard span(again) == span(receiver) else {
      move(to: again.lowerBound)
      throw unexpected()
    }
    let first = CodeExpression(range: receiver, value: .name)
    return CodeStatement(
      form: .augmented(operation), target: target,
      operands: [.init(keyword: nil, expression: first), .init(keyword: nil, expression: value)],
      value: receiver.lowerBound..<position, close: nil)
  }

  private mutating func assignment(_ target: Range<Int>) throws(Failure) -> CodeStatement {
    let start = position
    func made(
      _ form: CodeStatement.Form, _ operands: [CodeStatement.Operand], end: Int, close: Int? = nil
    ) -> CodeStatement {
      CodeStatement(form: form, target: target, operands: operands, value: start..<end, close: close)
    }
    if let path = try path() {
      guard byte == Ascii.openParenthesis else { return made(.read(path), [], end: position) }
      let (operands, close) = try arguments([])
      return made(.module(path), operands, end: position, close: close)
    }
    if let operation = unaryOperator {
      move(to: position + 1)
      let operand = CodeExpression(range: try identifier(), value: .name)
      return made(.operation(operation), [.init(keyword: nil, expression: operand)], end: position)
    }
    if Ascii.startsIdentifier(byte), let call = try callOrAttribute() {
      return made(call.form, call.operands, end: position, close: call.close)
    }
    let first = try expression()
    skipSpaces()
    if let (operation, count) = CodeOperator.binary(byte, byte(at: position + 1)) {
      if operation == .pow, byte(at: first.range.lowerBound) == Ascii.minus { throw unexpected() }
      move(to: position + count)
      let second = try expression()
      return made(
        .operation(operation),
        [.init(keyword: nil, expression: first), .init(keyword: nil, expression: second)], end: position)
    }
    guard case .name = first.value else { throw unexpected() }
    return made(.alias, [.init(keyword: nil, expression: first)], end: first.range.upperBound)
  }

  /// The operator before a name; a sign before a number is the number's.
  private var unaryOperator: CodeOperator? {
    guard Ascii.startsIdentifier(byte(at: position + 1)) else { return nil }
    switch byte {
    case Ascii.minus:
      let word = text[(position + 1)..<min(position + 4, text.count)]
      return word.equals("inf") && !Ascii.continuesIdentifier(byte(at: position + 4)) ? nil : .neg
    case Ascii.plus: return .pos
    case Ascii.tilde: return .invert
    default: return nil
    }
  }

  /// What starts with a name and goes on with `(`, `[` or `.`; nil, and the position as it was, where it does not.
  private mutating func callOrAttribute() throws(Failure) -> (
    form: CodeStatement.Form, operands: [CodeStatement.Operand], close: Int?
  )? {
    let first = try identifier()
    let receiver = CodeStatement.Operand(keyword: nil, expression: CodeExpression(range: first, value: .name))
    switch byte {
    case Ascii.openParenthesis:
      let (operands, close) = try arguments([])
      return (.imported(name: first), operands, close)
    case Ascii.openBracket:
      move(to: position + 1)
      let index = try expression()
      try expect(Ascii.closeBracket)
      return (.operation(.getitem), [receiver, .init(keyword: nil, expression: index)], nil)
    case Ascii.dot where span(first).equals("torch"):
      var last = first
      while byte == Ascii.dot {
        move(to: position + 1)
        last = try identifier()
      }
      guard byte == Ascii.openParenthesis else {
        move(to: first.lowerBound)
        return nil
      }
      let (operands, close) = try arguments([])
      return (.function(name: first.lowerBound..<last.upperBound), operands, close)
    case Ascii.dot:
      move(to: position + 1)
      let name = try identifier()
      guard byte == Ascii.openParenthesis else {
        let attribute = CodeExpression(range: name, value: .constant(.string(string(name))))
        return (.attribute, [receiver, .init(keyword: nil, expression: attribute)], nil)
      }
      let (operands, close) = try arguments([receiver])
      return (.method(name: name), operands, close)
    default:
      move(to: first.lowerBound)
      return nil
    }
  }

  /// The arguments of a call, behind those that are there already.
  private mutating func arguments(
    _ before: [CodeStatement.Operand]
  ) throws(Failure) -> ([CodeStatement.Operand], close: Int) {
    try expect(Ascii.openParenthesis)
    var operands = before
    while !take(Ascii.closeParenthesis) {
      if operands.count > before.count { try expect(Ascii.comma) }
      let keyword = try keyword()
      if keyword == nil, operands.last?.keyword != nil { throw unexpected() }
      operands.append(.init(keyword: keyword, expression: try expression()))
    }
    return (operands, position - 1)
  }

  /// The name of a keyword argument and its `=`, if they come next.
  private mutating func keyword() throws(Failure) -> Range<Int>? {
    skipSpaces()
    guard Ascii.startsIdentifier(byte) else { return nil }
    let name = try identifier()
    if take(Ascii.equals) { return name }
    move(to: name.lowerBound)
    return nil
  }

  // MARK: Paths

  /// A reference to the model's own modules and parameters, nil if none comes next.
  mutating func path() throws(Failure) -> CodePath? {
    let start = position
    var depth = 0
    while take("getattr(") { depth += 1 }
    guard take("self"), !Ascii.continuesIdentifier(byte) else {
      // The builtin, applied to something else.
      move(to: start)
      return nil
    }
    var components: [Range<Int>] = []
    try pathNames(&components)
    for _ in 0..<depth {
      try expect(", \"")
      let first = position
      while byte != Ascii.doubleQuote {
        guard byte > Ascii.space, byte != Ascii.backslash else { throw unexpected() }
        move(to: position + 1)
      }
      guard position > first else { throw unexpected() }
      components.append(first..<position)
      move(to: position + 1)
      try expect(Ascii.closeParenthesis)
      try pathNames(&components)
    }
    guard !components.isEmpty else { throw unexpected() }
    return CodePath(components: components)
  }

  private mutating func pathNames(_ components: inout [Range<Int>]) throws(Failure) {
    while byte == Ascii.dot {
      move(to: position + 1)
      components.append(try identifier())
    }
  }

  // MARK: Annotations

  /// A type: dotted names, perhaps with others in brackets. Python evaluates it, so nothing else will do.
  mutating func annotation(depth: Int = 0) throws(Failure) {
    guard depth < 8 else { throw unexpected() }
    repeat { _ = try identifier() } while take(Ascii.dot)
    guard take(Ascii.openBracket) else { return }
    repeat {
      if take(Ascii.openBracket) {
        repeat { try annotation(depth: depth + 1) } while take(Ascii.comma)
        try expect(Ascii.closeBracket)
      } else if !take("..."), !take(" ...") {
        try annotation(depth: depth + 1)
      }
    } while take(Ascii.comma)
    try expect(Ascii.closeBracket)
  }
}
