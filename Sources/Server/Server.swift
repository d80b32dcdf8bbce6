import JSONRPC
import Logging
import Runtime
import Synchronization
import Threads

/// What all sessions share: the models kept warm, the scheduler, the log. Sessions come and go; a server ends with its
/// process.
package final class Server: Sendable {
  package let configuration: Configuration
  package let log: Logger
  package let loader: ModelLoader
  package let scheduler: Scheduler
  package let cache: ModelCache
  /// Loads ONNX Runtime when a request first needs it.
  package let runtime: RuntimeLoader
  let ticker: ProgressTicker
  /// Asks the process to end with this status. What that means is for the host to know.
  let stop: @Sendable (Int32) -> Void
  private struct Sessions {
    var open: [Int: Session] = [:]
    /// When the last one ended; the start of the server if there was none yet.
    var idleSince = Instant.now
  }

  private let sessions = Mutex(Sessions())
  private let lastSession = Atomic<Int>(0)

  /// - Parameter stop: must not block.
  package init(
    configuration: Configuration, loader: ModelLoader, log: Logger, stop: @escaping @Sendable (Int32) -> Void = { _ in }
  ) {
    (self.configuration, self.loader, self.log, self.stop) = (configuration, loader, log, stop)
    scheduler = Scheduler(parallelism: configuration.threads)
    cache = ModelCache(loader: loader, budgetBytes: configuration.cacheBytes, scheduler: scheduler)
    runtime = RuntimeLoader(option: configuration.onnxRuntime)
    ticker = ProgressTicker(timing: configuration.progress)
  }

  package func makeSession(_ connection: Connection, _ transport: Session.Transport) -> Session {
    let number = lastSession.wrappingAdd(1, ordering: .relaxed).newValue
    let session = Session(number: number, server: self, connection: connection, transport: transport)
    sessions.withLock { $0.open[number] = session }
    log.debug("session \(number) begins")
    return session
  }

  package func remove(_ session: Session) {
    sessions.withLock { sessions in
      sessions.open[session.number] = nil
      sessions.idleSince = .now
    }
    log.debug("session \(session.number) ends")
  }

  package var sessionCount: Int { sessions.withLock { $0.open.count } }

  /// How long there have been no sessions; nil while there are.
  package var idleSeconds: Double? {
    sessions.withLock { $0.open.isEmpty ? Instant.now.seconds(since: $0.idleSince) : nil }
  }

  /// Whether nobody has come for as long as the configuration says.
  package var hasBeenIdle: Bool {
    configuration.idleMinutes > 0 && (idleSeconds ?? 0) >= configuration.idleMinutes * 60
  }

  /// Ends all work: every running request is answered as cancelled by the server and everything written is flushed.
  /// Takes at most `shutdownSeconds`; what runs longer is left to the end of the process.
  package func shutDown() {
    let deadline = Instant.now.adding(seconds: Server.shutdownSeconds)
    let sessions = self.sessions.withLock { Array($0.open.values) }
    for session in sessions { session.beginShutdown() }
    for session in sessions where !session.waitUntilIdle(by: deadline) {
      log.warning("session \(session.number) still has work running")
    }
    for session in sessions { session.connection.finish(by: deadline) }
  }

  package static let shutdownSeconds = 5.0
}
