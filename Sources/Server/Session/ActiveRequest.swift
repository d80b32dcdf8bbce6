import JSONRPC
import ModelGraph
import Synchronization
import Threads

/// A request that was admitted and not yet answered: how to cancel it, and why it was.
package final class ActiveRequest: Sendable {
  package enum CancelReason: Sendable {
    case client
    case shutdown

    var error: ResponseError {
      switch self {
      case .client: ResponseError(.requestCancelled, "the request was cancelled")
      case .shutdown: ResponseError(.serverCancelled, "the server is shutting down")
      }
    }
  }

  package let id: RequestID
  package let method: String
  package let progress: ProgressReporter?
  package let startedAt = Instant.now
  package let cancellation = CancellationFlag()
  private let state = Mutex<(reason: CancelReason?, ticket: Int?)>((nil, nil))

  package init(id: RequestID, method: String, progress: ProgressReporter?) {
    (self.id, self.method, self.progress) = (id, method, progress)
  }

  /// What the work sees of the request.
  /// - Parameter threads: how many it may keep busy.
  package func work(threads: Int) -> Work {
    guard let progress else { return Work(cancellation: cancellation, threads: threads) }
    return Work(cancellation: cancellation, threads: threads) { progress.report($0, $1) }
  }

  /// The first reason wins.
  package func cancel(_ reason: CancelReason) {
    state.withLock { $0.reason = $0.reason ?? reason }
    cancellation.set()
  }

  package var cancelReason: CancelReason? { state.withLock { $0.reason } }

  /// Where it stands in the scheduler's queue, once it does.
  package var ticket: Int? {
    get { state.withLock { $0.ticket } }
    set { state.withLock { $0.ticket = newValue } }
  }
}
