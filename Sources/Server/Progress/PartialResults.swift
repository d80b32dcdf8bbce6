import JSON
import JSONRPC
import Synchronization

/// The result of a request, told in parts on the token its client gave (LSP's partialResultToken): each part appends to
/// those before, and the response then holds nothing of what was told. All of them come before the response.
final class PartialResults: Sendable {
  private let token: RequestID
  private let connection: Connection
  private let isOpen = Mutex(true)

  init(token: RequestID, connection: Connection) { (self.token, self.connection) = (token, connection) }

  /// Sending happens under the lock so that no part follows the end; it only queues and never waits for the peer.
  func send(_ value: JSONValue) {
    isOpen.withLock { isOpen in
      guard isOpen else { return }
      connection.send(.notification("$/progress", ["token": token.json, "value": value]), .essential)
    }
  }

  /// From now on the token is dead, whatever work is still under way.
  func close() { isOpen.withLock { $0 = false } }
}
