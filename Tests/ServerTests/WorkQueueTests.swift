import JSONRPC
import Server
import Testing

/// Which work waits for which: the rule, case by case, and the queue that obeys it.
struct WorkQueueTests {
  private func scope(_ session: Int, _ weight: WorkScope.Weight = .light, _ kinds: WorkKind...) -> WorkScope {
    WorkScope(session: session, kinds: kinds, weight: weight)
  }

  private func started<Job>(_ queue: inout WorkQueue<Job>) -> Job? { queue.start()?.job }

  @Test(
    "The dependency rule",
    arguments: [
      (.modelRead("a"), .modelRead("a"), false), (.modelRead("a"), .modelWrite("a"), true),
      (.modelWrite("a"), .modelRead("a"), true), (.modelWrite("a"), .modelWrite("a"), true),
      (.modelWrite("a"), .modelWrite("b"), false), (.modelRead("a"), .modelWrite("b"), false),
      (.outputWrite("a"), .outputWrite("a"), true), (.outputWrite("a"), .outputWrite("b"), false),
      (.modelRead("a"), .outputWrite("a"), true), (.outputWrite("a"), .modelRead("a"), true),
      (.modelRead("a"), .outputWrite("b"), false), (.outputWrite("a"), .modelWrite("a"), true),
      (.configuration, .modelRead("a"), true), (.modelRead("a"), .configuration, true),
    ] as [(WorkKind, WorkKind, Bool)])
  func rule(later: WorkKind, earlier: WorkKind, waits: Bool) {
    #expect(later.isDependency(on: earlier, sameSession: true) == waits)
    let isBarrier = later == .configuration || earlier == .configuration
    #expect(later.isDependency(on: earlier, sameSession: false) == (waits && !isBarrier))
  }

  @Test func startsWhatMayStartInOrder() {
    var queue = WorkQueue<String>()
    _ = queue.add("read a", scope(1, .light, .modelRead("a")))
    _ = queue.add("release a", scope(1, .light, .modelWrite("a")))
    _ = queue.add("read a again", scope(1, .light, .modelRead("a")))
    _ = queue.add("read b", scope(1, .light, .modelRead("b")))
    let first = queue.start()
    #expect(first?.job == "read a")
    #expect(started(&queue) == "read b")
    #expect(!queue.canStart)
    if let first { queue.finish(first.ticket) }
    let release = queue.start()
    #expect(release?.job == "release a")
    #expect(!queue.canStart)
    if let release { queue.finish(release.ticket) }
    #expect(started(&queue) == "read a again")
  }

  @Test func lightWorkGoesAheadAndSessionsTakeTurns() {
    var queue = WorkQueue<String>()
    for index in 0..<2 { _ = queue.add("heavy \(index)", scope(1, .heavy, .modelRead("a"))) }
    for index in 0..<3 { _ = queue.add("one \(index)", scope(1, .light, .modelRead("a"))) }
    _ = queue.add("two", scope(2, .light, .modelRead("a")))
    var order: [String] = []
    while let next = queue.start() {
      order.append(next.job)
      queue.finish(next.ticket)
    }
    #expect(order == ["one 0", "two", "one 1", "one 2", "heavy 0", "heavy 1"])
  }

  @Test func whatIsTakenBackHoldsNobodyUp() throws {
    var queue = WorkQueue<String>()
    _ = queue.add("read", scope(1, .light, .modelRead("a")))
    let release = queue.add("release", scope(1, .light, .modelWrite("a")))
    _ = queue.add("read again", scope(1, .light, .modelRead("a")))
    let running = queue.start()
    let (first, waiting) = (try #require(running?.ticket), try #require(release))
    let withdrawn = [queue.withdraw(first), queue.withdraw(waiting)]
    #expect(withdrawn == [nil, "release"], "what runs cannot be taken back")
    #expect(started(&queue) == "read again")
  }

  @Test func tooMuchIsRefused() {
    var limits = WorkQueue<Int>.Limits()
    (limits.perSession, limits.total) = (4, 6)
    var queue = WorkQueue<Int>(limits: limits)
    #expect((0..<5).map { queue.add($0, scope(1, .light, .modelRead("a"))) != nil } == [true, true, true, true, false])
    #expect((0..<3).map { queue.add($0, scope(2, .light, .modelRead("a"))) != nil } == [true, true, false])
    // What runs does not count as waiting.
    _ = queue.start()
    let ticket = queue.add(9, scope(2, .light, .modelRead("a")))
    #expect(ticket != nil)
  }

  @Test("Random work is never started before what it depends on", arguments: 0..<50)
  func randomOrder(seed: Int) {
    var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 | 1
    func random(_ bound: Int) -> Int {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return Int(state % UInt64(bound))
    }
    var queue = WorkQueue<Int>()
    var scopes: [Int: WorkScope] = [:]
    var (running, unfinished): ([(ticket: Int, job: Int)], Set<Int>) = ([], [])
    for step in 0..<300 {
      switch random(3) {
      case 0:
        let path = ["a", "b"][random(2)]
        let kind: WorkKind = [
          .modelRead(path), .modelRead(path), .modelWrite(path), .outputWrite(path), .configuration,
        ][random(5)]
        let new = scope(random(3), .light, kind)
        if queue.add(step, new) != nil {
          scopes[step] = new
          unfinished.insert(step)
        }
      case 1:
        if let next = queue.start() {
          running.append(next)
          for earlier in unfinished where earlier < next.job {
            #expect(scopes[next.job].map { $0.mustWait(for: scopes[earlier]!) } == false)
          }
        }
      default:
        if let index = running.indices.randomElement() {
          let done = running.remove(at: index)
          queue.finish(done.ticket)
          unfinished.remove(done.job)
        }
      }
    }
  }
}
