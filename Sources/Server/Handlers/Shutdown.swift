import JSON
import JSONRPC
import Threads

/// `shutdown`: takes no more requests, cancels what runs, answers when it has stopped; after `shutdownSeconds` it
/// answers anyway. The process ends with `exit`.
func handleShutdown(
  _ session: Session, _ id: RequestID, _ method: String, _ params: Params
) throws(ResponseError) -> JSONValue? {
  session.beginShutdown(byClient: true)
  if session.waitUntilIdle(by: .now) { return .null }
  let waits = startThread {
    if !session.waitUntilIdle(by: Instant.now.adding(seconds: Server.shutdownSeconds)) {
      session.server.log.warning("session \(session.number) is shut down with work still running")
    }
    session.send(id, method, result: .null)
  }
  // Without a thread to wait on, the answer is merely early.
  return waits ? nil : .null
}
