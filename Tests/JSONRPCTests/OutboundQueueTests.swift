import JSON
import JSONRPC
import Testing
import Threads

/// What waits for a slow reader: the order, what may be dropped, and when to give up.
struct OutboundQueueTests {
  private func frame(_ text: String) throws -> Frame { try #require(Frame(["t": .string(text)])) }

  private func text(_ frame: Frame) throws -> String {
    let whole = frame.withUnsentBytes { String(decoding: $0, as: UTF8.self) }
    let body = try #require(whole.split(separator: "\r\n\r\n").last)
    return try #require(JSONValue(decoding: String(body))["t"]?.stringValue)
  }

  private func drain(_ queue: inout OutboundQueue) throws -> [String] {
    var texts: [String] = []
    while let frame = queue.pop(now: .now) { texts.append(try text(frame)) }
    return texts
  }

  @Test func keepsTheOrderAcrossClasses() throws {
    var queue = OutboundQueue()
    for (index, delivery) in [.essential, .log, .progress(token: 1), .essential].enumerated()
      as EnumeratedSequence<[OutboundQueue.Delivery]>
    {
      _ = queue.push(try frame("\(index)"), delivery, now: .now)
    }
    #expect(try drain(&queue) == ["0", "1", "2", "3"])
    #expect(queue.bytes == 0 && queue.isEmpty)
  }

  @Test func ofReportsOnlyTheLatestOfEachTokenIsKept() throws {
    var queue = OutboundQueue()
    _ = queue.push(try frame("begin 1"), .essential, now: .now)
    for round in 0..<1000 {
      for token in 1...2 {
        _ = queue.push(try frame("report \(token) \(round)"), .progress(token: .int(token)), now: .now)
      }
    }
    _ = queue.push(try frame("response"), .essential, now: .now)
    #expect(queue.bytes < 500)
    #expect(try drain(&queue) == ["begin 1", "report 1 999", "report 2 999", "response"])
    #expect(queue.bytes == 0)
  }

  @Test func ofLogsTheOldestAreDroppedAndCounted() throws {
    var limits = OutboundQueue.Limits()
    limits.logs = 3
    var queue = OutboundQueue(limits: limits)
    for index in 0..<10 { _ = queue.push(try frame("log \(index)"), .log, now: .now) }
    _ = queue.push(try frame("response"), .essential, now: .now)
    #expect(queue.droppedLogs == 7)
    #expect(try drain(&queue) == ["log 7", "log 8", "log 9", "response"])
    #expect(queue.bytes == 0)
  }

  @Test func whatIsPutBackGoesOutFirst() throws {
    var queue = OutboundQueue()
    _ = queue.push(try frame("a"), .essential, now: .now)
    _ = queue.push(try frame("b"), .essential, now: .now)
    let popped = queue.pop(now: .now)
    let first = try #require(popped)
    queue.unpop(first)
    #expect(try drain(&queue) == ["a", "b"])
    queue.unpop(first)
    #expect(try drain(&queue) == ["a"])
    #expect(queue.bytes == 0)
  }

  /// One message of so many bytes, at a time.
  private struct Push {
    let bytes: Int
    var after = 0.0
  }

  @Test(
    "A reader that stopped is given up: above the hard limit at once, above the soft one after a while",
    arguments: [
      ([Push(bytes: 900), Push(bytes: 900), Push(bytes: 900)], true),
      ([Push(bytes: 900), Push(bytes: 900), Push(bytes: 900), Push(bytes: 900)], false),
      ([Push(bytes: 900), Push(bytes: 900), Push(bytes: 1, after: 9)], true),
      ([Push(bytes: 900), Push(bytes: 900), Push(bytes: 1, after: 11)], false),
      ([Push(bytes: 900), Push(bytes: 1, after: 11)], true),
    ])
  private func limits(pushes: [Push], isFine: Bool) throws {
    var limits = OutboundQueue.Limits()
    (limits.hardBytes, limits.softBytes, limits.softSeconds) = (3000, 1000, 10)
    var queue = OutboundQueue(limits: limits)
    let start = Instant.now
    var last = true
    for push in pushes {
      let frame = try frame(String(repeating: "x", count: push.bytes))
      last = queue.push(frame, .essential, now: start.adding(seconds: push.after))
    }
    #expect(last == isFine)
  }

  @Test func aReaderThatCatchesUpIsNot() throws {
    var limits = OutboundQueue.Limits()
    limits.softBytes = 1000
    var queue = OutboundQueue(limits: limits)
    let start = Instant.now
    let kilobyte = try frame(String(repeating: "x", count: 900))
    for _ in 0..<2 { _ = queue.push(kilobyte, .essential, now: start) }
    _ = queue.pop(now: start.adding(seconds: 9))
    let isFine = queue.push(kilobyte, .essential, now: start.adding(seconds: 11))
    #expect(isFine)
  }
}

extension RequestID: ExpressibleByIntegerLiteral {
  public init(integerLiteral value: Int) { self = .int(value) }
}
