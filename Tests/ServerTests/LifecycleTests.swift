import JSON
import JSONRPC
import ModelGraph
import Runtime
import Server
import Testing

/// The session's states (row R2), ids (R3) and what answers what (R1).
struct LifecycleTests {
  @Test("Before initialize nothing else is answered (R2)", arguments: TestClient.Wire.allCases)
  func beforeInitialize(wire: TestClient.Wire) throws {
    let client = TestClient(.forTests(), wire)
    #expect(try client.error("ping")["code"] == -32002)
    #expect(try client.error("nonsense")["code"] == -32002)
    client.notify("$/setTrace", ["value": 5])
    let result = try client.call("initialize", ["processId": .null, "capabilities": [:], "unknown": 1])
    #expect(result["serverInfo"]?["name"] == "espalierd")
    #expect(result["protocolVersion"] == "1.0")
    #expect(result["capabilities"]?["formats"]?["read"] == ["memory"])
    #expect(try client.call("ping") == .null)
    #expect(try client.error("initialize", [:])["code"] == -32600)
    // The malformed notification before initialize was dropped without a word.
    #expect(client.received.allSatisfy { $0["method"] == nil })
    try client.finish()
  }

  @Test func aProtocolOfAnotherMajorIsRefused() throws {
    let client = TestClient(.forTests())
    let error = try client.error("initialize", ["protocolVersion": "2.0"])
    #expect(error["code"] == -32803)
    #expect(error["data"]?["kind"] == "protocol.unsupported")
    #expect(error["data"]?["supported"] == ["1.0"])
    #expect(try client.call("initialize", ["protocolVersion": "1.7"])["protocolVersion"] == "1.0")
    try client.finish()
  }

  @Test("Clients say where ONNX Runtime is; a place that is wrong as written is refused at once, others when needed")
  func whereTheRuntimeIs() throws {
    let client = TestClient(.forTests())
    let cases: [(JSONValue, String)] = [
      (3, "/initializationOptions"), (["onnxruntime": 3], "/initializationOptions/onnxruntime"),
      (["onnxruntime": "lib/libonnxruntime.so"], "/initializationOptions/onnxruntime"),
      (["python": "python3"], "/initializationOptions/python"), (["python": []], "/initializationOptions/python"),
    ]
    for (options, path) in cases {
      let error = try client.error("initialize", ["initializationOptions": options])
      #expect(error["code"] == -32602)
      #expect(error["data"]?["path"] == .string(path))
    }
    _ = try client.call(
      "initialize", ["initializationOptions": ["onnxruntime": "/nowhere", "python": "/usr/bin/python3", "other": 1]])
    let failure = #expect(throws: Failure.self) { try client.server.runtime.runtime(work: Work()) }
    #expect(failure?.kind == .runtimeUnavailable)
    #expect(failure?.message.contains("initializationOptions.onnxruntime names /nowhere") == true)
    try client.finish()
  }

  @Test("After shutdown only exit follows (R2)")
  func shutdown() throws {
    let client = try TestClient.initialized(.forTests())
    #expect(try client.call("shutdown") == .null)
    #expect(try client.error("ping")["code"] == -32600)
    #expect(try client.error("shutdown")["code"] == -32600)
    client.notify("exit")
    try client.finish()
    #expect(client.server.sessionCount == 0)
  }

  @Test("Shutdown cancels what runs and answers after it")
  func shutdownCancels() throws {
    let gate = Gate()
    let directory = try TemporaryDirectory()
    let client = try TestClient.initialized(.forTests(gate: gate))
    let inspect = client.request("inspect", ["model": .string(try directory.file("a"))])
    try gate.waitForArrival()
    let shutdown = client.request("shutdown")
    #expect(try client.response(shutdown)["result"] == .null)
    #expect(try client.response(inspect)["error"]?["code"] == -32802)
    let order = client.received.compactMap { $0["id"] }
    #expect(order.suffix(2) == [inspect.json, shutdown.json])
    try client.finish()
  }

  @Test("What cannot be answered otherwise gets the envelope's codes (R1)", arguments: TestClient.Wire.allCases)
  func envelope(wire: TestClient.Wire) throws {
    let client = try TestClient.initialized(.forTests(), wire)
    #expect(try client.error("nonsense")["code"] == -32601)
    #expect(try client.error("$/nonsense")["code"] == -32601)
    #expect(try client.error("ping", [])["code"] == -32602)
    #expect(try client.error("ping", ["a", 1])["data"]?["path"] == "")
    #expect(try client.error("inspect", 5)["code"] == -32602)
    #expect(try client.call("ping", nil) == .null)
    client.send(["jsonrpc": "2.0", "id": 99, "result": 1])
    client.send(["jsonrpc": "2.0", "id": "x", "error": ["code": 1]])
    client.notify("nonsense")
    client.notify("$/nonsense", [1])
    client.send(.array([["jsonrpc": "2.0", "id": 1, "method": "ping"]]))
    let batch = try client.message { $0["id"] == .null }
    #expect(batch["error"]?["code"] == -32600)
    #expect(try client.call("ping") == .null)
    try client.finish()
  }

  @Test("A malformed notification is told to people, never answered")
  func malformedNotification() throws {
    let client = try TestClient.initialized(.forTests())
    client.notify("$/cancelRequest", ["id": 3.5])
    let message = try client.message { $0["method"] == "window/logMessage" }
    #expect(message["params"]?["type"] == 1)
    #expect(message["params"]?["message"]?.stringValue?.contains("$/cancelRequest") == true)
    try client.finish()
  }

  @Test("An id in flight is taken, and free again after its answer; 1 is not \"1\" (R3, J2)")
  func ids() throws {
    let gate = Gate()
    let directory = try TemporaryDirectory()
    let client = try TestClient.initialized(.forTests(gate: gate))
    let path = JSONValue.string(try directory.file("a"))
    client.request("inspect", ["model": path], id: 1000)
    try gate.waitForArrival()
    client.request("ping", nil, id: "1000")
    #expect(try client.response("1000")["result"] == .null)
    client.request("ping", nil, id: 1000)
    #expect(try client.response(1000)["error"]?["code"] == -32600)
    gate.open()
    _ = try client.message { $0["id"] == 1000 && $0["error"]?["code"] != -32600 }
    client.request("ping", nil, id: 1000)
    _ = try client.message { $0["id"] == 1000 && $0["result"] == .null }
    try client.finish()
  }

  @Test func tracesOnlyWhatWasAskedFor() throws {
    let client = try TestClient.initialized(.forTests())
    _ = try client.call("ping")
    #expect(client.received.allSatisfy { $0["method"] == nil })
    client.notify("$/setTrace", ["value": "messages"])
    _ = try client.call("ping", ["some": "params"])
    client.notify("$/setTrace", ["value": "verbose"])
    _ = try client.call("ping", ["more": "params"])
    client.notify("$/setTrace", ["value": "off"])
    _ = try client.call("ping")
    let traces = client.received.filter { $0["method"] == "$/logTrace" }.compactMap { $0["params"] }
    #expect(traces.map { $0["verbose"] != nil } == [false, false, true, true])
    #expect(traces[2]["verbose"] == #"{"more":"params"}"#)
    try client.finish()
  }

  @Test("daemon/stop is answered before anything ends")
  func stop() throws {
    let client = try TestClient.initialized(.forTests())
    #expect(try client.call("daemon/stop") == .null)
    try client.finish()
  }
}

extension RequestID: ExpressibleByIntegerLiteral, ExpressibleByStringLiteral {
  public init(integerLiteral value: Int) { self = .int(value) }
  public init(stringLiteral value: String) { self = .string(value) }
}
