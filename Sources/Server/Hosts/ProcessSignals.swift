import Glibc
import JSONRPC
import Threads

/// What signals mean to the process. Handlers run on a thread that waits for them, where everything is allowed.
package enum ProcessSignals {
  /// To be called before any thread is started, which inherits what is blocked here.
  package static func block() {
    // A peer that went away is told by the write that fails; the signal would end the process first.
    signal(SIGPIPE, SIG_IGN)
    // A file that may not grow is an error of one request.
    signal(SIGXFSZ, SIG_IGN)
    // Hanging up ends a daemon that somebody watches in a terminal, and means nothing to one in the background.
    if !hasTerminal { signal(SIGHUP, SIG_IGN) }
    var set = handled
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// Calls `stop` once for the first signal that ends the process; the second ends it at once.
  package static func handle(_ stop: @escaping @Sendable () -> Void) {
    startThread {
      var set = handled
      var number: Int32 = 0
      while sigwait(&set, &number) != 0 {}
      stop()
      while sigwait(&set, &number) != 0 {}
      _exit(128 + number)
    }
  }

  private static var handled: sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for number in [SIGTERM, SIGINT] + (hasTerminal ? [SIGHUP] : []) { sigaddset(&set, number) }
    return set
  }

  private static var hasTerminal: Bool { isatty(STDIN_FILENO) == 1 || isatty(STDERR_FILENO) == 1 }
}
