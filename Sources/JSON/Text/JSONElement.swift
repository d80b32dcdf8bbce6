import Glibc

/// A value in a `JSONText`. It owns nothing: the text outlives it.
///
/// Everything is read from the bytes when it is asked for, and each reading checks what it meets, so that a file that
/// changes under the mapping gives nil or other values but never a trap.
package struct JSONElement: @unchecked Sendable {
  package enum Kind: UInt8, Sendable {
    case null, bool, number, string, array, object
  }

  private let base: UnsafeRawPointer
  private let entries: UnsafePointer<JSONText.Entry>
  private let position: Int

  init(base: UnsafeRawPointer, entries: UnsafePointer<JSONText.Entry>, position: Int) {
    (self.base, self.entries, self.position) = (base, entries, position)
  }

  private var entry: JSONText.Entry { entries[position] }
  package var kind: Kind { entry.kind }
  /// Where it stands in the text, quotes and brackets included.
  package var range: Range<Int> { Int(entry.start)..<Int(entry.end) }

  private func bytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count)
  }

  /// As it is written.
  package var source: String { String(decoding: bytes(range), as: UTF8.self) }

  // MARK: Scalars

  package var isNull: Bool { kind == .null }

  package var bool: Bool? { kind == .bool ? entry.end - entry.start == 4 : nil }

  /// A whole number that is written as one and fits.
  package var int: Int? {
    guard kind == .number else { return nil }
    var digits = bytes(range)[...]
    let isNegative = digits.first == UInt8(ascii: "-")
    if isNegative { digits.removeFirst() }
    guard !digits.isEmpty else { return nil }
    var value = 0
    for byte in digits {
      guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
      let digit = Int(byte - UInt8(ascii: "0"))
      let (scaled, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = isNegative ? scaled.subtractingReportingOverflow(digit) : scaled.addingReportingOverflow(digit)
      if overflow || carry { return nil }
      value = sum
    }
    return value
  }

  package var double: Double? { kind == .number ? Double(source) : nil }

  /// The characters of a string.
  package var string: String? {
    guard kind == .string else { return nil }
    let inner = bytes(range.lowerBound + 1..<range.upperBound - 1)
    return entry.isEscaped ? JSONEscapes.decoded(inner) : String(decoding: inner, as: UTF8.self)
  }

  package func equals(_ text: StaticString) -> Bool {
    guard kind == .string else { return false }
    if entry.isEscaped { return string == text.description }
    let count = Int(entry.end - entry.start) - 2
    return count == text.utf8CodeUnitCount && memcmp(base + Int(entry.start) + 1, text.utf8Start, count) == 0
  }

  // MARK: Containers

  /// The elements of an array; none if it is none.
  package var elements: Elements { Elements(container: self, isMembers: kind != .array) }

  /// The members of an object in order; none if it is none.
  package var members: Members { Members(names: Elements(container: self, isMembers: kind != .object)) }

  /// The value of member `name`, found by walking the members.
  package subscript(name: StaticString) -> JSONElement? {
    for (key, value) in members where key.equals(name) { return value }
    return nil
  }

  /// Name and value of the only member of an object that has one: how a union says which of its cases it is.
  package var onlyMember: (name: JSONElement, value: JSONElement)? {
    var iterator = members
    guard let first = iterator.next(), iterator.next() == nil else { return nil }
    return first
  }

  package struct Elements: Sequence, IteratorProtocol {
    private let base: UnsafeRawPointer
    private let entries: UnsafePointer<JSONText.Entry>
    private var position: Int
    private let end: Int

    fileprivate init(container: JSONElement, isMembers: Bool) {
      (base, entries) = (container.base, container.entries)
      position = container.position + 1
      end = isMembers ? position : Int(container.entry.next)
    }

    package mutating func next() -> JSONElement? {
      guard position < end else { return nil }
      defer { position = Int(entries[position].next) }
      return JSONElement(base: base, entries: entries, position: position)
    }
  }

  package struct Members: Sequence, IteratorProtocol {
    fileprivate var names: Elements

    package mutating func next() -> (name: JSONElement, value: JSONElement)? {
      guard let name = names.next(), let value = names.next() else { return nil }
      return (name, value)
    }
  }
}
