/// The header of one message: what its lines say, checked line by line.
///
/// Names are compared without regard to letter case; unknown ones are skipped.
struct HeaderBlock {
  private var length: Int?
  private var bytes = 0

  var isEmpty: Bool { bytes == 0 }

  /// Takes one line without its CR LF. `limit` bounds the whole block.
  mutating func add(_ line: UnsafeRawBufferPointer, limit: Int) throws(FramingError) {
    bytes += line.count + 2
    guard bytes <= limit else { throw .headerTooLong(limit) }
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0 else { throw .notAHeader }
    let name = line[..<colon]
    // A client that forgot the header sends JSON, which has colons too.
    guard name.allSatisfy(isNameByte) else { throw .notAHeader }
    let value = trimmed(line[(colon + 1)...])
    if equal(name, "content-length") {
      let found = try parseLength(value)
      if let length, length != found { throw .contradictingLengths(length, found) }
      length = found
    } else if equal(name, "content-type") {
      try checkCharset(value)
    }
  }

  /// The length of the body that follows.
  func finish(limit: Int) throws(FramingError) -> Int {
    guard let length else { throw .noLength }
    guard length <= limit else { throw .bodyTooLong(length, limit: limit) }
    return length
  }
}

/// Letters, digits and the marks that RFC 9110 allows in names.
private func isNameByte(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "0")...UInt8(ascii: "9"):
    true
  default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
  }
}

private typealias Bytes = Slice<UnsafeRawBufferPointer>

private func parseLength(_ digits: Bytes) throws(FramingError) -> Int {
  var value = 0
  for byte in digits {
    let digit = Int(byte) - Int(UInt8(ascii: "0"))
    let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
    let (next, carry) = tens.addingReportingOverflow(digit)
    guard 0...9 ~= digit, !overflow, !carry else { throw .badLength(printable(digits)) }
    value = next
  }
  // An empty body is no JSON text, so that zero is as wrong as no digits at all.
  guard value > 0 else { throw .badLength(printable(digits)) }
  return value
}

/// `application/vscode-jsonrpc; charset=utf-8`: only the charset matters; `utf8` is its historic spelling.
private func checkCharset(_ value: Bytes) throws(FramingError) {
  for parameter in value.split(separator: UInt8(ascii: ";")).dropFirst() {
    guard let equals = parameter.firstIndex(of: UInt8(ascii: "=")) else { continue }
    guard equal(trimmed(parameter[..<equals]), "charset") else { continue }
    var name = trimmed(parameter[(equals + 1)...])
    if name.count >= 2, name.first == UInt8(ascii: "\""), name.last == UInt8(ascii: "\"") {
      name = name.dropFirst().dropLast()
    }
    guard equal(name, "utf-8") || equal(name, "utf8") else { throw .badCharset(printable(name)) }
  }
}

private func trimmed(_ bytes: Bytes) -> Bytes {
  func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
  var rest = bytes.drop(while: isBlank)
  while let last = rest.last, isBlank(last) { rest = rest.dropLast() }
  return rest
}

/// Whether `bytes` is `lowercase`, letters compared without case.
private func equal(_ bytes: Bytes, _ lowercase: StaticString) -> Bool {
  let other = UnsafeBufferPointer(start: lowercase.utf8Start, count: lowercase.utf8CodeUnitCount)
  return bytes.elementsEqual(other) { byte, letter in
    (UInt8(ascii: "A")...UInt8(ascii: "Z") ~= byte ? byte | 0x20 : byte) == letter
  }
}

/// A short, harmless rendering for error messages.
private func printable(_ bytes: Bytes) -> String {
  String(decoding: bytes.prefix(40).map { 0x20...0x7E ~= $0 ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
}
