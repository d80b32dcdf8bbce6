import Glibc
import ModelGraph

/// The tokens of the Python text that a GraphModule is stored with, read where they are.
///
/// Invariant: a scanner only moves forwards and never past the text's end, and a token costs time in proportion to its
/// own bytes; so reading a text is linear in it. Whatever torch.fx does not print is no token: comments, line
/// continuations, tabs, semicolons of other kinds, other literals.
struct CodeScanner {
  let text: ByteSpan
  private(set) var position = 0
  /// What the text is, for messages.
  private let name: StaticString

  init(_ text: ByteSpan, name: StaticString = "the model's code") { (self.text, self.name) = (text, name) }

  // MARK: Bytes

  /// The byte at the position, 0 at the end.
  var byte: UInt8 { byte(at: position) }

  func byte(at offset: Int) -> UInt8 {
    offset < text.count ? text.base.load(fromByteOffset: offset, as: UInt8.self) : 0
  }

  var isAtEnd: Bool { position == text.count }
  var isAtLineEnd: Bool { isAtEnd || byte == Ascii.newline }

  func span(_ range: Range<Int>) -> ByteSpan { text[range] }

  func string(_ range: Range<Int>) -> String { text[range].displayName }

  /// - Precondition: not beyond the end.
  mutating func move(to offset: Int) {
    precondition(offset >= 0 && offset <= text.count)
    position = offset
  }

  mutating func skipSpaces() {
    while byte == Ascii.space { position += 1 }
  }

  /// Moves over `expected` and the spaces before it, if it comes next.
  mutating func take(_ expected: UInt8) -> Bool {
    skipSpaces()
    guard byte == expected, !isAtEnd else { return false }
    position += 1
    return true
  }

  mutating func expect(_ expected: UInt8) throws(Failure) {
    guard take(expected) else { throw unexpected() }
  }

  /// Moves over `expected`, which must come next as it is.
  mutating func take(_ expected: StaticString) -> Bool {
    let count = expected.utf8CodeUnitCount
    guard text.count - position >= count, text[position..<(position + count)].equals(expected) else { return false }
    position += count
    return true
  }

  mutating func expect(_ expected: StaticString) throws(Failure) {
    guard take(expected) else { throw unexpected() }
  }

  mutating func expectLineEnd() throws(Failure) {
    skipSpaces()
    guard isAtLineEnd else { throw unexpected() }
    if !isAtEnd { position += 1 }
  }

  // MARK: Tokens

  /// An identifier.
  mutating func identifier() throws(Failure) -> Range<Int> {
    skipSpaces()
    guard Ascii.startsIdentifier(byte) else { throw unexpected() }
    let start = position
    while Ascii.continuesIdentifier(byte) { position += 1 }
    return start..<position
  }

  /// An integer or floating-point number as Python prints it, perhaps with a sign.
  mutating func number() throws(Failure) -> TorchArgument {
    skipSpaces()
    let start = position
    if byte == Ascii.minus { position += 1 }
    if Ascii.startsIdentifier(byte) {
      let name = try identifier()
      if span(name).equals("inf") { return .float(byte(at: start) == Ascii.minus ? -.infinity : .infinity) }
      move(to: start)
      throw unexpected()
    }
    let first = position
    var isFloat = false
    while Ascii.isDigit(byte) || byte == Ascii.dot || byte | 0x20 == Ascii.e {
      if !Ascii.isDigit(byte) { isFloat = true }
      if byte | 0x20 == Ascii.e, byte(at: position + 1) == Ascii.minus || byte(at: position + 1) == Ascii.plus {
        position += 1
      }
      position += 1
    }
    guard position > first, Ascii.isDigit(byte(at: first)), position - start <= Self.longestNumber,
      !Ascii.continuesIdentifier(byte)
    else {
      move(to: start)
      throw unexpected()
    }
    if isFloat {
      guard let value = Double(string(start..<position)) else {
        move(to: start)
        throw unexpected()
      }
      return .float(value)
    }
    guard let value = Int(string(start..<position)) else {
      throw malformed("a number that has more than 64 bits")
    }
    return .int(value)
  }

  /// Longer than any number Python prints that has a meaning here.
  private static let longestNumber = 64

  /// A string in single or double quotes, with Python's escapes.
  mutating func string() throws(Failure) -> String {
    skipSpaces()
    let start = position
    let quote = byte
    guard quote == Ascii.quote || quote == Ascii.doubleQuote else { throw unexpected() }
    position += 1
    var bytes: [UInt8] = []
    while byte != quote {
      guard !isAtLineEnd, byte >= Ascii.space else {
        move(to: start)
        throw unexpected()
      }
      if byte == Ascii.backslash {
        position += 1
        bytes += Array(String(try escape()).utf8)
      } else {
        bytes.append(byte)
        position += 1
      }
    }
    position += 1
    guard let string = String(validating: bytes, as: UTF8.self) else {
      move(to: start)
      throw unexpected()
    }
    return string
  }

  private mutating func escape() throws(Failure) -> Unicode.Scalar {
    let kind = byte
    let digits: Int
    switch kind {
    case Ascii.n: return try escaped("\n")
    case Ascii.t: return try escaped("\t")
    case Ascii.r: return try escaped("\r")
    case Ascii.quote, Ascii.doubleQuote, Ascii.backslash: return try escaped(Unicode.Scalar(kind))
    case Ascii.x: digits = 2
    case Ascii.u: digits = 4
    case Ascii.capitalU: digits = 8
    default: throw unexpected()
    }
    let start = position + 1
    guard start + digits <= text.count, let value = UInt32(string(start..<(start + digits)), radix: 16),
      let scalar = Unicode.Scalar(value)
    else { throw unexpected() }
    position = start + digits
    return scalar
  }

  private mutating func escaped(_ scalar: Unicode.Scalar) throws(Failure) -> Unicode.Scalar {
    position += 1
    return scalar
  }

  // MARK: Failures

  /// The text at the position is none that torch.fx writes.
  func unexpected() -> Failure {
    let (line, text) = place
    return Failure(
      .modelUnsafe,
      "line \(line) of \(name) is nothing that torch.fx writes, and PyTorch would run it: '\(text)'"
        + " (not understood from column \(column)); trace the model again with torch.fx.symbolic_trace and save that",
      details: ["line": .int(line), "text": .string(text)])
  }

  /// The text is well-formed and cannot be right.
  func malformed(_ what: String) -> Failure { failure(.modelMalformed, what) }

  func failure(_ kind: Failure.Kind, _ what: String) -> Failure {
    let (line, text) = place
    return Failure(
      kind, "line \(line) of \(name) has \(what): '\(text)'", details: ["line": .int(line), "text": .string(text)])
  }

  private var lineStart: Int {
    var start = position
    while start > 0, byte(at: start - 1) != Ascii.newline { start -= 1 }
    return start
  }

  private var column: Int { position - lineStart + 1 }

  /// The number of the line at the position, and what it says.
  private var place: (line: Int, text: String) {
    let start = lineStart
    var end = start
    while end < text.count, byte(at: end) != Ascii.newline { end += 1 }
    let line = text[0..<start].buffer.reduce(1) { $1 == Ascii.newline ? $0 + 1 : $0 }
    return (line, text[start..<end].displayText)
  }
}

/// The bytes that tokens are made of.
enum Ascii {
  static let newline = UInt8(ascii: "\n")
  static let space = UInt8(ascii: " ")
  static let quote = UInt8(ascii: "'")
  static let doubleQuote = UInt8(ascii: "\"")
  static let backslash = UInt8(ascii: "\\")
  static let dot = UInt8(ascii: ".")
  static let comma = UInt8(ascii: ",")
  static let colon = UInt8(ascii: ":")
  static let semicolon = UInt8(ascii: ";")
  static let equals = UInt8(ascii: "=")
  static let minus = UInt8(ascii: "-")
  static let plus = UInt8(ascii: "+")
  static let tilde = UInt8(ascii: "~")
  static let openParenthesis = UInt8(ascii: "(")
  static let closeParenthesis = UInt8(ascii: ")")
  static let openBracket = UInt8(ascii: "[")
  static let closeBracket = UInt8(ascii: "]")
  static let openBrace = UInt8(ascii: "{")
  static let closeBrace = UInt8(ascii: "}")
  static let underscore = UInt8(ascii: "_")
  static let e = UInt8(ascii: "e")
  static let n = UInt8(ascii: "n")
  static let r = UInt8(ascii: "r")
  static let t = UInt8(ascii: "t")
  static let u = UInt8(ascii: "u")
  static let capitalU = UInt8(ascii: "U")
  static let x = UInt8(ascii: "x")

  static func isDigit(_ byte: UInt8) -> Bool { byte &- 0x30 < 10 }
  static func startsIdentifier(_ byte: UInt8) -> Bool { (byte | 0x20) &- 0x61 < 26 || byte == underscore }
  static func continuesIdentifier(_ byte: UInt8) -> Bool { startsIdentifier(byte) || isDigit(byte) }
}
