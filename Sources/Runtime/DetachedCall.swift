import Glibc
import ModelGraph
import Synchronization
import Threads

/// Runs what may take long on a thread of its own, so that a cancelled caller can leave it behind.
///
/// A cancelled request has to answer at once. ONNX Runtime looks at its stop switch between two operators only, or,
/// while it loads a model, never, and linear algebra looks up only now and then. What the call uses lives until it
/// ends, kept by its closure; nobody sees its result.
/// - Parameters:
///   - stop: asks the call to end early; runs once, on any thread, if the work is cancelled.
///   - body: runs to its end whatever happens.
package func detached<R: Sendable>(
  work: Work, stop: @escaping @Sendable () -> Void = {}, _ body: @escaping @Sendable () throws(Failure) -> R
) throws(Failure) -> R {
  try work.checkCancellation()
  let call = DetachedCall(body)
  guard call.start() else { throw Failure(.resourceLimit, "the system has no thread to give; ask again later") }
  let leave: @Sendable () -> Void = {
    stop()
    call.wake()
  }
  work.cancellation.withHandler(leave) { call.wait() }
  try work.checkCancellation()
  guard let result = call.result else { throw Failure(.cancelled, "the request was cancelled") }
  return try result.get()
}

/// A closure on its way through a thread. Its waiter wakes when it has ended, or when nobody wants its result any more.
private final class DetachedCall<R: Sendable>: Sendable {
  private let body: Mutex<(@Sendable () throws(Failure) -> R)?>
  private let outcome = Mutex<Result<R, Failure>?>(nil)
  nonisolated(unsafe) private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

  init(_ body: @escaping @Sendable () throws(Failure) -> R) {
    self.body = Mutex(body)
    sem_init(semaphore, 0, 0)
  }

  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }

  var result: Result<R, Failure>? { outcome.withLock { $0 } }

  func wait() { while sem_wait(semaphore) != 0 && errno == EINTR {} }

  func wake() { sem_post(semaphore) }

  /// - Returns: false if there is no thread to be had.
  func start() -> Bool {
    // Numeric kernels use their stacks.
    startThread(stackBytes: 8 << 20) { [self] in run() }
  }

  private func run() {
    // Taken, so that what the closure keeps is free when the waiter goes on.
    let result = body.withLock { $0.take() }.map { Result(catching: $0) }
    outcome.withLock { $0 = result }
    wake()
  }
}
