import JSON
import JSONRPC
import Synchronization

/// Notifications are never answered; a malformed one is told to the people at the other end.
extension Session {
  func receiveNotification(_ method: String, _ params: JSONValue?) {
    switch method {
    case "initialized": break
    case "$/cancelRequest":
      guard let id = params?["id"].flatMap(RequestID.init) else { return complain(method, "'id' of a request") }
      cancel(.client) { $0.id == id }
    case "window/workDoneProgress/cancel":
      guard let token = params?["token"].flatMap(RequestID.init) else { return complain(method, "'token'") }
      cancel(.client) { $0.progress?.token == token }
    case "$/setTrace":
      guard let level = TraceLevel(params?["value"]) else {
        return complain(method, "'value' off, messages or verbose")
      }
      trace.store(level, ordering: .relaxed)
    default: server.log.debug("session \(number): unknown notification '\(method)'")
    }
  }

  private func complain(_ method: String, _ expected: String) {
    logMessage(.error, "the notification '\(method)' was ignored: expected \(expected)")
  }
}
