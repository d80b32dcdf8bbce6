import ModelGraph
import Numerics

/// The checksum of what pieces will produce, without producing it: what is gathered passes through a small buffer.
extension WireMessage {
  /// Bytes gathered at once, which stay in the processor's cache.
  fileprivate static let bufferCount = 1 << 18
  /// Bytes between two looks at the cancellation flag: about a millisecond.
  static let sliceCount = 1 << 20

  func crc32(work: Work) throws(Failure) -> UInt32 {
    var checksum = CRC32()
    for piece in pieces {
      switch piece.content {
      case .span(let span): try checksum.add(span.buffer, work: work)
      case .bytes(let bytes): bytes.withUnsafeBytes { checksum.add($0) }
      case .tensor(let bytes): try checksum.add(bytes.buffer, work: work)
      case .gathered(let gather, let bytes): try checksum.add(gather, of: bytes, work: work)
      case .gatheredEntries(let gather, let bytes, let elements):
        elements.encode(gather, bytes).withUnsafeBytes { checksum.add($0) }
      }
    }
    return checksum.value
  }
}

extension CRC32 {
  fileprivate mutating func add(_ bytes: UnsafeRawBufferPointer, work: Work) throws(Failure) {
    var rest = bytes[...]
    while !rest.isEmpty {
      try work.checkCancellation()
      add(UnsafeRawBufferPointer(rebasing: rest.prefix(WireMessage.sliceCount)))
      rest = rest.dropFirst(WireMessage.sliceCount)
    }
  }

  /// Rows that fit into the buffer are gathered there; longer ones go run by run.
  fileprivate mutating func add(_ gather: Gather, of bytes: TensorBytes, work: Work) throws(Failure) {
    guard gather.rowBytes > 0 else { return }
    guard gather.rowBytes <= WireMessage.bufferCount else {
      for row in 0..<gather.rowCount {
        try gather.forEachRun(ofRow: row) { offset, count throws(Failure) in
          try add(UnsafeRawBufferPointer(start: bytes.base + offset, count: count), work: work)
        }
      }
      return
    }
    let step = WireMessage.bufferCount / gather.rowBytes
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(step, gather.rowCount) * gather.rowBytes, alignment: 64)
    defer { buffer.deallocate() }
    guard let target = buffer.baseAddress else { return }
    for start in stride(from: 0, to: gather.rowCount, by: step) {
      try work.checkCancellation()
      let rows = start..<min(start + step, gather.rowCount)
      gather.copyRows(rows, from: bytes.base, to: target)
      add(UnsafeRawBufferPointer(start: target, count: rows.count * gather.rowBytes))
    }
  }
}
