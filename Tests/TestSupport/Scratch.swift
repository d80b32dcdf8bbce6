import Foundation

/// A directory that goes away with the object.
package final class Scratch {
  package let path: String

  /// In memory where that is offered: these tests write thousands of files, and syncing them there costs nothing.
  package init() throws {
    let files = FileManager.default
    let base =
      files.isWritableFile(atPath: "/dev/shm") ? "/dev/shm" : files.temporaryDirectory.resolvingSymlinksInPath().path
    path = base + "/espalier-test-" + UUID().uuidString
    try files.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of `name` inside.
  package subscript(_ name: String) -> String { path + "/" + name }

  @discardableResult
  package func write(_ bytes: [UInt8], _ name: String) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: self[name]))
    return self[name]
  }

  /// What is in the directory.
  package var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
}
