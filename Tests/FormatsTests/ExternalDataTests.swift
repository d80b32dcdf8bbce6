import Compression
import Foundation
import Formats
import ModelGraph
import TestSupport
import Testing

/// Models whose weights are in files beside them.
@Suite struct ExternalDataTests {
  /// The fixture and its data in a directory of their own.
  private func copied() throws -> (Scratch, any ModelDocument) {
    let scratch = try Scratch()
    try scratch.write(try bytes(fixture("external.before.onnx")), "external.before.onnx")
    try scratch.write(try bytes(fixture("external.before.onnx.data")), "external.before.onnx.data")
    return (scratch, try open(scratch["external.before.onnx"]))
  }

  private func model(_ location: String, _ more: [(String, String)] = [], dims: [Int] = [2]) -> [UInt8] {
    Proto.model(.relu + .external("w", dims, [("location", location)] + more))
  }

  @Test func readsWeightsFromTheirFile() throws {
    let (scratch, document) = try copied()
    let graph = document.graph
    #expect(graph.value("w")?.tensor?.elements(Float.self) == (0..<12).map(Float.init))
    #expect(graph.value("b")?.tensor?.elements(Float.self) == [0, 1, 2, 3])
    #expect(graph.value("k")?.tensor?.elements(Float.self) == [0, 1, 2, 3])
    #expect(document.files.map(\.path) == [scratch["external.before.onnx"], scratch["external.before.onnx.data"]])
    #expect(document.description.sizeBytes == 824 + 4112)
  }

  @Test func savesUneditedFilesByteForByteUnderTheSameName() throws {
    let (scratch, document) = try copied()
    let other = try Scratch()
    let written = try document.write(
      applying: .init(), to: other["external.before.onnx"], overwrite: false, work: Work())
    #expect(written.map(\.path) == [other["external.before.onnx"], other["external.before.onnx.data"]])
    for name in scratch.names { #expect(try bytes(other[name]) == bytes(scratch[name])) }
    #expect(other.names == scratch.names)
  }

  @Test func aNewNameIsTheDatasNameToo() throws {
    let (scratch, document) = try copied()
    _ = try document.write(applying: .init(), to: scratch["new.onnx"], overwrite: false, work: Work())
    #expect(try bytes(scratch["new.onnx.data"]) == bytes(scratch["external.before.onnx.data"]))
    let again = try open(scratch["new.onnx"])
    #expect(again.files.map(\.path) == [scratch["new.onnx"], scratch["new.onnx.data"]])
    // The file is a copy, so what the model says of it as a whole still holds.
    #expect(try bytes(scratch["new.onnx"]).contains(Array("checksum".utf8)))
    #expect(try !bytes(scratch["new.onnx"]).contains(Array("external.before".utf8)))
  }

  @Test func cutsKeepOrderAlignmentAndSharing() throws {
    let (scratch, document) = try copied()
    let slices = try ["w", "b", "tied"].map {
      TensorSlice(
        value: try #require(document.graph.id($0)), axes: [AxisSlice(axis: 0, kept: .indices([0, 2, 3]))])
    }
    let written = try document.write(
      applying: CompressionPlan(slices: slices), to: scratch["cut.onnx"], overwrite: false, work: Work())
    let graph = try open(scratch["cut.onnx"]).graph
    let rows: [Float] = [0, 1, 2, 6, 7, 8, 9, 10, 11]
    #expect(graph.value("w")?.tensor?.elements(Float.self) == rows)
    #expect(graph.value("tied")?.tensor?.elements(Float.self) == rows)
    #expect(graph.value("b")?.tensor?.elements(Float.self) == [0, 2, 3])
    #expect(graph.value("k")?.tensor?.elements(Float.self) == [0, 1, 2, 3])
    // w and its twin once, b, the branch's tensor, and k where it was: on the next page.
    #expect(written[1].path == scratch["cut.onnx.data"])
    #expect(written[1].sizeBytes == 4096 + 16)
    let data = try bytes(scratch["cut.onnx.data"])
    #expect(data[0..<36].elementsEqual(rows.littleEndianBytes))
    #expect(data[48..<60].elementsEqual([Float]([0, 2, 3]).littleEndianBytes))
    #expect(data[64..<80].elementsEqual([Float]([0, 1, 2, 3]).littleEndianBytes))
    #expect(data[4096...].elementsEqual([Float]([0, 1, 2, 3]).littleEndianBytes))
    #expect(try !bytes(scratch["cut.onnx"]).contains(Array("checksum".utf8)))
  }

  @Test func tiedWeightsThatPartGetTheirOwnBytes() throws {
    let (scratch, document) = try copied()
    let slice = TensorSlice(
      value: try #require(document.graph.id("tied")), axes: [AxisSlice(axis: 1, kept: .indices([1]))])
    _ = try document.write(
      applying: CompressionPlan(slices: [slice]), to: scratch["cut.onnx"], overwrite: false, work: Work())
    let graph = try open(scratch["cut.onnx"]).graph
    #expect(graph.value("w")?.tensor?.elements(Float.self) == (0..<12).map(Float.init))
    #expect(graph.value("tied")?.tensor?.elements(Float.self) == [1, 4, 7, 10])
  }

  @Test func theSourcesDataIsNeverReplaced() throws {
    let (scratch, document) = try copied()
    let before = try bytes(scratch["external.before.onnx.data"])
    let slice = TensorSlice(
      value: try #require(document.graph.id("b")), axes: [AxisSlice(axis: 0, kept: .indices([1]))])
    let written = try document.write(
      applying: CompressionPlan(slices: [slice]), to: scratch["external.before.onnx"], overwrite: true, work: Work())
    #expect(written.map(\.path) == [scratch["external.before.onnx"], scratch["external.before.onnx.data.2"]])
    #expect(try bytes(scratch["external.before.onnx.data"]) == before)
    #expect(try open(scratch["external.before.onnx"]).graph.value("b")?.tensor?.elements(Float.self) == [1])
    // Nor by naming it as the output.
    let again = try open(scratch["external.before.onnx"])
    let failed = try failure {
      _ = try again.write(
        applying: .init(), to: scratch["external.before.onnx.data.2"], overwrite: true, work: Work())
    }
    #expect(failed?.kind == .outputUnwritable)
  }

  @Test func dataThatExistsIsNotReplacedUnasked() throws {
    let (scratch, document) = try copied()
    try scratch.write([1, 2, 3], "new.onnx.data")
    let failed = try failure {
      _ = try document.write(applying: .init(), to: scratch["new.onnx"], overwrite: false, work: Work())
    }
    #expect(failed?.kind == .outputExists)
    #expect(try bytes(scratch["new.onnx.data"]) == [1, 2, 3])
    #expect(scratch.names == ["external.before.onnx", "external.before.onnx.data", "new.onnx.data"])
  }

  @Test func severalFilesStaySeveral() throws {
    let scratch = try Scratch()
    try scratch.write(Array(0..<8), "a.bin")
    try FileManager.default.createDirectory(atPath: scratch["sub"], withIntermediateDirectories: false)
    try scratch.write(Array(8..<16), "sub/a.bin")
    let path = try scratch.write(
      Proto.model(
        .relu + .external("v", [2], [("location", "a.bin")]) + .external("w", [2], [("location", "sub/a.bin")])),
      "model.onnx")
    let other = try Scratch()
    _ = try open(path).write(applying: .init(), to: other["new.onnx"], overwrite: false, work: Work())
    #expect(other.names == ["new.onnx", "new.onnx.a.bin", "new.onnx.a.bin.2"])
    let graph = try open(other["new.onnx"]).graph
    #expect(graph.value("v")?.tensor?.elements(UInt8.self) == Array(0..<8))
    #expect(graph.value("w")?.tensor?.elements(UInt8.self) == Array(8..<16))
  }

  /// More than a Protocol Buffers message can hold; the file is a hole but for its end.
  @Test func filesBeyondTwoGigabytes() throws {
    let scratch = try Scratch()
    let rows = 3 << 20
    try scratch.write([], "w.bin")
    truncate(scratch["w.bin"], off_t(rows) * 1024)
    let handle = try #require(FileHandle(forWritingAtPath: scratch["w.bin"]))
    try handle.seek(toOffset: UInt64(rows) * 1024 - 4)
    handle.write(Data([0, 0, 0x80, 0x3f]))
    try handle.close()
    let document = try open(try scratch.write(model("w.bin", dims: [rows, 256]), "model.onnx"))
    let slice = TensorSlice(
      value: try #require(document.graph.id("w")), axes: [AxisSlice(axis: 0, kept: .indices([0, rows - 1]))])
    _ = try document.write(
      applying: CompressionPlan(slices: [slice]), to: scratch["out.onnx"], overwrite: false, work: Work())
    let cut = try open(scratch["out.onnx"]).graph.value("w")?.tensor?.elements(Float.self)
    #expect(cut == Array(repeating: 0, count: 511) + [1])
  }

  @Test(arguments: [
    "../w.bin", "sub/../../w.bin", "sub/../w.bin", "/etc/passwd", "..", "sub\\..\\w.bin", "w\0.bin", "leads-out",
    "out/w",
  ])
  func locationsOutsideTheDirectoryAreRefused(location: String) throws {
    let outside = try Scratch()
    try outside.write(Array(repeating: 0, count: 8), "w")
    let scratch = try Scratch()
    let files = FileManager.default
    try files.createSymbolicLink(atPath: scratch["leads-out"], withDestinationPath: outside["w"])
    try files.createSymbolicLink(atPath: scratch["out"], withDestinationPath: outside.path)
    let path = try scratch.write(model(location), "model.onnx")
    let failed = try failure { _ = try open(path) }
    #expect(failed?.kind == .modelUnsafe)
    #expect(failed?.details["location"] == .string(location))
  }

  @Test func linksInsideTheDirectoryAreFine() throws {
    let scratch = try Scratch()
    try scratch.write(Array(0..<8), "w.bin")
    try FileManager.default.createSymbolicLink(atPath: scratch["link"], withDestinationPath: "w.bin")
    let graph = try open(try scratch.write(model("link"), "model.onnx")).graph
    #expect(graph.value("w")?.tensor?.elements(UInt8.self) == Array(0..<8))
  }

  private static let wrongEntries: [(key: String, value: String, kind: Failure.Kind)] = [
    ("offset", "1", .modelMalformed), ("offset", "9", .modelMalformed), ("offset", "-1", .modelMalformed),
    ("offset", "9223372036854775807", .modelMalformed), ("offset", "99999999999999999999", .modelMalformed),
    ("offset", "0x0", .modelMalformed), ("length", "7", .modelMalformed),
    ("length", "9223372036854775807", .modelMalformed), ("location", "", .modelMalformed),
    ("location", "missing.bin", .modelNotFound), ("location", "directory", .modelUnreadable),
    ("location", "pipe", .modelUnreadable),
  ]

  @Test(arguments: wrongEntries)
  func rangesAndFilesAreChecked(key: String, value: String, kind: Failure.Kind) throws {
    let scratch = try Scratch()
    try scratch.write(Array(0..<8), "w.bin")
    try FileManager.default.createDirectory(atPath: scratch["directory"], withIntermediateDirectories: false)
    mkfifo(scratch["pipe"], 0o600)
    let path = try scratch.write(model("w.bin", [(key, value)]), "model.onnx")
    #expect(try failure { _ = try open(path) }?.kind == kind)
  }

  @Test func lengthZeroAndNoneMeanTheShapes() throws {
    let scratch = try Scratch()
    try scratch.write(Array(0..<16), "w.bin")
    let path = try scratch.write(model("w.bin", [("offset", "8"), ("length", "0")]), "model.onnx")
    #expect(try open(path).graph.value("w")?.tensor?.elements(UInt8.self) == Array(8..<16))
  }
}

extension [Float] {
  fileprivate var littleEndianBytes: [UInt8] {
    flatMap { Swift.withUnsafeBytes(of: $0.bitPattern.littleEndian) { [UInt8]($0) } }
  }
}

extension [UInt8] {
  fileprivate func contains(_ sequence: [UInt8]) -> Bool { indices.contains { self[$0...].starts(with: sequence) } }
}
