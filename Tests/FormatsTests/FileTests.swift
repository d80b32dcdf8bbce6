import Compression
import Foundation
import Formats
import ModelGraph
import TestSupport
import Testing

/// Files that are not what they should be, before, while and after they are read; outputs that cannot be written.
@Suite struct FileTests {
  private func kind(opening path: String) throws -> Failure.Kind? { try failure { _ = try open(path) }?.kind }

  @Test func whatIsNoReadableFileIsRefused() throws {
    let scratch = try Scratch()
    try scratch.write([1], "file")
    mkfifo(scratch["pipe"], 0o600)
    try FileManager.default.createSymbolicLink(atPath: scratch["loop"], withDestinationPath: "loop")
    try FileManager.default.createSymbolicLink(atPath: scratch["dangling"], withDestinationPath: "nowhere")
    #expect(try kind(opening: "") == .modelNotFound)
    #expect(try kind(opening: scratch["missing"]) == .modelNotFound)
    #expect(try kind(opening: scratch["file/below"]) == .modelNotFound)
    #expect(try kind(opening: scratch["file\0.onnx"]) == .modelNotFound)
    #expect(try kind(opening: scratch["dangling"]) == .modelNotFound)
    #expect(try kind(opening: scratch["loop"]) == .modelUnreadable)
    #expect(try kind(opening: scratch.path) == .modelUnreadable)
    #expect(try kind(opening: scratch["pipe"]) == .modelUnreadable)
    #expect(try kind(opening: "/dev/zero") == .modelUnreadable)
    #expect(try kind(opening: scratch["/" + String(repeating: "x", count: 300)]) == .modelUnreadable)
  }

  @Test(.enabled(if: geteuid() != 0, "root may read everything")) func unreadableFiles() throws {
    let scratch = try Scratch()
    let path = try scratch.write(Proto.model(.relu), "model.onnx")
    chmod(path, 0)
    #expect(try kind(opening: path) == .modelUnreadable)
  }

  private static let others: [(name: String, bytes: [UInt8])] = [
    ("GGUF", Array("GGUF....".utf8)), ("TensorFlow Lite", Array("....TFL3".utf8)),
    ("safetensors", [8, 0, 0, 0, 0, 0, 0, 0] + Array("{\"a\":{}}".utf8)), ("JSON", Array("{\"a\": 1}".utf8)),
    ("Git LFS", Array("version https://git-lfs.github.com/spec/v1\n".utf8)), ("HTML", Array("<!doctype html>".utf8)),
    ("none of the formats", Array(repeating: 0, count: 64)), ("pickle", [0x80, 2, 0x7d]),
    // A TensorFlow graph: nodes in field 1.
    ("none of the formats", [0x0a, 0x03, 0x0a, 0x01, 0x78]),
  ]

  @Test(arguments: others) func otherFormatsAreNamed(name: String, bytes: [UInt8]) throws {
    let scratch = try Scratch()
    let path = try scratch.write(bytes, "model")
    let failed = try failure { _ = try open(path) }
    #expect(failed?.kind == .modelUnsupportedFormat)
    #expect(failed?.message.contains(name) == true, "\(failed?.message ?? "")")
  }

  @Test func emptyFilesAndUnknownFormatNames() throws {
    let scratch = try Scratch()
    let path = try scratch.write([], "model.onnx")
    #expect(try kind(opening: path) == .modelMalformed)
    let model = try scratch.write(Proto.model(.relu), "model")
    #expect(try ModelFormats.open(path: model, format: "ONNX", work: Work()).graph.nodes.count == 1)
    #expect(
      try failure { _ = try ModelFormats.open(path: model, format: "caffe", work: Work()) }?.kind
        == .modelUnsupportedFormat)
  }

  // MARK: Change

  /// A model with a weight of `count` bytes in rows of 16.
  private func model(weight count: Int) -> [UInt8] {
    Proto.model(.relu + .initializer("w", [count / 16, 16], type: 3, raw: Array(repeating: 7, count: count)))
  }

  private func halve(_ document: any ModelDocument, to path: String, work: Work = Work()) throws {
    let count = try #require(document.graph.value("w")?.tensor?.shape[0])
    let kept = AxisSlice(axis: 0, kept: .indices(Array(stride(from: 0, to: count, by: 2))))
    let slice = TensorSlice(value: try #require(document.graph.id("w")), axes: [kept])
    _ = try document.write(applying: CompressionPlan(slices: [slice]), to: path, overwrite: false, work: work)
  }

  /// Pages that are no longer there read as zeros, and what was computed from them is thrown away.
  @Test func aFileThatIsCutWhileMappedIsSeenAsChanged() throws {
    let scratch = try Scratch()
    let path = try scratch.write(model(weight: 3 << 20), "model.onnx")
    let document = try open(path)
    truncate(path, 4096)
    let weight = try #require(document.graph.value("w")?.tensor)
    DispatchQueue.concurrentPerform(iterations: 8) { part in
      let sum = weight.bytes.buffer[((1 << 20) + (part << 16))..<((2 << 20) + (part << 16))].reduce(0) { $0 + Int($1) }
      #expect(sum == 0)
    }
    #expect(try failure { try halve(document, to: scratch["out.onnx"]) }?.kind == .modelChanged)
    #expect(scratch.names == ["model.onnx"])
  }

  @Test func aFileThatIsCutAndGrownAgainIsSeenAsChanged() throws {
    let scratch = try Scratch()
    let path = try scratch.write(model(weight: 1 << 20), "model.onnx")
    let document = try open(path)
    truncate(path, 0)
    truncate(path, off_t(document.description.sizeBytes))
    #expect(try failure { try halve(document, to: scratch["out.onnx"]) }?.kind == .modelChanged)
    #expect(scratch.names == ["model.onnx"])
  }

  /// Writes as fast as the system's clock can tell them apart, and faster.
  @Test func noChangeAfterLoadingGoesUnseen() throws {
    let scratch = try Scratch()
    for round in 0..<20 {
      let path = try scratch.write(model(weight: 64), "model\(round).onnx")
      let document = try open(path)
      let handle = try #require(FileHandle(forWritingAtPath: path))
      try handle.seek(toOffset: UInt64(document.description.sizeBytes - 10))
      handle.write(Data([9]))
      try handle.close()
      #expect(try failure { try halve(document, to: scratch["out.onnx"]) }?.kind == .modelChanged)
    }
  }

  @Test func filesThatAreRemovedOrReplacedAreSeenAsChanged() throws {
    let scratch = try Scratch()
    let path = try scratch.write(model(weight: 64), "model.onnx")
    let document = try open(path)
    try FileManager.default.moveItem(atPath: path, toPath: scratch["elsewhere"])
    #expect(try failure { try halve(document, to: scratch["out.onnx"]) }?.kind == .modelChanged)
    try scratch.write(model(weight: 64), "model.onnx")
    #expect(try failure { try halve(document, to: scratch["out.onnx"]) }?.kind == .modelChanged)
  }

  @Test func linksToOneFileAreOneModel() throws {
    let scratch = try Scratch()
    let path = try scratch.write(model(weight: 64), "model.onnx")
    try FileManager.default.createSymbolicLink(atPath: scratch["link.onnx"], withDestinationPath: "model.onnx")
    #expect(try open(scratch["link.onnx"]).files == open(path).files)
    #expect(try open(scratch["/../" + splitName(scratch.path) + "/./model.onnx"]).files == open(path).files)
  }

  private func splitName(_ path: String) -> String { path.split(separator: "/").last.map(String.init) ?? "" }

  // MARK: Output

  private func write(to path: String, overwrite: Bool = false) throws -> Failure? {
    let scratch = try Scratch()
    let document = try open(try scratch.write(model(weight: 64), "model.onnx"))
    return try failure { _ = try document.write(applying: .init(), to: path, overwrite: overwrite, work: Work()) }
  }

  @Test func outputsThatCannotBeWrittenSayWhy() throws {
    let scratch = try Scratch()
    try scratch.write([1], "file")
    mkfifo(scratch["pipe"], 0o600)
    try FileManager.default.createDirectory(atPath: scratch["directory"], withIntermediateDirectories: false)
    for (path, kind, says) in [
      (scratch["missing/out.onnx"], Failure.Kind.outputUnwritable, "No such file"),
      (scratch["file/out.onnx"], .outputUnwritable, "Not a directory"),
      (scratch["directory"], .outputUnwritable, "Is a directory"), (scratch["directory/"], .outputUnwritable, "name"),
      ("", .outputUnwritable, "name"), (scratch["."], .outputUnwritable, "name"),
      (scratch["a\0b"], .outputUnwritable, "name"),
      (scratch[String(repeating: "x", count: 300)], .outputUnwritable, "too long"),
      ("/proc/out.onnx", .outputUnwritable, "/proc/out.onnx"), (scratch["file"], .outputExists, "exists"),
      (scratch["pipe"], .outputExists, "exists"),
    ] {
      let failed = try write(to: path)
      #expect(failed?.kind == kind, "\(path)")
      #expect(failed?.message.contains(says) == true, "\(failed?.message ?? path)")
    }
    #expect(try write(to: scratch["directory"], overwrite: true)?.kind == .outputUnwritable)
    #expect(try write(to: scratch["pipe"], overwrite: true)?.kind == .outputUnwritable)
    #expect(scratch.names == ["directory", "file", "pipe"])
    #expect(try bytes(scratch["file"]) == [1])
  }

  @Test func overwritingKeepsModeAndFollowsLinks() throws {
    let scratch = try Scratch()
    try scratch.write([1], "file")
    chmod(scratch["file"], 0o640)
    try FileManager.default.createSymbolicLink(atPath: scratch["link"], withDestinationPath: "file")
    #expect(try write(to: scratch["link"])?.kind == .outputExists)
    #expect(try write(to: scratch["link"], overwrite: true) == nil)
    #expect(try bytes(scratch["file"]) == model(weight: 64))
    #expect(try FileManager.default.attributesOfItem(atPath: scratch["file"])[.posixPermissions] as? Int == 0o640)
    #expect(try FileManager.default.destinationOfSymbolicLink(atPath: scratch["link"]) == "file")
    #expect(scratch.names == ["file", "link"])
  }

  @Test func aFileThatAppearsMeanwhileIsNotReplaced() throws {
    let scratch = try Scratch()
    let output = try OutputFile(path: scratch["out"], overwrite: false)
    try Array("new".utf8).withUnsafeBytes { try output.append($0, work: Work()) }
    _ = try output.finish(work: Work())
    try scratch.write(Array("old".utf8), "out")
    #expect(try failure { try output.publish() }?.kind == .outputExists)
    #expect(try bytes(scratch["out"]) == Array("old".utf8))
  }

  @Test func theModelItselfCanBeReplaced() throws {
    let scratch = try Scratch()
    let path = try scratch.write(model(weight: 1 << 20), "model.onnx")
    let document = try open(path)
    let kept = AxisSlice(axis: 0, kept: .indices([0, 5]))
    let slice = TensorSlice(value: try #require(document.graph.id("w")), axes: [kept])
    _ = try document.write(applying: CompressionPlan(slices: [slice]), to: path, overwrite: true, work: Work())
    #expect(try open(path).graph.value("w")?.tensor?.elements(UInt8.self) == Array(repeating: 7, count: 32))
    #expect(document.graph.value("w")?.tensor?.bytes.count == 1 << 20)
    #expect(scratch.names == ["model.onnx"])
  }

  @Test func cancellationLeavesNothing() throws {
    let scratch = try Scratch()
    let document = try open(try scratch.write(model(weight: 48 << 20), "model.onnx"))
    // Cancelled before, at the first progress report, and at each of the later ones.
    for step in 0..<4 {
      let flag = CancellationFlag()
      let countdown = Countdown(step, flag)
      let work = Work(cancellation: flag) { _, _ in countdown.tick() }
      if step == 0 { flag.set() }
      let failed = try failure { try halve(document, to: scratch["out.onnx"], work: work) }
      #expect(failed?.kind == .cancelled)
      #expect(scratch.names == ["model.onnx"])
    }
  }

  /// A file system of 1 MB, where the right to mount one is given.
  @Test func aFullDiskIsSaidAndLeavesNothing() throws {
    let scratch = try Scratch()
    try FileManager.default.createDirectory(atPath: scratch["disk"], withIntermediateDirectories: false)
    guard mount("tmpfs", scratch["disk"], "tmpfs", 0, "size=1m") == 0 else {
      withKnownIssue("no right to mount a file system here") { Issue.record("not tested") }
      return
    }
    defer { umount(scratch["disk"]) }
    let document = try open(try scratch.write(model(weight: 8 << 20), "model.onnx"))
    let failed = try failure { try halve(document, to: scratch["disk/out.onnx"]) }
    #expect(failed?.kind == .outputUnwritable)
    #expect(failed?.message.contains("No space left on device") == true)
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch["disk"]).isEmpty)
  }
}

/// Sets a flag at the n-th tick.
private final class Countdown: @unchecked Sendable {
  private let lock = NSLock()
  private var left: Int
  private let flag: CancellationFlag

  init(_ count: Int, _ flag: CancellationFlag) { (left, self.flag) = (count, flag) }

  func tick() {
    lock.withLock {
      left -= 1
      if left == 0 { flag.set() }
    }
  }
}
