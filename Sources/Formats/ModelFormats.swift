import Glibc
import ModelGraph

/// The formats that can be read, and telling them apart by what is in a file.
package enum ModelFormats {
  /// Names that `open`'s `format` takes.
  package static let names = ["onnx", "torch.fx", "torch.export", "keras", "keras.h5"]

  /// Reads the model at `path`.
  /// - Parameters:
  ///   - format: what the caller says it is; nil finds out.
  ///   - inputShapes: lengths of its inputs, for files that do not hold them.
  /// - Throws: `Failure` of kind modelNotFound, modelUnreadable, modelUnsupportedFormat, modelMalformed, modelUnsafe,
  ///   modelUnsupportedOperator, inputShapeMismatch, modelChanged, resourceLimit or cancelled.
  package static func open(
    path: String, format: String? = nil, inputShapes: [InputShape] = [], work: Work
  ) throws(Failure) -> any ModelDocument {
    let format = format?.lowercased()
    if let format, !names.contains(format) {
      throw Failure(
        .modelUnsupportedFormat, "there is no format '\(format)'; taken are: \(names.joined(separator: ", "))")
    }
    guard !path.isEmpty, !path.utf8.contains(0) else { throw .cannotOpen(path, ENOENT) }
    guard let canonical = canonicalPath(path) else { throw .cannotOpen(path, errno) }
    if let refusal = KerasRefusals.refusal(ofDirectory: canonical) { throw refusal }
    let file = try MappedFile(path: canonical, work: work)
    let document: any ModelDocument
    do throws(Failure) {
      document = try open(file, as: format, inputShapes: inputShapes, work: work)
    } catch {
      // A file that changed while it was read explains whatever was wrong with it.
      if error.kind == .modelMalformed { try file.verifyUnchanged() }
      throw error
    }
    guard format == nil || format == document.description.format else {
      throw unexpected("a \(document.description.format) model", path, format)
    }
    return document
  }

  private static func open(
    _ file: MappedFile, as format: String?, inputShapes: [InputShape], work: Work
  ) throws(Failure) -> any ModelDocument {
    let path = file.identity.path
    if FileSignature.isZip(file.span) {
      guard format != "onnx" else { throw unexpected("a zip archive", path, format) }
      let zip = try ZipArchive(file.span, owner: file)
      if KerasArchive.recognizes(zip) {
        return try KerasDocument(
          KerasArchive(file: file, zip: zip, work: work), inputShapes: inputShapes, work: work)
      }
      return try TorchDocument(TorchFiles.open(file, zip, work: work), inputShapes: inputShapes, work: work)
    }
    if HDF5File.isHDF5(file.span) {
      guard format != "onnx" else { throw unexpected("an HDF5 file", path, format) }
      return try KerasDocument(KerasH5(file: file, work: work), inputShapes: inputShapes, work: work)
    }
    if let refusal = TorchArchives.refusal(ofOldFile: file.span) { throw refusal }
    if let other = FileSignature.name(of: file.span) {
      throw Failure(
        .modelUnsupportedFormat,
        "\(path) seems to be \(other); taken are ONNX models (.onnx), PyTorch's GraphModules (.pt) and exported programs "
          + "(.pt2), and Keras models (.keras, .h5)", details: ["path": .string(path), "found": .string(other)])
    }
    guard format == nil || format == "onnx" else { throw unexpected("an ONNX model", path, format) }
    return try ONNXDocument(file: file, work: work)
  }

  private static func unexpected(_ found: String, _ path: String, _ format: String?) -> Failure {
    Failure(
      .modelUnsupportedFormat, "\(path) is \(found), and was to be read as \(format ?? ""); leave the format out",
      details: ["path": .string(path), "found": .string(found)])
  }
}

/// What a file's first bytes say that it is.
enum FileSignature {
  static func isZip(_ span: ByteSpan) -> Bool { span.count >= 4 && span[0..<4].equals("PK\u{3}\u{4}") }

  /// nil if the file can be an ONNX model; it has no signature of its own, only fields.
  static func name(of span: ByteSpan) -> String? {
    for (offset, bytes, name) in signatures where span.count >= offset + bytes.utf8CodeUnitCount {
      if span[offset..<(offset + bytes.utf8CodeUnitCount)].equals(bytes) { return name }
    }
    return looksLikeONNX(span) ? nil : "none of the formats known here"
  }

  private static let signatures: [(Int, StaticString, String)] = [
    (0, "PK\u{5}\u{6}", "an empty zip archive"),
    (0, "GGUF", "a GGUF file"),
    (4, "TFL3", "a TensorFlow Lite model"),
    (4, "ORTM", "an ONNX Runtime model (.ort)"),
    (1, "NUMPY", "a NumPy array"),
    (1, "ELF", "a program"),
    (8, "{\"", "a safetensors file"),
    (0, "version https://git-lfs", "a Git LFS pointer, not the file it stands for (run `git lfs pull`)"),
    (0, "<", "an XML or HTML document"),
    (0, "{", "a JSON document"),
  ]

  /// Whether the first fields, as many as are whole, have numbers and wire types of a ModelProto. TensorFlow's frozen
  /// graphs and saved models, the other files of bare protobuf, start with a nested message in field 1 or 2.
  private static func looksLikeONNX(_ span: ByteSpan) -> Bool {
    typealias Field = ONNXSchema.Model
    var reader = WireReader(span, "ModelProto")
    guard let first = try? reader.next() else {
      // Cut within its first field: an ONNX model if that is the graph or the version.
      let tag = span.base.load(as: UInt8.self)
      return tag == UInt8(Field.graph << 3 | 2) || tag == UInt8(Field.irVersion << 3)
    }
    let numbers: Set = [Field.irVersion, 5]
    if first.number == 2, first.kind == .bytes { return first.payload.text != nil }
    return first.number <= Field.highest && first.kind == (numbers.contains(first.number) ? .varint : .bytes)
  }
}
