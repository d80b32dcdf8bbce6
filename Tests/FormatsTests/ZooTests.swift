import Compression
import Foundation
import ModelGraph
import TestSupport
import Testing

import Formats

/// Real exports, which are too large for the repository: every `.onnx` file under the directory that ESPALIER_ZOO
/// names.
@Suite(
  .serialized,
  .enabled(if: ProcessInfo.processInfo.environment["ESPALIER_ZOO"] != nil, "ESPALIER_ZOO names no directory"))
struct ZooTests {
  static let paths: [String] = {
    guard let root = ProcessInfo.processInfo.environment["ESPALIER_ZOO"] else { return [] }
    let all = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
    return all.filter { $0.hasSuffix(".onnx") }.sorted().map { root + "/" + $0 }
  }()

  @Test func thereAreSome() { #expect(!Self.paths.isEmpty) }

  @Test(arguments: paths)
  func loads(path: String) throws { #expect(try !open(path).graph.nodes.isEmpty) }

  @Test(arguments: paths)
  func savesUneditedFilesByteForByte(path: String) throws {
    let scratch = try Scratch()
    let written = try open(path).write(
      applying: CompressionPlan(), to: scratch["out.onnx"], overwrite: false, work: Work())
    #expect(written.map(\.path) == [scratch["out.onnx"]])
    #expect(FileManager.default.contentsEqual(atPath: path, andPath: scratch["out.onnx"]))
    #expect(scratch.names == ["out.onnx"])
  }
}
