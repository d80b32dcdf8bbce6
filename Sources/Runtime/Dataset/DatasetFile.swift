import Glibc
import ModelGraph

/// A file of a dataset, read piece by piece and never mapped: a mapped file that somebody cuts ends the process, and
/// batches are copied anyway to lie together and aligned.
///
/// Invariant: all reads see one version of the file; a file that is not what it was when the dataset was opened throws.
final class DatasetFile: Sendable {
  /// What tells one version of a file from another.
  struct Stamp: Sendable, Equatable {
    let device: UInt64
    let inode: UInt64
    let size: Int
    let modified: timespec
    let changed: timespec

    init(_ info: stat) {
      (device, inode, size) = (UInt64(info.st_dev), UInt64(info.st_ino), Int(info.st_size))
      (modified, changed) = (info.st_mtim, info.st_ctim)
    }

    static func == (a: Stamp, b: Stamp) -> Bool {
      a.device == b.device && a.inode == b.inode && a.size == b.size
        && a.modified.tv_sec == b.modified.tv_sec && a.modified.tv_nsec == b.modified.tv_nsec
        && a.changed.tv_sec == b.changed.tv_sec && a.changed.tv_nsec == b.changed.tv_nsec
    }
  }

  let path: String
  let stamp: Stamp
  private let descriptor: Int32

  var size: Int { stamp.size }

  /// - Parameter expected: what the file was before; nil when it is opened for the first time.
  /// - Throws: `Failure` of kind datasetNotFound, datasetUnreadable or datasetChanged.
  init(_ path: String, expecting expected: Stamp? = nil) throws(Failure) {
    var info = stat()
    guard stat(path, &info) == 0 else { throw .datasetNotOpened(path, errno) }
    // What is not a regular file is not even opened: a pipe would wait.
    guard info.st_mode & S_IFMT == S_IFREG else { throw .datasetNotRegular(path) }
    let descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
    guard descriptor >= 0 else { throw .datasetNotOpened(path, errno) }
    (self.path, self.descriptor) = (path, descriptor)
    let hasStatus = fstat(descriptor, &info) == 0
    stamp = Stamp(info)
    guard hasStatus, info.st_mode & S_IFMT == S_IFREG else { throw .datasetNotRegular(path) }
    guard expected == nil || expected == stamp else { throw .datasetChanged(path) }
  }

  deinit { close(descriptor) }

  /// Fills `buffer` from `offset` on.
  /// - Throws: `Failure(.datasetChanged)` where the file has fewer bytes than it had.
  func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer, work: Work) throws(Failure) {
    var done = 0
    while done < buffer.count {
      try work.checkCancellation()
      let piece = min(buffer.count - done, 4 << 20)
      let count = pread(descriptor, buffer.baseAddress?.advanced(by: done), piece, off_t(offset + done))
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw .datasetNotOpened(path, errno) }
      guard count > 0 else { throw .datasetChanged(path) }
      done += count
    }
  }

  func read(at offset: Int, count: Int, work: Work) throws(Failure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    try bytes.withUnsafeMutableBufferPointer { buffer throws(Failure) in
      try read(at: offset, into: UnsafeMutableRawBufferPointer(buffer), work: work)
    }
    return bytes
  }

  /// - Throws: `Failure(.datasetChanged)` unless the file is what it was when it was opened.
  func verifyUnchanged() throws(Failure) {
    var info = stat()
    guard fstat(descriptor, &info) == 0, Stamp(info) == stamp else { throw .datasetChanged(path) }
  }
}

extension Failure {
  static func datasetNotOpened(_ path: String, _ code: Int32) -> Failure {
    let isMissing = code == ENOENT || code == ENOTDIR
    let reason = String(cString: strerror(code))
    return Failure(
      isMissing ? .datasetNotFound : .datasetUnreadable,
      isMissing ? "there is no dataset \(path)" : "cannot read \(path): \(reason)", details: ["path": .string(path)])
  }

  static func datasetNotRegular(_ path: String) -> Failure {
    Failure(
      .datasetUnreadable, "\(path) is neither a file nor a folder; give a .npy or .npz file or a folder of them",
      details: ["path": .string(path)])
  }

  static func datasetChanged(_ path: String) -> Failure {
    Failure(
      .datasetChanged, "\(path) was changed while it was in use; ask again when it is complete",
      details: ["path": .string(path)])
  }

  static func datasetMalformed(_ path: String, _ reason: String) -> Failure {
    Failure(.datasetMalformed, "\(path): \(reason)", details: ["path": .string(path), "reason": .string(reason)])
  }
}
