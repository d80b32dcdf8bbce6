import JSON
import ModelGraph

/// The archive that `torch.export.save` writes: which of its entries are the program, the tables of its tensors, and
/// their bytes (torch/export/pt2_archive/constants.py).
///
/// Invariant: it holds one program of a schema that is read here, with all its tensors as raw bytes; nothing in it is
/// compiled code or needs Python's pickle, but for the sample inputs, which are never read.
package struct ExportedArchive: Sendable {
  let zip: ZipArchive
  /// Keeps the archive's bytes.
  private let owner: any AnyObject & Sendable
  /// The folder of all entries, with its slash.
  let root: String
  /// "model" in `models/model.json`.
  let name: String
  let program: ExportedText
  let weights: ExportedText
  let constants: ExportedText

  static let weightsFolder = "data/weights/"
  static let constantsFolder = "data/constants/"
  private static let programFolder = "models/"
  /// What PyTorch 2.7 and before begin the program's name with.
  private static let formerProgram = "serialized_exported_program"
  /// Far beyond the program of any network; that of a decoder of 80 blocks has a seventh of it.
  static let textLimit = 48 << 20

  /// Whether the archive claims to be one of `torch.export`'s, of whatever version.
  package static func recognizes(_ zip: ZipArchive) -> Bool {
    let root = root(of: zip)
    if zip.entry(named: root + "archive_format") != nil { return true }
    let marks = [root + programFolder, root + formerProgram, formerProgram]
    return zip.entries.contains { entry in marks.contains { entry.name.hasPrefix($0) } }
  }

  /// PyTorch takes the folder of the first entry.
  private static func root(of zip: ZipArchive) -> String {
    guard let first = zip.entries.first?.name, let slash = first.firstIndex(of: "/") else { return "" }
    return String(first[...slash])
  }

  /// - Throws: `Failure` of kind modelUnsupportedFormat, modelUnsafe, modelMalformed, resourceLimit or cancelled.
  /// - Parameter owner: keeps the bytes of `zip`.
  package init(_ zip: ZipArchive, owner: any AnyObject & Sendable, work: Work) throws(Failure) {
    (self.zip, self.owner) = (zip, owner)
    root = Self.root(of: zip)
    guard !zip.entries.contains(where: { $0.fileName.hasPrefix(Self.formerProgram) }) else {
      throw .unsupportedExport("it has the layout of PyTorch 2.7 and before, which newer versions do not read either")
    }
    for (entry, expected) in [("archive_format", "pt2"), ("archive_version", "0"), ("byteorder", "little")] {
      guard let found = try Self.line(entry, zip, root, work: work) else {
        if entry == "byteorder" { continue }
        throw .unsupportedExport("it has no '\(entry)'")
      }
      guard found == expected else {
        throw .unsupportedExport("its \(entry) is '\(found.prefix(40))' where '\(expected)' is expected")
      }
    }
    let root = root
    let compiled = ["data/aotinductor/", "data/executorch/"].map { root + $0 }
    guard !zip.entries.contains(where: { entry in compiled.contains { entry.name.hasPrefix($0) } }) else {
      throw .unsupportedExport("it holds code compiled by AOTInductor or ExecuTorch, which cannot be compressed")
    }
    let folder = root + Self.programFolder
    let programs = zip.entries.map(\.name).filter { $0.hasPrefix(folder) && $0.hasSuffix(".json") }
    guard let program = programs.first, programs.count == 1 else {
      throw .unsupportedExport(
        programs.isEmpty
          ? "it holds no program (models/*.json)" : "it holds \(programs.count) programs; save them one by one")
    }
    name = String(program.dropFirst(folder.count).dropLast(".json".count))
    for folder in [Self.weightsFolder, Self.constantsFolder]
    where zip.entry(named: root + folder + name + ".pt") != nil {
      throw .unsupportedExport("it keeps its weights in a pickle (\(folder)\(name).pt), as PyTorch 2.8 did")
    }
    self.program = try ExportedText(program, of: zip, limit: Self.textLimit, work: work)
    let tables = (
      weights: "\(root)\(Self.weightsFolder)\(name)_weights_config.json",
      constants: "\(root)\(Self.constantsFolder)\(name)_constants_config.json"
    )
    weights = try ExportedText(tables.weights, of: zip, limit: Self.textLimit, work: work)
    constants = try ExportedText(tables.constants, of: zip, limit: Self.textLimit, work: work)
    try requireKnownSchema()
  }

  /// The raw bytes of a tensor's storage.
  func storage(_ name: String, folder: String) throws(Failure) -> TensorBytes {
    guard let entry = zip.entry(named: root + folder + name) else {
      throw Failure(
        .modelMalformed, "the archive has no '\(folder)\(name)', which its table of tensors names",
        details: ["entry": .string(folder + name)])
    }
    let bytes = try zip.bytes(of: entry)
    return TensorBytes(base: bytes.base, count: bytes.count, owner: owner)
  }

  /// The contents of a one-line entry, without what ends the line.
  private static func line(
    _ name: String, _ zip: ZipArchive, _ root: String, work: Work
  ) throws(Failure) -> Substring? {
    guard let entry = zip.entry(named: root + name) else { return nil }
    let text = String(decoding: try zip.contents(of: entry, limit: 4096, work: work).buffer, as: UTF8.self)
    return text.prefix { !$0.isNewline }
  }

  private func requireKnownSchema() throws(Failure) {
    let version = program.root["schema_version"]
    guard let major = version?["major"]?.int, let minor = version?["minor"]?.int else {
      throw program.malformed("it has no schema version", program.root)
    }
    guard major == 8 else {
      let author = program.root["torch_version"]?.string.map { " (written by PyTorch \($0.prefix(40)))" } ?? ""
      throw .unsupportedExport(
        "its schema is \(major).\(minor)\(author), and schemas 8.x are read, those of PyTorch 2.9 to 2.13")
    }
  }
}

/// An entry that is JSON text.
struct ExportedText: Sendable {
  /// Its name in the archive.
  let name: String
  let bytes: TensorBytes
  let text: JSONText

  init(_ name: String, of zip: ZipArchive, limit: Int, work: Work) throws(Failure) {
    guard let entry = zip.entry(named: name) else {
      throw .unsupportedExport("it has no '\(name.drop { $0 != "/" }.dropFirst())'")
    }
    let bytes = try zip.contents(of: entry, limit: limit, work: work)
    (self.name, self.bytes) = (name, bytes)
    do throws(JSONDecodingError) {
      text = try JSONText(bytes.buffer, owner: Owner(bytes))
    } catch {
      throw Failure(
        .modelMalformed, "'\(name)' is not the JSON it has to be: \(error.message)",
        details: ["entry": .string(name)])
    }
    guard text.root.kind == .object else { throw malformed("it is no object", text.root) }
  }

  var root: JSONElement { text.root }

  /// An error about what stands at `element`.
  func malformed(_ reason: String, _ element: JSONElement) -> Failure {
    Failure(
      .modelMalformed, "'\(name)' is damaged: \(reason) (at byte \(element.range.lowerBound))",
      details: ["entry": .string(name), "offset": .int(element.range.lowerBound)])
  }

  // MARK: Members that have to be there

  func member(_ name: StaticString, of element: JSONElement) throws(Failure) -> JSONElement {
    guard let member = element[name] else { throw malformed("'\(name)' is missing", element) }
    return member
  }

  func string(_ name: StaticString, of element: JSONElement) throws(Failure) -> String {
    guard let text = try member(name, of: element).string else { throw malformed("'\(name)' is no string", element) }
    return text
  }

  func array(_ name: StaticString, of element: JSONElement) throws(Failure) -> JSONElement {
    let member = try member(name, of: element)
    guard member.kind == .array else { throw malformed("'\(name)' is no array", member) }
    return member
  }

  func object(_ name: StaticString, of element: JSONElement) throws(Failure) -> JSONElement {
    let member = try member(name, of: element)
    guard member.kind == .object else { throw malformed("'\(name)' is no object", member) }
    return member
  }

  func int(_ element: JSONElement) throws(Failure) -> Int {
    guard let value = element.int else { throw malformed("there is no whole number", element) }
    return value
  }

  /// Which case of a union `element` is, and its value.
  func union(_ element: JSONElement) throws(Failure) -> (name: JSONElement, value: JSONElement) {
    guard let only = element.onlyMember else { throw malformed("there is no object of one member", element) }
    return only
  }

  private final class Owner: Sendable {
    let bytes: TensorBytes
    init(_ bytes: TensorBytes) { self.bytes = bytes }
  }
}

extension Failure {
  /// An archive of `torch.export` that is not taken.
  static func unsupportedExport(_ reason: String) -> Failure {
    Failure(
      .modelUnsupportedFormat,
      "the exported program is not taken: \(reason); with a recent PyTorch, write it by "
        + "torch.export.save(torch.export.export(model, example_inputs), \"model.pt2\")")
  }
}
