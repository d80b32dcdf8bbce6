import JSONRPC
import Threads

/// Runs work on threads of its own, at most `parallelism` pieces at a time, in the order `WorkQueue` decides.
///
/// Threads are started when there is work for them and end after some idle seconds, so that a daemon that was asked
/// nothing has none. Their stacks are large because numeric kernels and their libraries use them.
package final class Scheduler: Sendable {
  private struct State {
    var queue: WorkQueue<@Sendable () -> Void>
    /// Pieces running and not merely waiting for somebody else's.
    var running = 0
    var threads = 0
    var idle = 0
  }

  private let state: Monitor<State>
  package let parallelism: Int
  private static let stackBytes = 8 << 20
  private static let idleSeconds = 10.0
  /// Threads that wait for another's result do not count as running, but they exist.
  private static let maximumThreads = 64

  package init(parallelism: Int) {
    self.parallelism = max(1, parallelism)
    state = Monitor(State(queue: WorkQueue()))
  }

  /// - Returns: a ticket for `withdraw`, or nil if too much is waiting already.
  package func submit(_ scope: WorkScope, _ job: @escaping @Sendable () -> Void) -> Int? {
    state.update { state in
      guard let ticket = state.queue.add(job, scope) else { return nil }
      guard startThreadIfNeeded(&state) || state.threads > 0 else {
        _ = state.queue.withdraw(ticket)
        return nil
      }
      return ticket
    }
  }

  /// Takes back work that has not started.
  /// - Returns: false if it has, or is finished.
  package func withdraw(_ ticket: Int) -> Bool {
    state.update { state in
      guard state.queue.withdraw(ticket) != nil else { return false }
      _ = startThreadIfNeeded(&state)
      return true
    }
  }

  /// Lets other work run while the calling piece of work waits for somebody else's result.
  package func whileWaiting<R: Sendable>(_ wait: () -> R) -> R {
    state.update { state in
      state.running -= 1
      _ = startThreadIfNeeded(&state)
    }
    // Going on makes one too many for a moment, rather than leaving a finished result waiting for its turn.
    defer { state.update { $0.running += 1 } }
    return wait()
  }

  /// - Returns: false only if a thread was needed and there is none to be had.
  private func startThreadIfNeeded(_ state: inout State) -> Bool {
    guard state.idle == 0, state.running < parallelism, state.threads < Scheduler.maximumThreads, state.queue.canStart
    else { return true }
    guard startThread(stackBytes: Scheduler.stackBytes, { [self] in work() }) else { return false }
    state.threads += 1
    // It counts as idle from here on, so that the next piece of work does not start another for the same one.
    state.idle += 1
    return true
  }

  private func work() {
    while let step = state.wait(until: Instant.now.adding(seconds: Scheduler.idleSeconds), for: take) ?? retire() {
      step.job()
      state.update { state in
        state.queue.finish(step.ticket)
        state.running -= 1
        state.idle += 1
      }
    }
  }

  private struct Step: Sendable {
    let ticket: Int
    let job: @Sendable () -> Void
  }

  /// Gives an idle thread its next piece of work, if there is one.
  private func take(_ state: inout State) -> Step? {
    guard state.running < parallelism, let (ticket, job) = state.queue.start() else { return nil }
    state.idle -= 1
    state.running += 1
    // This one is taken; whether there is more to do is for another thread to find.
    _ = startThreadIfNeeded(&state)
    return Step(ticket: ticket, job: job)
  }

  /// Ends the calling thread, unless work arrived at the last moment.
  private func retire() -> Step? {
    state.update { state in
      if let step = take(&state) { return step }
      state.idle -= 1
      state.threads -= 1
      return nil
    }
  }
}
