import ModelGraph

/// An HDF5 file to be written: HDF5's library makes one with room for every dataset, in a process of its own and in
/// memory of which only the structure is ever touched; the datasets go into their places when the file is written.
///
/// Invariant: the same tree makes the same bytes, in the layout that h5py, and with it Keras, writes: the oldest format
/// that will do, contiguous datasets, no times.
package struct HDF5Writer {
  private let root: HDF5Group
  private let worker: HDF5Worker

  /// Room for structure, beside the datasets.
  private static let structureLimit = 1 << 30

  package init(_ root: HDF5Group, worker: HDF5Worker = HDF5Worker()) { (self.root, self.worker) = (root, worker) }

  /// Appends the file to `file`, in which nothing is yet.
  package func write(to file: OutputFile, work: Work) throws(Failure) {
    let message = try encoded(work: work)
    try file.reserve(message.count)
    try file.append(message, work: work) { _ in }
  }

  /// The file as pieces.
  /// - Throws: `Failure` of kind resourceLimit, runtimeUnavailable, certificateFailed or cancelled.
  func encoded(work: Work) throws(Failure) -> WireMessage {
    let tree = HDF5TreeWriter(root)
    let request = try MemoryFile()
    let stream = TensorBytes(copying: tree.stream)
    defer { withExtendedLifetime((stream, request)) {} }
    try request.write(stream.buffer, work: work)
    let limit = tree.datasets.reduce(Self.structureLimit) { $0 + $1.count }
    let answer = try worker.run(["create", "\(limit)"], input: request.descriptor, work: work)
    return try filled(answer.product.mapped(), tree.datasets, offsets: offsets(answer.stream, tree.datasets))
  }

  private func offsets(_ stream: TensorBytes, _ datasets: [HDF5Dataset]) throws(Failure) -> [Int] {
    guard stream.count == 8 * datasets.count else { throw misplaced }
    return datasets.indices.map {
      Int(truncatingIfNeeded: UInt64(littleEndian: stream.base.loadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self)))
    }
  }

  /// The bytes of `skeleton` with the contents of `datasets` in their places.
  private func filled(
    _ skeleton: TensorBytes, _ datasets: [HDF5Dataset], offsets: [Int]
  ) throws(Failure) -> WireMessage {
    var message = WireMessage()
    for index in datasets.indices.filter({ datasets[$0].count > 0 }).sorted(by: { offsets[$0] < offsets[$1] }) {
      let (dataset, offset) = (datasets[index], offsets[index])
      guard offset >= message.count, offset <= skeleton.count, dataset.count <= skeleton.count - offset else {
        throw misplaced
      }
      message.append(skeleton: skeleton, upTo: offset)
      let content: WireMessage.Content =
        if let gather = dataset.gather { .gathered(gather, dataset.bytes) } else { .tensor(dataset.bytes) }
      message.append(WireMessage.Piece(content: content, count: dataset.count))
    }
    message.append(skeleton: skeleton, upTo: skeleton.count)
    return message
  }

  private var misplaced: Failure {
    Failure(.certificateFailed, "HDF5's library laid out the file in a way that does not hold its datasets")
  }
}

extension ZipWriter {
  /// An entry that is an HDF5 file.
  package mutating func add(_ name: String, _ file: HDF5Writer, work: Work) throws(Failure) {
    add(name, try file.encoded(work: work))
  }
}

extension WireMessage {
  /// Structure from where the message ends to `end`.
  fileprivate mutating func append(skeleton: TensorBytes, upTo end: Int) {
    guard end > count else { return }
    let part = skeleton.part(count..<end)
    append(Piece(content: .tensor(part), count: part.count))
  }
}
