import ModelGraph

/// Which of PyTorch's files an archive is.
enum TorchFiles {
  /// - Throws: `modelUnsupportedFormat` for an archive of another kind, saying what it seems to be.
  static func open(_ file: MappedFile, work: Work) throws(Failure) -> any TorchFile {
    let zip: ZipArchive
    do throws(Failure) {
      zip = try ZipArchive(file.span, owner: file)
    } catch {
      // A file that changed while it was read explains whatever was wrong with it.
      if error.kind == .modelMalformed { try file.verifyUnchanged() }
      throw error
    }
    if ExportedArchive.recognizes(zip) { return try ExportedProgramDocument(file: file, zip: zip, work: work) }
    if zip.entry(named: "config.json") != nil {
      throw Failure(
        .modelUnsupportedFormat,
        "\(file.identity.path) seems to be a Keras model, which is not read yet; export it with model.export(path, "
          + "format=\"onnx\")", details: ["path": .string(file.identity.path)])
    }
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
    let file = try MappedFile(path: path, work: work)
    return try ExportedProgramDocument(file: file, zip: ZipArchive(file.span, owner: file), work: work)
  }
}
