import CFileGuard
import Glibc
import ModelGraph
import Synchronization
import Threads

/// A regular file mapped read-only, guarded against being cut while it is read.
///
/// Invariant: `span` stays readable for the lifetime of the object. If the file is truncated, missing pages read as
/// zeros instead of ending the process, and `verifyUnchanged` throws; so every result computed from the bytes counts
/// only once `verifyUnchanged` has returned.
package final class MappedFile: Sendable {
  package let identity: FileIdentity
  package let span: ByteSpan
  private let ticket: Int32
  private let isReadAhead = Atomic<Bool>(false)

  /// Opens and maps `path`, which must be canonical. What is not a regular file is never opened: opening a FIFO would
  /// wait, and opening a device can do anything.
  /// - Parameter isOurs: a complete file that nobody else knows, whose stamps need not tell of any later write.
  /// - Throws: `Failure` of kind modelNotFound or modelUnreadable.
  package init(path: String, isOurs: Bool = false, work: Work) throws(Failure) {
    var info = stat()
    guard stat(path, &info) == 0 else { throw .cannotOpen(path, errno) }
    guard info.st_mode & S_IFMT == S_IFREG else { throw .notRegular(path, info.st_mode) }
    let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW)
    guard descriptor >= 0 else { throw .cannotOpen(path, errno) }
    defer { close(descriptor) }
    if isOurs {
      guard fstat(descriptor, &info) == 0 else { throw .cannotOpen(path, errno) }
    } else {
      info = try Self.settledStatus(of: descriptor, path: path, work: work)
    }
    guard info.st_mode & S_IFMT == S_IFREG else { throw .notRegular(path, info.st_mode) }
    guard info.st_size > 0 else {
      throw Failure(.modelMalformed, "\(path) is empty", details: ["path": .string(path)])
    }
    identity = FileIdentity(path: path, info)
    let count = Int(info.st_size)
    guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
      throw Failure(
        .modelUnreadable, "cannot map \(path): \(errorText(errno))", details: ["path": .string(path)])
    }
    ticket = file_guard_register(base, count)
    guard ticket >= 0 else {
      munmap(base, count)
      throw Failure(.resourceLimit, "too many files are mapped; release models that are no longer needed")
    }
    span = ByteSpan(base: UnsafeRawPointer(base), count: count)
  }

  deinit {
    guard ticket >= 0 else { return }
    file_guard_unregister(ticket)
    munmap(UnsafeMutableRawPointer(mutating: span.base), span.count)
  }

  /// Bytes that one call to the system maps: a fraction of a millisecond, while which no memory is given to others.
  private static let readAheadStep = 1 << 20

  /// Has the file's pages mapped by a thread of their own, for whoever is about to read all of them and has something
  /// else to do before: met one by one, they take longer to map than to read. Once; later calls do nothing.
  package func readAhead(work: Work) {
    guard work.threads > 1, span.count > Self.readAheadStep,
      !isReadAhead.exchange(true, ordering: .relaxed)
    else { return }
    startThread { [self] in
      for offset in stride(from: 0, to: span.count, by: Self.readAheadStep) where !work.cancellation.isSet {
        let count = min(Self.readAheadStep, span.count - offset)
        let start = UnsafeMutableRawPointer(mutating: span.base + offset)
        // Where it fails, those who read will tell.
        guard madvise(start, count, MADV_POPULATE_READ) == 0 else { return }
      }
    }
  }

  /// - Throws: `Failure(.modelChanged)` if the file is not what it was when it was mapped.
  package func verifyUnchanged() throws(Failure) {
    guard !file_guard_is_damaged(ticket), FileIdentity(at: identity.path) == identity else {
      throw changed
    }
  }

  private var changed: Failure {
    Failure(
      .modelChanged, "\(identity.path) was changed while it was in use; ask again to read it anew",
      details: ["path": .string(identity.path)])
  }

  /// A new descriptor of the file, for another process to read it by.
  /// - Throws: `Failure(.modelChanged)` if its path leads to another file by now, or to another version of it.
  func reopened() throws(Failure) -> Int32 {
    let descriptor = open(identity.path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW)
    guard descriptor >= 0 else { throw .cannotOpen(identity.path, errno) }
    var info = stat()
    guard fstat(descriptor, &info) == 0, FileIdentity(path: identity.path, info) == identity else {
      close(descriptor)
      throw changed
    }
    return descriptor
  }

  /// The file's status once a later write is sure to show in it (see `nanosecondsUntilSettled`).
  private static func settledStatus(of descriptor: Int32, path: String, work: Work) throws(Failure) -> stat {
    var versions = Set<FileIdentity>()
    while true {
      var info = stat()
      guard fstat(descriptor, &info) == 0 else { throw .cannotOpen(path, errno) }
      let identity = FileIdentity(path: path, info)
      let remaining = identity.nanosecondsUntilSettled
      if remaining == 0 { return info }
      versions.insert(identity)
      guard versions.count <= 20 else {
        throw Failure(
          .modelChanged, "\(path) is still being written; ask again when it is complete",
          details: ["path": .string(path)])
      }
      try work.checkCancellation()
      usleep(UInt32(min(remaining, 5_000_000) / 1000 + 1))
    }
  }
}

/// The system's words for an error number.
func errorText(_ code: Int32) -> String { String(cString: strerror(code)) }

extension Failure {
  package static func cannotOpen(_ path: String, _ code: Int32) -> Failure {
    let missing = code == ENOENT || code == ENOTDIR
    return Failure(
      missing ? .modelNotFound : .modelUnreadable,
      missing ? "there is no file \(path)" : "cannot read \(path): \(errorText(code))",
      details: ["path": .string(path)])
  }

  static func notRegular(_ path: String, _ mode: mode_t) -> Failure {
    let kind =
      switch mode & S_IFMT {
      case S_IFDIR: "a directory"
      case S_IFIFO: "a named pipe"
      case S_IFSOCK: "a socket"
      default: "a device"
      }
    return Failure(
      .modelUnreadable, "\(path) is \(kind), not a file; give the path of a model file",
      details: ["path": .string(path)])
  }
}
