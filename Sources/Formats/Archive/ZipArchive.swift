import ModelGraph

/// A zip archive in memory that somebody else owns, read where it is: entries that are stored, as PyTorch and Keras
/// store theirs, are views.
///
/// Invariant: an archive exists only if its directory describes the bytes in one way for every reader: entries have
/// plain relative names, each its own; they lie beside one another before the directory; what their own headers say is
/// what the directory says. All of that is known before any memory is spent on what a header claims.
package struct ZipArchive: Sendable {
  /// In the order of the directory.
  package let entries: [ZipEntry]
  let span: ByteSpan
  private let owner: any AnyObject & Sendable
  private let indices: [String: Int]

  /// Contents up to this size are compared with their checksum when they are read as they are. Larger ones are weights:
  /// their pages are mapped and read when a tensor is used, and a checksum would read all of them to open the file; a
  /// damaged weight is a wrong number, where damaged text or structure would be a wrong network.
  static let checkedCount = 1 << 16

  /// - Parameters:
  ///   - span: the whole archive.
  ///   - owner: keeps the bytes alive.
  /// - Throws: `Failure` of kind modelMalformed (no archive, or a damaged one), modelUnsafe (one that readers would
  ///   understand differently) or resourceLimit.
  package init(_ span: ByteSpan, owner: any AnyObject & Sendable) throws(Failure) {
    (self.span, self.owner) = (span, owner)
    entries = try ZipDirectory(span).entries()
    // Told apart where the directory is read; who writes to the file meanwhile may have made two of them one.
    var indices = [String: Int](minimumCapacity: entries.count)
    for (index, entry) in entries.enumerated().reversed() { indices[entry.name] = index }
    self.indices = indices
  }

  package func entry(named name: String) -> ZipEntry? { indices[name].map { entries[$0] } }

  /// The contents of a stored entry, where they are.
  /// - Throws: modelMalformed if the entry is packed, or small and does not have its checksum.
  package func bytes(of entry: ZipEntry) throws(Failure) -> ByteSpan {
    guard entry.method == .stored else {
      throw Failure(
        .modelMalformed,
        "entry '\(entry.name)' of the archive is compressed; PyTorch and Keras store theirs as they are",
        details: ["entry": .string(entry.name)])
    }
    let bytes = span[entry.range]
    if bytes.count <= Self.checkedCount { try check(bytes.buffer, of: entry) }
    return bytes
  }

  /// The contents of an entry: those of a stored one where they are, those of a packed one in memory of their own. Both
  /// are compared with their checksum, whatever their size: this is for text and structure.
  /// - Parameter limit: the most bytes that are accepted.
  /// - Throws: `Failure` of kind resourceLimit, modelMalformed or cancelled.
  package func contents(of entry: ZipEntry, limit: Int, work: Work) throws(Failure) -> TensorBytes {
    guard entry.count <= limit else {
      throw Failure(
        .resourceLimit, "entry '\(entry.name)' of the archive has \(entry.count) bytes; up to \(limit) are read",
        details: ["entry": .string(entry.name), "found": .int(entry.count), "limit": .int(limit)])
    }
    let packed = span[entry.range]
    let contents: TensorBytes
    switch entry.method {
    case .stored: contents = TensorBytes(base: packed.base, count: packed.count, owner: owner)
    case .deflated: contents = try Deflate.inflate(packed, count: entry.count, name: entry.name, work: work)
    }
    try check(contents.buffer, of: entry)
    return contents
  }

  private func check(_ contents: UnsafeRawBufferPointer, of entry: ZipEntry) throws(Failure) {
    // Zero is also what a writer leaves that computes none.
    guard entry.crc32 == 0 || CRC32.of(contents) == entry.crc32 else {
      throw .malformed(
        "entry '\(entry.name)' of the archive does not have its checksum; the file is damaged",
        at: span.offset + entry.range.lowerBound, details: ["entry": .string(entry.name)])
    }
  }
}
