import Synchronization
import Threads

/// Work on a thread of its own, while whoever began it does something else and then waits.
package final class Aside: Sendable {
  private let body: Mutex<(@Sendable () throws(Failure) -> Void)?>
  private let outcome = Monitor<Result<Void, Failure>?>(nil)

  /// Begins. Where the system has no thread to give, `body` has run when this returns.
  package init(_ body: @escaping @Sendable () throws(Failure) -> Void) {
    self.body = Mutex(body)
    if !startThread(stackBytes: concurrentStackBytes, { [self] in run() }) { run() }
  }

  private func run() {
    // Taken, so that what the closure keeps is free when the waiter goes on.
    let result = body.withLock { $0.take() }.map { Result(catching: $0) }
    outcome.update { $0 = result }
  }

  /// Returns when `body` has ended, any number of times.
  /// - Throws: what `body` threw.
  package func wait() throws(Failure) { try outcome.wait { $0 }?.get() }
}
