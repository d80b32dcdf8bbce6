import ModelGraph

/// An exported program that has been read: the file, its archive, and what the program says.
///
/// Invariant: every tensor and every place in the text points into bytes that `file` keeps mapped or `archive` holds.
package final class ExportedProgramDocument: Sendable {
  package let file: MappedFile
  let archive: ExportedArchive
  let exported: ExportedProgram

  package var program: TorchProgram { exported.program }

  /// - Parameter zip: the archive in `file`.
  /// - Throws: `Failure` of kind modelUnsupportedFormat, modelUnsupportedOperator, modelUnsafe, modelMalformed,
  ///   modelChanged, resourceLimit or cancelled.
  package init(file: MappedFile, zip: ZipArchive, work: Work) throws(Failure) {
    self.file = file
    do throws(Failure) {
      archive = try ExportedArchive(zip, owner: file, work: work)
      exported = try ExportedProgramReader.read(archive, work: work)
      try SampleInputs.check(archive, work: work)
    } catch {
      // A file that changed while it was read explains whatever was wrong with it.
      if error.kind == .modelMalformed { try file.verifyUnchanged() }
      throw error
    }
    try file.verifyUnchanged()
  }

  /// "pytorch 2.13.0+cpu".
  package var framework: String? { archive.program.root["torch_version"]?.string.map { "pytorch \($0.prefix(40))" } }

  /// Private memory held, in bytes, by the structs' own sizes and names at typical lengths.
  package var heldBytes: Int {
    let texts = [archive.program, archive.weights, archive.constants]
    var bytes = texts.reduce(0) { $0 + $1.text.heldBytes }
    bytes += exported.tensorValues.count * 96 + exported.nodes.count * 1024
    let mapped = UInt(bitPattern: file.span.base)..<UInt(bitPattern: file.span.end)
    for parameter in program.parameters.values where !mapped.contains(UInt(bitPattern: parameter.tensor.bytes.base)) {
      bytes += parameter.tensor.bytes.count
    }
    return bytes
  }
}
