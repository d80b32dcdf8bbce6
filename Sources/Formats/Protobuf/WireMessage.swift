import ModelGraph
import Numerics

/// A Protocol Buffers message to be written: pieces of the file it came from, new bytes, and tensors that are gathered
/// only when they are written.
///
/// Invariant: `count` is the exact size of what the pieces will produce, so that a message can be nested, length first,
/// before any tensor has been touched.
struct WireMessage {
  struct Piece {
    let content: Content
    /// Bytes it will produce.
    let count: Int
  }

  enum Content {
    /// Bytes of the document, written from where they are.
    case span(ByteSpan)
    case bytes([UInt8])
    /// The bytes of a tensor.
    case tensor(TensorBytes)
    /// What stays of a tensor.
    case gathered(Gather, TensorBytes)
    /// What stays of a tensor, as a packed list of integers.
    case gatheredEntries(Gather, TensorBytes, TypedElements)
  }

  private(set) var pieces: [Piece] = []
  /// Small pieces are joined up to this size; beyond it, joining would copy what is there again and again.
  private static let joinedCount = 4096
  private(set) var count = 0

  init() {}

  // MARK: Fields

  /// A field as it stands in the file.
  mutating func copy(_ field: WireField) { append(field.whole) }

  mutating func int(_ number: Int, _ value: Int) {
    var bytes: [UInt8] = []
    Self.appendVarint(UInt64(number << 3), to: &bytes)
    Self.appendVarint(UInt64(bitPattern: Int64(value)), to: &bytes)
    append(bytes)
  }

  mutating func float(_ number: Int, _ value: Float) {
    var bytes: [UInt8] = []
    Self.appendVarint(UInt64(number << 3 | 5), to: &bytes)
    withUnsafeBytes(of: value.bitPattern.littleEndian) { bytes.append(contentsOf: $0) }
    append(bytes)
  }

  mutating func string(_ number: Int, _ text: String) {
    header(number, count: text.utf8.count)
    append(Array(text.utf8))
  }

  mutating func bytes(_ number: Int, _ span: ByteSpan) {
    header(number, count: span.count)
    append(span)
  }

  mutating func message(_ number: Int, _ message: WireMessage) {
    header(number, count: message.count)
    for piece in message.pieces { append(piece) }
  }

  /// A field whose payload is one piece.
  mutating func payload(_ number: Int, _ piece: Piece) {
    header(number, count: piece.count)
    append(piece)
  }

  /// A packed list of integers.
  mutating func packed(_ number: Int, _ values: [Int]) {
    var list: [UInt8] = []
    for value in values { Self.appendVarint(UInt64(bitPattern: Int64(value)), to: &list) }
    header(number, count: list.count)
    append(list)
  }

  /// A field whose bytes do not outlive the call.
  mutating func copyBytes(of field: WireField) { append(Array(field.whole.buffer)) }

  /// The message's bytes in a buffer of their own.
  /// - Precondition: it holds no tensors, only spans and bytes.
  var flattened: TensorBytes {
    var flat: [UInt8] = []
    flat.reserveCapacity(count)
    for piece in pieces {
      switch piece.content {
      case .span(let span): flat.append(contentsOf: span.buffer)
      case .bytes(let bytes): flat += bytes
      case .tensor, .gathered, .gatheredEntries: preconditionFailure("a tensor in a flat message")
      }
    }
    return TensorBytes(copying: flat)
  }

  /// A nested message that somebody else encoded and keeps.
  mutating func encodedMessage(_ number: Int, _ bytes: TensorBytes) {
    payload(number, Piece(content: .tensor(bytes), count: bytes.count))
  }

  /// The message's bytes in a buffer of their own, tensors included.
  func encoded(work: Work) throws(Failure) -> TensorBytes {
    try TensorBytes(count: count) { buffer throws(Failure) in
      guard let target = buffer.baseAddress else { return }
      var offset = 0
      for piece in pieces {
        try work.checkCancellation()
        switch piece.content {
        case .span(let span): target.copy(span.buffer, at: offset)
        case .bytes(let bytes): bytes.withUnsafeBytes { target.copy($0, at: offset) }
        case .tensor(let bytes): target.copy(bytes.buffer, at: offset)
        case .gathered(let gather, let bytes):
          gather.copyRows(0..<gather.rowCount, from: bytes.base, to: target + offset)
        case .gatheredEntries(let gather, let bytes, let elements):
          elements.encode(gather, bytes).withUnsafeBytes { target.copy($0, at: offset) }
        }
        offset += piece.count
      }
    }
  }

  // MARK: Gathering

  /// Bytes that are to be gathered from tensors.
  var gatheredCount: Int { pieces.reduce(0) { if case .gathered = $1.content { $0 + $1.count } else { $0 } } }

  /// The same message with what stays of its tensors gathered in memory.
  func gathered(work: Work) throws(Failure) -> WireMessage {
    var message = WireMessage()
    for piece in pieces {
      guard case .gathered(let gather, let bytes) = piece.content, gather.rowBytes > 0 else {
        message.append(piece)
        continue
      }
      let rowsAtOnce = max(1, Self.sliceCount / gather.rowBytes)
      let kept = try TensorBytes(count: piece.count) { buffer throws(Failure) in
        guard let target = buffer.baseAddress else { return }
        for start in stride(from: 0, to: gather.rowCount, by: rowsAtOnce) {
          try work.checkCancellation()
          let rows = start..<min(start + rowsAtOnce, gather.rowCount)
          gather.copyRows(rows, from: bytes.base, to: target + start * gather.rowBytes)
        }
      }
      message.append(Piece(content: .tensor(kept), count: piece.count))
    }
    return message
  }

  // MARK: Pieces

  /// Zeros up to the next multiple of `alignment`.
  mutating func pad(to alignment: Int) {
    let padding = (alignment - count % alignment) % alignment
    guard padding > 0 else { return }
    append(Piece(content: .bytes([UInt8](repeating: 0, count: padding)), count: padding))
  }

  private mutating func header(_ number: Int, count: Int) {
    var bytes: [UInt8] = []
    Self.appendVarint(UInt64(number << 3 | 2), to: &bytes)
    Self.appendVarint(UInt64(count), to: &bytes)
    append(bytes)
  }

  mutating func append(_ piece: Piece) {
    switch piece.content {
    case .span(let span): append(span)
    case .bytes(let bytes): append(bytes)
    default:
      pieces.append(piece)
      count += piece.count
    }
  }

  /// Neighbours in the file stay one piece.
  mutating func append(_ span: ByteSpan) {
    guard !span.isEmpty else { return }
    count += span.count
    if let last = pieces.last, case .span(let before) = last.content, before.end == span.base {
      let joined = ByteSpan(base: before.base, count: before.count + span.count, offset: before.offset)
      pieces[pieces.count - 1] = Piece(content: .span(joined), count: joined.count)
    } else {
      pieces.append(Piece(content: .span(span), count: span.count))
    }
  }

  mutating func append(_ bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    count += bytes.count
    if let last = pieces.last, case .bytes(let before) = last.content, before.count < Self.joinedCount {
      pieces[pieces.count - 1] = Piece(content: .bytes(before + bytes), count: last.count + bytes.count)
    } else {
      pieces.append(Piece(content: .bytes(bytes), count: bytes.count))
    }
  }

  static func appendVarint(_ value: UInt64, to bytes: inout [UInt8]) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }
}

extension UnsafeMutableRawPointer {
  fileprivate func copy(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
    if let base = bytes.baseAddress { (self + offset).copyMemory(from: base, byteCount: bytes.count) }
  }
}
