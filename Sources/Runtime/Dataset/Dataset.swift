import Glibc
import ModelGraph

/// Samples that a user gives: a NumPy array (.npy), for models with one input; an archive (.npz) with an array for
/// every input, under its name; or a folder of such files, in the order of their names.
///
/// The first axis of an array is that of the samples. They are fed in batches of the length that the model's first axis
/// has, or of the chosen one where that is open; batches go on from one file to the next where the samples' shapes are
/// equal. Element types must be the model's own: where a conversion is wanted, whoever has the data knows which.
package struct Dataset: SampleSource {
  package let path: String
  package let sampleCount: Int
  /// How many there are, limit or not.
  package let givenCount: Int
  private let inputs: [ModelValue]
  private let runs: [Run]
  private let batchRows: Int

  /// Files next to each other whose samples can share a batch.
  private struct Run: Sendable {
    var parts: [DatasetPart]
    /// Of all parts, less what the limit cuts off.
    var samples: Int
  }

  /// Reads headers and checks them against the model, for all files at once.
  /// - Parameters:
  ///   - inputs: what the model takes; a graph says more of it than a session.
  ///   - batchSize: samples at a time where the model leaves it open.
  ///   - sampleLimit: how many of the first samples to use; rounded up to whole batches where the model fixes them.
  /// - Throws: `Failure` of kind datasetNotFound, datasetUnreadable, datasetMalformed, datasetMismatch, datasetChanged,
  ///   resourceLimit or cancelled.
  package init(
    path: String, for inputs: [ModelValue], batchSize: Int = 1, sampleLimit: Int? = nil, work: Work
  ) throws(Failure) {
    let fixedRows = try Self.fixedBatch(inputs, path)
    (self.path, self.inputs, batchRows) = (path, inputs, fixedRows ?? max(1, batchSize))
    var runs: [Run] = []
    for file in try Self.files(path) {
      try work.checkCancellation()
      let part = try DatasetPart(file, for: inputs, work: work)
      if let last = runs.indices.last, Self.canShareBatch(runs[last].parts[0], part, inputs) {
        runs[last].parts.append(part)
        runs[last].samples += part.samples
      } else {
        runs.append(Run(parts: [part], samples: part.samples))
      }
    }
    givenCount = runs.reduce(0) { $0 + $1.samples }
    var rest = sampleLimit.map { max(1, $0) } ?? Int.max
    if let fixedRows, rest < Int.max - fixedRows { rest = (rest + fixedRows - 1) / fixedRows * fixedRows }
    for index in runs.indices {
      runs[index].samples = min(runs[index].samples, rest)
      rest -= runs[index].samples
      try Self.checkBatches(of: runs[index], fixedRows: fixedRows, rows: batchRows)
    }
    runs.removeAll { $0.samples == 0 }
    self.runs = runs
    sampleCount = runs.reduce(0) { $0 + $1.samples }
  }

  package func forEachBatch(work: Work, _ body: (Batch) throws(Failure) -> Void) throws(Failure) {
    var start = 0
    for run in runs {
      var reader = RunReader(run.parts, inputs)
      let end = start + run.samples
      while start < end {
        let samples = start..<min(start + batchRows, end)
        try body(Batch(samples: samples, sampleCount: sampleCount, inputs: try reader.next(samples.count, work: work)))
        start = samples.upperBound
      }
    }
  }

  /// Tells these samples from others, and from those of changed files.
  package var identity: String {
    let files = runs.flatMap(\.parts).map { part in
      let (stamp, modified, changed) = (part.stamp, part.stamp.modified, part.stamp.changed)
      return "\(part.path) \(stamp.device) \(stamp.inode) \(stamp.size) "
        + "\(modified.tv_sec).\(modified.tv_nsec) \(changed.tv_sec).\(changed.tv_nsec)"
    }
    return files.joined(separator: "\n") + "\n\(sampleCount)"
  }

  // MARK: Files

  private static func files(_ path: String) throws(Failure) -> [String] {
    var info = stat()
    guard !path.utf8.contains(0), stat(path, &info) == 0 else { throw .datasetNotOpened(path, errno) }
    guard info.st_mode & S_IFMT == S_IFDIR else { return [path] }
    guard access(path, R_OK | X_OK) == 0 else { throw .datasetNotOpened(path, errno) }
    let files = names(in: path).filter { !$0.hasPrefix(".") && ($0.hasSuffix(".npy") || $0.hasSuffix(".npz")) }
    guard !files.isEmpty else {
      throw Failure(
        .datasetNotFound, "the folder \(path) holds no .npy or .npz file; folders within it are not looked into",
        details: ["path": .string(path)])
    }
    return files.map { "\(path)/\($0)" }
  }

  // MARK: Batches

  /// The length of the first axis that the model prescribes; nil if it leaves that open.
  private static func fixedBatch(_ inputs: [ModelValue], _ path: String) throws(Failure) -> Int? {
    var fixed: (rows: Int, input: ModelValue)?
    for input in inputs {
      guard case .fixed(let rows)? = input.shape?.first else { continue }
      guard rows > 0, fixed == nil || fixed?.rows == rows else {
        let inputs = inputs.map { "'\($0.name)' \(shapeText($0.shape))" }.joined(separator: ", ")
        throw .datasetMismatch(
          "the first axes of the model's inputs, \(inputs), are no common axis of samples, so that no dataset can be fed",
          expected: "one length", found: inputs, path)
      }
      fixed = (rows, input)
    }
    return fixed?.rows
  }

  private static func canShareBatch(_ a: DatasetPart, _ b: DatasetPart, _ inputs: [ModelValue]) -> Bool {
    a.sampleShapes == b.sampleShapes && !inputs.contains { $0.shape == [] }
  }

  private static func checkBatches(of run: Run, fixedRows: Int?, rows: Int) throws(Failure) {
    let path = run.parts[0].path
    if let fixedRows, run.samples % fixedRows != 0 {
      throw .datasetMismatch(
        "the model takes batches of exactly \(fixedRows), and \(run.samples) samples from \(path) on are no multiple of "
          + "that; leave out \(run.samples % fixedRows) or export the model with an open first axis",
        expected: "a multiple of \(fixedRows) samples", found: "\(run.samples) samples", path)
    }
    let sampleBytes = run.parts[0].arrays.reduce(0.0) {
      $0 + Double($1.header.dataBytes) / Double(max(1, $1.header.shape.first ?? 1))
    }
    guard sampleBytes * Double(rows) <= Double(batchByteLimit) else {
      throw Failure(
        .resourceLimit,
        "a batch of \(rows) samples of \(path) has \(Int(sampleBytes)) bytes each, above the limit of \(batchByteLimit) "
          + "in all; use smaller batches", details: ["path": .string(path), "limit": .int(batchByteLimit)])
    }
  }
}

/// Reads samples from files one after the other, and keeps one file open.
private struct RunReader {
  private let inputs: [ModelValue]
  private var waiting: ArraySlice<DatasetPart>
  /// The shapes of one sample, per input.
  private let sampleShapes: [[Int]]
  private var readers: [ContentReader] = []
  /// Samples left in the open file.
  private var left = 0
  /// Of inputs that are one number for all samples.
  private var scalars: [String: Tensor] = [:]

  init(_ parts: [DatasetPart], _ inputs: [ModelValue]) {
    (self.inputs, waiting) = (inputs, parts[...])
    sampleShapes = parts[0].sampleShapes.map { Swift.Array($0) }
  }

  /// - Precondition: there are so many samples left.
  mutating func next(_ rows: Int, work: Work) throws(Failure) -> [String: Tensor] {
    let buffers = zip(inputs, sampleShapes).map { input, shape in
      BatchBuffer(rowBytes: shape.reduce(input.dtype?.byteWidth ?? 0, *), rows: input.shape == [] ? 0 : rows)
    }
    var row = 0
    while row < rows {
      if left == 0 { try openNext(work: work) }
      let count = min(rows - row, left)
      for (index, reader) in readers.enumerated() where inputs[index].shape != [] {
        try reader.read(into: buffers[index].rows(row..<row + count), work: work)
      }
      row += count
      left -= count
    }
    var tensors = scalars
    for (index, input) in inputs.enumerated() where input.shape != [] {
      guard let dtype = input.dtype else { continue }
      if dtype == .bool { buffers[index].normalizeBooleans() }
      tensors[input.name] = Tensor(dtype: dtype, shape: [rows] + sampleShapes[index], bytes: buffers[index].tensorBytes)
    }
    return tensors
  }

  private mutating func openNext(work: Work) throws(Failure) {
    guard let part = waiting.popFirst() else { return }
    let file = try DatasetFile(part.path, expecting: part.stamp)
    readers = []
    for (input, array) in zip(inputs, part.arrays) {
      let reader = try ContentReader(file, array.entry)
      guard try reader.readHeader(work: work) == array.header else { throw .datasetChanged(part.path) }
      if input.shape == [] {
        let bytes = try reader.read(array.header.dataBytes, work: work)
        scalars[input.name] = Tensor(dtype: array.header.dtype, shape: [], bytes: TensorBytes(copying: bytes))
      }
      readers.append(reader)
    }
    left = part.samples
  }
}

/// The memory of one input's batch, aligned as the library's own is.
private final class BatchBuffer {
  private let base: UnsafeMutableRawPointer
  private let count: Int
  private let rowBytes: Int

  init(rowBytes: Int, rows: Int) {
    (self.rowBytes, count) = (rowBytes, rowBytes * rows)
    base = .allocate(byteCount: max(count, 1), alignment: 64)
  }

  deinit { base.deallocate() }

  func rows(_ range: Range<Int>) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: base + range.lowerBound * rowBytes, count: range.count * rowBytes)
  }

  /// NumPy's truth is any byte but 0; other programs know 1 only.
  func normalizeBooleans() {
    for byte in 0..<count {
      let isTrue = base.load(fromByteOffset: byte, as: UInt8.self) != 0
      base.storeBytes(of: isTrue ? 1 : 0, toByteOffset: byte, as: UInt8.self)
    }
  }

  var tensorBytes: TensorBytes { TensorBytes(base: base, count: count, owner: self) }
}
