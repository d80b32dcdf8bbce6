import JSON
import JSONRPC

/// `daemon/stop`, on sockets only: ends the whole daemon as SIGTERM does. Only the daemon's own user can connect, so
/// that everybody who can ask may.
func handleStop(
  _ session: Session, _ id: RequestID, _ method: String, _ params: Params
) throws(ResponseError) -> JSONValue? {
  session.send(id, method, result: .null)
  session.server.stop(0)
  return nil
}
