import JSON
import Threads

/// One peer: messages in, on the thread that calls `run`; messages out, from any thread, without anybody waiting.
///
/// A message is written by the thread that sends it if nothing is queued and the peer has room; otherwise by a writer
/// thread, started when first needed. So the reader never waits for the peer to read, which is the deadlock that
/// chains of bounded pipes end in, and a small answer costs no change of threads.
package final class Connection: Sendable {
  private struct Output {
    var queue: OutboundQueue
    /// Some thread is in a write call; only it may start another.
    var isWriting = false
    var hasWriterThread = false
    var isClosed = false
    /// Logs dropped since this was last said.
    var reportedDrops = 0
  }

  package enum EndOfInput: Equatable, Sendable {
    /// The peer sends no more. `isClean` if it stopped between two messages.
    case endOfInput(isClean: Bool)
    case framingError(FramingError)
    /// The receiver asked for it.
    case stopped
  }

  private enum WriterStep { case write(Frame), stop }

  private let endpoint: Endpoint
  private let limits: FrameParser.Limits
  private let output: Monitor<Output>
  private let onClose: @Sendable () -> Void

  /// - Parameter onClose: called once, on whichever thread closes the connection; must not block.
  package init(
    endpoint: Endpoint, limits: FrameParser.Limits = .init(), outboundLimits: OutboundQueue.Limits = .init(),
    onClose: @escaping @Sendable () -> Void = {}
  ) {
    (self.endpoint, self.limits, self.onClose) = (endpoint, limits, onClose)
    output = Monitor(Output(queue: OutboundQueue(limits: outboundLimits)))
  }

  // MARK: Input

  /// Reads and hands over messages, one after the other, until the input ends or `receive` returns false. A text that
  /// is not JSON is answered here; a stream that is not framed is answered once and ends the connection.
  package func run(_ receive: (Message) -> Bool) -> EndOfInput {
    var parser = FrameParser(limits: limits)
    while true {
      let count = endpoint.read(into: parser.freeSpace())
      if count == 0 { return .endOfInput(isClean: parser.isBetweenMessages) }
      parser.received(count)
      do throws(FramingError) {
        while let body = try parser.nextBody() {
          do throws(JSONDecodingError) {
            if !receive(Message(try JSONValue(decoding: body))) { return .stopped }
          } catch {
            send(.response(nil, error: ResponseError(.parseError, "the body is not valid JSON: \(error.message)")))
          }
          if isClosed { return .stopped }
        }
      } catch {
        send(.response(nil, error: ResponseError(.parseError, "framing: \(error)")))
        return .framingError(error)
      }
    }
  }

  /// Whether nobody can read what is sent any more.
  package var peerIsGone: Bool { isClosed || endpoint.peerIsGone }

  // MARK: Output

  /// Sends or queues the message. What is sent after the connection closed goes nowhere.
  package func send(_ message: JSONObject, _ delivery: OutboundQueue.Delivery = .essential) {
    // Without memory for a message there is none for saying so either.
    guard let frame = Frame(message) else { return close() }
    send(frame, delivery)
  }

  package func send(_ frame: Frame, _ delivery: OutboundQueue.Delivery = .essential) {
    let mayWrite = output.withLock { output in
      let isFree = !output.isWriting && output.queue.isEmpty && !output.isClosed
      if isFree { output.isWriting = true }
      return isFree
    }
    if mayWrite { writeNow(frame) } else { enqueue(frame, delivery) }
  }

  /// Waits until everything queued has been written, or the deadline; then closes.
  package func finish(by deadline: Instant) {
    _ = output.wait(until: deadline) { $0.isClosed || ($0.queue.isEmpty && !$0.isWriting) ? true : nil }
    close()
  }

  /// Ends the connection at once; what is queued is lost.
  package func close() {
    let wasOpen = output.update { output in
      defer { output.isClosed = true }
      output.queue.removeAll()
      return !output.isClosed
    }
    if wasOpen {
      endpoint.hangUp()
      onClose()
    }
  }

  package var isClosed: Bool { output.withLock { $0.isClosed } }

  /// This thread has `isWriting`. Gives it back, and what could not be written to the queue.
  private func writeNow(_ frame: Frame) {
    var frame = frame
    let result = frame.withUnsentBytes(endpoint.writeNow)
    if case .failed = result {
      output.update { $0.isWriting = false }
      return close()
    }
    if case .wrote(let count) = result { frame.advance(by: count) }
    output.update { output in
      output.isWriting = false
      if output.isClosed { return }
      if frame.count > 0 { output.queue.unpop(frame) }
      startWriterIfNeeded(&output)
    }
  }

  private func enqueue(_ frame: Frame, _ delivery: OutboundQueue.Delivery) {
    let isWithinLimits = output.update { output in
      if output.isClosed { return true }
      let isWithinLimits = output.queue.push(frame, delivery, now: Instant.now)
      startWriterIfNeeded(&output)
      return isWithinLimits
    }
    if !isWithinLimits { close() }
  }

  private func startWriterIfNeeded(_ output: inout Output) {
    if output.hasWriterThread || output.isWriting || output.queue.isEmpty { return }
    output.hasWriterThread = startThread { [self] in writeUntilClosed() }
  }

  private func writeUntilClosed() {
    while case .write(var frame)? = output.wait(for: nextToWrite) {
      while frame.count > 0 {
        guard case .wrote(let count) = frame.withUnsentBytes(endpoint.writeBlocking) else {
          output.update { $0.isWriting = false }
          return close()
        }
        frame.advance(by: count)
      }
      output.update { $0.isWriting = false }
    }
  }

  /// The frame to write next, with `isWriting` taken; nil to wait.
  private func nextToWrite(_ output: inout Output) -> WriterStep? {
    if output.isClosed { return .stop }
    if output.isWriting { return nil }
    guard let frame = output.queue.pop(now: Instant.now) else { return nil }
    output.isWriting = true
    let dropped = output.queue.droppedLogs - output.reportedDrops
    if dropped > 0, let notice = Frame(.logMessage(.warning, "\(dropped) log messages were dropped unread")) {
      output.reportedDrops += dropped
      _ = output.queue.push(notice, .log, now: Instant.now)
    }
    return .write(frame)
  }
}

/// The severities of `window/logMessage`.
package enum MessageType: Int, Sendable {
  case error = 1
  case warning = 2
  case info = 3
  case log = 4
}

extension JSONObject {
  package static func logMessage(_ type: MessageType, _ text: String) -> JSONObject {
    .notification("window/logMessage", ["type": .int(type.rawValue), "message": .string(text)])
  }
}
