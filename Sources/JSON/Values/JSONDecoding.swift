// Bytes to `JSONValue` through jansson. Invariant: no input traps, exhausts the stack or keeps a reader busy for long.
// Nesting and number of values are measured on the bytes before the parser sees them; the parser itself refuses invalid
// UTF-8, lone surrogates, NUL escapes, duplicate names, numbers out of range and trailing text.

import CJansson

/// Why bytes are not the JSON that is accepted here.
package struct JSONDecodingError: Error, Equatable {
  package let message: String
}

extension JSONValue {
  /// Arrays and objects within one another. The deepest message of the protocol has six.
  package static let maximumDepth = 64
  /// Elements and members in one message. A million members take the parser a second; a list of every channel of the
  /// largest networks is shorter than this.
  package static let maximumCount = 1 << 18

  /// - Throws: `JSONDecodingError` with the parser's reason and position.
  package init(decoding bytes: UnsafeRawBufferPointer) throws(JSONDecodingError) {
    let extent = extent(of: bytes)
    guard extent.depth <= JSONValue.maximumDepth else {
      throw JSONDecodingError(message: "arrays and objects are nested more than \(JSONValue.maximumDepth) levels deep")
    }
    guard extent.count <= JSONValue.maximumCount else {
      throw JSONDecodingError(message: "there are more than \(JSONValue.maximumCount) elements and members")
    }
    guard let base = bytes.baseAddress, !bytes.isEmpty else { throw JSONDecodingError(message: "the text is empty") }
    var error = json_error_t()
    // Scalars are decoded too: `5` is JSON that is no message, which is another error than text that is no JSON.
    let flags = Int(JSON_REJECT_DUPLICATES) | Int(JSON_DECODE_ANY)
    guard let root = json_loadb(base.assumingMemoryBound(to: CChar.self), bytes.count, flags, &error) else {
      let reason = withUnsafeBytes(of: error.text) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      throw JSONDecodingError(message: "\(reason) (byte \(error.position))")
    }
    defer { json_decref(root) }
    self.init(root)
  }

  package init(decoding text: String) throws(JSONDecodingError) {
    var text = text
    let result = text.withUTF8 { bytes in
      Result { () throws(JSONDecodingError) in try JSONValue(decoding: UnsafeRawBufferPointer(bytes)) }
    }
    self = try result.get()
  }

  private init(_ json: UnsafeMutablePointer<json_t>) {
    switch json.pointee.type {
    case JSON_TRUE: self = .bool(true)
    case JSON_FALSE: self = .bool(false)
    case JSON_INTEGER: self = .int(Int(json_integer_value(json)))
    case JSON_REAL: self = .double(json_real_value(json))
    case JSON_STRING: self = .string(text(json_string_value(json), json_string_length(json)))
    case JSON_ARRAY:
      let count = json_array_size(json)
      var elements: [JSONValue] = []
      elements.reserveCapacity(count)
      for index in 0..<count {
        if let element = json_array_get(json, index) { elements.append(JSONValue(element)) }
      }
      self = .array(elements)
    case JSON_OBJECT:
      var members: [(name: String, value: JSONValue)] = []
      members.reserveCapacity(json_object_size(json))
      var iterator = json_object_iter(json)
      while let member = iterator {
        if let value = json_object_iter_value(member) {
          members.append((text(json_object_iter_key(member), json_object_iter_key_len(member)), JSONValue(value)))
        }
        iterator = json_object_iter_next(json, member)
      }
      self = .object(JSONObject(members))
    default: self = .null
    }
  }
}

private func text(_ characters: UnsafePointer<CChar>?, _ count: Int) -> String {
  String(decoding: UnsafeRawBufferPointer(start: characters, count: count), as: UTF8.self)
}

/// The greatest number of arrays and objects open at once, and about how many things they hold, reading the bytes as
/// JSON but judging nothing else.
private func extent(of bytes: UnsafeRawBufferPointer) -> (depth: Int, count: Int) {
  var (depth, deepest, count, inString, escaped) = (0, 0, 1, false, false)
  for byte in bytes {
    if inString {
      if escaped {
        escaped = false
      } else if byte == UInt8(ascii: "\\") {
        escaped = true
      } else if byte == UInt8(ascii: "\"") {
        inString = false
      }
      continue
    }
    switch byte {
    case UInt8(ascii: "\""): inString = true
    case UInt8(ascii: "["), UInt8(ascii: "{"):
      depth += 1
      deepest = max(deepest, depth)
    case UInt8(ascii: "]"), UInt8(ascii: "}"): depth -= 1
    case UInt8(ascii: ","): count += 1
    default: break
    }
  }
  return (deepest, count)
}

/// Seeds the hash function of the C library from the system's randomness. Before the first thread starts: the library
/// would otherwise do it in whichever thread comes first.
package func seedJSONHashing() { json_object_seed(0) }
