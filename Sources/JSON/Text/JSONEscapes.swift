/// Strings as JSON writes them.
package enum JSONEscapes {
  /// The characters that `inner`, the text between the quotes, stands for. Escapes that are none stand for themselves.
  static func decoded(_ inner: UnsafeRawBufferPointer) -> String {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(inner.count)
    var units: [UInt16] = []
    func flush() {
      guard !units.isEmpty else { return }
      bytes += Array(String(decoding: units, as: UTF16.self).utf8)
      units.removeAll()
    }
    var position = 0
    while position < inner.count {
      let byte = inner[position]
      position += 1
      guard byte == UInt8(ascii: "\\"), position < inner.count else {
        flush()
        bytes.append(byte)
        continue
      }
      let letter = inner[position]
      position += 1
      if letter == UInt8(ascii: "u"), let unit = unit(inner, at: position) {
        units.append(unit)
        position += 4
        continue
      }
      flush()
      bytes.append(simple(letter) ?? letter)
    }
    flush()
    return String(decoding: bytes, as: UTF8.self)
  }

  /// What the letter after a backslash stands for; nil for `u` and letters that mean nothing.
  static func simple(_ letter: UInt8) -> UInt8? {
    switch letter {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): letter
    case UInt8(ascii: "b"): 8
    case UInt8(ascii: "f"): 12
    case UInt8(ascii: "n"): 10
    case UInt8(ascii: "r"): 13
    case UInt8(ascii: "t"): 9
    default: nil
    }
  }

  /// The number that four hexadecimal digits at `position` write.
  static func unit(_ bytes: UnsafeRawBufferPointer, at position: Int) -> UInt16? {
    guard position + 4 <= bytes.count else { return nil }
    var value: UInt16 = 0
    for index in position..<position + 4 {
      let byte = bytes[index]
      let digit: UInt8
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
      default: return nil
      }
      value = value << 4 | UInt16(digit)
    }
    return value
  }

  /// `text` in quotes, all but ASCII escaped, as Python's `json` writes it.
  package static func encoded(_ text: String) -> String {
    var result = "\""
    for unit in text.utf16 {
      switch unit {
      case 0x22: result += "\\\""
      case 0x5C: result += "\\\\"
      case 0x20...0x7E: result.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
      case 8: result += "\\b"
      case 9: result += "\\t"
      case 10: result += "\\n"
      case 12: result += "\\f"
      case 13: result += "\\r"
      default:
        let digits = String(unit, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
      }
    }
    return result + "\""
  }
}
