import CLinux
import Glibc
import JSONRPC
import Threads

extension Server {
  /// Ends the process when the client's does, so that a crashed client leaves no orphan. Only for standard streams: a
  /// process number that came over a socket may belong to another namespace.
  package func watchClient(_ processID: Int32) {
    // A number that means nothing here is another namespace's, or the client is gone and the input will end anyway.
    guard kill(processID, 0) == 0 || errno == EPERM else {
      log.info("the client's process is not visible from here; watching its stream only")
      return
    }
    startThread { [self] in
      waitForEnd(of: processID)
      log.notice("the client's process has ended")
      stop(1)
    }
  }
}

private func waitForEnd(of processID: Int32) {
  let descriptor = linux_pidfd_open(processID)
  if descriptor < 0 {
    // Kernels before 5.3.
    while kill(processID, 0) == 0 || errno == EPERM { sleep(10) }
    return
  }
  defer { close(descriptor) }
  var poll = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  while Glibc.poll(&poll, 1, -1) < 0, errno == EINTR {}
}
