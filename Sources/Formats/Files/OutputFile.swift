import CFileGuard
import Glibc
import ModelGraph
import Synchronization
import Threads

/// A file that appears under its name whole or not at all.
///
/// Bytes go to a temporary file beside the target; `complete` hands over the last of them, `sync` makes them durable,
/// `publish` gives them their name in one step. Invariant: an object that is released without `publish` leaves nothing
/// behind, and a target that was there is touched by `publish` only.
package final class OutputFile {
  /// Where the file will be: canonical directory, and a link's own target if it is to be replaced.
  package let path: String
  /// Where the bytes are until then.
  package let temporaryPath: String
  private let overwrite: Bool
  private let descriptor: Int32
  /// Bytes that were handed to the system.
  private let written = Atomic<Int>(0)
  /// For those who write from front to back.
  private lazy var front = part(at: 0)
  private var isPublished = false

  /// Makes the temporary file.
  /// - Throws: `Failure` of kind outputExists, or outputUnwritable with the system's reason.
  package init(path: String, overwrite: Bool) throws(Failure) {
    self.path = try Self.resolve(path, overwrite: overwrite)
    self.overwrite = overwrite
    var old = stat()
    let mode: mode_t? = stat(self.path, &old) == 0 ? old.st_mode & 0o777 : nil
    let random = UInt64.random(in: .min ... .max)
    temporaryPath = splitPath(self.path).directory + "/.espalier-\(getpid())-" + String(random, radix: 36) + ".tmp"
    descriptor = open(temporaryPath, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw .cannotWrite(path, errno) }
    if let mode { fchmod(descriptor, mode) }
  }

  deinit {
    if descriptor >= 0 {
      close(descriptor)
      if !isPublished { unlink(temporaryPath) }
    }
  }

  // MARK: Writing

  /// Claims the file's final size, so that a full disk is found before the work and not after it. File systems that
  /// cannot do so say nothing.
  package func reserve(_ count: Int) throws(Failure) {
    guard count > 0 else { return }
    while linux_reserve(descriptor, Int64(count)) != 0 {
      switch errno {
      case EINTR: continue
      case ENOSPC, EDQUOT, EFBIG: throw .cannotWrite(path, errno)
      default: return
      }
    }
  }

  /// The file from `offset` on, to be written by whoever has it while others write other parts.
  func part(at offset: Int) -> OutputPart { OutputPart(self, descriptor, at: offset) }

  package func append(_ bytes: UnsafeRawBufferPointer, work: Work) throws(Failure) {
    try front.append(bytes, work: work)
  }

  func append(_ message: WireMessage, work: Work, progress: (_ done: Int) -> Void) throws(Failure) {
    try front.append(message, work: work, progress: progress)
  }

  /// Counts what a part wrote.
  func count(_ bytes: Int) { written.add(bytes, ordering: .relaxed) }

  // MARK: Ending

  /// Writes what is left: whoever opens the temporary file now reads all of it, while the disk is still at work.
  /// - Returns: the size of the file.
  package func complete(work: Work) throws(Failure) -> Int {
    try front.finish(work: work)
    return written.load(ordering: .relaxed)
  }

  /// Makes the bytes of a complete file durable.
  package func sync(work: Work) throws(Failure) {
    // fsync cannot be interrupted, so almost nothing is left for it to do.
    for offset in stride(from: 0, to: written.load(ordering: .relaxed), by: OutputPart.sliceSize) {
      try work.checkCancellation()
      linux_await_writeback(descriptor, Int64(offset), Int64(OutputPart.sliceSize))
    }
    while fsync(descriptor) != 0 {
      if errno != EINTR { throw .cannotWrite(path, errno) }
    }
    try work.checkCancellation()
  }

  /// Both.
  /// - Returns: the size of the file.
  package func finish(work: Work) throws(Failure) -> Int {
    let size = try complete(work: work)
    try sync(work: work)
    return size
  }

  /// Gives the file its name; without `overwrite` only if nothing bears it, decided by the system in one step.
  package func publish() throws(Failure) {
    if overwrite {
      // File systems take their time to free what is replaced. Held open it is freed when it is closed, and nobody
      // waits.
      let replaced = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
      defer { if replaced >= 0, !startThread({ close(replaced) }) { close(replaced) } }
      guard rename(temporaryPath, path) == 0 else { throw .cannotWrite(path, errno) }
    } else if linux_rename_exclusive(temporaryPath, path) != 0 {
      if errno == EEXIST { throw .outputExists(path) }
      // File systems without that flag have hard links, which never replace either.
      guard errno == EINVAL || errno == ENOSYS else { throw .cannotWrite(path, errno) }
      guard link(temporaryPath, path) == 0 else {
        throw errno == EEXIST ? .outputExists(path) : .cannotWrite(path, errno)
      }
      unlink(temporaryPath)
    }
    isPublished = true
  }

  /// Gives all files their names, that of the last one last: a model that can be seen is whole. If that fails, names
  /// that were given are taken back, unless they replaced others.
  package static func publish(_ files: [OutputFile], overwrite: Bool) throws(Failure) {
    var published: [OutputFile] = []
    do throws(Failure) {
      for file in files {
        try file.publish()
        published.append(file)
      }
      if let path = files.last?.path { try OutputFile.syncDirectory(of: path) }
    } catch {
      if !overwrite { published.forEach { unlink($0.path) } }
      throw error
    }
  }

  /// Makes the names given by `publish` durable in the directory of `path`.
  package static func syncDirectory(of path: String) throws(Failure) {
    let directory = open(splitPath(path).directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard directory >= 0 else { throw .cannotWrite(path, errno) }
    defer { close(directory) }
    // Some network file systems cannot sync a directory and need not.
    guard fsync(directory) == 0 || errno == EINVAL else { throw .cannotWrite(path, errno) }
  }

  /// The target, checked as far as that is possible before anything is written.
  private static func resolve(_ path: String, overwrite: Bool) throws(Failure) -> String {
    let (directory, name) = splitPath(path)
    guard !name.isEmpty, name != ".", name != "..", !path.utf8.contains(0) else {
      throw Failure(
        .outputUnwritable, "'\(path)' does not name a file; give the path of the file to write",
        details: ["path": .string(path)])
    }
    guard let canonical = canonicalPath(directory) else { throw .cannotWrite(path, errno) }
    let target = (canonical == "/" ? "" : canonical) + "/" + name
    var info = stat()
    guard lstat(target, &info) == 0 else {
      guard errno == ENOENT else { throw .cannotWrite(path, errno) }
      return target
    }
    if info.st_mode & S_IFMT == S_IFDIR { throw .cannotWrite(path, EISDIR) }
    guard overwrite else { throw .outputExists(path) }
    // What a link stands for is replaced, as writing through it would do.
    guard let file = canonicalPath(target), stat(file, &info) == 0 else { throw .cannotWrite(path, errno) }
    guard info.st_mode & S_IFMT == S_IFREG else {
      throw Failure(
        .outputUnwritable, "\(path) is no regular file and is not replaced; give another path",
        details: ["path": .string(path)])
    }
    return file
  }
}

extension Failure {
  static func cannotWrite(_ path: String, _ code: Int32) -> Failure {
    Failure(
      .outputUnwritable, "cannot write \(path): \(errorText(code))",
      details: ["path": .string(path), "errno": .int(Int(code))])
  }

  static func outputExists(_ path: String) -> Failure {
    Failure(
      .outputExists, "\(path) exists; give another path or allow overwriting", details: ["path": .string(path)])
  }
}
