import Foundation
import Formats
import ModelGraph
import Numerics
import TestSupport
import Testing

/// Archives that are written, read again by our reader; what Python makes of them is tested in Tests/Torch.
@Suite struct ArchiveWriterTests {
  private func write(_ writer: ZipWriter, threads: Int = 1) throws -> [UInt8] {
    let scratch = try Scratch()
    let file = try OutputFile(path: scratch["out"], overwrite: false)
    try writer.write(to: file, work: Work(threads: threads))
    let count = try file.finish(work: Work())
    try file.publish()
    let written = try bytes(scratch["out"])
    #expect(count == written.count)
    return written
  }

  /// Every other row and the first column of a 6 by 3 matrix of bytes.
  private func gathered() throws -> (TensorBytes, Gather, [UInt8]) {
    let gather = try Gather(
      shape: [6, 3], elementBytes: 1,
      axes: [.init(axis: 0, kept: .indices([0, 2, 4])), .init(axis: 1, kept: .indices([0]))])
    return (TensorBytes(copying: (0..<18).map { UInt8($0) }), gather, [0, 6, 12])
  }

  @Test(arguments: [1, 64, 4096], [8, Int.max])
  func everyKindOfEntry(alignment: Int, largest32: Int) throws {
    let source = try ZipArchive(bytes(fixture("graph.pt")))
    let packed = try ZipArchive(bytes(fixture("graph.deflated.pt")))
    let (tensor, gather, kept) = try gathered()
    let long = [UInt8]((0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) })

    var writer = ZipWriter(alignment: alignment, largest32: largest32)
    try writer.copy(source.entries[0], of: source, limit: 0, work: Work())
    try writer.copy(packed.entries[0], of: packed, as: "größe/data.pkl", limit: 1 << 20, work: Work())
    writer.add("empty", [])
    writer.add("long", long)
    writer.add("gathered", tensor, gather: gather)
    writer.add("tensor", tensor)
    let written = try write(writer)

    let archive = try ZipArchive(written)
    let code = try source.array(of: source.entries[0])
    #expect(
      archive.entries.map(\.name)
        == [source.entries[0].name, "größe/data.pkl", "empty", "long", "gathered", "tensor"])
    #expect(try archive.allContents() == [code, code, [], long, kept, Array(0..<18)])
    #expect(archive.entries.allSatisfy { $0.method == .stored && $0.range.lowerBound % alignment == 0 })
    #expect(archive.entries[0].crc32 == source.entries[0].crc32)
    #expect(archive.entries.filter { $0.crc32 == 0 }.map(\.name) == ["empty"])
    #expect(try write(writer) == written)
  }

  /// Rows longer than the checksum's buffer, and more of them than it holds.
  @Test(arguments: [[4, 300_000], [40_000, 30]]) func checksumsOfLargeTensors(shape: [Int]) throws {
    let count = shape[0] * shape[1]
    let tensor = TensorBytes(copying: (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) })
    let columns = (0..<shape[1]).filter { $0 % 3 != 1 }
    let gather = try Gather(shape: shape, elementBytes: 1, axes: [.init(axis: 1, kept: .indices(columns))])
    var writer = ZipWriter(alignment: 64)
    writer.add("weight", tensor, gather: gather)
    let expected = (0..<shape[0]).flatMap { row in columns.map { tensor.buffer[row * shape[1] + $0] } }
    #expect(try ZipArchive(write(writer)).allContents() == [expected])
  }

  @Test("Threads write different parts of the same bytes", arguments: [2, 5])
  func threads(count: Int) throws {
    var writer = ZipWriter(alignment: 64)
    for entry in 0..<60 {
      writer.add("entry\(entry)", [UInt8](repeating: UInt8(entry), count: entry % 7 == 0 ? 1_300_000 : entry * 3000))
    }
    let written = try write(writer)
    #expect(try write(writer, threads: count) == written)
    let contents = try ZipArchive(written).allContents(limit: 2 << 20)
    #expect(contents.map(\.count) == (0..<60).map { $0 % 7 == 0 ? 1_300_000 : $0 * 3000 })
    #expect(contents.enumerated().allSatisfy { index, bytes in bytes.allSatisfy { $0 == UInt8(index) } })
  }

  /// Too large to be kept between its checksum and its writing.
  @Test func gatheredTwice() throws {
    let tensor = TensorBytes(copying: (0..<50 << 20).map { UInt8(truncatingIfNeeded: $0 >> 10 &* 37) })
    let gather = try Gather(
      shape: [50 << 10, 1 << 10], elementBytes: 1, axes: [.init(axis: 0, kept: .indices(Array(8000..<50 << 10)))])
    var writer = ZipWriter(alignment: 64)
    writer.add("weight", tensor, gather: gather)
    let contents = try ZipArchive(write(writer)).allContents(limit: 50 << 20)
    #expect(contents.count == 1 && contents[0].elementsEqual(tensor.buffer[(8000 << 10)...]))
  }

  @Test func cancelled() throws {
    let scratch = try Scratch()
    let work = Work()
    var writer = ZipWriter(alignment: 64)
    writer.add("a", [1])
    work.cancellation.set()
    let file = try OutputFile(path: scratch["out"], overwrite: false)
    #expect(try failure { try writer.write(to: file, work: work) }?.kind == .cancelled)
  }
}
