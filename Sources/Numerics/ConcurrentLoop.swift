import Glibc
import Synchronization

/// Independent pieces of work on several processors at once.
///
/// Invariant: whatever the number of threads, every index is worked on once and all are done when `run` returns; so
/// where each writes what only it knows, the result is the same.
package enum ConcurrentLoop {
  /// Reading memory is the bound of what runs here: more threads than these gain nothing.
  private static let mostThreads = 4

  /// Calls `body` with `0 ..< count`, in no certain order.
  /// - Parameter bytes: that the pieces read altogether; a few megabytes are sooner read than a thread is started.
  package static func run(_ count: Int, bytes: Int, _ body: @Sendable (Int) -> Void) {
    withoutActuallyEscaping(body) { body in
      let pieces = Pieces(count: count, body)
      let processors = bytes >> 22 > 0 ? min(sysconf(Int32(_SC_NPROCESSORS_ONLN)), mostThreads) : 1
      // Where the system has no thread to give, this one does it all.
      let helpers = (1..<max(1, min(processors, count))).compactMap { _ in pieces.startHelper() }
      pieces.workOff()
      for helper in helpers { pthread_join(helper, nil) }
    }
  }

  private final class Pieces: Sendable {
    private let next = Atomic<Int>(0)
    private let count: Int
    private let body: @Sendable (Int) -> Void

    init(count: Int, _ body: @escaping @Sendable (Int) -> Void) { (self.count, self.body) = (count, body) }

    func workOff() {
      while true {
        let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
        guard index < count else { return }
        body(index)
      }
    }

    func startHelper() -> pthread_t? {
      let pieces = Unmanaged.passRetained(self)
      var thread = pthread_t()
      let status = pthread_create(
        &thread, nil,
        { argument in
          if let argument { Unmanaged<Pieces>.fromOpaque(argument).takeRetainedValue().workOff() }
          return nil
        }, pieces.toOpaque())
      if status != 0 { pieces.release() }
      return status == 0 ? thread : nil
    }
  }
}
