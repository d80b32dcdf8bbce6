import Glibc
import ModelGraph

/// Files that refer to each other by the names they are to have, to be looked at before they have them: links in a
/// directory beside the target.
enum StagedFiles {
  /// Calls `body` with the path of the last of `files`, all of which are complete.
  static func check(_ files: [OutputFile], _ body: FileCheck) throws(Failure) {
    guard let model = files.last else { return }
    guard files.count > 1 else { return try body(model.temporaryPath) }
    let directory = model.temporaryPath + ".d"
    guard mkdir(directory, 0o700) == 0 else { throw .cannotWrite(model.path, errno) }
    var links: [String] = []
    defer {
      links.forEach { unlink($0) }
      rmdir(directory)
    }
    for file in files {
      let name = directory + "/" + splitPath(file.path).name
      guard link(file.temporaryPath, name) == 0 else { throw .cannotWrite(file.path, errno) }
      links.append(name)
    }
    try body(directory + "/" + splitPath(model.path).name)
  }
}
