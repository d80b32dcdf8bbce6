import ModelGraph

/// The directory of a zip archive: found from the archive's end, read entry by entry, and compared with the local
/// headers.
///
/// Invariant: whatever the bytes are, reading takes time and memory in proportion to the directory's own bytes. A file
/// that other readers could take for another archive (a second directory, other local headers, shared bytes) is refused.
struct ZipDirectory {
  private let span: ByteSpan
  /// Where its entries are in `span`.
  private let range: Range<Int>
  private let entryCount: Int

  /// Far more than any model has tensors.
  static let entryLimit = 100_000
  static let nameLimit = 4096

  /// - Parameter span: the whole archive.
  init(_ span: ByteSpan) throws(Failure) {
    let endOffset = try Self.endOffset(span)
    let end = try span.record(ZipRecord.end, at: endOffset)
    var (count, countHere) = (Int(end.u16(10)), Int(end.u16(8)))
    var (size, offset) = (UInt64(end.u32(12)), UInt64(end.u32(16)))
    var (disk, firstDisk) = (Int(end.u16(4)), Int(end.u16(6)))
    var limit = endOffset
    if let record = try Self.zip64End(span, before: endOffset) {
      // The 32-bit record says the same or refers to this one; readers differ in which they believe.
      let agrees =
        (UInt64(count) == record.u64(32) || end.u16(10) == ZipRecord.elsewhere16)
        && (size == record.u64(40) || end.u32(12) == ZipRecord.elsewhere32)
        && (offset == record.u64(48) || end.u32(16) == ZipRecord.elsewhere32)
      guard agrees else {
        throw .unsafeArchive("it has two directories that contradict each other", at: record.offset)
      }
      guard let total = Int(exactly: record.u64(32)), let here = Int(exactly: record.u64(24)) else {
        throw .malformed("the archive's directory claims more entries than there can be", at: record.offset)
      }
      (count, countHere, size, offset) = (total, here, record.u64(40), record.u64(48))
      (disk, firstDisk) = (Int(record.u32(16)), Int(record.u32(20)))
      limit = record.offset - span.offset
    }
    guard disk == 0, firstDisk == 0, count == countHere else {
      throw .malformed("the archive is one part of several; join them into one file", at: end.offset)
    }
    guard count <= Self.entryLimit else {
      throw Failure(
        .resourceLimit, "the archive has \(count) entries; up to \(Self.entryLimit) are read",
        details: ["found": .int(count), "limit": .int(Self.entryLimit)])
    }
    guard let first = Int(exactly: offset), let bytes = Int(exactly: size), bytes <= limit, first == limit - bytes,
      count <= bytes / ZipRecord.centralHeader.fixedCount || count == 0
    else {
      throw .malformed("the archive's directory is not where its end says; the file is cut or damaged", at: end.offset)
    }
    (self.span, range, entryCount) = (span, first..<limit, count)
  }

  /// Where the record at the archive's end starts. A comment of any length follows it; the last place that fits is the
  /// one.
  private static func endOffset(_ span: ByteSpan) throws(Failure) -> Int {
    let fixed = ZipRecord.end.fixedCount
    var offset = span.count - fixed
    let first = max(0, offset - Int(ZipRecord.elsewhere16))
    while offset >= first {
      let bytes = span[offset..<span.count]
      if bytes.u32(0) == ZipRecord.end.signature, Int(bytes.u16(20)) == bytes.count - fixed { return offset }
      offset -= 1
    }
    throw .malformed("the zip archive has no directory; the file is cut or damaged", at: span.offset + span.count)
  }

  private static func zip64End(_ span: ByteSpan, before end: Int) throws(Failure) -> ByteSpan? {
    let locatorOffset = end - ZipRecord.zip64Locator.fixedCount
    guard locatorOffset >= 0, span[locatorOffset..<end].u32(0) == ZipRecord.zip64Locator.signature else { return nil }
    let locator = try span.record(ZipRecord.zip64Locator, at: locatorOffset)
    guard locator.u32(4) == 0, locator.u32(16) <= 1, let offset = Int(exactly: locator.u64(8)) else {
      throw .malformed("the archive's zip64 locator is damaged", at: locator.offset)
    }
    let record = try span.record(ZipRecord.zip64End, at: offset)
    // Its size does not count its first 12 bytes.
    guard offset <= locatorOffset, record.u64(4) == UInt64(locatorOffset - offset) &- 12 else {
      throw .malformed("the archive's zip64 end of directory does not end at its locator", at: record.offset)
    }
    return record
  }

  // MARK: Entries

  /// All entries, in the directory's order.
  func entries() throws(Failure) -> [ZipEntry] {
    var entries: [ZipEntry] = []
    entries.reserveCapacity(entryCount)
    var names = NameSet()
    var offset = range.lowerBound
    let directory = span[0..<range.upperBound]
    for _ in 0..<entryCount {
      let header = try ZipCentralHeader(directory, at: offset)
      guard names.insert(header.name) else {
        throw .unsafeArchive("two entries have the name '\(header.name.displayText)'", at: header.fixed.offset)
      }
      entries.append(try entry(header))
      offset = header.end
    }
    guard offset == range.upperBound else {
      throw .malformed("the archive's directory has more bytes than entries", at: span.offset + offset)
    }
    try checkDisjoint(entries)
    return entries
  }

  private func entry(_ header: ZipCentralHeader) throws(Failure) -> ZipEntry {
    let name = try header.checkedName()
    guard header.disk == 0 else { throw header.malformed("lies in another file") }
    let refused = ZipRecord.Flag.encrypted | ZipRecord.Flag.strongEncryption | ZipRecord.Flag.masked
    guard header.flags & refused == 0 else { throw header.malformed("is encrypted; save the model without a password") }
    guard header.flags & ZipRecord.Flag.patched == 0, let method = ZipEntry.Method(rawValue: header.method) else {
      throw header.malformed("is packed by method \(header.method); stored and deflated entries are read")
    }
    guard let count = Int(exactly: header.count), let packedCount = Int(exactly: header.packedCount),
      let headerOffset = Int(exactly: header.localOffset), headerOffset <= range.lowerBound
    else { throw header.malformed("claims a place or a size outside the file") }

    // No local header and no data reach into the directory.
    let body = span[0..<range.lowerBound]
    let local = try body.record(ZipRecord.localHeader, at: headerOffset)
    let nameOffset = headerOffset + ZipRecord.localHeader.fixedCount
    let dataOffset = nameOffset + Int(local.u16(26)) + Int(local.u16(28))
    guard dataOffset <= body.count, packedCount <= body.count - dataOffset else {
      throw header.malformed("claims \(packedCount) bytes where \(max(0, body.count - dataOffset)) are left")
    }
    guard local.u16(8) == header.method, local.u16(6) & refused == 0,
      body[nameOffset..<(nameOffset + Int(local.u16(26)))] == header.name,
      header.agrees(withSizesOf: local)
    else {
      throw .unsafeArchive(
        "the header of entry '\(name)' says something else than the directory", at: local.offset,
        details: ["entry": .string(name)])
    }
    switch method {
    case .stored:
      guard count == packedCount else {
        throw header.malformed("is stored in \(packedCount) bytes and claims \(count)")
      }
    case .deflated:
      guard count / Deflate.maximumRatio <= packedCount else {
        throw Failure(
          .resourceLimit,
          "entry '\(name)' of the archive claims \(count) bytes packed into \(packedCount), more than deflating can give",
          details: ["entry": .string(name), "found": .int(count)])
      }
    }
    return ZipEntry(
      name: name, method: method, count: count, crc32: header.crc32, range: dataOffset..<(dataOffset + packedCount),
      headerOffset: headerOffset)
  }

  /// No byte belongs to two entries.
  private func checkDisjoint(_ entries: [ZipEntry]) throws(Failure) {
    var end = 0
    for entry in entries.sorted(by: { $0.headerOffset < $1.headerOffset }) {
      guard entry.headerOffset >= end else {
        throw .unsafeArchive(
          "entry '\(entry.name)' overlaps another one", at: span.offset + entry.headerOffset,
          details: ["entry": .string(entry.name)])
      }
      end = entry.range.upperBound
    }
  }
}

extension Failure {
  /// An archive that could mean different things to different readers.
  static func unsafeArchive(
    _ reason: String, at offset: Int, details: [String: Detail] = [:]
  ) -> Failure {
    Failure(
      .modelUnsafe,
      "the zip archive is refused: \(reason) (at byte \(offset)); save the model again with PyTorch or Keras",
      details: details.merging(["offset": .int(offset)]) { a, _ in a })
  }
}
