import JSONRPC
import ModelGraph
import Synchronization

/// One load that several requests may wait for.
///
/// It goes on as long as anybody waits; who waits hears of its progress.
final class ModelLoad: Sendable {
  private struct State {
    var waiters: [Work]
    /// The last waiter left; nobody may join any more.
    var isAbandoned = false
    var outcome: Result<CachedModel, Failure>?
  }

  private let cancellation = CancellationFlag()
  private let state: Mutex<State>

  init(_ first: Work) { state = Mutex(State(waiters: [first])) }

  /// What the load itself sees: its own cancellation, everybody's progress.
  var work: Work {
    // Whatever keeps this after the load must not keep the model that the load made.
    Work(cancellation: cancellation) { [weak self] fraction, message in
      for waiter in self?.state.withLock({ $0.waiters }) ?? [] { waiter.progress(fraction, message) }
    }
  }

  /// - Returns: false if it is too late.
  func join(_ work: Work) -> Bool {
    state.withLock { state in
      if !state.isAbandoned { state.waiters.append(work) }
      return !state.isAbandoned
    }
  }

  /// Cancels the load if nobody is left. A waiter is known by its cancellation flag.
  /// - Returns: whether nobody is left.
  func leave(_ work: Work) -> Bool {
    state.withLock { state in
      state.waiters.removeAll { $0.cancellation === work.cancellation }
      state.isAbandoned = state.waiters.isEmpty
      if state.isAbandoned { cancellation.set() }
      return state.isAbandoned
    }
  }

  var outcome: Result<CachedModel, Failure>? { state.withLock { $0.outcome } }

  func finish(_ outcome: Result<CachedModel, Failure>) { state.withLock { $0.outcome = outcome } }
}
