import Glibc
import ModelGraph

/// Files that refer to each other by the names they are to have, to be looked at before they have them: links in a
/// directory beside the target.
enum StagedFiles {
  /// Makes complete `files` durable, and has `body` look at them meanwhile, which is work for a processor and not for
  /// the disk. Once `body` has failed, the disk is waited for no longer than what is handed to it takes.
  /// - Throws: what `body` throws, before what the disk does; or cancelled.
  static func settle(_ files: [OutputFile], work: Work, _ body: () throws(Failure) -> Void) throws(Failure) {
    // Set where the request is cancelled, too: `body` looks for that itself.
    let isRefused = CancellationFlag()
    // Only read, until the disk is done.
    nonisolated(unsafe) let files = files
    let sync = Aside { () throws(Failure) in
      for file in files { try file.sync(work: Work(cancellation: isRefused)) }
    }
    let (checked, synced) = work.cancellation.withHandler({ isRefused.set() }) {
      let checked = Result { () throws(Failure) in try body() }
      if case .failure = checked { isRefused.set() }
      return (checked, Result { () throws(Failure) in try sync.wait() })
    }
    try checked.get()
    try synced.get()
    try work.checkCancellation()
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
