import ModelGraph

/// A literal, a name, or a collection of them, with the bytes it takes in the text.
///
/// Grammar (reference: what `torch.fx.graph.CodeGen` prints of a node's arguments):
///
///     expression := NAME | number | string | 'None' | 'True' | 'False' | 'inf' | 'nan' | 'Ellipsis' | symbol
///                 | '[' list ']' | '(' ')' | '(' expression ',' [list] ')' | '{' [string ':' expression, ...] '}'
///                 | 'slice(' expression ',' expression ',' expression ')'
///     symbol     := 'torch.' one of the constants of CodeVocabulary | 'device(type=' string [', index=' integer] ')'
struct CodeExpression {
  enum Value {
    case name
    case constant(TorchArgument)
    case list([CodeExpression])
    case tuple([CodeExpression])
    case dictionary([(key: String, value: CodeExpression)])
    /// Start, end and step.
    case slice([CodeExpression])
  }

  let range: Range<Int>
  let value: Value

  /// The parts that the elements of an `ArgumentPlace` count.
  var elements: [CodeExpression] {
    switch value {
    case .name, .constant: []
    case .list(let elements), .tuple(let elements), .slice(let elements): elements
    case .dictionary(let entries): entries.map(\.value)
    }
  }
}

extension CodeScanner {
  /// Deeper than any argument is nested.
  private static let deepestNesting = 32

  mutating func expression(depth: Int = 0) throws(Failure) -> CodeExpression {
    guard depth < Self.deepestNesting else { throw unexpected() }
    skipSpaces()
    let start = position
    let value = try expressionValue(depth: depth)
    return CodeExpression(range: start..<position, value: value)
  }

  private mutating func expressionValue(depth: Int) throws(Failure) -> CodeExpression.Value {
    switch byte {
    case Ascii.quote, Ascii.doubleQuote: return .constant(.string(try string()))
    case Ascii.openBracket:
      move(to: position + 1)
      return .list(try elements(until: Ascii.closeBracket, depth: depth))
    case Ascii.openParenthesis: return try tuple(depth: depth)
    case Ascii.openBrace: return try dictionary(depth: depth)
    case Ascii.minus: return .constant(try number())
    case let byte where Ascii.isDigit(byte): return .constant(try number())
    default: return try named(depth: depth)
    }
  }

  /// Elements with commas between them, up to `end`.
  private mutating func elements(until end: UInt8, depth: Int) throws(Failure) -> [CodeExpression] {
    var elements: [CodeExpression] = []
    while !take(end) {
      if !elements.isEmpty { try expect(Ascii.comma) }
      elements.append(try expression(depth: depth + 1))
    }
    return elements
  }

  private mutating func tuple(depth: Int) throws(Failure) -> CodeExpression.Value {
    try expect(Ascii.openParenthesis)
    if take(Ascii.closeParenthesis) { return .tuple([]) }
    let first = try expression(depth: depth + 1)
    // Without a comma it would be no tuple, and torch.fx prints no other parentheses.
    try expect(Ascii.comma)
    if take(Ascii.closeParenthesis) { return .tuple([first]) }
    return .tuple([first] + (try elements(until: Ascii.closeParenthesis, depth: depth)))
  }

  private mutating func dictionary(depth: Int) throws(Failure) -> CodeExpression.Value {
    try expect(Ascii.openBrace)
    var entries: [(key: String, value: CodeExpression)] = []
    while !take(Ascii.closeBrace) {
      if !entries.isEmpty { try expect(Ascii.comma) }
      let key = try string()
      try expect(Ascii.colon)
      entries.append((key, try expression(depth: depth + 1)))
    }
    return .dictionary(entries)
  }

  private mutating func named(depth: Int) throws(Failure) -> CodeExpression.Value {
    let start = position
    let name = span(try identifier())
    if name.equals("None") { return .constant(.none) }
    if name.equals("True") { return .constant(.bool(true)) }
    if name.equals("False") { return .constant(.bool(false)) }
    if name.equals("Ellipsis") { return .constant(.ellipsis) }
    if name.equals("inf") { return .constant(.float(.infinity)) }
    if name.equals("nan") { return .constant(.float(.nan)) }
    if name.equals("slice"), take(Ascii.openParenthesis) {
      let parts = try elements(until: Ascii.closeParenthesis, depth: depth)
      guard parts.count == 3 else {
        move(to: start)
        throw unexpected()
      }
      return .slice(parts)
    }
    if name.equals("device"), byte == Ascii.openParenthesis {
      try device()
      return .constant(.symbol(string(start..<position)))
    }
    if name.equals("torch") {
      try expect(Ascii.dot)
      let constant = string(try identifier())
      guard CodeVocabulary.constants.contains(constant), byte != Ascii.dot, byte != Ascii.openParenthesis else {
        move(to: start)
        throw unexpected()
      }
      return .constant(.symbol("torch." + constant))
    }
    return .name
  }

  private mutating func device() throws(Failure) {
    try expect("(type=")
    _ = try string()
    if take(Ascii.comma) {
      skipSpaces()
      try expect("index=")
      guard case .int = try number() else { throw unexpected() }
    }
    try expect(Ascii.closeParenthesis)
  }
}
