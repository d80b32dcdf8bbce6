import ModelGraph

/// Reads one Protocol Buffers message field by field, without a schema and without copying.
///
/// Invariant: no bytes make it trap or read outside the span; what is not the wire format is a `model.malformed`
/// failure that names the byte's position in the file and the reason. Specification: protobuf.dev, "Encoding".
package struct WireReader {
  private let span: ByteSpan
  private let message: StaticString
  private var position = 0

  /// - Parameter message: what the bytes are ("NodeProto"), for error messages.
  package init(_ span: ByteSpan, _ message: StaticString) { (self.span, self.message) = (span, message) }

  /// The next field, nil at the end of the message.
  package mutating func next() throws(Failure) -> WireField? {
    guard position < span.count else { return nil }
    let start = position
    let tag = try varint()
    guard tag <= UInt64(UInt32.max), tag >> 3 != 0 else { throw malformed("field number \(tag >> 3)", at: start) }
    var scalar: UInt64 = 0
    var header = position - start
    let type: WireField.Kind
    switch tag & 7 {
    case 0:
      type = .varint
      scalar = try varint()
    case 1:
      type = .fixed64
      try advance(by: 8, from: start)
      scalar = UInt64(littleEndian: span.base.loadUnaligned(fromByteOffset: position - 8, as: UInt64.self))
    case 2:
      type = .bytes
      let length = try varint()
      header = position - start
      guard length <= UInt64(span.count - position) else {
        throw malformed(
          "field \(tag >> 3) claims \(length) bytes where \(span.count - position) are left", at: start)
      }
      position += Int(length)
    case 5:
      type = .fixed32
      try advance(by: 4, from: start)
      scalar = UInt64(UInt32(littleEndian: span.base.loadUnaligned(fromByteOffset: position - 4, as: UInt32.self)))
    default:
      throw malformed("field \(tag >> 3) has wire type \(tag & 7), which no ONNX file uses", at: start)
    }
    return WireField(
      number: Int(tag >> 3), kind: type, headerCount: header, whole: span[start..<position], scalar: scalar)
  }

  /// The next number of a packed list, nil at its end.
  package mutating func nextVarint() throws(Failure) -> UInt64? {
    position < span.count ? try varint() : nil
  }

  private mutating func varint() throws(Failure) -> UInt64 {
    let start = position
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while position < span.count {
      let byte = UInt64(span.base.load(fromByteOffset: position, as: UInt8.self))
      position += 1
      if byte < 0x80 {
        // The tenth byte holds the one bit that is left of 64.
        guard shift < 63 || byte <= 1 else { throw malformed("a number has more than 64 bits", at: start) }
        return value | byte << shift
      }
      guard shift < 63 else { throw malformed("a number has more than 10 bytes", at: start) }
      value |= (byte & 0x7f) << shift
      shift += 7
    }
    throw malformed("a number is cut off", at: start)
  }

  private mutating func advance(by count: Int, from start: Int) throws(Failure) {
    guard count <= span.count - position else { throw malformed("a number is cut off", at: start) }
    position += count
  }

  private func malformed(_ reason: String, at position: Int) -> Failure {
    .malformed("not a valid \(message): \(reason)", at: span.offset + position)
  }
}

/// One field of a message: its number, its value, and the bytes it was written as.
package struct WireField: Sendable {
  package enum Kind: UInt8, Sendable { case varint, fixed64, bytes, fixed32 }

  package let number: Int
  package let kind: Kind
  /// Bytes of tag and length that precede `payload`.
  package let headerCount: Int
  /// The field as it stands in the file, tag included.
  package let whole: ByteSpan
  /// The number, if the field is one; floating-point numbers as their bit pattern.
  package let scalar: UInt64

  /// The content of a length-delimited field; empty for numbers.
  package var payload: ByteSpan {
    kind == .bytes ? whole[headerCount..<whole.count] : whole[whole.count..<whole.count]
  }

  /// The payload of a field that the schema says is a string, bytes or a message.
  package func bytes() throws(Failure) -> ByteSpan {
    guard kind == .bytes else { throw wrongKind }
    return payload
  }

  /// The value of a field that the schema says is an integer.
  package func int() throws(Failure) -> Int {
    guard kind == .varint else { throw wrongKind }
    return Int(Int64(bitPattern: scalar))
  }

  /// The value of a field that the schema says is a float.
  package func float() throws(Failure) -> Float {
    guard kind == .fixed32 else { throw wrongKind }
    return Float(bitPattern: UInt32(truncatingIfNeeded: scalar))
  }

  /// Calls `body` for each integer of a repeated field, packed or not.
  package func forEachInt(_ body: (Int) throws(Failure) -> Void) throws(Failure) {
    if kind == .varint { return try body(Int(Int64(bitPattern: scalar))) }
    var reader = WireReader(try bytes(), "packed list of integers")
    while let value = try reader.nextVarint() { try body(Int(Int64(bitPattern: value))) }
  }

  /// The little-endian elements, `width` (4 or 8) bytes each, of a repeated float or double field, packed or not.
  package func fixedElements(width: Int) throws(Failure) -> ByteSpan {
    if kind == (width == 4 ? .fixed32 : .fixed64) { return whole[(whole.count - width)..<whole.count] }
    let elements = try bytes()
    guard elements.count % width == 0 else {
      throw .malformed("a packed list of \(width)-byte numbers has \(elements.count) bytes", at: elements.offset)
    }
    return elements
  }

  private var wrongKind: Failure {
    .malformed("field \(number) has a wire type that its declaration does not allow", at: whole.offset)
  }
}

extension [WireField] {
  /// All fields of the message `span`.
  init(_ span: ByteSpan, _ message: StaticString) throws(Failure) {
    self = []
    var reader = WireReader(span, message)
    while let field = try reader.next() { append(field) }
  }

  /// Where new fields of this number go: after the last of their kind, else where serializers, which write by number,
  /// would have put them.
  func position(ofNew number: Int) -> Int {
    if let last = lastIndex(where: { $0.number == number }) { return last + 1 }
    return firstIndex { $0.number > number } ?? count
  }
}

extension Failure {
  /// A model file whose bytes are wrong at `offset`.
  static func malformed(_ reason: String, at offset: Int, details: [String: Detail] = [:]) -> Failure {
    Failure(
      .modelMalformed, "\(reason) (at byte \(offset))", details: details.merging(["offset": .int(offset)]) { a, _ in a }
    )
  }
}
