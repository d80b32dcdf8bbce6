import JSONRPC
import TestSupport
import Testing

/// Framing, driven without descriptors: rows F1 to F4 of the robustness catalogue.
struct FrameParserTests {
  private func frame(_ body: String, header: String = "") -> [UInt8] {
    Array("\(header)Content-Length: \(body.utf8.count)\r\n\r\n\(body)".utf8)
  }

  /// Bodies out of bytes fed in the pieces given; the error that ended it, if one did.
  private func parse(
    _ bytes: [UInt8], pieces: (Int) -> Int = { _ in .max }, limits: FrameParser.Limits = .init()
  ) -> (bodies: [String], error: FramingError?) {
    var parser = FrameParser(limits: limits)
    var bodies: [String] = []
    var position = 0
    while position < bytes.count {
      let space = parser.freeSpace()
      let count = min(space.count, bytes.count - position, max(1, pieces(position)))
      space.copyBytes(from: bytes[position..<position + count])
      parser.received(count)
      position += count
      do throws(FramingError) {
        while let body = try parser.nextBody() { bodies.append(String(decoding: body, as: UTF8.self)) }
      } catch {
        return (bodies, error)
      }
    }
    return (bodies, nil)
  }

  @Test("Any split of a stream gives the same bodies (F1)", arguments: 0..<300)
  func splits(seed: Int) {
    let expected = (0..<12).map { "{\"n\":\"\(String(repeating: "é", count: $0 * $0 * (seed % 7)))\"}" }
    let headers = ["", "Content-Type: application/vscode-jsonrpc; charset=utf-8\r\n", "X-Other: 1\r\n"]
    let stream = expected.enumerated().flatMap { frame($1, header: headers[$0 % 3]) }
    var random = SeededGenerator(seed: UInt64(seed))
    let largest = seed == 0 ? 1 : 1 << Int.random(in: 0..<12, using: &random)
    let result = parse(stream) { _ in Int.random(in: 1...largest, using: &random) }
    #expect(result.error == nil)
    #expect(result.bodies == expected)
  }

  @Test func readsTheHeaderInAnyCaseAndOrder() {
    let stream = Array(
      ("content-LENGTH:2\r\nContent-Type: x; Charset=\"UTF8\"\r\n\r\n{}"
        + "Content-Type: text/plain\r\nContent-Length: \t2 \r\nContent-Length: 2\r\n\r\n[]").utf8)
    #expect(parse(stream).bodies == ["{}", "[]"])
  }

  @Test(
    "A length that is none ends the stream (F2)",
    arguments: ["", "0", "-1", "+1", "0x10", "1e3", "1 0", "10_0", "٣", "1,0", "9999999999999999999999999"])
  func badLength(text: String) {
    let result = parse(Array("Content-Length: \(text)\r\n\r\n{}".utf8))
    #expect(result.bodies.isEmpty)
    guard case .badLength = result.error else {
      Issue.record("\(String(describing: result.error))")
      return
    }
  }

  @Test("Headers that are not ours end the stream (F2, F3)")
  func badHeaders() {
    func error(_ text: String) -> FramingError? { parse(Array(text.utf8)).error }
    #expect(error("\r\n{}") == .noLength)
    #expect(error("X: 1\r\n\r\n{}") == .noLength)
    #expect(error("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}") == .contradictingLengths(2, 3))
    #expect(error("Content-Length: 2\n\n{}") == .loneLineFeed)
    #expect(error("Content-Length: 2\r\n\n{}") == .loneLineFeed)
    #expect(error("Content-Length: 2\rX: 1\r\n\r\n{}") == .controlCharacter)
    #expect(error("Content-\0Length: 2\r\n\r\n{}") == .controlCharacter)
    #expect(error(": 2\r\n\r\n{}") == .notAHeader)
    #expect(error("{\"jsonrpc\":\"2.0\"}\r\n") == .notAHeader)
    #expect(error("Content-Type: a; charset=latin-1\r\n") == .badCharset("latin-1"))
  }

  @Test("A length one more or less than real misframes what follows, and that is noticed (F2)")
  func shiftedLength() {
    let next = frame("{}")
    #expect(parse(Array("Content-Length: 3\r\n\r\n{}".utf8) + next).error != nil)
    #expect(parse(Array("Content-Length: 1\r\n\r\n{}".utf8) + next).error != nil)
  }

  @Test("Endless headers are cut off early (F3)")
  func endlessHeaders() {
    #expect(parse(Array(repeating: UInt8(ascii: "a"), count: 1 << 20)).error == .headerTooLong(1024))
    let many = Array(String(repeating: "X: 1\r\n", count: 100_000).utf8)
    #expect(parse(many).error == .headerTooLong(8192))
  }

  @Test("The limit is the last length that is read (F4)")
  func bodyLimit() {
    let limits = FrameParser.Limits(bodyBytes: 100)
    let atLimit = String(repeating: "x", count: 100)
    #expect(parse(frame(atLimit), limits: limits).bodies == [atLimit])
    #expect(parse(frame(atLimit + "x"), limits: limits).error == .bodyTooLong(101, limit: 100))
  }

  @Test("A claimed length costs nothing before bytes arrive")
  func claimedLength() throws {
    var parser = FrameParser(limits: .init(bodyBytes: 1 << 40))
    let header = Array("Content-Length: 1000000000000\r\n\r\n".utf8)
    parser.freeSpace().copyBytes(from: header)
    parser.received(header.count)
    let isComplete = try parser.nextBody() != nil
    let space = parser.freeSpace().count
    #expect(!isComplete)
    #expect(space <= 64 << 10)
  }

  @Test func knowsWhetherTheInputEndsBetweenMessages() throws {
    var parser = FrameParser()
    func feed(_ text: String) throws {
      parser.freeSpace().copyBytes(from: Array(text.utf8))
      parser.received(text.utf8.count)
      while try parser.nextBody() != nil {}
    }
    var states = [parser.isBetweenMessages]
    for piece in ["Content-Length: 2\r\n", "\r\n{", "}"] {
      try feed(piece)
      states.append(parser.isBetweenMessages)
    }
    #expect(states == [true, false, false, true])
  }

  @Test("Damaged streams end in an error or in fewer bodies, never otherwise (F5)", arguments: 0..<500)
  func damage(seed: Int) {
    var random = SeededGenerator(seed: UInt64(seed))
    var stream = (0..<5).flatMap { frame("{\"id\":\($0)}") }
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let position = Int.random(in: 0..<stream.count, using: &random)
      switch Int.random(in: 0..<3, using: &random) {
      case 0: stream[position] = UInt8.random(in: 0...255, using: &random)
      case 1: stream.remove(at: position)
      default: stream.insert(UInt8.random(in: 0...255, using: &random), at: position)
      }
    }
    let whole = parse(stream)
    let bytewise = parse(stream) { _ in 1 }
    #expect(whole.bodies == bytewise.bodies)
    #expect(whole.error == bytewise.error)
  }
}
