import JSON
import JSONRPC
import ModelGraph

/// The method table: for every request its handler, which lives in a file of its own under Handlers/.
struct RequestHandler: Sendable {
  /// Answers at once with a result, or sees to it that an answer follows and gives nil. Runs on the reader thread.
  typealias Handle = @Sendable (Session, RequestID, String, Params) throws(ResponseError) -> JSONValue?

  let handle: Handle
  private let socketOnly: Bool

  static let all: [String: RequestHandler] = [
    "initialize": .control(handleInitialize),
    "shutdown": .init(socketOnly: false, handle: handleShutdown),
    "ping": .control { _, _ in .null },
    "daemon/stop": .init(socketOnly: true, handle: handleStop),
    "models": .control(handleModels),
    "release": .task(ReleaseTask.init),
    "inspect": .task(InspectTask.init),
    "recommend": .task(RecommendTask.init),
    "sensitivity": .streaming(SensitivityTask.init),
    "compress": .task(CompressTask.init),
    "verify": .task(VerifyTask.init),
  ]

  func exists(on transport: Session.Transport) -> Bool { !socketOnly || transport == .socket }

  private init(socketOnly: Bool, handle: @escaping Handle) { (self.socketOnly, self.handle) = (socketOnly, handle) }

  /// Cheap enough for the reader thread.
  private static func control(
    _ body: @escaping @Sendable (Session, Params) throws(ResponseError) -> JSONValue
  ) -> RequestHandler {
    RequestHandler(socketOnly: false) { (session, _, _, params) throws(ResponseError) in try body(session, params) }
  }

  /// Work for the scheduler; `make` checks the params, so that a request that is wrong as written never waits.
  private static func task<Task: ModelTask>(
    _ make: @escaping @Sendable (Params) throws(ResponseError) -> Task
  ) -> RequestHandler {
    RequestHandler(socketOnly: false) { (session, id, method, params) throws(ResponseError) in
      try session.start(id, method, token: params.token("workDoneToken"), task: make(params))
      return nil
    }
  }

  /// The same for work whose result is told in parts to whoever gives a token for that.
  private static func streaming<Task: ModelTask>(
    _ make: @escaping @Sendable (Params, PartialResults?) throws(ResponseError) -> Task
  ) -> RequestHandler {
    RequestHandler(socketOnly: false) { (session, id, method, params) throws(ResponseError) in
      let (progress, parts) = (try params.token("workDoneToken"), try params.token("partialResultToken"))
      if let parts, parts == progress {
        throw .invalidParams(
          params.pointer("partialResultToken"), "'partialResultToken' must differ from workDoneToken")
      }
      let results = parts.map { PartialResults(token: $0, connection: session.connection) }
      try session.start(id, method, token: progress, task: make(params, results))
      return nil
    }
  }
}

/// A request's work, with its params checked: what it touches and what it does.
protocol ModelTask: Sendable {
  /// What progress is titled.
  var title: String { get }
  var kinds: [WorkKind] { get }
  var weight: WorkScope.Weight { get }
  /// Runs on a worker thread, where it may block.
  func run(in server: Server, work: Work) throws(Failure) -> JSONValue
}
