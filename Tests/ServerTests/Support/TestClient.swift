import Glibc
import JSON
import JSONRPC
import Server
import Testing
import Threads

/// A client of an in-process server: sends requests, collects what comes back, and holds every transcript to the rules
/// that hold for all of them (`TranscriptChecker`).
final class TestClient: Sendable {
  enum Wire: CaseIterable, Sendable {
    case pipes
    case socket
  }

  private struct State {
    var transcript: [TranscriptEntry] = []
    var isClosed = false
    var lastID = 0
  }

  let server: Server
  private let input: Int32
  private let output: Int32
  private let state = Monitor(State())
  private let end = Monitor(false)

  /// Connects to `server` and serves the session on a thread of its own.
  init(_ server: Server, _ wire: Wire = .socket) {
    self.server = server
    let endpoint: Endpoint
    switch wire {
    case .pipes:
      var (requests, answers): ([Int32], [Int32]) = ([0, 0], [0, 0])
      pipe(&requests)
      pipe(&answers)
      endpoint = Endpoint(input: requests[0], output: answers[1])
      (input, output) = (answers[0], requests[1])
    case .socket:
      var ends: [Int32] = [0, 0]
      socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
      endpoint = Endpoint(input: ends[0], output: ends[0])
      (input, output) = (ends[1], dup(ends[1]))
    }
    signal(SIGPIPE, SIG_IGN)
    let session = server.makeSession(Connection(endpoint: endpoint), .socket)
    startThread { [end] in
      SocketHost.serve(session)
      end.update { $0 = true }
    }
    startThread { [self] in collect() }
  }

  /// A client that has shaken hands.
  static func initialized(_ server: Server, _ wire: Wire = .socket) throws -> TestClient {
    let client = TestClient(server, wire)
    _ = try client.call("initialize", [:])
    client.notify("initialized", [:])
    return client
  }

  // MARK: Sending

  /// - Returns: the id to wait with.
  @discardableResult
  func request(_ method: String, _ params: JSONValue? = nil, id: RequestID? = nil) -> RequestID {
    let id =
      id
      ?? state.withLock { state in
        state.lastID += 1
        return .int(state.lastID)
      }
    var message: JSONObject = ["jsonrpc": "2.0", "id": id.json, "method": .string(method)]
    message.append("params", params)
    send(.object(message))
    return id
  }

  func notify(_ method: String, _ params: JSONValue? = nil) {
    var message: JSONObject = ["jsonrpc": "2.0", "method": .string(method)]
    message.append("params", params)
    send(.object(message))
  }

  func cancel(_ id: RequestID) { notify("$/cancelRequest", ["id": id.json]) }

  func send(_ message: JSONValue) {
    state.update { $0.transcript.append(.sent(message)) }
    let body = message.encoded() ?? []
    sendRaw(Array("Content-Length: \(body.count)\r\n\r\n".utf8) + body)
  }

  func sendRaw(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(output, $0.baseAddress, $0.count) }
      if count <= 0 { return }
      rest = rest.dropFirst(count)
    }
  }

  // MARK: Receiving

  /// The answer to a request, whole.
  func response(_ id: RequestID, within seconds: Double = 10) throws -> JSONValue {
    try message(within: seconds) { $0["id"] == id.json && $0["method"] == nil }
  }

  /// The first message that `matches`.
  func message(within seconds: Double = 10, where matches: (JSONValue) -> Bool) throws -> JSONValue {
    let found = state.wait(until: Instant.now.adding(seconds: seconds)) { state in
      state.transcript.lazy.compactMap(\.received).first(where: matches)
    }
    return try #require(found, "nothing such arrived within \(seconds) s")
  }

  /// Waits until so many messages `match`.
  func wait(for count: Int, within seconds: Double = 10, where matches: (JSONValue) -> Bool) throws {
    let found = state.wait(until: Instant.now.adding(seconds: seconds)) { state in
      state.transcript.count { $0.received.map(matches) ?? false } >= count ? true : nil
    }
    try #require(found == true, "fewer than \(count) such messages arrived within \(seconds) s")
  }

  /// Asks and waits; the result.
  func call(_ method: String, _ params: JSONValue? = nil) throws -> JSONValue {
    let answer = try response(request(method, params))
    return try #require(answer["result"], "answered with an error: \(answer)")
  }

  /// Asks and waits; the error.
  func error(_ method: String, _ params: JSONValue? = nil) throws -> JSONValue {
    let answer = try response(request(method, params))
    return try #require(answer["error"], "answered with a result: \(answer)")
  }

  var received: [JSONValue] { state.withLock { $0.transcript.compactMap(\.received) } }

  /// Closes both directions without a word, as a client that died.
  func hangUp() {
    shutdown(input, Int32(SHUT_RDWR))
    shutdown(output, Int32(SHUT_RDWR))
    close(output)
    close(input)
  }

  /// Ends the session, waits for it to be over, and checks everything that was said.
  func finish() throws {
    close(output)
    shutdown(input, Int32(SHUT_WR))
    try #require(
      end.wait(until: Instant.now.adding(seconds: 10)) { $0 ? true : nil } == true, "the session did not end")
    _ = state.wait(until: Instant.now.adding(seconds: 5)) { $0.isClosed ? true : nil }
    close(input)
    checkTranscript(state.withLock { $0.transcript })
  }

  private func collect() {
    var parser = FrameParser()
    while true {
      let space = parser.freeSpace()
      let count = read(input, space.baseAddress, space.count)
      if count <= 0 { break }
      parser.received(count)
      while let body = try? parser.nextBody() {
        guard let value = try? JSONValue(decoding: body) else { continue }
        state.update { $0.transcript.append(.received(value)) }
      }
    }
    state.update { $0.isClosed = true }
  }
}
