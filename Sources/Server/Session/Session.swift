import JSON
import JSONRPC
import Logging
import ModelGraph
import Synchronization
import Threads

/// One client: where its connection is in its life, what it asked for, what it can do.
///
/// Messages come in on the connection's reader thread, one after the other; everything that is cheap is answered there.
/// Work goes to the scheduler and is answered from its threads, each request exactly once.
package final class Session: Sendable {
  package enum Transport: Sendable { case standardStreams, socket }

  enum Phase: Sendable {
    case created
    case running
    /// `shutdown` was received, or the whole server is ending.
    case shuttingDown
  }

  private struct State {
    var phase = Phase.created
    /// By id, until the moment the answer is sent.
    var active: [RequestID: ActiveRequest] = [:]
    /// Requests whose answer has not been handed to the connection yet.
    var unanswered = 0
    /// The client's own `shutdown`, which settles the exit status.
    var shutdownWasRequested = false
  }

  let number: Int
  let server: Server
  package let connection: Connection
  let transport: Transport
  let trace = Atomic<TraceLevel>(.off)
  private let state = Monitor(State())

  init(number: Int, server: Server, connection: Connection, transport: Transport) {
    (self.number, self.server, self.connection, self.transport) = (number, server, connection, transport)
  }

  // MARK: In

  /// Handles one message. Runs on the reader thread and never waits.
  /// - Returns: false when the connection is to end.
  package func receive(_ message: Message) -> Bool {
    switch message {
    case .request(let id, let method, let params): receive(id, method, params)
    case .notification("exit", _): return false
    case .notification(let method, let params):
      if phase != .created { receiveNotification(method, params) }
    case .response(let id): server.log.debug("session \(number): a response to \(id), which was never asked")
    case .invalid(let id, let error): send(id, error: error)
    }
    return true
  }

  private func receive(_ id: RequestID, _ method: String, _ params: JSONValue?) {
    logTrace(verbose: params) { "Received request '\(method) - (\(id.text))'." }
    let outcome = Result { () throws(ResponseError) -> JSONValue? in
      try admit(id, method)
      guard let handler = RequestHandler.all[method], handler.exists(on: transport) else {
        throw ResponseError(.methodNotFound, "there is no method '\(method)'")
      }
      return try handler.handle(self, id, method, try Params(params))
    }
    switch outcome {
    case .success(let result?): send(id, method, result: result)
    // It will be answered later, from elsewhere.
    case .success(nil): break
    case .failure(let error): send(id, error: error)
    }
  }

  /// Whether this phase of life takes the request at all.
  private func admit(_ id: RequestID, _ method: String) throws(ResponseError) {
    let (phase, isInFlight, isByClient) = state.withLock {
      ($0.phase, $0.active[id] != nil, $0.shutdownWasRequested)
    }
    if isInFlight {
      throw ResponseError(.invalidRequest, "a request with this id is still running; its answer is yet to come")
    }
    switch phase {
    case .created where method != "initialize":
      throw ResponseError(.serverNotInitialized, "send 'initialize' first and wait for its result")
    case .running where method == "initialize":
      throw ResponseError(.invalidRequest, "the session is initialized already")
    case .shuttingDown where isByClient:
      throw ResponseError(.invalidRequest, "the session is shut down; only 'exit' may follow")
    // Somebody else ends the server: the same as for a request that came a moment earlier.
    case .shuttingDown: throw ActiveRequest.CancelReason.shutdown.error
    case .created, .running: break
    }
  }

  var phase: Phase { state.withLock { $0.phase } }

  func becomeInitialized() { state.withLock { $0.phase = .running } }

  // MARK: Work

  /// Admits a request that takes time; it is answered when its work is done.
  func start(
    _ id: RequestID, _ method: String, token: RequestID?, task: any ModelTask
  ) throws(ResponseError) {
    let progress = token.map {
      ProgressReporter(
        token: $0, title: task.title, connection: connection, timing: server.configuration.progress)
    }
    let request = ActiveRequest(id: id, method: method, progress: progress)
    let isTokenTaken = state.withLock { state in
      if let token, state.active.values.contains(where: { $0.progress?.token == token }) { return true }
      state.active[id] = request
      state.unanswered += 1
      return false
    }
    if isTokenTaken {
      throw .invalidParams("/workDoneToken", "another running request has this token")
    }
    if let progress { server.ticker.add(progress) }
    let scope = WorkScope(session: number, kinds: task.kinds, weight: task.weight)
    request.ticket = server.scheduler.submit(scope) { [self] in run(task, request) }
    if request.ticket == nil {
      answer(
        request, .failure(.requestFailed("busy", "too many requests are waiting; ask again later", retryable: true)))
    }
  }

  private func run(_ task: any ModelTask, _ request: ActiveRequest) {
    let outcome = Result { () throws(ResponseError) -> JSONValue in
      if let reason = request.cancelReason { throw reason.error }
      do throws(Failure) {
        return try task.run(in: server, work: request.work(threads: server.configuration.threads))
      } catch {
        if error.kind == .cancelled, let reason = request.cancelReason { throw reason.error }
        throw ResponseError(error)
      }
    }
    answer(request, outcome)
  }

  /// Answers once: the end of its progress, then the response. From then on the id may be used again.
  private func answer(_ request: ActiveRequest, _ outcome: Result<JSONValue, ResponseError>) {
    let isFirst = state.withLock { $0.active.removeValue(forKey: request.id) != nil }
    guard isFirst else { return }
    if let progress = request.progress {
      server.ticker.remove(progress)
      progress.finish()
    }
    let milliseconds = Int(Instant.now.seconds(since: request.startedAt) * 1000)
    switch outcome {
    case .success(let result):
      server.log.debug("session \(number): \(request.method) done in \(milliseconds) ms")
      send(request.id, request.method, result: result)
    case .failure(let error):
      server.log.debug("session \(number): \(request.method) failed with \(error.code) after \(milliseconds) ms")
      send(request.id, error: error)
    }
    state.update { $0.unanswered -= 1 }
  }

  /// Cancels the running requests that `matches` takes; if there are none, they have finished, and that is no mistake.
  func cancel(_ reason: ActiveRequest.CancelReason, where matches: (ActiveRequest) -> Bool) {
    let requests = state.withLock { $0.active.values.filter(matches) }
    for request in requests {
      request.cancel(reason)
      if let ticket = request.ticket, server.scheduler.withdraw(ticket) { answer(request, .failure(reason.error)) }
    }
  }

  // MARK: The end

  /// Takes no more requests and cancels those that run.
  /// - Parameter byClient: the client asked for it.
  func beginShutdown(byClient: Bool = false) {
    state.withLock { state in
      state.phase = .shuttingDown
      state.shutdownWasRequested = state.shutdownWasRequested || byClient
    }
    cancel(.shutdown) { _ in true }
  }

  /// - Returns: whether everything has been answered.
  package func waitUntilIdle(by deadline: Instant) -> Bool {
    state.wait(until: deadline) { $0.unanswered == 0 ? true : nil } ?? false
  }

  /// The input has ended. As long as the client still reads, what it asked for is finished and answered.
  package func finishAfterInput() {
    while !waitUntilIdle(by: Instant.now.adding(seconds: 0.05)) {
      if connection.peerIsGone { break }
    }
  }

  /// The connection is over.
  package func disconnect() {
    cancel(.client) { _ in true }
    server.remove(self)
  }

  /// What `exit` means for a process that serves no other client.
  package var exitStatus: Int32 { state.withLock { $0.shutdownWasRequested } ? 0 : 1 }

  // MARK: Out

  func send(_ id: RequestID, _ method: String, result: JSONValue) {
    logTrace(verbose: result) { "Sending response '\(method) - (\(id.text))'." }
    guard let frame = Frame(.response(id, result: result)) else {
      return send(id, error: ResponseError(.internalError, "out of memory while writing the result"))
    }
    if frame.count > server.configuration.maximumMessageBytes {
      let message = "the result has \(frame.count) bytes, above the limit of a message (--max-message-bytes)"
      return send(id, error: .requestFailed("resource.limit", message))
    }
    connection.send(frame)
  }

  func send(_ id: RequestID?, error: ResponseError) {
    logTrace(verbose: nil) { "Sending error \(error.code.rawValue) for (\(id?.text ?? "null"))." }
    connection.send(.response(id, error: error))
  }

  /// A line for the people at the other end.
  func logMessage(_ type: MessageType, _ text: String) { connection.send(.logMessage(type, text), .log) }
}

extension RequestID {
  var text: String {
    switch self {
    case .int(let number): "\(number)"
    case .string(let text): text
    }
  }
}
