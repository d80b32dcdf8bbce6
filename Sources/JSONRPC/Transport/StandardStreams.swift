import Glibc

/// The process's standard streams, made safe for a protocol that speaks over two of them.
package enum StandardStreams {
  /// Takes the protocol's streams away from everybody else, before anything else runs: input and output move to private
  /// descriptors, descriptor 0 reads nothing, and descriptor 1 writes to the log. A stray print of a library then lands
  /// in the log instead of the stream.
  /// - Returns: nil if the system gives no descriptors.
  package static func claim() -> Endpoint? {
    openMissing()
    let input = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
    let output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
    guard input >= 0, output >= 0 else { return nil }
    redirect()
    return Endpoint(input: input, output: output)
  }

  /// A stream that the parent closed must not become some model's descriptor.
  private static func openMissing() {
    for fd in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fcntl(fd, F_GETFD) < 0 {
      // The lowest free number is given, and that is `fd`: those below are open by now.
      _ = open("/dev/null", O_RDWR)
    }
  }

  private static func redirect() {
    let null = open("/dev/null", O_RDONLY | O_CLOEXEC)
    if null >= 0 {
      dup2(null, STDIN_FILENO)
      close(null)
    }
    dup2(STDERR_FILENO, STDOUT_FILENO)
  }
}
