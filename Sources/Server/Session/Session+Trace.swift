import JSON
import JSONRPC
import Synchronization

/// How much `$/logTrace` tells the client about its own session.
enum TraceLevel: Int, AtomicRepresentable, Sendable {
  case off
  case messages
  case verbose

  init?(_ value: JSONValue?) {
    switch value?.stringValue {
    case "off": self = .off
    case "messages": self = .messages
    case "verbose": self = .verbose
    default: return nil
    }
  }
}

extension Session {
  /// Sends a `$/logTrace`: nothing at `off`, the content only at `verbose`.
  func logTrace(verbose content: JSONValue?, _ message: () -> String) {
    let level = trace.load(ordering: .relaxed)
    guard level != .off else { return }
    var params: JSONObject = ["message": .string(message())]
    if level == .verbose, let content, let bytes = content.encoded() {
      params.append("verbose", .string(String(decoding: bytes.prefix(Self.traceBytes), as: UTF8.self)))
    }
    connection.send(.notification("$/logTrace", .object(params)), .log)
  }

  /// More of a message than this helps nobody who reads a trace.
  private static let traceBytes = 2000
}
