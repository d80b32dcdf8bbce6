import Glibc
import ModelGraph

/// Files that refer to each other by the names they are to have, to be looked at before they have them: links in a
/// directory beside the target.
enum StagedFiles {
  /// Makes complete `files` durable, and has `body` look at them meanwhile, which is work for a processor and not for the
  /// disk. Neither is cut short where the other fails, but nothing more is begun.
  /// - Throws: what `body` throws, before what the disk does.
  static func settle(_ files: [OutputFile], work: Work, _ body: () throws(Failure) -> Void) throws(Failure) {
    let isRefused = CancellationFlag()
    // Only read, until the disk is done.
    nonisolated(unsafe) let files = files
    let sync = Aside { () throws(Failure) in
      for file in files where !isRefused.isSet { try file.sync(work: work) }
    }
    let checked = Result { () throws(Failure) in try body() }
    if case .failure = checked { isRefused.set() }
    let synced = Result { () throws(Failure) in try sync.wait() }
    try checked.get()
    try synced.get()
  }

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
