import CZlib
import ModelGraph

/// The bytes of one array file, from front to back: a whole .npy file, or an entry of an archive, unpacked on the way.
///
/// An entry that is read to its end is checked against its checksum. Memory is one buffer, whatever is claimed.
final class ContentReader {
  private let file: DatasetFile
  private let entry: ZipDirectory.Entry?
  private var inflation: Inflation?
  /// Of the content, unpacked.
  private var position = 0
  private var checksum = crc32_z(0, nil, 0)

  init(_ file: DatasetFile, _ entry: ZipDirectory.Entry?) throws(Failure) {
    (self.file, self.entry) = (file, entry)
    if let entry, entry.method == .deflated { inflation = try Inflation(file, entry) }
  }

  /// Bytes of the content.
  var count: Int { entry?.bytes ?? file.size }

  /// Fills `buffer` with what comes next.
  /// - Throws: `Failure` of kind datasetChanged, datasetUnreadable, datasetMalformed or cancelled.
  func read(into buffer: UnsafeMutableRawBufferPointer, work: Work) throws(Failure) {
    guard buffer.count <= count - position else { throw .datasetMalformed(file.path, "it ends within \(what)") }
    if let inflation {
      try inflation.read(into: buffer, work: work)
    } else {
      try file.read(at: (entry?.dataOffset ?? 0) + position, into: buffer, work: work)
    }
    position += buffer.count
    // zlib starts anew where it is given no address.
    guard let entry, let base = buffer.baseAddress else { return }
    checksum = crc32_z(checksum, base.assumingMemoryBound(to: UInt8.self), buffer.count)
    if position == entry.bytes, UInt32(checksum) != entry.crc {
      try file.verifyUnchanged()
      throw .datasetMalformed(file.path, "\(what) does not have its checksum; the file is damaged")
    }
  }

  func read(_ count: Int, work: Work) throws(Failure) -> [UInt8] {
    guard count <= self.count - position else { throw .datasetMalformed(file.path, "it ends within \(what)") }
    var bytes = [UInt8](repeating: 0, count: count)
    try bytes.withUnsafeMutableBufferPointer { buffer throws(Failure) in
      try read(into: UnsafeMutableRawBufferPointer(buffer), work: work)
    }
    return bytes
  }

  /// The header of the array, with which the content starts.
  /// - Throws: as `read`, and datasetMismatch for arrays of a kind that no model takes.
  func readHeader(work: Work) throws(Failure) -> NPYHeader {
    let prefix = try read(min(NPYHeader.prefixBytes, count), work: work)
    let headerBytes = try understood { () throws(NPYHeader.Problem) in try NPYHeader.headerBytes(prefix: prefix) }
    let header = prefix + (try read(headerBytes - prefix.count, work: work))
    let result = try understood { () throws(NPYHeader.Problem) in try NPYHeader(header) }
    // More would be a second array, or a damaged header of which no checksum tells before its end.
    guard result.dataBytes == count - result.dataOffset else {
      throw .datasetMalformed(
        file.path,
        "\(what) has \(count - result.dataOffset) bytes of elements where its header claims \(result.dataBytes)")
    }
    return result
  }

  private func understood<R>(_ body: () throws(NPYHeader.Problem) -> R) throws(Failure) -> R {
    do {
      return try body()
    } catch {
      switch error {
      case .malformed(let reason): throw .datasetMalformed(file.path, "\(what) is damaged: \(reason)")
      case .unsupported(let reason):
        throw Failure(
          .datasetMismatch, "\(what) in \(file.path) cannot be used: \(reason)",
          details: ["path": .string(file.path), "found": .string(reason)])
      }
    }
  }

  private var what: String { entry.map { "entry '\($0.name)'" } ?? "the array" }
}

/// Unpacks an entry's bytes. zlib sees 64 KB at a time.
private final class Inflation {
  static let bufferBytes = 1 << 16

  private let file: DatasetFile
  private let entry: ZipDirectory.Entry
  private let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
  private let input = UnsafeMutableRawBufferPointer.allocate(byteCount: bufferBytes, alignment: 16)
  private var consumed = 0

  init(_ file: DatasetFile, _ entry: ZipDirectory.Entry) throws(Failure) {
    (self.file, self.entry) = (file, entry)
    stream.initialize(to: z_stream())
    // Negative: bare deflate, without zlib's own frame, with the largest window.
    guard inflateInit2_(stream, -MAX_WBITS, zlibVersion(), Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      throw Failure(.resourceLimit, "there is no memory to unpack \(file.path)")
    }
  }

  deinit {
    inflateEnd(stream)
    stream.deallocate()
    input.deallocate()
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, work: Work) throws(Failure) {
    var rest = buffer[...]
    while !rest.isEmpty {
      try work.checkCancellation()
      if stream.pointee.avail_in == 0 { try refill(work: work) }
      let piece = min(rest.count, 1 << 20)
      stream.pointee.next_out = UnsafeMutableRawBufferPointer(rebasing: rest).baseAddress?.assumingMemoryBound(
        to: UInt8.self)
      stream.pointee.avail_out = UInt32(piece)
      let status = inflate(stream, Z_NO_FLUSH)
      let written = piece - Int(stream.pointee.avail_out)
      rest = rest.dropFirst(written)
      let hasMore = status == Z_OK || (status == Z_BUF_ERROR && consumed < entry.storedBytes)
      guard rest.isEmpty || hasMore else {
        try file.verifyUnchanged()
        throw .datasetMalformed(file.path, "entry '\(entry.name)' cannot be unpacked; the file is damaged")
      }
    }
  }

  private func refill(work: Work) throws(Failure) {
    let count = min(input.count, entry.storedBytes - consumed)
    let target = UnsafeMutableRawBufferPointer(rebasing: input[..<count])
    try file.read(at: entry.dataOffset + consumed, into: target, work: work)
    consumed += count
    stream.pointee.next_in = target.baseAddress?.assumingMemoryBound(to: UInt8.self)
    stream.pointee.avail_in = UInt32(count)
  }
}
