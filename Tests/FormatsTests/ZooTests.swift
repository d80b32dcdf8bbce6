import Compression
import Foundation
import ModelGraph
import Testing

import Formats

/// Real exports, which are too large for the repository: every `.onnx` file under the directory that ESPALIER_ZOO names.
@Suite(.enabled(if: ProcessInfo.processInfo.environment["ESPALIER_ZOO"] != nil, "ESPALIER_ZOO names no directory"))
struct ZooTests {
  static let paths: [String] = {
    guard let root = ProcessInfo.processInfo.environment["ESPALIER_ZOO"] else { return [] }
    let all = FileManager.default.enumerator(atPath: root)?.compactMap { $0 as? String } ?? []
    return all.filter { $0.hasSuffix(".onnx") }.sorted().map { root + "/" + $0 }
  }()

  @Test(arguments: paths)
  func loads(path: String) throws {
    let start = ContinuousClock.now
    let document = try ModelFormats.open(path: path, work: Work())
    let first = ContinuousClock.now - start
    let again = ContinuousClock.now
    _ = try ModelFormats.open(path: path, work: Work())
    print(path, document.graph.nodes.count, first, ContinuousClock.now - again, document.heldBytes)
    #expect(document.graph.nodes.count > 10)
  }
}
