// `JSONValue` to bytes through jansson. Members keep their order; reals are written with 17 significant digits, so
// that every ratio reads back as the number it was.

import CJansson

extension JSONValue {
  /// The bytes of the value after `prefix` bytes left free for the caller. Allocates once where the value has no part
  /// that is written already or more than once.
  /// - Returns: nil only if memory runs out.
  package func encoded(leaving prefix: Int = 0) -> [UInt8]? {
    guard isJoined else { return dumped(leaving: prefix) }
    var text = JoinedText(bytes: [UInt8](repeating: UInt8(ascii: " "), count: prefix))
    return text.append(self) ? text.bytes : nil
  }

  /// Whether the text is joined from what the library writes of its parts: of those that are written already, and of
  /// lists of integers long enough to be worth writing once. All else is written by the library in one go.
  fileprivate var isJoined: Bool {
    switch self {
    case .written: true
    case .ints(let elements): elements.count > 32
    case .array(let elements): elements.contains { $0.isJoined }
    case .object(let object): object.members.contains { $0.value.isJoined }
    default: false
    }
  }

  /// All of the value as the library writes it.
  fileprivate func dumped(leaving prefix: Int = 0) -> [UInt8]? {
    var estimate = 0
    guard let root = makeJSON(&estimate) else { return nil }
    defer { json_decref(root) }
    // An object is always passed, but JSON_ENCODE_ANY keeps this function total.
    let flags = Int(JSON_COMPACT) | Int(JSON_ENCODE_ANY) | 17 << 11  // JSON_REAL_PRECISION(17), a macro
    var needed = estimate
    while true {
      let capacity = needed
      let bytes = [UInt8](unsafeUninitializedCapacity: prefix + capacity) { buffer, count in
        let body = UnsafeMutableRawPointer(buffer.baseAddress)?.advanced(by: prefix)
        needed = json_dumpb(root, body?.assumingMemoryBound(to: CChar.self), capacity, flags)
        count = needed <= capacity ? prefix + needed : 0
        buffer[..<min(prefix, count)].update(repeating: UInt8(ascii: " "))
      }
      // Zero bytes is how the library reports failure.
      if needed == 0 { return nil }
      if needed <= capacity { return bytes }
    }
  }

  /// A new reference, or nil if memory runs out. Adds to `estimate` about as many bytes as the text will have; rather
  /// more than fewer, for a text that does not fit is written twice.
  private func makeJSON(_ estimate: inout Int) -> UnsafeMutablePointer<json_t>? {
    switch self {
    case .null:
      estimate += 5
      return json_null()
    case .bool(let value):
      estimate += 6
      return value ? json_true() : json_false()
    case .int(let value):
      estimate += 21
      return json_integer(json_int_t(value))
    case .double(let value):
      estimate += 26
      return value.isFinite ? json_real(value) : json_null()
    case .string(let value):
      return value.withUTF8Bytes { characters, count in
        estimate += count + count / 8 + 3
        return json_stringn_nocheck(characters, count)
      }
    case .ints(let elements):
      let array = json_array()
      for element in elements {
        estimate += element.magnitude < 100_000 ? 7 : 21
        if json_array_append_new(array, json_integer(json_int_t(element))) != 0 { return release(array) }
      }
      estimate += 3
      return array
    case .array(let elements):
      let array = json_array()
      for element in elements where json_array_append_new(array, element.makeJSON(&estimate)) != 0 {
        return release(array)
      }
      estimate += 3
      return array
    case .object(let object):
      let json = json_object()
      for (name, value) in object.members {
        let status = name.withUTF8Bytes { characters, count in
          estimate += count + count / 8 + 4
          return json_object_setn_new_nocheck(json, characters, count, value.makeJSON(&estimate))
        }
        if status != 0 { return release(json) }
      }
      estimate += 3
      return json
    // Joined with the rest, never part of a tree.
    case .written: return nil
    }
  }
}

/// A text in the making, joined from texts that the library wrote.
private struct JoinedText {
  private(set) var bytes: [UInt8]
  /// Where the lists of integers stand that are written. A channel that goes takes an entry from every parameter of its
  /// group, so that a reply about pruning has each of its lists many times, and they are nearly all of it.
  private var places: [[Int]: Range<Int>] = [:]

  init(bytes: [UInt8]) { self.bytes = bytes }

  /// - Returns: false only if memory runs out.
  mutating func append(_ value: JSONValue) -> Bool {
    switch value {
    case .written(let text):
      bytes += text.bytes
      return true
    case .ints(let elements) where value.isJoined:
      if let place = places[elements] {
        bytes += bytes[place]
        return true
      }
      let start = bytes.count
      guard appendDumped(value) else { return false }
      places[elements] = start..<bytes.count
      return true
    case .array(let elements) where value.isJoined:
      return appendContainer("[", elements, "]") { text, element in text.append(element) }
    case .object(let object) where value.isJoined:
      return appendContainer("{", object.members, "}") { text, member in
        guard text.appendDumped(.string(member.name)) else { return false }
        text.bytes.append(UInt8(ascii: ":"))
        return text.append(member.value)
      }
    default: return appendDumped(value)
    }
  }

  private mutating func appendDumped(_ value: JSONValue) -> Bool {
    guard let text = value.dumped() else { return false }
    bytes += text
    return true
  }

  private mutating func appendContainer<Part>(
    _ open: Unicode.Scalar, _ parts: [Part], _ close: Unicode.Scalar,
    each append: (inout JoinedText, Part) -> Bool
  ) -> Bool {
    bytes.append(UInt8(ascii: open))
    for (index, part) in parts.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: ",")) }
      guard append(&self, part) else { return false }
    }
    bytes.append(UInt8(ascii: close))
    return true
  }
}

/// Drops what was built so far.
private func release(_ json: UnsafeMutablePointer<json_t>?) -> UnsafeMutablePointer<json_t>? {
  json_decref(json)
  return nil
}

extension String {
  /// Swift's strings are valid UTF-8, so that the library need not check them again.
  fileprivate func withUTF8Bytes<R>(_ body: (UnsafePointer<CChar>?, Int) -> R) -> R {
    var copy = self
    return copy.withUTF8 { bytes in
      // The library wants a pointer even to no characters.
      bytes.isEmpty
        ? "".withCString { body($0, 0) } : bytes.withMemoryRebound(to: CChar.self) { body($0.baseAddress, $0.count) }
    }
  }
}
