import Glibc
import JSONRPC
import Threads

/// Lets every reporter speak once per interval, on a thread that exists only while there are reporters.
package final class ProgressTicker: Sendable {
  private struct State {
    var reporters: [ProgressReporter] = []
    var hasThread = false
  }

  private let state = Monitor(State())
  private let intervalSeconds: Double

  package init(timing: ProgressTiming) { intervalSeconds = timing.intervalSeconds }

  package func add(_ reporter: ProgressReporter) {
    state.withLock { state in
      state.reporters.append(reporter)
      // Without a thread there is no progress to be seen, which is no reason to refuse the work.
      if !state.hasThread { state.hasThread = startThread { [self] in tick() } }
    }
  }

  package func remove(_ reporter: ProgressReporter) {
    state.withLock { state in state.reporters.removeAll { $0 === reporter } }
  }

  private func tick() {
    while true {
      usleep(UInt32(intervalSeconds * 1e6))
      let reporters = state.withLock { state in
        if state.reporters.isEmpty { state.hasThread = false }
        return state.reporters
      }
      if reporters.isEmpty { return }
      let now = Instant.now
      for reporter in reporters { reporter.tick(now) }
    }
  }
}
