import CLinux
import Glibc

/// The two descriptors of a peer and how they are written: the only place that knows pipes from sockets.
///
/// Owns the descriptors: they are closed when the last user lets go, never while a thread may still be in a call.
package final class Endpoint: Sendable {
  package enum WriteResult: Equatable {
    case wrote(Int)
    /// Not now; nothing was written.
    case wouldBlock
    /// The peer is gone or has not read anything for `sendTimeoutSeconds`.
    case failed(errno: Int32)
  }

  package static let sendTimeoutSeconds = 30
  /// A pipe that polls writable has room for one of these (POSIX's PIPE_BUF on Linux), and writes so small are atomic.
  private static let pipeAtom = 4096

  private let input: Int32
  private let output: Int32
  private let outputIsSocket: Bool

  /// Takes over both descriptors; they may be the same one.
  package init(input: Int32, output: Int32) {
    (self.input, self.output) = (input, output)
    var status = stat()
    outputIsSocket = fstat(output, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
    if outputIsSocket {
      var timeout = timeval(tv_sec: Endpoint.sendTimeoutSeconds, tv_usec: 0)
      setsockopt(output, SOL_SOCKET, SO_SNDTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
    }
  }

  deinit {
    Glibc.close(input)
    if output != input { Glibc.close(output) }
  }

  /// Blocks until bytes arrive; 0 at the end of input, and on errors, which end it as well.
  package func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
    while true {
      let count = Glibc.read(input, buffer.baseAddress, buffer.count)
      if count >= 0 { return count }
      if errno != EINTR { return 0 }
    }
  }

  /// Writes what can be written at once, without ever waiting for the peer.
  package func writeNow(_ bytes: UnsafeRawBufferPointer) -> WriteResult {
    if outputIsSocket {
      return result(send(output, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT | MSG_NOSIGNAL)))
    }
    // The non-blocking flag would belong to everybody who shares the pipe's end. Systems that cannot be told so for a
    // single call are asked first and given atoms.
    var written = 0
    while written < bytes.count {
      let rest = UnsafeRawBufferPointer(rebasing: bytes[written...])
      let count = linux_write_without_waiting(output, rest.baseAddress, UInt(rest.count))
      if count > 0 {
        written += count
        continue
      }
      guard count == 0 || [EAGAIN, EOPNOTSUPP, ENOSYS, EINVAL, EINTR].contains(errno) else {
        return .failed(errno: errno)
      }
      var poll = pollfd(fd: output, events: Int16(POLLOUT), revents: 0)
      guard Glibc.poll(&poll, 1, 0) == 1, poll.revents & Int16(POLLOUT) != 0 else { break }
      let atom = UnsafeRawBufferPointer(rebasing: bytes[written...].prefix(Endpoint.pipeAtom))
      let result = result(write(output, atom.baseAddress, atom.count))
      guard case .wrote(let count) = result else { return result }
      written += count
    }
    return written > 0 ? .wrote(written) : .wouldBlock
  }

  /// Writes some of the bytes, waiting for the peer as long as it takes (sockets: as long as `sendTimeoutSeconds`).
  package func writeBlocking(_ bytes: UnsafeRawBufferPointer) -> WriteResult {
    while true {
      let count =
        outputIsSocket
        ? send(output, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
        : write(output, bytes.baseAddress, bytes.count)
      if count < 0, errno == EINTR { continue }
      return count < 0 ? .failed(errno: errno) : .wrote(count)
    }
  }

  /// Whether nobody can read what is written any more.
  package var peerIsGone: Bool {
    var poll = pollfd(fd: output, events: 0, revents: 0)
    return Glibc.poll(&poll, 1, 0) == 1 && poll.revents & Int16(POLLERR | POLLHUP | POLLNVAL) != 0
  }

  /// Wakes every thread that is in a call on a socket. Calls on pipes cannot be woken: who waits there ends with the
  /// process.
  package func hangUp() {
    shutdown(input, Int32(SHUT_RDWR))
    if output != input { shutdown(output, Int32(SHUT_RDWR)) }
  }

  private func result(_ count: Int) -> WriteResult {
    if count >= 0 { return .wrote(count) }
    return errno == EAGAIN || errno == EINTR ? .wouldBlock : .failed(errno: errno)
  }
}
