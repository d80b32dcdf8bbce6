/// Bytes to message bodies: the base protocol's framing (header lines, an empty line, `Content-Length` bytes).
///
/// Knows no descriptor, so that tests and fuzzers can drive it with any bytes in any pieces. Invariants: what is held
/// is bounded by `Limits` and grows with the bytes that arrived, never with a length that was only claimed; every byte
/// is looked at once, however small the pieces; after an error nothing more comes out, because where the next message
/// begins can no longer be known.
package struct FrameParser: ~Copyable {
  package struct Limits: Sendable {
    package var headerBytes = 8 << 10
    package var headerLineBytes = 1 << 10
    package var bodyBytes: Int
    package init(bodyBytes: Int = 64 << 20) { self.bodyBytes = bodyBytes }
  }

  private let limits: Limits
  private var buffer: UnsafeMutableRawBufferPointer
  /// Unread bytes are `buffer[start..<end]`; those before `scanned` have been looked at.
  private var (start, scanned, end) = (0, 0, 0)
  private var header = HeaderBlock()
  /// The body being waited for, nil while in a header.
  private var bodyLength: Int?
  private var failure: FramingError?

  private static let initialCapacity = 64 << 10

  package init(limits: Limits = Limits()) {
    self.limits = limits
    buffer = .allocate(byteCount: FrameParser.initialCapacity, alignment: 16)
  }

  deinit { buffer.deallocate() }

  /// Room for at least one more byte; whatever is written there counts once `received` is told.
  package mutating func freeSpace() -> UnsafeMutableRawBufferPointer {
    if start == end {
      (start, scanned, end) = (0, 0, 0)
      // What one large message needed is not kept for the small ones that follow.
      if buffer.count > FrameParser.initialCapacity { resize(to: FrameParser.initialCapacity) }
    }
    if end == buffer.count, start > 0 {
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[start..<end]))
      (start, scanned, end) = (0, scanned - start, end - start)
    }
    if end == buffer.count { resize(to: buffer.count * 2) }
    return UnsafeMutableRawBufferPointer(rebasing: buffer[end...])
  }

  package mutating func received(_ count: Int) { end += count }

  /// Whether the input ends between two messages if it ends here.
  package var isBetweenMessages: Bool { start == end && bodyLength == nil && header.isEmpty }

  /// The next complete body, nil if more bytes are needed. Valid until the next call of any method.
  package mutating func nextBody() throws(FramingError) -> UnsafeRawBufferPointer? {
    if let failure { throw failure }
    do {
      return try parseBody()
    } catch {
      failure = error
      throw error
    }
  }

  private mutating func parseBody() throws(FramingError) -> UnsafeRawBufferPointer? {
    while bodyLength == nil {
      guard let line = try nextLine() else { return nil }
      if line.isEmpty {
        bodyLength = try header.finish(limit: limits.bodyBytes)
        header = HeaderBlock()
      } else {
        try header.add(line, limit: limits.headerBytes)
      }
    }
    guard let length = bodyLength, end - start >= length else { return nil }
    let body = UnsafeRawBufferPointer(rebasing: buffer[start..<start + length])
    start += length
    scanned = start
    bodyLength = nil
    return body
  }

  /// The next header line without its CRLF, nil if it is not complete.
  private mutating func nextLine() throws(FramingError) -> UnsafeRawBufferPointer? {
    while scanned < end {
      let byte = buffer[scanned]
      let isAfterReturn = scanned > start && buffer[scanned - 1] == UInt8(ascii: "\r")
      if byte == UInt8(ascii: "\n") {
        guard isAfterReturn else { throw .loneLineFeed }
        let line = UnsafeRawBufferPointer(rebasing: buffer[start..<scanned - 1])
        scanned += 1
        start = scanned
        return line
      }
      if isAfterReturn || (byte < 0x20 && byte != UInt8(ascii: "\r") && byte != UInt8(ascii: "\t")) || byte == 0x7F {
        throw .controlCharacter
      }
      scanned += 1
      if scanned - start > limits.headerLineBytes { throw .headerTooLong(limits.headerLineBytes) }
    }
    return nil
  }

  private mutating func resize(to capacity: Int) {
    let larger = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
    larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: buffer[..<end]))
    buffer.deallocate()
    buffer = larger
  }
}

/// A byte stream that is not framed messages. Fatal to its connection.
package enum FramingError: Error, Equatable, CustomStringConvertible {
  case loneLineFeed
  case controlCharacter
  case notAHeader
  case headerTooLong(Int)
  case noLength
  case badLength(String)
  case contradictingLengths(Int, Int)
  case bodyTooLong(Int, limit: Int)
  case badCharset(String)

  package var description: String {
    switch self {
    case .loneLineFeed: "a header line ends with a line feed alone; end it with CR LF"
    case .controlCharacter: "a control character inside a header line; expected 'Content-Length: N' CR LF CR LF"
    case .notAHeader: "a header line has no 'name:'; expected 'Content-Length: N' CR LF CR LF before the JSON text"
    case .headerTooLong(let limit): "the header is longer than \(limit) bytes"
    case .noLength: "the header gives no Content-Length"
    case .badLength(let text): "Content-Length is '\(text)'; expected the body's bytes as a positive decimal number"
    case .contradictingLengths(let a, let b): "the header gives two lengths, \(a) and \(b)"
    case .bodyTooLong(let length, let limit):
      "a message of \(length) bytes is above the limit of \(limit) (--max-message-bytes)"
    case .badCharset(let name): "the charset is '\(name)'; only utf-8 is read"
    }
  }
}
