import Synchronization

/// What a long computation knows of the one who asked for it: whether to go on, and whom to tell how far it is.
///
/// Kernels call `checkCancellation()` every few milliseconds of work. Fractions are of estimated work (bytes,
/// multiply-adds), not of layers.
package struct Work: Sendable {
  package let cancellation: CancellationFlag
  /// How many threads it may keep busy.
  package let threads: Int
  private let report: (@Sendable (_ fraction: Double, _ message: String) -> Void)?

  package init(
    cancellation: CancellationFlag = CancellationFlag(), threads: Int = 1,
    report: (@Sendable (_ fraction: Double, _ message: String) -> Void)? = nil
  ) {
    (self.cancellation, self.threads, self.report) = (cancellation, max(1, threads), report)
  }

  /// Throws `Failure(.cancelled)` once the flag is set.
  package func checkCancellation() throws(Failure) {
    if cancellation.isSet { throw Failure(.cancelled, "the request was cancelled") }
  }

  /// Tells that `fraction` (0...1) of the work is done. Cheap without a listener; the listener limits the rate.
  package func progress(_ fraction: Double, _ message: @autoclosure () -> String) {
    if let report { report(fraction, message()) }
  }

  /// The same work seen as the part `range` of a larger one.
  package func part(_ range: ClosedRange<Double>) -> Work {
    guard let report else { return self }
    let width = range.upperBound - range.lowerBound
    return Work(cancellation: cancellation, threads: threads) { report(range.lowerBound + $0 * width, $1) }
  }
}

/// Set once, from any thread; polled by the work it stops, or told to what cannot poll.
package final class CancellationFlag: Sendable {
  private struct Handlers {
    var isTold = false
    var lastTicket = 0
    var byTicket: [Int: @Sendable () -> Void] = [:]
  }

  private let flag = Atomic<Bool>(false)
  private let handlers = Mutex(Handlers())

  package init() {}

  package func set() {
    flag.store(true, ordering: .relaxed)
    let told = handlers.withLock { handlers in
      handlers.isTold = true
      defer { handlers.byTicket = [:] }
      return handlers.byTicket.values.map { $0 }
    }
    for handler in told { handler() }
  }

  package var isSet: Bool { flag.load(ordering: .relaxed) }

  /// Runs `body`, and `handler` if the flag is set before `body` has ended: at once if it is already, otherwise on the
  /// thread that sets it, which must not be kept waiting. The handler may still run when this has returned.
  package func withHandler<R: ~Copyable, E: Error>(
    _ handler: @escaping @Sendable () -> Void, _ body: () throws(E) -> R
  ) throws(E) -> R {
    let ticket: Int? = handlers.withLock { handlers in
      if handlers.isTold { return nil }
      handlers.lastTicket += 1
      handlers.byTicket[handlers.lastTicket] = handler
      return handlers.lastTicket
    }
    if ticket == nil { handler() }
    defer { if let ticket { handlers.withLock { _ = $0.byTicket.removeValue(forKey: ticket) } } }
    return try body()
  }
}
