import Formats
import JSON
import ModelGraph
import TestSupport
import Testing

/// A `.keras` fixture.
func archive(_ path: String) throws -> KerasArchive {
  let file = try MappedFile(path: path, work: Work())
  return try KerasArchive(file: file, zip: try ZipArchive(file.span, owner: file), work: Work())
}

func legacy(_ path: String) throws -> KerasH5 {
  try KerasH5(file: try MappedFile(path: path, work: Work()), work: Work())
}

/// Reads a `.keras` archive that holds `config` and has no weights: what a configuration is refused for comes first.
func read(config: String, version: String = "3.15.1") throws {
  let scratch = try Scratch()
  defer { withExtendedLifetime(scratch) {} }
  let output = try OutputFile(path: scratch["model.keras"], overwrite: false)
  var writer = ZipWriter(alignment: 1)
  writer.add("metadata.json", Array("{\"keras_version\": \"\(version)\"}".utf8))
  writer.add("config.json", Array(config.utf8))
  try writer.write(to: output, work: Work())
  _ = try output.finish(work: Work())
  try output.publish()
  _ = try archive(output.path)
}

/// Why a configuration is refused.
func refusal(_ config: String, version: String = "3.15.1") throws -> Failure? {
  try failure { try read(config: config, version: version) }
}

/// A Functional of Keras 3 with these layers behind an input named "x".
func functional(_ layers: [String], output: String, name: String = "net") -> String {
  let all = [inputLayer("x")] + layers
  return """
    {"module": "keras", "class_name": "Functional", "registered_name": null, "name": "\(name)", "config": {"name": \
    "\(name)", "layers": [\(all.joined(separator: ", "))], "input_layers": ["x", 0, 0], "output_layers": \(output)}}
    """
}

func inputLayer(_ name: String) -> String {
  """
  {"module": "keras.layers", "class_name": "InputLayer", "config": {"name": "\(name)", "batch_shape": [null, 4]}, \
  "registered_name": null, "name": "\(name)", "inbound_nodes": []}
  """
}

/// A layer that is called once for every list of references.
func layer(_ className: String, _ name: String, settings: String = "", calls: [String]) -> String {
  let nodes = calls.map { "{\"args\": [\($0)], \"kwargs\": {}}" }.joined(separator: ", ")
  return """
    {"module": "keras.layers", "class_name": "\(className)", "config": {"name": "\(name)"\(settings)}, \
    "registered_name": null, "name": "\(name)", "inbound_nodes": [\(nodes)]}
    """
}

func tensor(_ layer: String, _ node: Int = 0, _ index: Int = 0) -> String {
  """
  {"class_name": "__keras_tensor__", "config": {"shape": [null, 4], "dtype": "float32", "keras_history": ["\(layer)", \
  \(node), \(index)]}}
  """
}

extension KerasProgram {
  /// Every call as text: `%1 head#1 = Dense(%0.0)`.
  var listing: [String] {
    calls.enumerated().map { index, call in
      let arguments = call.arguments.map(\.text) + call.keywords.map { "\($0.name)=\($0.value.text)" }
      return "%\(index) \(call.name) = \(call.layer.className)(\(arguments.joined(separator: ", ")))"
    }
  }

  func layer(_ path: String) -> KerasLayer? { layers.first { $0.path == path } }
}

extension KerasArgument {
  var text: String {
    switch self {
    case .input(let index): "in\(index)"
    case .result(let call, let index): "%\(call).\(index)"
    case .list(let items): "[\(items.map(\.text).joined(separator: ", "))]"
    case .dictionary(let items): "{\(items.map { "\($0.name): \($0.value.text)" }.joined(separator: ", "))}"
    case .literal(let element): element.source
    case .stated(let tensor, _): tensor.text
    }
  }
}

/// A `.keras` fixture with another configuration.
func rewritten(_ name: String, _ change: (String) -> String) throws -> KerasArchive {
  let file = try MappedFile(path: fixture(name), work: Work())
  let zip = try ZipArchive(file.span, owner: file)
  let scratch = try Scratch()
  defer { withExtendedLifetime(scratch) {} }
  let output = try OutputFile(path: scratch["model.keras"], overwrite: false)
  var writer = ZipWriter(alignment: 1)
  for entry in zip.entries {
    if entry.name == "config.json" {
      let text = String(decoding: try zip.array(of: entry), as: UTF8.self)
      let new = change(text)
      #expect(new != text)
      writer.add(entry.name, Array(new.utf8))
    } else {
      try writer.copy(entry, of: zip, limit: 1 << 20, work: Work())
    }
  }
  try writer.write(to: output, work: Work())
  _ = try output.finish(work: Work())
  try output.publish()
  return try archive(output.path)
}
