import JSONRPC

/// A file's path as the client spelled it, and as the system takes it.
struct WirePath: Sendable, Hashable {
  /// Echoed in results.
  let spelled: String
  /// Absolute, without what does not change its meaning.
  let path: String
}

extension Params {
  /// An absolute path or a `file:` URI.
  func path(_ name: String) throws(ResponseError) -> WirePath? {
    guard let text = try string(name) else { return nil }
    let path = text.hasPrefix("file:") ? decodedFileURI(text) : text
    guard let path else {
      throw .invalidParams(pointer(name), "'\(name)' is no file: URI of this machine that names a UTF-8 path")
    }
    guard path.hasPrefix("/") else {
      throw .invalidParams(
        pointer(name), "'\(name)' must be an absolute path or a file: URI; resolve relative paths before sending them")
    }
    return WirePath(spelled: text, path: withoutNoise(path))
  }
}

/// `file:///a%20b`, `file://localhost/a` or `file:/a` to `/a b`; nil for other hosts and broken escapes.
private func decodedFileURI(_ text: String) -> String? {
  var rest = text.utf8.dropFirst("file:".utf8.count)
  if rest.starts(with: "//".utf8) {
    rest = rest.dropFirst(2)
    let host = String(decoding: rest.prefix { $0 != UInt8(ascii: "/") }, as: UTF8.self)
    guard host.isEmpty || host == "localhost" else { return nil }
    rest = rest.drop { $0 != UInt8(ascii: "/") }
  }
  var bytes: [UInt8] = []
  while let byte = rest.popFirst() {
    guard byte == UInt8(ascii: "%") else {
      bytes.append(byte)
      continue
    }
    guard let high = rest.popFirst().flatMap(hexDigit), let low = rest.popFirst().flatMap(hexDigit) else { return nil }
    bytes.append(high << 4 | low)
  }
  return bytes.contains(0) ? nil : String(validating: bytes, as: UTF8.self)
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
  switch byte {
  case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
  case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
  case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
  default: nil
  }
}

/// Drops empty and `.` components; `..` is left alone, for what it means depends on links.
private func withoutNoise(_ path: String) -> String {
  // Nearly all paths are clean, and every request has one.
  let slash = UInt8(ascii: "/")
  var previous: UInt8 = 0
  let isClean = path.utf8.allSatisfy { byte in
    defer { previous = byte }
    return previous != slash || (byte != slash && byte != UInt8(ascii: "."))
  }
  if isClean, previous != slash { return path }
  return "/" + path.split(separator: "/").filter { $0 != "." }.joined(separator: "/")
}
