import CFileGuard
import Glibc
import ModelGraph

/// Consecutive bytes of a file, from some place on, written from front to back.
///
/// Invariant: parts of one file do not overlap, so that each may be written by a thread of its own.
final class OutputPart {
  private unowned let file: OutputFile
  private let descriptor: Int32
  private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: OutputPart.spaceLimit, alignment: 64)
  private var buffered = 0
  /// Where the next bytes go, and up to where the disk was told to begin.
  private var (position, flushed): (Int, Int)

  /// Bytes copied together before they are written.
  static let spaceLimit = 1 << 20
  /// Larger pieces are written from where they are.
  private static let directSize = 1 << 16
  /// The most that is handed to the system between two looks at the cancellation flag: a millisecond or two.
  static let sliceSize = 4 << 20

  init(_ file: OutputFile, _ descriptor: Int32, at offset: Int) {
    (self.file, self.descriptor, position, flushed) = (file, descriptor, offset, offset)
  }

  deinit { buffer.deallocate() }

  func append(_ bytes: UnsafeRawBufferPointer, work: Work) throws(Failure) {
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    if bytes.count >= Self.directSize {
      try flush(work: work)
      try writeAll(base, bytes.count, work: work)
    } else {
      try withSpace(bytes.count, work: work) { memcpy($0, base, bytes.count) }
    }
  }

  /// Appends `count` bytes, at most `spaceLimit`, that `fill` writes into the buffer.
  func withSpace(_ count: Int, work: Work, _ fill: (UnsafeMutableRawPointer) -> Void) throws(Failure) {
    if buffered + count > buffer.count { try flush(work: work) }
    guard let base = buffer.baseAddress else { return }
    fill(base + buffered)
    buffered += count
  }

  /// Writes what is left.
  func finish(work: Work) throws(Failure) {
    try flush(work: work)
    startWriteback(ofAtLeast: 1)
  }

  private func flush(work: Work) throws(Failure) {
    guard buffered > 0, let base = buffer.baseAddress else { return }
    let count = buffered
    buffered = 0
    try writeAll(base, count, work: work)
  }

  private func writeAll(_ base: UnsafeRawPointer, _ count: Int, work: Work) throws(Failure) {
    var done = 0
    while done < count {
      try work.checkCancellation()
      let result = pwrite(descriptor, base + done, min(count - done, Self.sliceSize), off_t(position))
      guard result >= 0 else {
        if errno == EINTR { continue }
        // The bytes to write come from a mapping whose file was cut.
        if errno == EFAULT { throw Failure(.modelChanged, "the model was changed while it was in use; ask again") }
        throw .cannotWrite(file.path, errno)
      }
      done += result
      position += result
      file.count(result)
    }
    startWriteback(ofAtLeast: Self.sliceSize / 2)
  }

  /// Lets the disk work while the next bytes are made, so that `sync` has less to wait for. Only advice: errors are
  /// met again by `fsync`. The disk is the last to be done, and so begins with the first bytes there are.
  private func startWriteback(ofAtLeast count: Int) {
    guard position - flushed >= count else { return }
    linux_start_writeback(descriptor, Int64(flushed), Int64(position - flushed))
    flushed = position
  }
}
