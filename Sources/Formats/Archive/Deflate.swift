import CZlib
import ModelGraph

/// Unpacks entries of archives by zlib, in steps between which a request can be cancelled. The only file that knows it.
enum Deflate {
  /// Deflate's best is 1032:1, for a run of one byte; what claims more is no deflated data.
  static let maximumRatio = 1100

  /// Bytes between two looks at the cancellation flag.
  private static let sliceCount = 1 << 20

  /// The contents of an entry.
  /// - Parameters:
  ///   - count: of the contents; no more memory than that is used, whatever the bytes say.
  ///   - name: of the entry, for messages.
  static func inflate(_ packed: ByteSpan, count: Int, name: String, work: Work) throws(Failure) -> TensorBytes {
    var stream = z_stream()
    // Negative: bare deflate, without zlib's own frame, with the largest window.
    guard inflateInit2_(&stream, -MAX_WBITS, zlibVersion(), Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw Failure(.resourceLimit, "there is no memory to unpack entry '\(name)' of the archive")
    }
    defer { inflateEnd(&stream) }
    return try TensorBytes(count: count) { target throws(Failure) in
      var (read, written) = (0, 0)
      var status = Z_OK
      while status == Z_OK {
        try work.checkCancellation()
        let (input, output) = (min(packed.count - read, sliceCount), min(count - written, sliceCount))
        stream.next_in = UnsafeMutablePointer(mutating: (packed.base + read).assumingMemoryBound(to: UInt8.self))
        stream.avail_in = UInt32(input)
        stream.next_out = target.baseAddress.map { ($0 + written).assumingMemoryBound(to: UInt8.self) }
        stream.avail_out = UInt32(output)
        status = CZlib.inflate(&stream, Z_NO_FLUSH)
        read += input - Int(stream.avail_in)
        written += output - Int(stream.avail_out)
      }
      guard status == Z_STREAM_END, written == count, read == packed.count else {
        throw .malformed(
          "entry '\(name)' of the archive cannot be unpacked to the \(count) bytes that it claims; the file is damaged",
          at: packed.offset + read, details: ["entry": .string(name)])
      }
    }
  }
}
