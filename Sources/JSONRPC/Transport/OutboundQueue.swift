import Threads

/// Messages waiting for a peer that reads slower than we write: in the order in which they were sent, and bounded.
///
/// Three classes share the one order, so that progress never overtakes its response. Essential messages (responses,
/// the begin and end of progress) are always kept; of a token's reports only the latest is, in the place of the one it
/// replaces; of logs the oldest are dropped and counted. A peer that lets more pile up than `Limits` allow is to be
/// disconnected. Holds no descriptor and reads no clock.
package struct OutboundQueue {
  package enum Delivery: Sendable, Equatable {
    case essential
    case progress(token: RequestID)
    case log
  }

  package struct Limits: Sendable {
    package var hardBytes = 64 << 20
    /// More than this for longer than `softSeconds` ends the connection too.
    package var softBytes = 8 << 20
    package var softSeconds = 10.0
    package var logs = 256
    package init() {}
  }

  private struct Entry {
    var frame: Frame
    let delivery: Delivery
  }

  private let limits: Limits
  /// A queue by two indices: popped entries at the front are nil until enough of them can be dropped at once.
  private var entries: [Entry?] = []
  private var head = 0
  private var queuedLogs = 0
  private var overSoftLimitSince: Instant?
  package private(set) var bytes = 0
  package private(set) var droppedLogs = 0

  package init(limits: Limits = Limits()) { self.limits = limits }

  package var isEmpty: Bool { head == entries.count }

  /// - Returns: false if the limits are exceeded: the peer has stopped reading.
  package mutating func push(_ frame: Frame, _ delivery: Delivery, now: Instant) -> Bool {
    switch delivery {
    case .progress: if replaceReport(with: frame, delivery) { return isWithinLimits(now) }
    case .log:
      if queuedLogs == limits.logs { dropOldestLog() }
      queuedLogs += 1
    case .essential: break
    }
    entries.append(Entry(frame: frame, delivery: delivery))
    bytes += frame.count
    return isWithinLimits(now)
  }

  package mutating func pop(now: Instant) -> Frame? {
    while head < entries.count {
      defer { advance() }
      if let entry = entries[head] {
        bytes -= entry.frame.count
        if entry.delivery == .log { queuedLogs -= 1 }
        _ = isWithinLimits(now)
        return entry.frame
      }
    }
    return nil
  }

  /// Puts back what could not be written whole; it goes out before everything else.
  package mutating func unpop(_ frame: Frame) {
    let entry = Entry(frame: frame, delivery: .essential)
    if head > 0 {
      head -= 1
      entries[head] = entry
    } else {
      entries.insert(entry, at: 0)
    }
    bytes += frame.count
  }

  package mutating func removeAll() {
    (entries, head, bytes, queuedLogs) = ([], 0, 0, 0)
  }

  private mutating func replaceReport(with frame: Frame, _ delivery: Delivery) -> Bool {
    // Not the head: it may have been put back half written.
    for index in entries.indices.dropFirst(head).reversed() where entries[index]?.delivery == delivery {
      bytes += frame.count - (entries[index]?.frame.count ?? 0)
      entries[index] = Entry(frame: frame, delivery: delivery)
      return true
    }
    return false
  }

  private mutating func dropOldestLog() {
    guard let index = entries.indices.dropFirst(head).first(where: { entries[$0]?.delivery == .log }) else { return }
    bytes -= entries[index]?.frame.count ?? 0
    entries[index] = nil
    queuedLogs -= 1
    droppedLogs += 1
  }

  private mutating func advance() {
    entries[head] = nil
    head += 1
    if head == entries.count || head > 1024 {
      entries.removeFirst(head)
      head = 0
    }
  }

  private mutating func isWithinLimits(_ now: Instant) -> Bool {
    overSoftLimitSince = bytes > limits.softBytes ? overSoftLimitSince ?? now : nil
    let secondsOver = overSoftLimitSince.map { now.seconds(since: $0) } ?? 0
    return bytes <= limits.hardBytes && secondsOver <= limits.softSeconds
  }
}
