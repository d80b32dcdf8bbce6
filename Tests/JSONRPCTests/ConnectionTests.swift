import Glibc
import JSON
import JSONRPC
import Synchronization
import Testing
import Threads

/// A connection over real descriptors: who writes, who waits, and how it ends.
struct ConnectionTests {
  /// Our end as a connection, the peer's as a descriptor.
  private func pair(_ limits: OutboundQueue.Limits = .init()) -> (Connection, peer: Int32) {
    var ends: [Int32] = [0, 0]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    return (Connection(endpoint: Endpoint(input: ends[0], output: ends[0]), outboundLimits: limits), ends[1])
  }

  /// What the peer gets until the connection ends, or it has had so many messages.
  private func readAll(_ descriptor: Int32, until messages: Int? = nil) -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while messages == nil || (try? bodies(bytes))?.count != messages {
      let count = read(descriptor, &buffer, buffer.count)
      if count <= 0 { break }
      bytes += buffer[..<count]
    }
    return bytes
  }

  @Test("Sending never waits for a peer that does not read, and everything arrives in order (B1)")
  func slowReader() throws {
    let (connection, peer) = pair()
    let start = Instant.now
    for index in 0..<20_000 {
      connection.send(.response(.int(index), result: "a result of some length, to fill what is between"))
    }
    #expect(Instant.now.seconds(since: start) < 5)
    let reader = Monitor<[UInt8]?>(nil)
    startThread {
      let bytes = readAll(peer)
      reader.update { $0 = bytes }
    }
    connection.finish(by: Instant.now.adding(seconds: 20))
    let bytes = try #require(reader.wait(until: Instant.now.adding(seconds: 20)) { $0 })
    let ids = try bodies(bytes).map { try #require($0["id"]?.intValue) }
    #expect(ids == Array(0..<20_000))
    close(peer)
  }

  @Test("A peer that never reads is disconnected at the hard limit (B2)")
  func hardLimit() {
    var limits = OutboundQueue.Limits()
    limits.hardBytes = 1 << 20
    let (connection, peer) = pair(limits)
    var sent = 0
    while !connection.isClosed, sent < 100_000 {
      connection.send(.response(.int(sent), result: .string(String(repeating: "x", count: 1000))))
      sent += 1
    }
    #expect(connection.isClosed)
    #expect(sent < 3000)
    close(peer)
  }

  @Test func closingEndsTheReaderAndTellsOnce() {
    var ends: [Int32] = [0, 0]
    #expect(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends) == 0)
    let closes = Monitor(0)
    let connection = Connection(endpoint: Endpoint(input: ends[0], output: ends[0])) { closes.update { $0 += 1 } }
    let end = Monitor<Connection.EndOfInput?>(nil)
    startThread {
      let result = connection.run { _ in true }
      end.update { $0 = result }
    }
    connection.close()
    connection.close()
    #expect(end.wait(until: Instant.now.adding(seconds: 5)) { $0 } == .endOfInput(isClean: true))
    #expect(closes.withLock { $0 } == 1)
    close(ends[1])
  }

  @Test("A framing error is answered once and ends the connection; broken JSON does not")
  func framingError() throws {
    let (connection, peer) = pair()
    let stream = Array(
      "Content-Length: 3\r\n\r\n{]}Content-Length: 2\r\n\r\n{}Content-Length: x\r\n\r\nContent-Length: 2\r\n\r\n{}".utf8
    )
    #expect(write(peer, stream, stream.count) == stream.count)
    let received = Mutex<[Message]>([])
    let end = connection.run { message in
      received.withLock { $0.append(message) }
      return true
    }
    #expect(end == .framingError(.badLength("x")))
    connection.finish(by: Instant.now.adding(seconds: 5))
    let answers = try bodies(readAll(peer))
    #expect(answers.map { $0["error"]?["code"] } == [-32700, -32700])
    #expect(answers.allSatisfy { $0["id"] == .null })
    #expect(received.withLock { $0.count } == 1)
    close(peer)
  }

  @Test("Small messages to a pipe are written at once, large ones by the writer")
  func pipes() throws {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    let connection = Connection(endpoint: Endpoint(input: open("/dev/null", O_RDONLY), output: ends[1]))
    connection.send(.response(.int(1), result: .null))
    let large = String(repeating: "y", count: 1 << 20)
    connection.send(.response(.int(2), result: .string(large)))
    connection.send(.response(.int(3), result: .null))
    let answers = try bodies(readAll(ends[0], until: 3))
    #expect(answers.map { $0["id"] } == [1, 2, 3])
    #expect(answers[1]["result"] == .string(large))
    close(ends[0])
  }

  private func bodies(_ bytes: [UInt8]) throws -> [JSONValue] {
    var parser = FrameParser()
    var values: [JSONValue] = []
    var position = 0
    while position < bytes.count {
      let space = parser.freeSpace()
      let count = min(space.count, bytes.count - position)
      space.copyBytes(from: bytes[position..<position + count])
      parser.received(count)
      position += count
      while let body = try parser.nextBody() { values.append(try JSONValue(decoding: body)) }
    }
    return values
  }
}
