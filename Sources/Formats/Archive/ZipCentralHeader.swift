import ModelGraph

/// One entry's record in the directory of a zip archive, with the numbers of its zip64 field in their places.
///
/// Invariant: all of its bytes lie inside the directory; what its fields claim about other bytes is not yet checked.
struct ZipCentralHeader {
  let fixed: ByteSpan
  let name: ByteSpan
  /// Of the contents.
  let count: UInt64
  /// In the archive.
  let packedCount: UInt64
  let localOffset: UInt64
  let disk: UInt32
  /// Where the next record starts.
  let end: Int

  var flags: UInt16 { fixed.u16(8) }
  var method: UInt16 { fixed.u16(10) }
  var crc32: UInt32 { fixed.u32(16) }

  /// - Parameter directory: the archive up to the directory's end.
  init(_ directory: ByteSpan, at offset: Int) throws(Failure) {
    fixed = try directory.record(ZipRecord.centralHeader, at: offset)
    let nameOffset = offset + ZipRecord.centralHeader.fixedCount
    let extraOffset = nameOffset + Int(fixed.u16(28))
    let commentOffset = extraOffset + Int(fixed.u16(30))
    end = commentOffset + Int(fixed.u16(32))
    guard end <= directory.count else { throw .malformed("the archive's directory is cut off", at: fixed.offset) }
    name = directory[nameOffset..<extraOffset]
    var numbers = ZipNumbers(
      count: fixed.u32(24), packedCount: fixed.u32(20), localOffset: fixed.u32(42), disk: fixed.u16(34))
    try numbers.complete(from: directory[extraOffset..<commentOffset])
    (count, packedCount) = (numbers.count, numbers.packedCount)
    (localOffset, disk) = (numbers.localOffset, numbers.disk)
  }

  /// The name, if it is one that every reader takes for the same file below the archive's root.
  func checkedName() throws(Failure) -> String {
    guard name.count <= ZipDirectory.nameLimit else {
      throw Failure(
        .resourceLimit,
        "an entry's name in the archive has \(name.count) bytes; up to \(ZipDirectory.nameLimit) are read",
        details: ["found": .int(name.count), "limit": .int(ZipDirectory.nameLimit)])
    }
    guard let text = name.text else { throw malformed("has a name that is not UTF-8") }
    guard !name.isEmpty else { throw malformed("has no name") }
    let bytes = name.buffer
    guard bytes.first != UInt8(ascii: "/"), !bytes.contains(0), !bytes.contains(UInt8(ascii: "\\")), !nameClimbs else {
      throw .unsafeArchive(
        "the name of entry '\(name.displayText)' is no plain relative path", at: fixed.offset,
        details: ["entry": .string(name.displayText)])
    }
    return text
  }

  /// Whether a component of the name is "..".
  private var nameClimbs: Bool {
    // Dots of the component so far; nil if there is something else in it.
    var dots: Int? = 0
    for byte in name.buffer {
      switch byte {
      case UInt8(ascii: "/"):
        if dots == 2 { return true }
        dots = 0
      case UInt8(ascii: "."): dots = dots.map { $0 + 1 }
      default: dots = nil
      }
    }
    return dots == 2
  }

  /// Whether checksum and sizes in the local header `local` are those of the directory; they need not be there if they
  /// follow the data, and not the sizes if they are in a zip64 field.
  func agrees(withSizesOf local: ByteSpan) -> Bool {
    func isSame(_ size: UInt32, _ wanted: UInt64) -> Bool {
      size == ZipRecord.elsewhere32 || UInt64(size) == wanted
    }
    let isDeferred = local.u16(6) & ZipRecord.Flag.descriptor != 0
    if isDeferred, local.u32(14) == 0, local.u32(18) == 0, local.u32(22) == 0 { return true }
    return (isDeferred && local.u32(14) == 0 || local.u32(14) == crc32)
      && isSame(local.u32(18), packedCount) && isSame(local.u32(22), count)
  }

  func malformed(_ reason: String) -> Failure {
    .malformed(
      "entry '\(name.displayText)' of the archive \(reason)", at: fixed.offset,
      details: ["entry": .string(name.displayText)])
  }
}

/// The numbers of a directory entry that may be too large for their fields.
private struct ZipNumbers {
  var count: UInt64
  var packedCount: UInt64
  var localOffset: UInt64
  var disk: UInt32
  /// Which of them, in this order, are in the zip64 field.
  private let isElsewhere: (count: Bool, packedCount: Bool, localOffset: Bool, disk: Bool)

  init(count: UInt32, packedCount: UInt32, localOffset: UInt32, disk: UInt16) {
    (self.count, self.packedCount) = (UInt64(count), UInt64(packedCount))
    (self.localOffset, self.disk) = (UInt64(localOffset), UInt32(disk))
    let elsewhere = ZipRecord.elsewhere32
    isElsewhere = (count == elsewhere, packedCount == elsewhere, localOffset == elsewhere, disk == 0xffff)
  }

  /// Takes what `extra`, a row of fields, has in its zip64 field.
  mutating func complete(from extra: ByteSpan) throws(Failure) {
    var offset = 0
    var isComplete = false
    while extra.count - offset >= 4 {
      let (id, length) = (extra.u16(offset), Int(extra.u16(offset + 2)))
      guard length <= extra.count - offset - 4 else {
        throw .malformed("an extra field in the archive's directory is cut off", at: extra.offset + offset)
      }
      if id == ZipRecord.zip64Field {
        guard !isComplete else {
          throw .unsafeArchive("an entry has two zip64 fields", at: extra.offset + offset)
        }
        try take(from: extra[(offset + 4)..<(offset + 4 + length)])
        isComplete = true
      }
      offset += 4 + length
    }
  }

  private mutating func take(from field: ByteSpan) throws(Failure) {
    let short = Failure.malformed("a zip64 field in the archive's directory is too short", at: field.offset)
    var rest = field
    func next() throws(Failure) -> UInt64 {
      guard rest.count >= 8 else { throw short }
      defer { rest = rest[8..<rest.count] }
      return rest.u64(0)
    }
    if isElsewhere.count { count = try next() }
    if isElsewhere.packedCount { packedCount = try next() }
    if isElsewhere.localOffset { localOffset = try next() }
    if isElsewhere.disk {
      guard rest.count >= 4 else { throw short }
      disk = rest.u32(0)
    }
  }
}
