/// The order of work: what waits, what may start next, what runs. Obeys `WorkScope.mustWait`; runs nothing itself.
///
/// Of the work that may start, light goes before heavy, then the session that was served least recently, then the
/// earliest. Invariant: `blockers` counts the unfinished earlier work a job must wait for, so that it can start when
/// the count is 0, and no cycle is possible because dependencies point back in time only.
package struct WorkQueue<Job> {
  package struct Limits: Sendable {
    package var perSession = 64
    package var total = 512
    package init() {}
  }

  private struct Entry {
    let ticket: Int
    let scope: WorkScope
    let job: Job
    var isRunning = false
    var blockers: Int
  }

  private let limits: Limits
  /// In order of submission.
  private var entries: [Entry] = []
  private var lastTicket = 0
  /// Per session with work in `entries`, when it was last served.
  private var lastServed: [Int: Int] = [:]
  private var served = 0

  package init(limits: Limits = Limits()) { self.limits = limits }

  /// - Returns: the ticket, or nil if too much is waiting already.
  package mutating func add(_ job: Job, _ scope: WorkScope) -> Int? {
    let waiting = entries.count { !$0.isRunning }
    let waitingInSession = entries.count { !$0.isRunning && $0.scope.session == scope.session }
    guard waiting < limits.total, waitingInSession < limits.perSession else { return nil }
    lastTicket += 1
    let blockers = entries.count { scope.mustWait(for: $0.scope) }
    entries.append(Entry(ticket: lastTicket, scope: scope, job: job, blockers: blockers))
    return lastTicket
  }

  /// Takes the work that is to start now; nil if there is none.
  package mutating func start() -> (ticket: Int, job: Job)? {
    let ready = entries.indices.filter { !entries[$0].isRunning && entries[$0].blockers == 0 }
    guard let index = ready.min(by: { rank(entries[$0]) < rank(entries[$1]) }) else { return nil }
    entries[index].isRunning = true
    served += 1
    lastServed[entries[index].scope.session] = served
    return (entries[index].ticket, entries[index].job)
  }

  package var canStart: Bool { entries.contains { !$0.isRunning && $0.blockers == 0 } }

  package mutating func finish(_ ticket: Int) {
    if let index = entries.firstIndex(where: { $0.ticket == ticket }) { remove(at: index) }
  }

  /// Takes back work that has not started; nil if it has.
  package mutating func withdraw(_ ticket: Int) -> Job? {
    guard let index = entries.firstIndex(where: { $0.ticket == ticket && !$0.isRunning }) else { return nil }
    return remove(at: index).job
  }

  @discardableResult
  private mutating func remove(at index: Int) -> Entry {
    let entry = entries.remove(at: index)
    for later in entries.indices[index...] where entries[later].scope.mustWait(for: entry.scope) {
      entries[later].blockers -= 1
    }
    if !entries.contains(where: { $0.scope.session == entry.scope.session }) { lastServed[entry.scope.session] = nil }
    return entry
  }

  private func rank(_ entry: Entry) -> (Int, Int, Int) {
    (entry.scope.weight.rawValue, lastServed[entry.scope.session] ?? 0, entry.ticket)
  }
}
