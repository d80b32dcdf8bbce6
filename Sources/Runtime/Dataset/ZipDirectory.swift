import ModelGraph

/// The directory of a zip archive, as far as NumPy's .npz files need one: entries stored or deflated, sizes beyond 4 GB,
/// no encryption, one file.
///
/// Invariant: every entry's bytes lie within the file, and no entry claims more bytes than deflating can give. What an
/// entry's own header says counts for nothing but where its bytes start.
struct ZipDirectory {
  struct Entry: Sendable, Equatable {
    enum Method: Sendable { case stored, deflated }

    let name: String
    let method: Method
    /// In the archive, from `dataOffset` on.
    let storedBytes: Int
    /// When unpacked.
    let bytes: Int
    let crc: UInt32
    let dataOffset: Int
  }

  let entries: [Entry]

  /// Far more than any dataset has arrays, and quickly read.
  private static let directoryLimit = 16 << 20
  /// Deflate's best, for a run of one byte.
  private static let maximumRatio = 1032

  init(_ file: DatasetFile, work: Work) throws(Failure) {
    let (offset, count) = try Self.location(file, work: work)
    guard count <= Self.directoryLimit else {
      throw .datasetMalformed(file.path, "its directory claims \(count) bytes")
    }
    var record = LittleEndian(try file.read(at: offset, count: count, work: work)[...])
    var entries: [Entry] = []
    while !record.isEmpty {
      try work.checkCancellation()
      entries.append(try Self.entry(&record, file, directoryOffset: offset, work: work))
    }
    self.entries = entries
  }

  /// Where the directory is: from the record at the archive's end, or the larger one that this points to.
  private static func location(_ file: DatasetFile, work: Work) throws(Failure) -> (offset: Int, count: Int) {
    let fixedBytes = 22
    let tailBytes = min(file.size, fixedBytes + 0xffff)
    let tailOffset = file.size - tailBytes
    let tail = try file.read(at: tailOffset, count: tailBytes, work: work)
    // It ends with a comment of any length; the last place that fits is the one.
    let end = tail.indices.dropLast(fixedBytes - 1).last { index in
      tail[index...].starts(with: [0x50, 0x4b, 5, 6])
        && Int(tail[index + 20]) | Int(tail[index + 21]) << 8 == tail.count - index - fixedBytes
    }
    guard let end else { throw .datasetMalformed(file.path, "it has no zip directory; the file may be cut") }
    var record = LittleEndian(tail[(end + 12)...])
    var (count, offset) = (Int(record.u32()), Int(record.u32()))
    if count == 0xffff_ffff || offset == 0xffff_ffff {
      (offset, count) = try largeLocation(file, before: tailOffset + end, work: work)
    }
    guard offset >= 0, count >= 0, count <= tailOffset + end, offset <= tailOffset + end - count else {
      throw .datasetMalformed(file.path, "its zip directory lies outside the file")
    }
    return (offset, count)
  }

  private static func largeLocation(
    _ file: DatasetFile, before end: Int, work: Work
  ) throws(Failure) -> (offset: Int, count: Int) {
    let problem = Failure.datasetMalformed(file.path, "its zip64 directory is damaged")
    guard end >= 20 else { throw problem }
    var locator = LittleEndian(try file.read(at: end - 20, count: 20, work: work)[...])
    guard locator.u32() == 0x0706_4b50 else { throw problem }
    locator.skip(4)
    guard let position = Int(exactly: locator.u64()), position >= 0, position <= end - 56 else { throw problem }
    var record = LittleEndian(try file.read(at: position, count: 56, work: work)[...])
    guard record.u32() == 0x0606_4b50 else { throw problem }
    record.skip(36)
    guard let count = Int(exactly: record.u64()), let offset = Int(exactly: record.u64()) else { throw problem }
    return (offset, count)
  }

  private static func entry(
    _ record: inout LittleEndian, _ file: DatasetFile, directoryOffset: Int, work: Work
  ) throws(Failure) -> Entry {
    let problem = Failure.datasetMalformed(file.path, "its zip directory is damaged")
    guard record.count >= 46, record.u32() == 0x0201_4b50 else { throw problem }
    record.skip(4)
    let (flags, method) = (record.u16(), record.u16())
    record.skip(4)
    let crc = record.u32()
    var sizes = [UInt64(record.u32()), UInt64(record.u32())]
    let (nameBytes, extraBytes, commentBytes) = (Int(record.u16()), Int(record.u16()), Int(record.u16()))
    record.skip(8)
    sizes.append(UInt64(record.u32()))
    guard record.count >= nameBytes + extraBytes + commentBytes else { throw problem }
    let name = String(decoding: record.take(nameBytes), as: UTF8.self)
    var extra = LittleEndian(record.take(extraBytes))
    record.skip(commentBytes)
    // The zip64 field holds those of unpacked size, size and offset, in this order, that find no room in 32 bits.
    while extra.count >= 4 {
      let (id, length) = (extra.u16(), Int(extra.u16()))
      guard extra.count >= length else { throw problem }
      var field = LittleEndian(extra.take(length))
      for index in [1, 0, 2] where id == 1 && sizes[index] == 0xffff_ffff {
        guard field.count >= 8 else { throw problem }
        sizes[index] = field.u64()
      }
    }
    guard flags & 1 == 0 else { throw .datasetMalformed(file.path, "its entry '\(name)' is encrypted") }
    guard method == 0 || method == 8 else {
      throw .datasetMalformed(
        file.path, "its entry '\(name)' is packed by method \(method); numpy.savez and savez_compressed are read")
    }
    guard let storedBytes = Int(exactly: sizes[0]), let bytes = Int(exactly: sizes[1]),
      let header = Int(exactly: sizes[2]), header <= directoryOffset - 30, storedBytes <= directoryOffset
    else { throw problem }
    var local = LittleEndian(try file.read(at: header, count: 30, work: work)[...])
    guard local.u32() == 0x0403_4b50 else { throw problem }
    local.skip(22)
    let dataOffset = header + 30 + Int(local.u16()) + Int(local.u16())
    guard dataOffset <= directoryOffset - storedBytes,
      method == 8 ? bytes / maximumRatio <= storedBytes : bytes == storedBytes
    else { throw problem }
    return Entry(
      name: name, method: method == 0 ? .stored : .deflated, storedBytes: storedBytes, bytes: bytes, crc: crc,
      dataOffset: dataOffset)
  }
}

/// Little-endian numbers one after the other.
/// - Precondition: who reads has checked that there are so many bytes.
private struct LittleEndian {
  private var bytes: ArraySlice<UInt8>

  init(_ bytes: ArraySlice<UInt8>) { self.bytes = bytes }

  var count: Int { bytes.count }
  var isEmpty: Bool { bytes.isEmpty }

  mutating func skip(_ count: Int) { bytes.removeFirst(count) }

  mutating func take(_ count: Int) -> ArraySlice<UInt8> {
    defer { bytes.removeFirst(count) }
    return bytes.prefix(count)
  }

  private mutating func number(_ count: Int) -> UInt64 { take(count).reversed().reduce(0) { $0 << 8 | UInt64($1) } }

  mutating func u16() -> UInt16 { UInt16(number(2)) }
  mutating func u32() -> UInt32 { UInt32(number(4)) }
  mutating func u64() -> UInt64 { number(8) }
}
