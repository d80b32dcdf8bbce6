import ModelGraph

/// Which of PyTorch's files an archive is.
enum TorchFiles {
  /// - Throws: `modelUnsupportedFormat` for an archive of another kind, saying what it seems to be.
  static func open(_ file: MappedFile, _ zip: ZipArchive, work: Work) throws(Failure) -> any TorchFile {
    if ExportedArchive.recognizes(zip) { return try ExportedProgramDocument(file: file, zip: zip, work: work) }
    return try GraphModuleDocument(file: file, archive: zip, work: work)
  }
}

extension ExportedProgramDocument: TorchFile {
  var format: String { "torch.export" }

  package func archive(
    making edits: [TorchEdit], lengths: [String: [Int: Int]], symbols: [String: Int], work: Work
  ) throws(Failure) -> ZipWriter {
    var surgeon = try ExportedProgramSurgeon(self, lengths: lengths, symbols: symbols)
    return try surgeon.operate(edits, work: work)
  }

  func reopened(_ path: String, work: Work) throws(Failure) -> any TorchFile {
    let file = try MappedFile(path: path, isOurs: true, work: work)
    return try ExportedProgramDocument(file: file, zip: ZipArchive(file.span, owner: file), work: work)
  }
}
