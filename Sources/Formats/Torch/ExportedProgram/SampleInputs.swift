import ModelGraph

/// The example inputs that an exported program carries: a file of `torch.save` within the archive, which PyTorch unpickles
/// whenever it loads the program.
///
/// They go into the compressed file as they are, and so nothing may be in them that does more than make tensors.
enum SampleInputs {
  /// Far beyond the pickle of any inputs; their numbers lie beside it.
  private static let pickleLimit = 16 << 20

  /// - Throws: `modelUnsafe`, naming what would be called; `modelMalformed` for what is no such file.
  static func check(_ archive: ExportedArchive, work: Work) throws(Failure) {
    let folder = archive.root + "data/sample_inputs/"
    for entry in archive.zip.entries where entry.name.hasPrefix(folder) && !entry.isDirectory {
      let bytes = try archive.zip.contents(of: entry, limit: entry.count, work: work)
      let holder = Holder(bytes)
      let span = ByteSpan(base: bytes.base, count: bytes.count, offset: entry.range.lowerBound)
      do throws(Failure) {
        let inner = try ZipArchive(span, owner: holder)
        guard let pickle = inner.entries.first(where: { $0.name.hasSuffix("data.pkl") }) else {
          throw Failure(.modelMalformed, "there is no pickle in them")
        }
        let stream = try inner.contents(of: pickle, limit: pickleLimit, work: work)
        _ = try PickleReader.read(ByteSpan(base: stream.base, count: stream.count), work: work)
        withExtendedLifetime(stream) {}
      } catch {
        if error.kind == .cancelled { throw error }
        throw Failure(
          error.kind,
          "the program's example inputs ('\(entry.name)') are not taken: \(error.message); export the model "
            + "again with plain tensors as inputs", details: error.details)
      }
    }
  }

  private final class Holder: Sendable {
    let bytes: TensorBytes
    init(_ bytes: TensorBytes) { self.bytes = bytes }
  }
}
