import Glibc
import JSON
import JSONRPC
import Server
import Testing
import Threads

/// Loading once, noticing changes, staying within the budget.
struct ModelCacheTests {
  private let directory: TemporaryDirectory
  private let loads = Monitor(0)

  init() throws { directory = try TemporaryDirectory() }

  private func use(_ client: TestClient, _ path: String) throws -> JSONValue {
    try client.response(client.request("inspect", ["model": .string(path)]))
  }

  private func listed(_ client: TestClient) throws -> [String] {
    let models = try #require(try client.call("models")["models"]?.arrayValue)
    return try models.map { try #require($0["path"]?.stringValue).split(separator: "/").last.map(String.init) ?? "" }
  }

  @Test("Ten that ask at once share one load")
  func singleFlight() throws {
    let gate = Gate()
    let server = Server.forTests(gate: gate, loads: loads)
    let path = try directory.file("a")
    let clients = try (0..<10).map { _ in try TestClient.initialized(server) }
    let ids = clients.map { $0.request("inspect", ["model": .string(path)]) }
    try gate.waitForArrival()
    gate.open()
    for (client, id) in zip(clients, ids) { #expect(try client.response(id)["error"]?["code"] != -32801) }
    #expect(loads.withLock { $0 } == 1)
    for client in clients { try client.finish() }
  }

  @Test("A changed file is another model (C3)")
  func changedFile() throws {
    let client = try TestClient.initialized(.forTests(loads: loads))
    let path = try directory.file("a")
    _ = try use(client, path)
    _ = try use(client, path)
    #expect(loads.withLock { $0 } == 1)
    _ = try directory.file("a", "other")
    _ = try use(client, path)
    #expect(loads.withLock { $0 } == 2)
    #expect(rename(try directory.file("b", "third"), path) == 0)
    _ = try use(client, path)
    #expect(loads.withLock { $0 } == 3)
    unlink(path)
    let error = try use(client, path)["error"]
    #expect(error?["code"] == -32803)
    #expect(error?["data"]?["kind"] == "model.notFound")
    try client.finish()
  }

  @Test("A file that changes while it is loaded is read again; one that keeps changing is told about (C3)")
  func changesDuringLoad() throws {
    let gate = Gate()
    let client = try TestClient.initialized(.forTests(gate: gate, loads: loads))
    let path = try directory.file("a")
    let id = client.request("inspect", ["model": .string(path)])
    try gate.waitForArrival()
    _ = try directory.file("a", "changed meanwhile")
    gate.open()
    #expect(try client.response(id)["error"]?["code"] != -32801)
    #expect(loads.withLock { $0 } == 2)
    let stubborn = Monitor(true)
    startThread { [directory] in
      var count = 0
      while stubborn.withLock({ $0 }) {
        count += 1
        _ = try? directory.file("b", String(repeating: "x", count: count % 100))
      }
    }
    usleep(50000)
    let answer = try use(client, "\(directory.path)/b")
    stubborn.update { $0 = false }
    #expect([-32801, -32803].contains(answer["error"]?["code"]?.intValue) || answer["result"] != nil)
    try client.finish()
  }

  @Test func theLeastRecentlyUsedGoesFirst() throws {
    let client = try TestClient.initialized(.forTests(cacheBytes: 2_500_000, heldBytes: 1_000_000, loads: loads))
    let paths = try ["a", "b", "c"].map { try directory.file($0) }
    _ = try use(client, paths[0])
    _ = try use(client, paths[1])
    _ = try use(client, paths[0])
    _ = try use(client, paths[2])
    #expect(try listed(client) == ["a", "c"])
    let report = try client.call("models")
    #expect(report["evictions"] == 1)
    #expect(try #require(report["bytes"]?.intValue) <= 2_500_000)
    try client.finish()
  }

  @Test func aModelAboveTheBudgetIsRefused() throws {
    let client = try TestClient.initialized(.forTests(cacheBytes: 1000, heldBytes: 1_000_000))
    let error = try use(client, try directory.file("a"))["error"]
    #expect(error?["code"] == -32803)
    #expect(error?["data"]?["kind"] == "resource.limit")
    #expect(try listed(client).isEmpty)
    try client.finish()
  }

  @Test("What is no model is not read again at once, unless its file changed")
  func rejected() throws {
    let client = try TestClient.initialized(.forTests(loads: loads))
    let path = try directory.file("a.bad")
    for _ in 0..<20 { #expect(try use(client, path)["error"]?["data"]?["kind"] == "model.malformed") }
    #expect(loads.withLock { $0 } < 5)
    let before = loads.withLock { $0 }
    _ = try directory.file("a.bad", "mended")
    _ = try use(client, path)
    #expect(loads.withLock { $0 } == before + 1)
    try client.finish()
  }

  @Test func releasesOneOrAll() throws {
    let client = try TestClient.initialized(.forTests())
    let paths = try ["a", "b", "c"].map { try directory.file($0) }
    for path in paths { _ = try use(client, path) }
    #expect(symlink(paths[1], "\(directory.path)/link") == 0)
    #expect(
      try client.call("release", ["model": .string("file://\(directory.path)/link")]) == [
        "released": .array([.string(paths[1])])
      ])
    #expect(try listed(client) == ["a", "c"])
    #expect(try client.call("release")["released"]?.arrayValue?.count == 2)
    #expect(try listed(client).isEmpty)
    try client.finish()
  }

  @Test("Options that alter the graph make another entry")
  func keys() throws {
    let client = try TestClient.initialized(.forTests(loads: loads))
    let path = JSONValue.string(try directory.file("a"))
    for shape in [[1, 3, 8, 8], [2, 3, 8, 8]] {
      _ = try client.response(client.request("inspect", ["model": path, "input_shapes": [["shape": .ints(shape)]]]))
    }
    #expect(loads.withLock { $0 } == 2)
    let error = try client.error("inspect", ["model": path, "input_shapes": [["name": "nobody", "shape": [1]]]])
    #expect(error["data"]?["kind"] == "model.inputShapes")
    try client.finish()
  }
}
