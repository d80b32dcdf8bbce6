import Glibc
import Logging
import Synchronization

/// The daemon's log: lines on standard error or in a file. Never waits: a client that does not drain our standard error
/// must not stop the daemon, so lines that find no room are dropped and counted.
package struct DescriptorLogHandler: LogHandler {
  package var metadata: Logger.Metadata = [:]
  package var logLevel: Logger.Level
  private let sink: LogSink

  package init(_ sink: LogSink, level: Logger.Level) { (self.sink, logLevel) = (sink, level) }

  package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  package func log(event: LogEvent) {
    let values = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
    let suffix = values.map { " \($0.key)=\($0.value)" }.joined()
    sink.write("\(event.level): \(event.message)\(suffix)")
  }
}

/// Where log lines go.
package final class LogSink: Sendable {
  private struct State {
    var dropped = 0
    /// Nobody reads any more. Saying so would raise the same error again.
    var isBroken = false
  }

  private let descriptor: Int32
  private let state = Mutex(State())
  /// What a pipe that polls writable has room for.
  private static let maximumBytes = 4096

  private init(_ descriptor: Int32) { self.descriptor = descriptor }

  package static let standardError = LogSink(STDERR_FILENO)

  /// Appends to the file, creating it for this user only; nil with `errno` set if that fails.
  package static func file(_ path: String) -> LogSink? {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0o600)
    return descriptor < 0 ? nil : LogSink(descriptor)
  }

  func write(_ line: String) {
    state.withLock { state in
      guard !state.isBroken else { return }
      let note = state.dropped > 0 ? " (\(state.dropped) lines before this one were dropped)" : ""
      // Control characters in a name must not forge a second line.
      var bytes = "\(timestamp()) espalierd[\(getpid())] \(line)\(note)".utf8.map { $0 < 0x20 ? UInt8(ascii: " ") : $0 }
      bytes = bytes.prefix(LogSink.maximumBytes - 1) + [UInt8(ascii: "\n")]
      var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      guard Glibc.poll(&poll, 1, 0) == 1, poll.revents & Int16(POLLOUT) != 0 else {
        state.dropped += 1
        state.isBroken = poll.revents & Int16(POLLERR | POLLNVAL) != 0
        return
      }
      if Glibc.write(descriptor, bytes, bytes.count) < 0 {
        state.dropped += 1
        state.isBroken = errno == EPIPE || errno == EBADF
      } else {
        state.dropped = 0
      }
    }
  }
}

/// UTC with milliseconds, as RFC 3339 has it.
private func timestamp() -> String {
  var now = timespec()
  clock_gettime(CLOCK_REALTIME, &now)
  var parts = tm()
  gmtime_r(&now.tv_sec, &parts)
  func padded(_ number: Int, _ width: Int = 2) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
  let date = "\(Int(parts.tm_year) + 1900)-\(padded(Int(parts.tm_mon) + 1))-\(padded(Int(parts.tm_mday)))"
  let time = "\(padded(Int(parts.tm_hour))):\(padded(Int(parts.tm_min))):\(padded(Int(parts.tm_sec)))"
  return "\(date)T\(time).\(padded(now.tv_nsec / 1_000_000, 3))Z"
}
