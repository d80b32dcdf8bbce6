import Formats
import ModelGraph
import TestSupport

/// A GraphModule made in memory: modules as pickles have them, storages, and whatever code is to be read.
struct GraphModuleFile {
  var code = "\n\n\ndef forward(self, x : torch.Tensor) -> torch.Tensor:\n    return x\n    "
  var imports = "from math import inf\nfrom torch import device\nimport torch\nimport torch.fx._pytree as fx_pytree"
  var modules: [(String, PickleNode)] = []
  var parameters: [(String, PickleNode)] = []
  var attributes: [(String, PickleNode)] = []
  var storages: [(String, [UInt8])] = []
  var entries: [(String, [UInt8])] = [("version", Array("3\n".utf8)), ("byteorder", Array("little".utf8))]

  init() {}

  /// - Parameter body: the lines of `forward(self, x)`, without indentation.
  init(_ body: [String]) {
    code = "\n\n\ndef forward(self, x):\n" + body.map { "    \($0)\n" }.joined() + "    "
  }

  var root: PickleNode {
    .reduce(
      .global("torch.fx.graph_module", "reduce_graph_module"),
      [
        .dict(
          Self.base(parameters: parameters, children: modules)
            + [("_code", .string(code)), ("_tracer_cls", .global("torch.fx._symbolic_trace", "Tracer"))] + attributes),
        .string(imports),
      ])
  }

  func bytes(root: PickleNode? = nil) throws -> [UInt8] {
    let scratch = try Scratch()
    var writer = ZipWriter(alignment: ZipWriter.torchAlignment)
    writer.add("model/data.pkl", PickleWriter.write(root ?? self.root))
    for (key, bytes) in storages { writer.add("model/data/" + key, bytes) }
    for (name, bytes) in entries { writer.add("model/" + name, bytes) }
    return try writer.written(to: scratch["model.pt"])
  }

  func document() throws -> GraphModuleDocument { try .reading(bytes()) }

  func program() throws -> TorchProgram { try document().program }

  // MARK: Parts

  /// The attributes of every module.
  static func base(
    parameters: [(String, PickleNode)] = [], buffers: [(String, PickleNode)] = [],
    children: [(String, PickleNode)] = []
  ) -> [(String, PickleNode)] {
    [
      ("training", .bool(false)), ("_parameters", .dict(parameters)), ("_buffers", .dict(buffers)),
      ("_non_persistent_buffers_set", .reduce(.global("__builtin__", "set"), [.list([])])),
      ("_forward_hooks", .orderedDictionary()), ("_forward_pre_hooks", .orderedDictionary()),
      ("_modules", .dict(children)),
    ]
  }

  static func module(
    _ className: String, in file: String = "module", parameters: [(String, PickleNode)] = [],
    buffers: [(String, PickleNode)] = [], children: [(String, PickleNode)] = [],
    settings: [(String, PickleNode)] = []
  ) -> PickleNode {
    .newObject(
      .global("torch.nn.modules.\(file)", className),
      state: .dict(base(parameters: parameters, buffers: buffers, children: children) + settings))
  }

  /// A dense tensor unless `strides` say otherwise, in a storage of exactly its elements unless `count` does.
  static func tensor(
    _ key: String, _ shape: [Int], strides: [Int]? = nil, offset: Int = 0, count: Int? = nil,
    of storage: String = "FloatStorage"
  ) -> PickleNode {
    let dense = shape.indices.map { shape[($0 + 1)...].reduce(1, *) }
    let reference = PickleNode.persistent(
      .tuple([
        .string("storage"), .global("torch", storage), .string(key), .string("cpu"),
        .int(count ?? shape.reduce(1, *)),
      ]))
    return .reduce(
      .global("torch._utils", "_rebuild_tensor_v2"),
      [reference, .int(offset), .tuple(shape), .tuple(strides ?? dense), .bool(false), .orderedDictionary()])
  }

  static func parameter(_ tensor: PickleNode) -> PickleNode {
    .reduce(.global("torch._utils", "_rebuild_parameter"), [tensor, .bool(true), .orderedDictionary()])
  }
}

extension GraphModuleDocument {
  static func reading(_ bytes: [UInt8]) throws -> GraphModuleDocument {
    let scratch = try Scratch()
    let file = try MappedFile(path: try scratch.write(bytes, "model.pt"), work: Work())
    return try GraphModuleDocument(file: file, archive: ZipArchive(file.span, owner: file), work: Work())
  }

  /// The file with `edits` made.
  func edited(_ edits: [TorchEdit]) throws -> [UInt8] {
    let scratch = try Scratch()
    return try archive(making: edits, work: Work()).written(to: scratch["edited.pt"])
  }
}

extension ZipWriter {
  func written(to path: String) throws -> [UInt8] {
    let file = try OutputFile(path: path, overwrite: true)
    try write(to: file, work: Work())
    _ = try file.finish(work: Work())
    try file.publish()
    return try bytes(path)
  }
}

/// Numbers as a storage of floats has them.
func floats(_ values: [Float]) -> [UInt8] { values.flatMap { withUnsafeBytes(of: $0) { Array($0) } } }
