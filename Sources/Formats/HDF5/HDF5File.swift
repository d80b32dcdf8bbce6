import Glibc
import ModelGraph

/// An HDF5 file that has been read: its tree, with datasets as views of the file's own bytes where those are stored as
/// they are. The file is looked into by HDF5's library in a process of its own (`HDF5Worker`), so that no file,
/// whatever it makes of that library, reaches this one.
package struct HDF5File: Sendable {
  package let root: HDF5Group
  /// Private memory held, in bytes: contents that were unpacked.
  package let heldBytes: Int

  static let signature: StaticString = "HDF\r\n\u{1a}\n"

  package static func isHDF5(_ span: ByteSpan) -> Bool {
    span.count >= 8 && span.base.load(as: UInt8.self) == 0x89 && span[1..<8].equals(signature)
  }

  /// The most that packed datasets may unpack to, together.
  private static let unpackedLimit = 2 << 30
  /// What small files may unpack to whatever their size.
  private static let unpackedAllowance = 64 << 20

  /// A file that is HDF5, or the part `range` of one that holds it.
  /// - Throws: `Failure` of kind modelMalformed, modelUnsafe (it leads to other files), modelUnsupportedFormat,
  ///   modelChanged, resourceLimit, runtimeUnavailable (there is no `espalier-hdf5`) or cancelled.
  package init(
    _ file: MappedFile, range: Range<Int>? = nil, worker: HDF5Worker = HDF5Worker(), work: Work
  ) throws(Failure) {
    let range = range ?? 0..<file.span.count
    let descriptor = try file.reopened()
    defer { close(descriptor) }
    let span = file.span[range]
    do throws(Failure) {
      try self.init(
        TensorBytes(base: span.base, count: span.count, owner: file), in: descriptor, at: range.lowerBound,
        worker: worker, work: work)
    } catch {
      try file.verifyUnchanged()
      throw error
    }
  }

  /// HDF5 that is in memory.
  package init(_ bytes: TensorBytes, worker: HDF5Worker = HDF5Worker(), work: Work) throws(Failure) {
    let memory = try MemoryFile()
    defer { withExtendedLifetime(memory) {} }
    try memory.write(bytes.buffer, work: work)
    try self.init(bytes, in: memory.descriptor, at: 0, worker: worker, work: work)
  }

  private init(
    _ bytes: TensorBytes, in descriptor: Int32, at offset: Int, worker: HDF5Worker, work: Work
  ) throws(Failure) {
    guard Self.isHDF5(ByteSpan(base: bytes.base, count: bytes.count)) else {
      throw Failure(.modelMalformed, "what should be an HDF5 file does not begin like one; it is damaged")
    }
    // Weights are noise to a packer; what unpacks to more than a few times its size is zeros, or a trap.
    let limit = min(Self.unpackedLimit, 4 * min(bytes.count, Self.unpackedLimit) + Self.unpackedAllowance)
    let answer = try worker.run(
      ["index", "\(offset)", "\(bytes.count)", "\(limit)"], input: descriptor, work: work)
    let product = try answer.product.mapped()
    root = try HDF5TreeReader.root(of: answer.stream, file: bytes, product: product, work: work)
    heldBytes = product.count
  }
}
