import Glibc

/// The pass over the bytes that makes the index of a `JSONText`.
///
/// Invariant: nothing is read outside the text, memory grows with what was read and stays under the limits, and nesting
/// costs no stack.
struct JSONTextParser {
  private(set) var entries: UnsafeMutableBufferPointer<JSONText.Entry>
  private var count = 0
  private let bytes: UnsafeRawBufferPointer
  private let limits: JSONText.Limits
  private var position = 0
  /// The containers that are open, by their entries, outermost first.
  private var open: [Int] = []

  init(_ bytes: UnsafeRawBufferPointer, limits: JSONText.Limits) throws(JSONDecodingError) {
    guard bytes.count <= 1 << 30 else { throw JSONDecodingError(message: "the text is longer than 1 GB") }
    (self.bytes, self.limits) = (bytes, limits)
    // Files of this kind have a value for every 9 to 16 bytes.
    entries = .allocate(capacity: min(limits.count, max(16, bytes.count / 8)))
  }

  mutating func parse() throws(JSONDecodingError) {
    skipSpace()
    try value()
    while let container = open.last {
      skipSpace()
      switch (current, entries[container].kind) {
      case (UInt8(ascii: ","), .array):
        position += 1
        skipSpace()
        try value()
      case (UInt8(ascii: ","), .object):
        position += 1
        skipSpace()
        try member()
      case (UInt8(ascii: "]"), .array): close(container)
      case (UInt8(ascii: "}"), .object):
        try requireDistinctNames(in: container)
        close(container)
      default: throw wrong("expected ',' or the end of the \(entries[container].kind)")
      }
    }
    skipSpace()
    guard position == bytes.count else { throw wrong("there is something behind the value") }
    let rest = entries
    entries = .allocate(capacity: count)
    _ = entries.update(fromContentsOf: rest[..<count])
    rest.deallocate()
  }

  // MARK: Values

  /// The byte at the position, 0 behind the end.
  private var current: UInt8 { position < bytes.count ? bytes[position] : 0 }

  /// A scalar, or the beginning of a container with its first name, if it has any.
  private mutating func value() throws(JSONDecodingError) {
    // A first element may be a container in turn.
    while true {
      let start = position
      switch current {
      case UInt8(ascii: "["):
        try push(.array, start)
        position += 1
        skipSpace()
        if current == UInt8(ascii: "]") { return }
      case UInt8(ascii: "{"):
        try push(.object, start)
        position += 1
        skipSpace()
        if current == UInt8(ascii: "}") { return }
        try name()
      case UInt8(ascii: "\""): return try string()
      case UInt8(ascii: "t"): return try literal("true", .bool)
      case UInt8(ascii: "f"): return try literal("false", .bool)
      case UInt8(ascii: "n"): return try literal("null", .null)
      default: return try number()
      }
    }
  }

  private mutating func member() throws(JSONDecodingError) {
    try name()
    try value()
  }

  /// A member's name and the colon.
  private mutating func name() throws(JSONDecodingError) {
    guard current == UInt8(ascii: "\"") else { throw wrong("expected a name in quotes") }
    try string()
    skipSpace()
    guard current == UInt8(ascii: ":") else { throw wrong("expected ':'") }
    position += 1
    skipSpace()
  }

  private mutating func push(_ kind: JSONElement.Kind, _ start: Int) throws(JSONDecodingError) {
    guard open.count < limits.depth else {
      throw wrong("arrays and objects are nested more than \(limits.depth) levels deep")
    }
    open.append(count)
    try append(kind, start, start)
  }

  private mutating func close(_ container: Int) {
    position += 1
    entries[container].end = UInt32(position)
    entries[container].next = UInt32(count)
    open.removeLast()
  }

  private mutating func append(
    _ kind: JSONElement.Kind, _ start: Int, _ end: Int, isEscaped: Bool = false
  ) throws(JSONDecodingError) {
    if count == entries.count {
      guard count < limits.count else { throw wrong("there are more than \(limits.count) values and names") }
      let larger = UnsafeMutableBufferPointer<JSONText.Entry>.allocate(capacity: min(limits.count, 2 * count))
      _ = larger.update(fromContentsOf: entries)
      entries.deallocate()
      entries = larger
    }
    entries[count] = JSONText.Entry(
      start: UInt32(start), end: UInt32(end), next: UInt32(count + 1), kind: kind, isEscaped: isEscaped)
    count += 1
  }

  private mutating func literal(_ text: StaticString, _ kind: JSONElement.Kind) throws(JSONDecodingError) {
    let end = position + text.utf8CodeUnitCount
    guard end <= bytes.count, let base = bytes.baseAddress,
      memcmp(base + position, text.utf8Start, text.utf8CodeUnitCount) == 0
    else { throw wrong("expected a value") }
    try append(kind, position, end)
    position = end
  }

  private mutating func number() throws(JSONDecodingError) {
    let start = position
    if current == UInt8(ascii: "-") { position += 1 }
    if current == UInt8(ascii: "0") {
      position += 1
    } else {
      try digits(start)
    }
    var isReal = false
    if current == UInt8(ascii: ".") {
      isReal = true
      position += 1
      try digits(start)
    }
    if current | 0x20 == UInt8(ascii: "e") {
      isReal = true
      position += 1
      if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
      try digits(start)
    }
    try append(.number, start, position)
    // A number that nothing can hold means something else to every reader.
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if isReal {
      guard let value = Double(text), value.isFinite else { throw wrong("a number is out of range", at: start) }
    } else if position - start > 18 {
      guard Int(text) != nil else { throw wrong("a number is out of range", at: start) }
    }
  }

  private mutating func digits(_ start: Int) throws(JSONDecodingError) {
    let first = position
    while current >= UInt8(ascii: "0"), current <= UInt8(ascii: "9") { position += 1 }
    if position == first { throw wrong(first == start ? "expected a value" : "expected a digit") }
  }

  // MARK: Strings

  private mutating func string() throws(JSONDecodingError) {
    let start = position
    var (isEscaped, isASCII) = (false, true)
    position += 1
    while true {
      guard position < bytes.count else { throw wrong("a string does not end", at: start) }
      let byte = bytes[position]
      switch byte {
      case UInt8(ascii: "\""):
        position += 1
        if !isASCII, String(validating: bytes[(start + 1)..<(position - 1)], as: UTF8.self) == nil {
          throw wrong("a string is not UTF-8", at: start)
        }
        return try append(.string, start, position, isEscaped: isEscaped)
      case UInt8(ascii: "\\"):
        isEscaped = true
        try escape()
      case ..<0x20: throw wrong("a string holds a control character")
      default:
        if byte >= 0x80 { isASCII = false }
        position += 1
      }
    }
  }

  /// A backslash and what belongs to it. NUL is refused, as are halves of surrogate pairs.
  private mutating func escape() throws(JSONDecodingError) {
    guard position + 1 < bytes.count else { throw wrong("a string does not end") }
    let letter = bytes[position + 1]
    if JSONEscapes.simple(letter) != nil {
      position += 2
      return
    }
    guard letter == UInt8(ascii: "u"), let unit = JSONEscapes.unit(bytes, at: position + 2), unit != 0 else {
      throw wrong("a string holds an escape that means nothing")
    }
    position += 6
    guard UTF16.isSurrogate(unit) else { return }
    guard UTF16.isLeadSurrogate(unit), current == UInt8(ascii: "\\"), position + 1 < bytes.count,
      bytes[position + 1] == UInt8(ascii: "u"), let second = JSONEscapes.unit(bytes, at: position + 2),
      UTF16.isTrailSurrogate(second)
    else { throw wrong("a string holds half a surrogate pair") }
    position += 6
  }

  private mutating func skipSpace() {
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\t"), UInt8(ascii: "\r"): position += 1
      default: return
      }
    }
  }

  // MARK: Checks

  /// Readers disagree on which of two members of one name counts.
  private func requireDistinctNames(in container: Int) throws(JSONDecodingError) {
    var names: [Int] = []
    var name = container + 1
    while name < count {
      names.append(name)
      name = Int(entries[name + 1].next)
    }
    if names.count <= 8, !names.contains(where: { entries[$0].isEscaped }) {
      for (index, name) in names.enumerated() {
        for other in names[..<index] where sameBytes(name, other) { throw duplicate(name) }
      }
    } else {
      var seen = Set<String>(minimumCapacity: names.count)
      for name in names where !seen.insert(text(name)).inserted { throw duplicate(name) }
    }
  }

  private func sameBytes(_ a: Int, _ b: Int) -> Bool {
    let length = entries[a].end - entries[a].start
    guard length == entries[b].end - entries[b].start, let base = bytes.baseAddress else { return false }
    return memcmp(base + Int(entries[a].start), base + Int(entries[b].start), Int(length)) == 0
  }

  private func text(_ name: Int) -> String {
    let inner = UnsafeRawBufferPointer(
      rebasing: bytes[(Int(entries[name].start) + 1)..<(Int(entries[name].end) - 1)])
    return entries[name].isEscaped ? JSONEscapes.decoded(inner) : String(decoding: inner, as: UTF8.self)
  }

  private func duplicate(_ name: Int) -> JSONDecodingError {
    wrong("there are two members named '\(text(name).prefix(100))'", at: Int(entries[name].start))
  }

  private func wrong(_ reason: String, at place: Int? = nil) -> JSONDecodingError {
    JSONDecodingError(message: "\(reason) (byte \(place ?? position))")
  }
}
