import Glibc
import ModelGraph
import Synchronization

/// Where a tensor's bytes are outside the model file (TensorProto.external_data).
struct ExternalReference: Hashable {
  /// Relative to the model file's directory, as written.
  let location: String
  let offset: Int
  /// nil where the file leaves it out or says 0: then the shape says it.
  let length: Int?

  init(_ entries: [ByteSpan], what: String, at position: Int) throws(Failure) {
    var location: String?
    var offset = 0
    var length: Int?
    for entry in entries {
      let (key, value) = try Self.keyAndValue(entry)
      switch key {
      case "location": location = value
      case "offset": offset = try Self.number(value, what, position)
      case "length": length = try Self.number(value, what, position)
      default: break
      }
    }
    guard let location, !location.isEmpty else {
      throw .malformed("\(what) says its data is external but not where", at: position)
    }
    (self.location, self.offset, self.length) = (location, offset, length == 0 ? nil : length)
  }

  /// A StringStringEntryProto.
  static func keyAndValue(_ span: ByteSpan) throws(Failure) -> (String, String) {
    var key = ""
    var value = ""
    var reader = WireReader(span, "StringStringEntryProto")
    while let field = try reader.next() {
      guard field.number == ONNXSchema.Entry.key || field.number == ONNXSchema.Entry.value else { continue }
      guard let text = try field.bytes().text else { throw .malformed("an entry is not UTF-8", at: span.offset) }
      if field.number == ONNXSchema.Entry.key { key = text } else { value = text }
    }
    return (key, value)
  }

  private static func number(_ text: String, _ what: String, _ position: Int) throws(Failure) -> Int {
    guard let value = Int(text), value >= 0 else {
      throw .malformed("\(what) has '\(text)' as a position in its external file", at: position)
    }
    return value
  }
}

/// The files beside a model that hold its tensors' bytes, each mapped on first use.
///
/// Invariant: no file outside the model's directory is ever opened, whatever the model says: locations are relative and
/// without `..`, and what symbolic links lead to must still lie in the directory.
final class ExternalFiles: Sendable {
  /// Canonical directory of the model file.
  private let directory: String
  /// Not the whole `Work`, whose listener would live as long as the document.
  private let cancellation: CancellationFlag
  private let opened = Mutex<[String: MappedFile]>([:])

  init(directory: String, cancellation: CancellationFlag) {
    (self.directory, self.cancellation) = (directory, cancellation)
  }

  /// By location, as the model spells it.
  var files: [(location: String, file: MappedFile)] {
    opened.withLock { files in files.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }
  }

  /// The bytes that `reference` names.
  /// - Throws: `Failure` of kind modelUnsafe (the location), modelNotFound, modelUnreadable, modelMalformed (the
  ///   range).
  func bytes(_ reference: ExternalReference, expected: Int, what: String) throws(Failure) -> TensorBytes {
    let file = try file(at: reference.location, what: what)
    let length = reference.length ?? expected
    guard length == expected else {
      throw Failure(
        .modelMalformed, "\(what) has \(length) bytes in \(reference.location) where its shape needs \(expected)")
    }
    guard reference.offset <= file.span.count, length <= file.span.count - reference.offset else {
      throw Failure(
        .modelMalformed,
        "\(what) is bytes \(reference.offset) to \(reference.offset &+ length) of \(reference.location), which has only "
          + "\(file.span.count)")
    }
    return TensorBytes(base: file.span.base + reference.offset, count: length, owner: file)
  }

  private func file(at location: String, what: String) throws(Failure) -> MappedFile {
    if let file = opened.withLock({ $0[location] }) { return file }
    let file = try MappedFile(path: try resolve(location, what: what), work: Work(cancellation: cancellation))
    return opened.withLock { files in
      if let other = files[location] { return other }
      files[location] = file
      return file
    }
  }

  private func resolve(_ location: String, what: String) throws(Failure) -> String {
    func refused(_ reason: String) -> Failure {
      Failure(
        .modelUnsafe,
        "\(what) has its data at '\(location)', which \(reason); only files in the model's own directory "
          + "are read", details: ["location": .string(location)])
    }
    guard !location.hasPrefix("/") else { throw refused("is an absolute path") }
    guard !location.utf8.contains(0), !location.utf8.contains(UInt8(ascii: "\\")) else {
      throw refused("is no portable path")
    }
    guard !location.split(separator: "/").contains("..") else { throw refused("leads out of the directory") }
    let path = directory == "/" ? "/" + location : directory + "/" + location
    guard let canonical = canonicalPath(path) else { throw .cannotOpen(path, errno) }
    guard canonical.hasPrefix(directory == "/" ? "/" : directory + "/") else {
      throw refused("is a link that leads out of the directory")
    }
    return canonical
  }
}
