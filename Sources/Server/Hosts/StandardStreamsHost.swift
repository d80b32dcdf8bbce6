import JSONRPC
import Logging

/// The daemon as a child process of its one client.
package enum StandardStreamsHost {
  /// Serves the client until it leaves, then ends the process with the status of section "Life cycle" of protocol.md.
  /// - Parameter clientProcessID: watched from the start, as `initialize`'s `processId` is later.
  package static func run(
    _ endpoint: Endpoint, configuration: Configuration, loader: ModelLoader, log: Logger, clientProcessID: Int32?
  ) -> Never {
    let end = ProcessEnd()
    ProcessSignals.handle { end.begin(0) }
    let server = Server(configuration: configuration, loader: loader, log: log) { end.begin($0) }
    let connection = configuration.connection(endpoint) { end.begin(1) }
    let session = server.makeSession(connection, .standardStreams)
    end.addStep { server.shutDown() }
    if let clientProcessID { server.watchClient(clientProcessID) }
    if case .endOfInput = connection.run(session.receive) { session.finishAfterInput() }
    end.run(session.exitStatus)
  }
}
