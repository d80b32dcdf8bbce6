import ModelGraph
import Numerics

/// Writing a message's pieces to a file, one after another: untouched bytes from where they are, tensors gathered
/// through the part's buffer, so that no tensor is ever held a second time.
extension OutputPart {
  /// - Parameter progress: called with the bytes produced so far.
  func append(_ message: WireMessage, work: Work, progress: (Int) -> Void) throws(Failure) {
    var done = 0
    for piece in message.pieces {
      try work.checkCancellation()
      try append(piece, work: work)
      done += piece.count
      progress(done)
    }
  }

  func append(_ piece: WireMessage.Piece, work: Work) throws(Failure) {
    switch piece.content {
    case .span(let span): try append(span.buffer, work: work)
    case .bytes(let bytes): try append(bytes, work: work)
    case .tensor(let bytes): try append(bytes.buffer, work: work)
    case .gathered(let gather, let bytes): try append(gather, of: bytes, work: work)
    case .gatheredEntries(let gather, let bytes, let elements):
      try append(elements.encode(gather, bytes), work: work)
    }
  }

  func append(_ bytes: [UInt8], work: Work) throws(Failure) {
    try bytes.withUnsafeBufferPointer { bytes throws(Failure) in
      try append(UnsafeRawBufferPointer(bytes), work: work)
    }
  }

  /// Rows that fit into the buffer are gathered there; those of long runs, and those that do not fit, go run by run.
  private func append(_ gather: Gather, of bytes: TensorBytes, work: Work) throws(Failure) {
    guard gather.rowBytes > 0 else { return }
    if gather.rowBytes > Self.spaceLimit / 4 {
      for row in 0..<gather.rowCount {
        try gather.forEachRun(ofRow: row) { offset, count throws(Failure) in
          try append(UnsafeRawBufferPointer(start: bytes.base + offset, count: count), work: work)
        }
      }
      return
    }
    let step = Self.spaceLimit / gather.rowBytes
    for start in stride(from: 0, to: gather.rowCount, by: step) {
      let rows = start..<min(start + step, gather.rowCount)
      try withSpace(rows.count * gather.rowBytes, work: work) {
        gather.copyRows(rows, from: bytes.base, to: $0)
      }
    }
  }
}

extension TypedElements {
  /// The packed list of what `gather` keeps of `bytes`.
  func encode(_ gather: Gather, _ bytes: TensorBytes) -> [UInt8] {
    var list: [UInt8] = []
    let kept = TensorBytes(count: gather.outputBytes) {
      if let base = $0.baseAddress { gather.copyRows(0..<gather.rowCount, from: bytes.base, to: base) }
    }
    forEachEntry(of: kept.buffer) { WireMessage.appendVarint($0, to: &list) }
    return list
  }
}
