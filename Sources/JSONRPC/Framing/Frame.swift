import JSON

/// One message as it goes over the wire, header and body in one piece of memory, so that both leave in one write.
package struct Frame: Sendable {
  private let storage: [UInt8]
  /// The first byte of the header, which stands right before the body, behind some unused room.
  private let start: Int
  /// Bytes already written.
  private var sent = 0

  /// - Returns: nil only if memory runs out.
  package init?(_ message: JSONObject) {
    // Room for "Content-Length: ", 19 digits and CR LF CR LF.
    let room = 40
    guard var bytes = JSONValue.object(message).encoded(leaving: room) else { return nil }
    var position = room
    func prepend(_ byte: UInt8) {
      position -= 1
      bytes[position] = byte
    }
    for byte in "\r\n\r\n".utf8.reversed() { prepend(byte) }
    var length = bytes.count - room
    repeat {
      prepend(UInt8(ascii: "0") + UInt8(length % 10))
      length /= 10
    } while length > 0
    for byte in "Content-Length: ".utf8.reversed() { prepend(byte) }
    (storage, start) = (bytes, position)
  }

  /// Bytes not yet written.
  package var count: Int { storage.count - start - sent }

  package func withUnsentBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
    storage.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[(start + sent)...])) }
  }

  package mutating func advance(by count: Int) { sent += count }
}
