import CLinux
import Glibc

/// A Unix socket that only this user's processes can reach, and only one daemon at a time can have.
///
/// One of our own has a lock file beside it, which is held for the daemon's life and settles who that is. Deciding by a
/// failed connect instead would let two starters remove each other's socket. One that a service manager passes on stays
/// its own: it listens before us and after us, and hands it to one daemon at a time.
package final class UnixSocketListener: Sendable {
  package enum Arrival {
    case peer(Endpoint)
    /// Nobody came in time.
    case nobody
    /// The listener was stopped.
    case stopped
  }

  package let path: String
  private let descriptor: Int32
  private let isPassedOn: Bool
  /// Readable from when the listener was stopped. Shutting the socket down instead would take it from whoever else
  /// holds it.
  private let stopping: Int32
  /// Given up for a moment when descriptors run out, to be able to turn a peer away instead of leaving it waiting.
  private let reserve: Int32

  private static let backlog: Int32 = 64

  package init(path: String) throws(SocketError) {
    self.path = path
    let address = try unixAddress(path)
    try RuntimeDirectory.check(RuntimeDirectory.containing(path))
    // Held open, and with that locked, until the process ends.
    _ = try UnixSocketListener.lock("\(path).lock", for: path)
    try UnixSocketListener.removeStale(path)
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw .system("cannot make a socket", errno) }
    // The mode is settled before the name exists. The umask belongs to the process, but there is one thread yet.
    let mask = umask(0o177)
    let status = withUnsafePointer(to: address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    umask(mask)
    guard status == 0, listen(descriptor, UnixSocketListener.backlog) == 0 else {
      throw .system("cannot listen on \(path)", errno)
    }
    (self.descriptor, isPassedOn) = (descriptor, false)
    (stopping, reserve) = try UnixSocketListener.ownDescriptors()
  }

  /// The one socket that a service manager passes on to this process (sd_listen_fds(3)); nil if it passes none.
  package init?(passedOnBy environment: (String) -> String?) throws(SocketError) {
    guard environment("LISTEN_PID").flatMap({ Int32($0) }) == getpid(), let count = environment("LISTEN_FDS") else {
      return nil
    }
    guard count == "1" else {
      throw .unsafe("the service manager passes on \(count) sockets; one is expected (one ListenStream= in the unit)")
    }
    let descriptor = UnixSocketListener.firstPassedOn
    var (address, length) = (sockaddr_un(), socklen_t(MemoryLayout<sockaddr_un>.size))
    let status = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    var (listens, size) = (Int32(0), socklen_t(MemoryLayout<Int32>.size))
    guard status == 0, address.sun_family == sa_family_t(AF_UNIX),
      getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0, listens != 0
    else {
      throw .unsafe("what the service manager passes on is no Unix socket that listens (ListenStream= with a path)")
    }
    path = withUnsafeBytes(of: address.sun_path) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    (self.descriptor, isPassedOn) = (descriptor, true)
    (stopping, reserve) = try UnixSocketListener.ownDescriptors()
  }

  /// SD_LISTEN_FDS_START.
  private static let firstPassedOn: Int32 = 3

  private static func ownDescriptors() throws(SocketError) -> (stopping: Int32, reserve: Int32) {
    let stopping = linux_event()
    guard stopping >= 0 else { throw .system("cannot make an event", errno) }
    return (stopping, open("/dev/null", O_RDONLY | O_CLOEXEC))
  }

  /// Waits for a peer, at most `seconds`. Peers of other users are turned away.
  package func accept(waiting seconds: Double?) -> Arrival {
    var polled = [descriptor, stopping].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    let milliseconds = seconds.map { Int32(min(max($0, 0) * 1000, 1e9).rounded(.up)) } ?? -1
    guard poll(&polled, nfds_t(polled.count), milliseconds) > 0 else { return .nobody }
    guard polled[1].revents == 0 else { return .stopped }
    let peer = Glibc.accept(descriptor, nil, nil)
    if peer < 0 {
      if errno == EMFILE || errno == ENFILE { turnAway() }
      return .nobody
    }
    _ = fcntl(peer, F_SETFD, FD_CLOEXEC)
    var user = uid_t.max
    // If who is there cannot be told, nobody is let in.
    guard linux_peer_uid(peer, &user) == 0, user == geteuid() else {
      close(peer)
      return .nobody
    }
    return .peer(Endpoint(input: peer, output: peer))
  }

  /// Takes no more peers and removes a socket of our own. Its lock file stays: removing it would let two daemons hold
  /// two locks. Of a socket that was passed on, those who wait are served by who gets it next.
  package func stop() {
    if !isPassedOn { unlink(path) }
    _ = linux_raise(stopping)
  }

  private func turnAway() {
    close(reserve)
    let peer = Glibc.accept(descriptor, nil, nil)
    if peer >= 0 { close(peer) }
    let again = open("/dev/null", O_RDONLY | O_CLOEXEC)
    if again >= 0, again != reserve {
      dup2(again, reserve)
      _ = fcntl(reserve, F_SETFD, FD_CLOEXEC)
      close(again)
    }
  }

  private static func lock(_ path: String, for socket: String) throws(SocketError) -> Int32 {
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
    guard descriptor >= 0 else { throw .system("cannot open the lock file \(path)", errno) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      let code = errno
      close(descriptor)
      throw code == EWOULDBLOCK ? .inUse(socket) : .system("cannot lock \(path)", code)
    }
    return descriptor
  }

  /// With the lock held, a socket at the path is one that a daemon left behind when it was killed.
  private static func removeStale(_ path: String) throws(SocketError) {
    var info = stat()
    guard lstat(path, &info) == 0 else { return }
    guard info.st_mode & S_IFMT == S_IFSOCK else {
      throw .unsafe("\(path) exists and is no socket; remove it or choose another path")
    }
    unlink(path)
  }
}

private func unixAddress(_ path: String) throws(SocketError) -> sockaddr_un {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  let capacity = MemoryLayout.size(ofValue: address.sun_path)
  let bytes = Array(path.utf8)
  guard bytes.count < capacity else {
    throw .unsafe("the socket's path has \(bytes.count) bytes, the system allows \(capacity - 1); choose a shorter one")
  }
  withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
  return address
}
