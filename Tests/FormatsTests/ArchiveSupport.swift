import Foundation
import Formats
import ModelGraph

/// Bytes right before a page that nobody may touch: a reader that goes one byte too far ends the tests.
final class FencedBytes: @unchecked Sendable {
  private let base: UnsafeMutableRawPointer
  private let mapped: Int
  let span: ByteSpan

  init(_ bytes: [UInt8]) {
    let page = Int(getpagesize())
    let data = (bytes.count + page - 1) / page * page
    mapped = data + page
    base = mmap(nil, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    mprotect(base + data, page, PROT_NONE)
    let start = base + (data - bytes.count)
    bytes.withUnsafeBytes { if let source = $0.baseAddress { memcpy(start, source, bytes.count) } }
    span = ByteSpan(base: UnsafeRawPointer(start), count: bytes.count)
  }

  deinit { munmap(base, mapped) }
}

extension ZipArchive {
  /// Reads an archive from bytes.
  init(_ bytes: [UInt8]) throws {
    let fenced = FencedBytes(bytes)
    try self.init(fenced.span, owner: fenced)
  }

  func array(of entry: ZipEntry, limit: Int = 1 << 20) throws -> [UInt8] {
    let contents = try contents(of: entry, limit: limit, work: Work())
    return withExtendedLifetime(contents) { Array(contents.buffer) }
  }

  /// The contents of all entries.
  func allContents(limit: Int = 1 << 20) throws -> [[UInt8]] { try entries.map { try array(of: $0, limit: limit) } }
}

/// A zip archive made by hand, with a lie in any place.
struct CraftedZip {
  struct Entry {
    var name: [UInt8]
    var payload: [UInt8]
    var method: UInt16 = 0
    var flags: UInt16 = 0
    var localFlags: UInt16?
    var localName: [UInt8]?
    var localMethod: UInt16?
    var localCount: Int?
    var crc32: UInt32 = 0
    /// Of the contents, and in the archive.
    var count: Int?
    var packedCount: Int?
    /// Where the directory says that the entry is.
    var offset: Int?
    /// Numbers of the directory go to a zip64 field.
    var isZip64 = false
    var disk = 0

    init(_ name: String, _ payload: [UInt8] = [1, 2, 3], _ change: (inout Entry) -> Void = { _ in }) {
      (self.name, self.payload) = (Array(name.utf8), payload)
      change(&self)
    }
  }

  var entries: [Entry]
  /// Entries that only the directory has; their `offset` says where they are to be.
  var hidden: [Entry] = []
  var prefix: [UInt8] = []
  /// Bytes between the last entry and the directory.
  var gap: [UInt8] = []
  var comment: [UInt8] = []
  var claimedEntries: Int?
  var claimedDirectoryCount: Int?
  var claimedDirectoryOffset: Int?
  var disk = 0
  /// nil: no zip64 records; else entries, directory size and offset as those claim them.
  var zip64: (entries: Int?, count: Int?, offset: Int?)?

  init(_ entries: [Entry], _ change: (inout CraftedZip) -> Void = { _ in }) {
    self.entries = entries
    change(&self)
  }

  var bytes: [UInt8] {
    var result = prefix
    var directory: [UInt8] = []
    for entry in entries {
      let offset = result.count
      let name = entry.localName ?? entry.name
      let packed = entry.localCount ?? entry.payload.count
      let count = entry.localCount ?? (entry.method == 0 ? packed : entry.count ?? packed)
      result += [0x50, 0x4b, 3, 4] + le(20, 2) + le(Int(entry.localFlags ?? entry.flags), 2)
      result += le(Int(entry.localMethod ?? entry.method), 2) + le(0, 4) + le(Int(entry.crc32), 4)
      result += le(packed, 4) + le(count, 4) + le(name.count, 2) + le(0, 2) + name + entry.payload
      directory += central(entry, offset: entry.offset ?? offset)
    }
    for entry in hidden { directory += central(entry, offset: entry.offset ?? 0) }
    result += gap
    let offset = claimedDirectoryOffset ?? result.count
    let count = claimedDirectoryCount ?? directory.count
    let total = claimedEntries ?? (entries.count + hidden.count)
    result += directory
    if let zip64 {
      let position = result.count
      result += [0x50, 0x4b, 6, 6] + le(44, 8) + le(45, 2) + le(45, 2) + le(0, 8)
      result += le(zip64.entries ?? total, 8) + le(zip64.entries ?? total, 8)
      result += le(zip64.count ?? count, 8) + le(zip64.offset ?? offset, 8)
      result += [0x50, 0x4b, 6, 7] + le(0, 4) + le(position, 8) + le(1, 4)
    }
    result += [0x50, 0x4b, 5, 6] + le(disk, 2) + le(0, 2)
    result += le(zip64 == nil ? total : 0xffff, 2) + le(zip64 == nil ? total : 0xffff, 2)
    result += le(zip64 == nil ? count : 0xffff_ffff, 4) + le(zip64 == nil ? offset : 0xffff_ffff, 4)
    return result + le(comment.count, 2) + comment
  }

  private func central(_ entry: Entry, offset: Int) -> [UInt8] {
    let packed = entry.packedCount ?? entry.payload.count
    let count = entry.count ?? packed
    let extra =
      entry.isZip64 ? le(1, 2) + le(28, 2) + le(count, 8) + le(packed, 8) + le(offset, 8) + le(entry.disk, 4) : []
    func small(_ value: Int) -> [UInt8] { entry.isZip64 ? le(0xffff_ffff, 4) : le(value, 4) }
    var result: [UInt8] = [0x50, 0x4b, 1, 2] + le(20, 2) + le(20, 2) + le(Int(entry.flags), 2)
    result += le(Int(entry.method), 2) + le(0, 4) + le(Int(entry.crc32), 4) + small(packed) + small(count)
    result += le(entry.name.count, 2) + le(extra.count, 2) + le(0, 2)
    result += le(entry.isZip64 ? 0xffff : entry.disk, 2) + le(0, 2) + le(0, 4) + small(offset)
    return result + entry.name + extra
  }

  private func le(_ value: Int, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }
}
