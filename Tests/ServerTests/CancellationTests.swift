import Glibc
import JSON
import JSONRPC
import Server
import Testing
import Threads

/// Cancelling at every stage of a request's life (rows C1 and C2): one answer each, nobody else disturbed.
struct CancellationTests {
  private let directory: TemporaryDirectory
  private let path: JSONValue
  private let gate = Gate()

  init() throws {
    directory = try TemporaryDirectory()
    path = .string(try directory.file("a"))
  }

  @Test("A running request is cancelled in time, its neighbours are not (C1)", arguments: TestClient.Wire.allCases)
  func running(wire: TestClient.Wire) throws {
    let server = Server.forTests(gate: gate)
    let client = try TestClient.initialized(server, wire)
    let other = try TestClient.initialized(server, wire)
    let id = client.request("inspect", ["model": path], id: 7)
    let theirs = other.request("inspect", ["model": path], id: 7)
    try gate.waitForArrival()
    let start = Instant.now
    client.cancel(id)
    #expect(try client.response(id)["error"]?["code"] == -32800)
    #expect(Instant.now.seconds(since: start) < 0.1)
    client.cancel(id)
    client.cancel("never heard of")
    #expect(try client.call("ping") == .null)
    // They wait for the same load, which goes on.
    gate.open()
    #expect(try other.response(theirs)["error"]?["code"] != -32800)
    try client.finish()
    try other.finish()
  }

  @Test("A waiting request is cancelled without having run (C1)")
  func waiting() throws {
    let client = try TestClient.initialized(.forTests(threads: 1, gate: gate))
    let release = client.request("release")
    _ = try client.response(release)
    let first = client.request("compress", compress("first.out"))
    try gate.waitForArrival()
    let second = client.request("compress", compress("first.out"))
    client.cancel(second)
    #expect(try client.response(second)["error"]?["code"] == -32800)
    client.cancel(first)
    #expect(try client.response(first)["error"]?["code"] == -32800)
    try client.finish()
  }

  @Test("Cancelling by progress token is the same thing")
  func byToken() throws {
    let client = try TestClient.initialized(.forTests(gate: gate))
    let id = client.request("inspect", ["model": path, "workDoneToken": "t"])
    try gate.waitForArrival()
    client.notify("window/workDoneProgress/cancel", ["token": "other"])
    client.notify("window/workDoneProgress/cancel", ["token": "t"])
    #expect(try client.response(id)["error"]?["code"] == -32800)
    try client.finish()
  }

  @Test("A finished request cannot be cancelled any more (C1)")
  func finished() throws {
    gate.open()
    let client = try TestClient.initialized(.forTests(gate: gate))
    let id = client.request("inspect", ["model": path])
    _ = try client.response(id)
    client.cancel(id)
    #expect(try client.call("ping") == .null)
    try client.finish()
  }

  @Test("A load ends when the last that waits for it is gone, and the next request starts another")
  func lastWaiter() throws {
    let loads = Monitor(0)
    let client = try TestClient.initialized(.forTests(threads: 4, gate: gate, loads: loads))
    let ids = (0..<3).map { _ in client.request("inspect", ["model": path]) }
    try gate.waitForArrival()
    for id in ids { client.cancel(id) }
    for id in ids { #expect(try client.response(id)["error"]?["code"] == -32800) }
    gate.open()
    #expect(try client.response(client.request("inspect", ["model": path]))["error"]?["code"] != -32800)
    #expect(loads.withLock { $0 } == 2)
    try client.finish()
  }

  @Test("Cancelling at any report of a compression leaves nothing (C2)", arguments: [0, 1, 2, 3, 5, 8])
  func atEveryReport(reports: Int) throws {
    let client = try TestClient.initialized(.forTests(progressDelay: 0, gate: gate))
    let id = client.request("compress", compress("out", token: 1))
    try client.wait(for: reports + 1) { $0["method"] == "$/progress" }
    let start = Instant.now
    client.cancel(id)
    #expect(try client.response(id)["error"]?["code"] == -32800)
    #expect(Instant.now.seconds(since: start) < 0.1)
    #expect(directory.names == ["a"])
    try client.finish()
  }

  @Test("A compression that is writing leaves nothing either (C2)")
  func whileWriting() throws {
    let client = try TestClient.initialized(.forTests(writeGate: gate))
    let id = client.request("compress", compress("out"))
    try gate.waitForArrival()
    client.cancel(id)
    #expect(try client.response(id)["error"]?["code"] == -32800)
    #expect(directory.names == ["a"])
    gate.open()
    #expect(try client.call("compress", compress("out"))["output_path"]?.stringValue?.hasSuffix("/out") == true)
    try client.finish()
  }

  @Test("A client that hangs up takes its requests along (S1)")
  func hangUp() throws {
    let server = Server.forTests(gate: gate)
    let client = try TestClient.initialized(server)
    client.request("inspect", ["model": path])
    try gate.waitForArrival()
    client.hangUp()
    let deadline = Instant.now.adding(seconds: 5)
    while server.sessionCount > 0, Instant.now < deadline { usleep(5000) }
    #expect(server.sessionCount == 0)
  }

  @Test("A client that only stops sending still gets its answers")
  func halfClose() throws {
    let client = try TestClient.initialized(.forTests(gate: gate))
    let id = client.request("inspect", ["model": path])
    try gate.waitForArrival()
    startThread { [gate] in
      usleep(200000)
      gate.open()
    }
    // The transcript checker finds a request that was never answered.
    try client.finish()
    #expect(client.received.contains { $0["id"] == id.json && $0["error"]?["code"] != -32800 })
  }

  private func compress(_ name: String, token: JSONValue = .null) -> JSONValue {
    [
      "workDoneToken": token, "model": path, "compression_method": "PR_L2", "recommendation_method": "SLAMP",
      "recommendation_ratio": 0.5,
      "output_path": .string("\(directory.path)/\(name)"),
    ]
  }
}
