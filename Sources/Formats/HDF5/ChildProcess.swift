import CLinux
import Glibc
import ModelGraph

/// A process that was started and is waited for.
///
/// Invariant: it has ended, and the system has forgotten it, when the object is released.
final class ChildProcess {
  private let processID: pid_t
  /// Becomes readable when the process ends.
  private let end: Int32
  /// As waitpid has it; 0 until it has ended.
  private(set) var status: Int32 = 0
  private var hasEnded = false

  /// Starts `path` with this environment alone, the signals as they are by default, and no descriptors but these.
  /// - Parameter descriptors: of the process, by what they are to be there; what it would write for people is thrown
  ///   away.
  init(
    _ path: String, _ arguments: [String], environment: [String], descriptors: [Int32: Int32]
  ) throws(Failure) {
    var actions = posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
      posix_spawn_file_actions_destroy(&actions)
      posix_spawnattr_destroy(&attributes)
    }
    // Out of the way of the numbers that they are to have, so that none is overwritten before it is moved.
    var copies: [Int32] = []
    defer { copies.forEach { close($0) } }
    for (target, descriptor) in descriptors.sorted(by: { $0.key < $1.key }) {
      let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 16)
      guard copy >= 0 else { throw Self.cannotStart(path, errno) }
      copies.append(copy)
      posix_spawn_file_actions_adddup2(&actions, copy, target)
    }
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0)
    var signals = sigset_t()
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    for number in [SIGPIPE, SIGXFSZ, SIGHUP, SIGTERM, SIGINT] { sigaddset(&signals, number) }
    posix_spawnattr_setsigdefault(&attributes, &signals)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

    var words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
    var environment: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
    defer { (words + environment).forEach { free($0) } }
    var processID = pid_t()
    let code = posix_spawn(&processID, path, &actions, &attributes, &words, &environment)
    guard code == 0 else { throw Self.cannotStart(path, code) }
    self.processID = processID
    end = linux_pidfd_open(processID)
    guard end >= 0 else {
      let code = errno
      kill(processID, SIGKILL)
      reap()
      throw Self.cannotStart(path, code)
    }
  }

  deinit {
    if !hasEnded {
      kill(processID, SIGKILL)
      reap()
    }
    if end >= 0 { close(end) }
  }

  /// - Returns: whether the process has ended.
  func waitForEnd(milliseconds: Int32) -> Bool {
    guard !hasEnded else { return true }
    var event = pollfd(fd: end, events: Int16(POLLIN), revents: 0)
    guard poll(&event, 1, milliseconds) == 1 else { return false }
    reap()
    return true
  }

  private func reap() {
    while waitpid(processID, &status, 0) < 0, errno == EINTR {}
    hasEnded = true
  }

  private static func cannotStart(_ path: String, _ code: Int32) -> Failure {
    Failure(
      code == EAGAIN || code == ENOMEM || code == EMFILE || code == ENFILE ? .resourceLimit : .runtimeUnavailable,
      "cannot start \(path): \(errorText(code))", details: ["path": .string(path), "errno": .int(Int(code))])
  }
}
