import JSON
import JSONRPC
import Synchronization
import Threads

/// The progress of one request on the token its client gave: one begin, reports, one end, all before the response.
///
/// Work stores its latest state, which costs a lock and no message; the ticker sends what changed. So work that ends
/// within `ProgressTiming.delay` is never reported, nobody gets more than a report per tick, and the latest state
/// replaces those that were not sent.
package final class ProgressReporter: Sendable {
  private struct State {
    var percentage = 0
    var message: String?
    var hasNews = false
    var hasBegun = false
    var isFinished = false
  }

  package let token: RequestID
  private let title: String
  private let connection: Connection
  private let startsAt: Instant
  private let state = Mutex(State())

  package init(token: RequestID, title: String, connection: Connection, timing: ProgressTiming) {
    (self.token, self.title, self.connection) = (token, title, connection)
    startsAt = Instant.now.adding(seconds: timing.delaySeconds)
  }

  /// Takes note that `fraction` (0...1) of the work is done. What is shown never goes back.
  package func report(_ fraction: Double, _ message: String) {
    state.withLock { state in
      // Written so that not-a-number changes nothing.
      let percentage = fraction >= 0 ? Int(min(fraction, 1) * 100) : 0
      state.percentage = max(state.percentage, percentage)
      state.message = message
      state.hasNews = true
    }
  }

  /// Sends what there is to tell, if it is time. Sending happens under the lock so that a report cannot follow the end;
  /// it only queues and never waits for the peer.
  func tick(_ now: Instant) {
    guard now >= startsAt else { return }
    state.withLock { state in
      guard !state.isFinished, state.hasNews || !state.hasBegun else { return }
      var value: JSONObject = [:]
      if state.hasBegun {
        value.append("kind", "report")
      } else {
        value.append("kind", "begin")
        value.append("title", .string(title))
        value.append("cancellable", true)
      }
      value.append("message", state.message.map(JSONValue.string))
      value.append("percentage", .int(state.percentage))
      send(value, state.hasBegun ? .progress(token: token) : .essential)
      (state.hasBegun, state.hasNews) = (true, false)
    }
  }

  /// Sends the end, if there was a begin. The token is dead afterwards.
  package func finish() {
    state.withLock { state in
      if state.hasBegun, !state.isFinished { send(["kind": "end"], .essential) }
      state.isFinished = true
    }
  }

  private func send(_ value: JSONObject, _ delivery: OutboundQueue.Delivery) {
    connection.send(.notification("$/progress", ["token": token.json, "value": .object(value)]), delivery)
  }
}

package struct ProgressTiming: Sendable {
  /// What ends sooner is not reported at all.
  package var delaySeconds = 0.2
  package var intervalSeconds = 0.1
  package init() {}
}
