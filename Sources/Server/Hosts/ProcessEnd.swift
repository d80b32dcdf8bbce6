import Glibc
import JSONRPC
import Synchronization
import Threads

/// The end of the process, which several things may ask for at once: signals, `exit`, the client's death, a peer that
/// stopped reading. The first one settles the status.
///
/// It exits without unwinding: threads may be deep in numeric libraries, and running destructors under them is how
/// daemons crash at their end.
package final class ProcessEnd: Sendable {
  private let hasBegun = Atomic<Bool>(false)
  private let steps = Mutex<[@Sendable () -> Void]>([])

  package init() {}

  /// Adds what is to be done before the process ends; the steps run in order.
  package func addStep(_ step: @escaping @Sendable () -> Void) { steps.withLock { $0.append(step) } }

  /// Starts the end and returns at once.
  package func begin(_ status: Int32) {
    guard !hasBegun.exchange(true, ordering: .acquiringAndReleasing) else { return }
    let end: @Sendable () -> Void = { [self] in
      for step in steps.withLock({ $0 }) { step() }
      _exit(status)
    }
    if !startThread(end) { end() }
  }

  /// Ends the process from the main thread, which has nothing else to do any more.
  package func run(_ status: Int32) -> Never {
    begin(status)
    while true { pause() }
  }
}
