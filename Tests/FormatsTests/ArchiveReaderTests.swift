import Formats
import ModelGraph
import TestSupport
import Testing

/// Archives as PyTorch and Python write them, and archives that claim what is not so.
@Suite struct ArchiveReaderTests {
  private static let fixtures = ["graph.pt", "graph.protocol4.pt", "graph.deflated.pt", "graph.zip64.pt"]

  @Test(arguments: fixtures) func archivesOfPyTorchAndPython(name: String) throws {
    let archive = try ZipArchive(bytes(fixture(name)))
    let root = try #require(archive.entries.first?.name.split(separator: "/").first)
    #expect(archive.entries.map(\.name).contains("\(root)/data.pkl"))
    let version = try #require(archive.entry(named: "\(root)/version"))
    #expect(try archive.array(of: version) == Array("3\n".utf8))
    #expect(archive.entry(named: "version") == nil)
    #expect(try failure { _ = try archive.contents(of: version, limit: 1, work: Work()) }?.kind == .resourceLimit)
    if name == "graph.deflated.pt" {
      #expect(try failure { _ = try archive.bytes(of: version) }?.message.contains("compressed") == true)
    } else {
      let view = try archive.bytes(of: version)
      #expect(withExtendedLifetime(archive) { Array(view.buffer) } == Array("3\n".utf8))
    }
  }

  @Test func allPackingsHoldTheSame() throws {
    let contents = try ["graph.pt", "graph.deflated.pt", "graph.zip64.pt"].map {
      try ZipArchive(bytes(fixture($0))).allContents()
    }
    #expect(contents[0].count > 10)
    #expect(contents[1] == contents[0])
    #expect(contents[2] == contents[0])
  }

  @Test func numbersOfZip64AndComments() throws {
    let zip = CraftedZip([.init("a") { $0.isZip64 = true }, .init("b/c", [])]) {
      $0.zip64 = (nil, nil, nil)
      $0.comment = Array("PK\u{5}\u{6} of a comment".utf8)
    }
    let archive = try ZipArchive(zip.bytes)
    #expect(archive.entries.map(\.name) == ["a", "b/c"])
    #expect(try archive.allContents() == [[1, 2, 3], []])
    #expect(try ZipArchive(CraftedZip([]).bytes).entries.isEmpty)
  }

  // MARK: Lies

  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let bytes: [UInt8]
    let kind: Failure.Kind
    let says: String
    var testDescription: String { name }

    init(_ name: String, _ kind: Failure.Kind, _ says: String, _ zip: CraftedZip) {
      (self.name, bytes, self.kind, self.says) = (name, zip.bytes, kind, says)
    }

    /// One entry with one lie.
    init(_ name: String, _ kind: Failure.Kind, _ says: String, _ change: (inout CraftedZip.Entry) -> Void) {
      self.init(name, kind, says, CraftedZip([.init("a", [1, 2, 3], change)]))
    }

    /// One thing that is wrong with an archive of two entries.
    static func whole(
      _ name: String, _ kind: Failure.Kind, _ says: String, _ change: (inout CraftedZip) -> Void
    ) -> Case {
      Case(name, kind, says, CraftedZip([.init("a"), .init("b")], change))
    }
  }

  static let cases: [Case] = [
    Case("parent", .modelUnsafe, "'x/../../y'") { $0.name = Array("x/../../y".utf8) },
    Case("absolute", .modelUnsafe, "'/etc'") { $0.name = Array("/etc".utf8) },
    Case("backslash", .modelUnsafe, "plain relative") { $0.name = Array("a\\b".utf8) },
    Case("NUL", .modelUnsafe, "plain relative") { $0.name = [0x61, 0] },
    Case("no name", .modelMalformed, "no name") { $0.name = [] },
    Case("not UTF-8", .modelMalformed, "UTF-8") { $0.name = [0xff, 0xfe] },
    Case("long name", .resourceLimit, "4096") { $0.name = Array(repeating: 0x61, count: 5000) },
    Case("encrypted", .modelMalformed, "encrypted") { $0.flags = 1 },
    Case("encrypted locally", .modelUnsafe, "'a'") { $0.localFlags = 1 },
    Case("strong encryption", .modelMalformed, "encrypted") { $0.flags = 0x41 },
    Case("patch", .modelMalformed, "method") { $0.flags = 0x20 },
    Case("method 14", .modelMalformed, "method 14") { $0.method = 14 },
    Case("disk 1", .modelMalformed, "another file") { $0.disk = 1 },
    Case("other local name", .modelUnsafe, "'a'") { $0.localName = [0x62] },
    Case("other local method", .modelUnsafe, "'a'") { $0.localMethod = 8 },
    Case("other local sizes", .modelUnsafe, "'a'") { $0.localCount = 2 },
    Case("sizes differ", .modelUnsafe, "'a'") { $0.count = 2 },
    Case("stored sizes differ", .modelMalformed, "claims 2") {
      ($0.flags, $0.localCount, $0.count) = (8, 0, 2)
    },
    Case("beyond the directory", .modelMalformed, "claims 1000 bytes") { $0.packedCount = 1000 },
    Case("one byte into the directory", .modelMalformed, "claims 4 bytes") { $0.packedCount = 4 },
    Case("huge", .modelMalformed, "outside the file") {
      $0.isZip64 = true
      $0.packedCount = -1
    },
    Case("huge but positive", .modelMalformed, "are left") {
      $0.isZip64 = true
      $0.packedCount = .max
    },
    Case("header elsewhere", .modelMalformed, "local header") { $0.offset = 1 },
    Case("header in the directory", .modelMalformed, "local header") { $0.offset = 20 },
    Case("header after the file", .modelMalformed, "outside the file") { $0.offset = 1 << 31 },
    Case("bomb", .resourceLimit, "claims 1000000000") {
      $0.method = 8
      $0.count = 1_000_000_000
    },
    Case("twice", .modelUnsafe, "two entries", CraftedZip([.init("a"), .init("a")])),
    Case("an entry inside another", .modelUnsafe, "overlaps", .quoted),
    .whole("cut directory", .modelMalformed, "not where") { $0.claimedDirectoryCount = 1000 },
    .whole("other directory", .modelMalformed, "not where") { $0.claimedDirectoryOffset = 3 },
    .whole("bytes before the archive", .modelMalformed, "not where") {
      $0.prefix = [1]
      $0.claimedDirectoryOffset = 0
    },
    .whole("too many", .modelMalformed, "not where") { $0.claimedEntries = 60_000 },
    .whole("more than there are", .modelMalformed, "not where") { $0.claimedEntries = 3 },
    .whole("fewer than there are", .modelMalformed, "more bytes than entries") { $0.claimedEntries = 1 },
    .whole("far too many", .resourceLimit, "100000") { $0.zip64 = (1 << 40, nil, nil) },
    .whole("negative number of entries", .modelMalformed, "more entries") { $0.zip64 = (-1, nil, nil) },
    .whole("zip64 directory elsewhere", .modelMalformed, "not where") { $0.zip64 = (nil, nil, 0) },
    .whole("zip64 directory of any size", .modelMalformed, "not where") { $0.zip64 = (nil, .max, nil) },
    .whole("several disks", .modelMalformed, "several") { $0.disk = 1 },
  ]

  @Test(arguments: cases) func liesAreRefused(lie: Case) throws {
    let failed = try failure { _ = try ZipArchive(lie.bytes) }
    #expect(failed?.kind == lie.kind, "\(failed?.message ?? "accepted")")
    #expect(failed?.message.contains(lie.says) == true, "\(failed?.message ?? "")")
  }

  @Test func twoDirectoriesThatDiffer() throws {
    var zip = CraftedZip([.init("a")]) { $0.zip64 = (nil, nil, nil) }.bytes
    zip[zip.count - 12] = 9
    for byte in 1..<4 { zip[zip.count - 12 + byte] = 0 }
    #expect(try failure { _ = try ZipArchive(zip) }?.message.contains("contradict") == true)
  }

  @Test func damagedContents() throws {
    var damaged = try bytes(fixture("graph.pt"))
    let archive = try ZipArchive(damaged)
    let code = try #require(archive.entries.first)
    damaged[code.range.lowerBound + 40] ^= 1
    #expect(
      try failure { _ = try ZipArchive(damaged).bytes(of: code) }?.message.contains("checksum") == true)
    // Deflated: what is there is neither longer nor shorter than claimed, and the last bit counts.
    let packed = try bytes(fixture("graph.deflated.pt"))
    for entry in try ZipArchive(packed).entries where entry.count > 0 {
      var cut = packed
      cut[entry.range.upperBound - 1] ^= 0xff
      let changed = try ZipArchive(cut)
      let failed = try failure { _ = try changed.contents(of: entry, limit: 1 << 20, work: Work()) }
      #expect(failed?.kind == .modelMalformed, "\(entry.name)")
    }
  }

  // MARK: Any bytes

  /// Whatever becomes of the bytes, the reader returns entries or a failure, and stays inside the fence.
  private func read(_ bytes: [UInt8]) throws {
    _ = try failure {
      let archive = try ZipArchive(bytes)
      for entry in archive.entries {
        _ = try failure { _ = try archive.array(of: entry) }
      }
    }
  }

  @Test(arguments: ["graph.pt", "graph.deflated.pt"]) func truncatedAtEveryByte(name: String) throws {
    let whole = try bytes(fixture(name))
    for count in 0..<whole.count {
      #expect(try failure { _ = try ZipArchive(Array(whole.prefix(count))) }?.kind == .modelMalformed, "\(count)")
    }
  }

  @Test(arguments: fixtures) func mutated(name: String) throws {
    let whole = try bytes(fixture(name))
    let directory = try #require(try ZipArchive(whole).entries.map(\.range.upperBound).max())
    var random = SeededGenerator(seed: 11)
    for round in 0..<4000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        // Every other round in the directory, where most of the structure is.
        let range = round % 2 == 0 ? 0..<bytes.count : directory..<bytes.count
        bytes[Int.random(in: range, using: &random)] =
          [0, 0xff, 0x7f, .random(in: 0...255, using: &random)]
          .randomElement(using: &random) ?? 0
      }
      try read(bytes)
    }
  }
}

extension CraftedZip {
  /// An entry whose contents are another entry, header and all, which the directory lists as well.
  fileprivate static var quoted: CraftedZip {
    let inner = CraftedZip([.init("b")]).bytes.prefix(30 + 1 + 3)
    return CraftedZip([.init("a", Array(inner))]) { $0.hidden = [.init("b") { $0.offset = 31 }] }
  }
}
