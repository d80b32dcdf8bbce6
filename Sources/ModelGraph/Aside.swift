import Threads

/// Work on a thread of its own, while whoever began it does something else and then waits.
package final class Aside: Sendable {
  private let outcome = Monitor<Result<Void, Failure>?>(nil)

  /// Begins. Where the system has no thread to give, `body` has run when this returns.
  package init(_ body: @escaping @Sendable () throws(Failure) -> Void) {
    let run: @Sendable () -> Void = { [outcome] in
      let result = Result { () throws(Failure) in try body() }
      outcome.update { $0 = .some(result) }
    }
    if !startThread(stackBytes: concurrentStackBytes, run) { run() }
  }

  /// Returns when `body` has ended, any number of times.
  /// - Throws: what `body` threw.
  package func wait() throws(Failure) { try outcome.wait { $0 }?.get() }
}
