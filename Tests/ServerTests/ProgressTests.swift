import Glibc
import JSON
import JSONRPC
import Server
import Testing

/// What is told of work while it runs (row P1); the sequence itself is checked on every transcript of these tests.
struct ProgressTests {
  private let directory: TemporaryDirectory
  private let gate = Gate()
  private let path: JSONValue

  init() throws {
    directory = try TemporaryDirectory()
    path = .string(try directory.file("a"))
  }

  private func progress(_ client: TestClient) -> [JSONValue] {
    client.received.filter { $0["method"] == "$/progress" }.compactMap { $0["params"]?["value"] }
  }

  @Test(arguments: TestClient.Wire.allCases)
  func beginsReportsAndEnds(wire: TestClient.Wire) throws {
    let client = try TestClient.initialized(.forTests(progressDelay: 0, gate: gate), wire)
    let id = client.request("inspect", ["model": path, "workDoneToken": "t"])
    _ = try client.message { $0["params"]?["value"]?["kind"] == "report" }
    client.cancel(id)
    _ = try client.response(id)
    let values = progress(client)
    #expect(values.first?["kind"] == "begin" && values.first?["cancellable"] == true)
    #expect(values.last?["kind"] == "end")
    #expect(values.count >= 3)
    try client.finish()
  }

  @Test func withoutATokenThereIsNone() throws {
    let client = try TestClient.initialized(.forTests(progressDelay: 0, gate: gate))
    let id = client.request("inspect", ["model": path])
    try gate.waitForArrival()
    usleep(50000)
    gate.open()
    _ = try client.response(id)
    #expect(progress(client).isEmpty)
    try client.finish()
  }

  @Test func shortWorkIsNotReported() throws {
    gate.open()
    let client = try TestClient.initialized(.forTests(gate: gate))
    _ = try client.response(client.request("inspect", ["model": path, "workDoneToken": 1]))
    #expect(progress(client).isEmpty)
    try client.finish()
  }

  @Test func aTokenServesOneRequestAtATime() throws {
    let client = try TestClient.initialized(.forTests(gate: gate))
    let first = client.request("inspect", ["model": path, "workDoneToken": 1])
    try gate.waitForArrival()
    let error = try client.error("inspect", ["model": path, "workDoneToken": 1])
    #expect(error["code"] == -32602)
    #expect(error["data"]?["path"] == "/workDoneToken")
    gate.open()
    _ = try client.response(first)
    try client.finish()
  }
}
