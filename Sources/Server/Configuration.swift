import Glibc
import JSONRPC

/// The daemon's version, as `--version` and `initialize` tell it.
package let espalierVersion = "0.1.0"

/// The version of the wire contract (protocol.md): members and methods are added within a major, nothing changes.
package enum ProtocolVersion {
  package static let major = 1
  package static let minor = 0
  package static var text: String { "\(major).\(minor)" }
}

/// What the command line settles for the life of the process.
package struct Configuration: Sendable {
  /// Bytes of models to keep warm.
  package var cacheBytes: Int?
  /// Pieces of work at a time.
  package var threads: Int
  package var maximumMessageBytes: Int
  package var progress = ProgressTiming()
  /// Where ONNX Runtime's library is, or a directory that holds it; nil has it searched for.
  package var onnxRuntime: String?
  /// Sessions at a time on a socket.
  package var maximumSessions = 64
  /// A socket daemon without sessions ends after these; 0 is never.
  package var idleMinutes = 10.0

  package init(cacheBytes: Int? = nil, threads: Int? = nil, maximumMessageBytes: Int = 64 << 20) {
    self.cacheBytes = cacheBytes
    self.threads = threads ?? max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    self.maximumMessageBytes = maximumMessageBytes
  }

  /// A connection that lets through what the configuration says, and always has room for one longest message.
  func connection(_ endpoint: Endpoint, onClose: @escaping @Sendable () -> Void = {}) -> Connection {
    var outbound = OutboundQueue.Limits()
    outbound.hardBytes = max(outbound.hardBytes, maximumMessageBytes + outbound.softBytes)
    return Connection(
      endpoint: endpoint, limits: .init(bodyBytes: maximumMessageBytes), outboundLimits: outbound, onClose: onClose)
  }
}

/// A quarter of the memory this process may use: the machine's, or its control group's if that is less.
func defaultCacheBytes() -> Int {
  var bytes = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
  if let file = fopen("/sys/fs/cgroup/memory.max", "re") {
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 64)
    // The word "max" stands for no limit and is no number.
    if fgets(&line, Int32(line.count), file) != nil {
      let limit = strtoll(line, nil, 10)
      if limit > 0 { bytes = min(bytes, Int(limit)) }
    }
  }
  return bytes / 4
}
