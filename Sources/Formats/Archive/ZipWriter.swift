import ModelGraph
import Numerics

/// A zip archive to be written: entries stored as they are, from the bytes of another archive, from memory, or from
/// tensors that are gathered only when they are written.
///
/// Invariant: the same entries make the same bytes. Every reader can map what is written: contents are stored, start at
/// multiples of the alignment, and have checksum and sizes in their own header. This is the layout of PyTorch's own
/// writer (caffe2/serialize/inline_container.cc) without its descriptors, which its reader does not need.
package struct ZipWriter {
  /// What an entry holds; its checksum, if it is known before.
  private struct Entry {
    let name: String
    let contents: WireMessage
    let crc32: UInt32?
  }

  private let alignment: Int
  private let largest32: Int
  private var entries: [Entry] = []
  private var names: Set<String> = []

  /// PyTorch's `.storage_alignment`.
  package static let torchAlignment = 64

  /// - Parameters:
  ///   - alignment: of the contents, from the start of the archive: a power of two up to 4096; 1 for none, as in
  ///     `.keras` archives.
  ///   - largest32: what goes into 32-bit fields; larger numbers go into zip64 fields.
  package init(alignment: Int, largest32: Int = Int(ZipRecord.elsewhere32) - 1) {
    precondition(alignment > 0 && alignment <= 4096 && alignment & (alignment - 1) == 0)
    (self.alignment, self.largest32) = (alignment, min(largest32, Int(ZipRecord.elsewhere32) - 1))
  }

  // MARK: Entries

  /// An entry of another archive, under the same name or another. What is packed there is unpacked: PyTorch reads packed
  /// weights as garbage when it maps a file.
  /// - Parameter limit: the most bytes that a packed entry may have, which are held in memory until they are written.
  /// - Throws: `Failure` of kind modelMalformed, resourceLimit or cancelled if a packed entry cannot be unpacked.
  package mutating func copy(
    _ entry: ZipEntry, of archive: ZipArchive, as name: String? = nil, limit: Int, work: Work
  ) throws(Failure) {
    var contents = WireMessage()
    switch entry.method {
    case .stored: contents.append(archive.span[entry.range])
    case .deflated: contents.append(.whole(try archive.contents(of: entry, limit: limit, work: work)))
    }
    add(Entry(name: name ?? entry.name, contents: contents, crc32: entry.crc32))
  }

  package mutating func add(_ name: String, _ bytes: [UInt8]) {
    add(name, WireMessage.Piece(content: .bytes(bytes), count: bytes.count))
  }

  /// - Parameter gather: what is taken of `bytes`; nil takes all.
  package mutating func add(_ name: String, _ bytes: TensorBytes, gather: Gather? = nil) {
    if let gather {
      add(name, WireMessage.Piece(content: .gathered(gather, bytes), count: gather.outputBytes))
    } else {
      add(name, .whole(bytes))
    }
  }

  /// - Precondition: no entry has that name, and it has at most 65,535 bytes.
  private mutating func add(_ name: String, _ piece: WireMessage.Piece) {
    var contents = WireMessage()
    contents.append(piece)
    add(name, contents)
  }

  /// An entry of several pieces.
  mutating func add(_ name: String, _ contents: WireMessage) {
    add(Entry(name: name, contents: contents, crc32: nil))
  }

  private mutating func add(_ entry: Entry) {
    precondition(names.insert(entry.name).inserted, "two entries of one name")
    precondition(entry.name.utf8.count <= Int(ZipRecord.elsewhere16))
    entries.append(entry)
  }

  // MARK: Writing

  /// Writes the archive to `file`, in which nothing is yet, each thread entries of its own: where they go does not
  /// depend on what they hold.
  package func write(to file: OutputFile, work: Work) throws(Failure) {
    let layout = self.layout
    try file.reserve(count(layout))
    // Threads write different parts.
    nonisolated(unsafe) let file = file
    let written = try work.concurrentMap(
      layout.runs, cost: { Double($0.count) }, naming: { _ in "writing \(file.path)" }
    ) { run, work throws(Failure) in
      let part = file.part(at: run.offset)
      var finished: [ZipEntryHeader] = []
      for index in run.entries {
        let (contents, header) = try finish(layout.headers[index], of: entries[index], work: work)
        try part.append(header.local(alignment: alignment), work: work)
        try part.append(contents, work: work) { _ in }
        finished.append(header)
      }
      try part.finish(work: work)
      return finished
    }
    let part = file.part(at: layout.end)
    let directory = written.joined().flatMap(\.central)
    try part.append(
      directory + end(directoryOffset: layout.end, directoryCount: directory.count), work: work)
    try part.finish(work: work)
  }

  /// The bytes of the archive.
  var count: Int { count(layout) }

  private func count(_ layout: Layout) -> Int {
    let directoryCount = layout.headers.reduce(0) { $0 + $1.central.count }
    return layout.end + directoryCount + end(directoryOffset: layout.end, directoryCount: directoryCount).count
  }

  /// Where everything goes.
  private struct Layout {
    /// By entry; checksums may be to follow.
    var headers: [ZipEntryHeader] = []
    var runs: [Run] = []
    /// Of the last entry.
    var end = 0
  }

  /// Consecutive entries, as many as are worth a thread's while.
  private struct Run {
    let entries: Range<Int>
    let offset: Int
    let count: Int
  }

  private static let runCount = 1 << 20

  private var layout: Layout {
    var layout = Layout()
    var first = (entry: 0, offset: 0)
    for (index, entry) in entries.enumerated() {
      let header = ZipEntryHeader(
        name: Array(entry.name.utf8), crc32: entry.crc32 ?? 0, count: entry.contents.count, offset: layout.end,
        largest32: largest32)
      layout.headers.append(header)
      layout.end += header.local(alignment: alignment).count + header.count
      guard layout.end - first.offset >= Self.runCount || index == entries.count - 1 else { continue }
      layout.runs.append(
        Run(entries: first.entry..<index + 1, offset: first.offset, count: layout.end - first.offset))
      first = (index + 1, layout.end)
    }
    return layout
  }

  /// The checksum stands before what it is of. What is gathered for it is kept to be written, where that is not too
  /// much, and else gathered twice.
  private func finish(
    _ header: ZipEntryHeader, of entry: Entry, work: Work
  ) throws(Failure) -> (contents: WireMessage, header: ZipEntryHeader) {
    guard entry.crc32 == nil else { return (entry.contents, header) }
    let keepsGathered = entry.contents.gatheredCount <= Self.mostKept
    let contents = keepsGathered ? try entry.contents.gathered(work: work) : entry.contents
    var header = header
    header.crc32 = try contents.crc32(work: work)
    return (contents, header)
  }

  private static let mostKept = 32 << 20

  /// The records at the archive's end.
  private func end(directoryOffset: Int, directoryCount: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    let isLarge =
      directoryOffset > largest32 || directoryCount > largest32 || entries.count >= Int(ZipRecord.elsewhere16)
    if isLarge {
      bytes.append(littleEndian: ZipRecord.zip64End.signature)
      bytes.append(littleEndian: UInt64(ZipRecord.zip64End.fixedCount - 12))
      bytes.append(littleEndian: ZipEntryHeader.zip64Version)
      bytes.append(littleEndian: ZipEntryHeader.zip64Version)
      bytes.append(littleEndian: UInt64(0))  // this disk, and the directory's
      for number in [entries.count, entries.count, directoryCount, directoryOffset] {
        bytes.append(littleEndian: UInt64(number))
      }
      bytes.append(littleEndian: ZipRecord.zip64Locator.signature)
      bytes.append(littleEndian: UInt32(0))
      bytes.append(littleEndian: UInt64(directoryOffset + directoryCount))
      bytes.append(littleEndian: UInt32(1))  // disks in all
    }
    let count = isLarge ? ZipRecord.elsewhere16 : UInt16(entries.count)
    bytes.append(littleEndian: ZipRecord.end.signature)
    bytes.append(littleEndian: UInt32(0))  // disks
    bytes.append(littleEndian: count)
    bytes.append(littleEndian: count)
    bytes.append(littleEndian: isLarge ? ZipRecord.elsewhere32 : UInt32(directoryCount))
    bytes.append(littleEndian: isLarge ? ZipRecord.elsewhere32 : UInt32(directoryOffset))
    bytes.append(littleEndian: UInt16(0))  // comment
    return bytes
  }
}

/// The two records that describe an entry.
private struct ZipEntryHeader: Sendable {
  let name: [UInt8]
  var crc32: UInt32
  let count: Int
  /// Of the local record.
  let offset: Int
  let largest32: Int

  /// The version of the specification that readers need, and with zip64 fields.
  static let version: UInt16 = 10
  static let zip64Version: UInt16 = 45
  /// The first of January 1980, midnight: the earliest time there is, so that equal models are equal files.
  private static let date: UInt32 = 0x0021_0000

  private var hasLargeCount: Bool { count > largest32 }
  private var hasLargeOffset: Bool { offset > largest32 }
  private var count32: UInt32 { hasLargeCount ? ZipRecord.elsewhere32 : UInt32(count) }

  /// The record before the contents, which begin at a multiple of `alignment`.
  func local(alignment: Int) -> [UInt8] {
    var extra = zip64Field(hasLargeCount ? [count, count] : [])
    if alignment > 1 {
      // The field is there even where it pads nothing, as PyTorch has it.
      let start = offset + ZipRecord.localHeader.fixedCount + name.count + extra.count + 4
      let padding = (alignment - start % alignment) % alignment
      extra.append(littleEndian: ZipRecord.paddingField)
      extra.append(littleEndian: UInt16(padding))
      extra += [UInt8](repeating: UInt8(ascii: "Z"), count: padding)
    }
    var bytes: [UInt8] = []
    bytes.append(littleEndian: ZipRecord.localHeader.signature)
    appendCommon(to: &bytes, isZip64: hasLargeCount, extraCount: extra.count)
    return bytes + name + extra
  }

  /// The record in the directory.
  var central: [UInt8] {
    let extra = zip64Field((hasLargeCount ? [count, count] : []) + (hasLargeOffset ? [offset] : []))
    let isZip64 = !extra.isEmpty
    var bytes: [UInt8] = []
    bytes.append(littleEndian: ZipRecord.centralHeader.signature)
    bytes.append(littleEndian: isZip64 ? Self.zip64Version : Self.version)  // made by
    appendCommon(to: &bytes, isZip64: isZip64, extraCount: extra.count)
    bytes.append(littleEndian: UInt16(0))  // comment
    bytes.append(littleEndian: UInt32(0))  // disk, internal attributes
    bytes.append(littleEndian: UInt32(0))  // external attributes
    bytes.append(littleEndian: hasLargeOffset ? ZipRecord.elsewhere32 : UInt32(offset))
    return bytes + name + extra
  }

  /// What both records have, in the same order.
  private func appendCommon(to bytes: inout [UInt8], isZip64: Bool, extraCount: Int) {
    bytes.append(littleEndian: isZip64 ? Self.zip64Version : Self.version)
    bytes.append(littleEndian: ZipRecord.Flag.utf8)
    bytes.append(littleEndian: ZipEntry.Method.stored.rawValue)
    bytes.append(littleEndian: Self.date)
    bytes.append(littleEndian: crc32)
    bytes.append(littleEndian: count32)
    bytes.append(littleEndian: count32)
    bytes.append(littleEndian: UInt16(name.count))
    bytes.append(littleEndian: UInt16(extraCount))
  }

  private func zip64Field(_ numbers: [Int]) -> [UInt8] {
    guard !numbers.isEmpty else { return [] }
    var field: [UInt8] = []
    field.append(littleEndian: ZipRecord.zip64Field)
    field.append(littleEndian: UInt16(8 * numbers.count))
    for number in numbers { field.append(littleEndian: UInt64(number)) }
    return field
  }
}

extension WireMessage.Piece {
  fileprivate static func whole(_ bytes: TensorBytes) -> WireMessage.Piece {
    WireMessage.Piece(content: .tensor(bytes), count: bytes.count)
  }
}
