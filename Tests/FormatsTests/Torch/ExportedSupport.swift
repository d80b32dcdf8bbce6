import ModelGraph
import TestSupport
import Testing

import Formats

/// An exported program of make_exported_fixtures.py, whose entries a test can change before it is read.
struct ExportedFile {
  let zip: ZipArchive
  /// Name without the folder, and contents.
  var entries: [(name: String, bytes: [UInt8])]
  private let root: String

  init(_ name: String) throws {
    let bytes = try bytes(fixture("exported.\(name).pt2"))
    root = "exported.\(name)/"
    zip = try ZipArchive(bytes)
    entries = try Self.entries(of: bytes)
  }

  /// The contents of an archive's entries, by name without the folder.
  static func entries(of bytes: [UInt8]) throws -> [(name: String, bytes: [UInt8])] {
    let zip = try ZipArchive(bytes)
    return try zip.entries.map { (String($0.name.drop { $0 != "/" }.dropFirst()), try zip.array(of: $0)) }
  }

  static let program = "models/model.json"
  static let weights = "data/weights/model_weights_config.json"

  /// Exchanges text that occurs in an entry.
  func replacing(_ old: String, with new: String, in entry: String = program) throws -> ExportedFile {
    var result = self
    let index = try #require(entries.firstIndex { $0.name == entry })
    let text = String(decoding: entries[index].bytes, as: UTF8.self)
    try #require(text.contains(old), "\(old)")
    result.entries[index].bytes = Array(text.replacing(old, with: new, maxReplacements: 1).utf8)
    return result
  }

  func adding(_ name: String, _ bytes: [UInt8] = [0]) -> ExportedFile {
    var result = self
    result.entries.append((name, bytes))
    return result
  }

  func removing(_ name: String) -> ExportedFile {
    var result = self
    result.entries.removeAll { $0.name == name }
    return result
  }

  func document() throws -> ExportedProgramDocument {
    var writer = ZipWriter(alignment: ZipWriter.torchAlignment)
    for (name, bytes) in entries { writer.add(root + name, bytes) }
    return try writer.document()
  }
}

extension ZipWriter {
  /// What is written, read again.
  func document() throws -> ExportedProgramDocument {
    let scratch = try Scratch()
    _ = try written(to: scratch["model.pt2"])
    return try exportedDocument(scratch["model.pt2"])
  }
}

func exportedDocument(_ path: String) throws -> ExportedProgramDocument {
  let file = try MappedFile(path: path, work: Work())
  return try ExportedProgramDocument(file: file, zip: try ZipArchive(file.span, owner: file), work: Work())
}

extension TorchProgram {
  func calls(of function: String) -> [Int] {
    calls.indices.filter { if case .function(function) = calls[$0].target { true } else { false } }
  }

  var functions: [String] {
    calls.map { if case .function(let name) = $0.target { name } else { "a module" } }
  }

  /// The place of argument `name` of a call.
  func place(_ call: Int, _ name: String, _ element: Int? = nil) throws -> ArgumentPlace {
    let index = try #require(calls[call].keywords.firstIndex { $0.name == name })
    return ArgumentPlace(call: call, path: [calls[call].arguments.count + index] + (element.map { [$0] } ?? []))
  }

  func value(_ call: Int, _ name: String) -> TorchArgument? {
    calls[call].keywords.first { $0.name == name }?.value
  }

  func shape(of result: String) -> [Dimension]? {
    calls.lazy.flatMap(\.declared).first { $0.name == result }?.shape
  }
}
