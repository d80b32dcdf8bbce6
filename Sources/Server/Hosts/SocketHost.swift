import Glibc
import JSONRPC
import Logging
import Threads

/// The daemon as a process of its own, which any number of its user's clients share.
package enum SocketHost {
  /// Serves clients until the daemon is stopped, or nobody has come for `idleMinutes`; then ends the process with 0.
  package static func run(
    _ listener: UnixSocketListener, configuration: Configuration, loader: ModelLoader, log: Logger
  ) -> Never {
    let end = ProcessEnd()
    ProcessSignals.handle { end.begin(0) }
    let server = Server(configuration: configuration, loader: loader, log: log) { end.begin($0) }
    end.addStep { listener.stop() }
    end.addStep { server.shutDown() }
    log.notice("listening")
    var isRunning = true
    while isRunning {
      switch listener.accept(waiting: secondsUntilIdleCheck(server)) {
      case .peer(let endpoint): admit(endpoint, server)
      case .nobody: isRunning = !server.hasBeenIdle
      case .stopped: isRunning = false
      }
    }
    end.run(0)
  }

  /// The path on which a daemon of this executable and configuration listens by default. A daemon that was rebuilt or
  /// is configured otherwise has another, so that no client is served by one it did not mean.
  package static func defaultAddress(_ configuration: Configuration) -> String {
    var executable = stat()
    stat("/proc/self/exe", &executable)
    let recipe: [Int] = [
      Int(bitPattern: UInt(executable.st_dev)), Int(bitPattern: UInt(executable.st_ino)), Int(executable.st_size),
      Int(executable.st_mtim.tv_sec), Int(executable.st_mtim.tv_nsec), ProtocolVersion.major,
      configuration.cacheBytes ?? -1, configuration.threads, configuration.maximumMessageBytes,
    ]
    // FNV-1a: names need to differ, not to resist anybody; the directory is the guard.
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for number in recipe {
      withUnsafeBytes(of: number) { for byte in $0 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 } }
    }
    return "\(RuntimeDirectory.path(named: "espalier"))/\(String(hash, radix: 36)).sock"
  }

  private static func secondsUntilIdleCheck(_ server: Server) -> Double? {
    let limit = server.configuration.idleMinutes * 60
    if limit == 0 { return nil }
    // While there are sessions, look again often enough to end about on time once the last one left.
    guard let idle = server.idleSeconds else { return min(limit, 30) }
    return max(0, limit - idle) + 0.001
  }

  private static func admit(_ endpoint: Endpoint, _ server: Server) {
    let connection = server.configuration.connection(endpoint)
    guard server.sessionCount < server.configuration.maximumSessions else {
      refuse(connection)
      return
    }
    let session = server.makeSession(connection, .socket)
    if !startThread({ serve(session) }) {
      session.disconnect()
      refuse(connection)
    }
  }

  private static func refuse(_ connection: Connection) {
    connection.send(
      .response(nil, error: .requestFailed("busy", "too many sessions are open; try again later", retryable: true)))
    connection.close()
  }

  /// One session from its first message to its end, on the calling thread.
  package static func serve(_ session: Session) {
    let connection = session.connection
    if case .endOfInput = connection.run(session.receive) { session.finishAfterInput() }
    session.disconnect()
    _ = session.waitUntilIdle(by: Instant.now.adding(seconds: Server.shutdownSeconds))
    connection.finish(by: Instant.now.adding(seconds: Server.shutdownSeconds))
  }
}
