import ModelGraph
import Numerics
import TestSupport
import Testing

import Formats

/// Files with edits made. Keras itself loads such files in Tests/Keras; here it is their structure that counts.
@Suite struct KerasWriterTests {
  static let files = [
    "nested.keras3.keras", "nested.keras2.keras", "nested.keras2.h5", "wrapped.keras3.keras", "wrapped.keras2.keras",
    "wrapped.keras3.h5", "wrapped.keras2.h5",
  ]

  /// Without edits the configuration keeps its bytes and every variable its contents.
  @Test(arguments: files)
  func nothingToDo(_ name: String) throws {
    let before = try Opened(name)
    let after = try before.written([])
    #expect(after.configuration == before.configuration)
    #expect(after.notes.isEmpty)
    #expect(before.program.listing == after.program.listing)
    let (old, new) = (before.variables, after.variables)
    #expect(Set(old.keys) == Set(new.keys))
    for (path, tensor) in old { #expect(tensor.elements(Float.self) == new[path]?.elements(Float.self)) }
  }

  @Test(arguments: files.prefix(3))
  func aChannelLess(_ name: String) throws {
    let before = try Opened(name)
    let program = before.program
    let conv = try #require(program.layer("encoder/inner/inner_conv"))
    let norm = try #require(program.layer("encoder/inner/inner_norm"))
    var edits: [KerasEdit] = [.setSetting(conv, name: "filters", 3)]
    for variable in conv.variables + norm.variables {
      let axis = variable.tensor.shape.count - 1
      let gather = try Gather(
        shape: variable.tensor.shape, elementBytes: 4, axes: [.init(axis: axis, kept: .indices([0, 2, 3]))])
      edits.append(.cut(variable: variable.path, gather))
    }
    var lengths: [KerasResult: [Int: Int]] = [:]
    for (index, call) in program.calls.enumerated() where call.layer === conv || call.layer === norm {
      lengths[KerasResult(call: index, index: 0)] = [3: 3]
    }
    let after = try before.written(edits, lengths)
    #expect(after.notes.count == 1)
    #expect(after.program.layer("encoder/inner/inner_conv")?.variable("kernel")?.tensor.shape == [1, 1, 4, 3])
    #expect(after.program.layer("encoder/inner/inner_norm")?.variable("gamma")?.tensor.shape == [3])
    // What was joined of twice four channels is of twice three.
    if name.hasSuffix(".keras") {
      #expect(after.configuration.contains("\"build_config\": {\"input_shape\": [[null, 6, 6, 3], [null, 6, 6, 3]]}"))
      #expect(after.configuration.contains("\"compile_config\": {}"))
    }
  }

  @Test(arguments: ["nested.keras3.keras", "nested.keras2.keras", "nested.keras2.h5"])
  func aLayerByTwo(_ name: String) throws {
    let before = try Opened(name)
    let conv = try #require(before.program.layer("encoder/conv"))
    let (kernel, bias) = (try #require(conv.variable("kernel")).tensor, try #require(conv.variable("bias")).tensor)
    let point = Tensor(float32: [Float](repeating: 1, count: 16), shape: [1, 1, 4, 4])
    let replacement = KerasReplacement(
      layer: conv,
      layers: [
        .init(
          name: "conv_core", className: "Conv2D", settings: [("use_bias", "false")], variables: [("kernel", kernel)]),
        .init(
          name: "conv_out", className: "Conv2D", settings: [("kernel_size", "[1, 1]")],
          variables: [("kernel", point), ("bias", bias)]),
      ])
    let after = try before.written([.replace(replacement)])
    let names = after.program.calls.map(\.name)
    #expect(names.contains("encoder/conv/conv_core") && names.contains("encoder/conv/conv_out#1"))
    #expect(!names.contains("encoder/conv"))
    #expect(after.program.calls.count == before.program.calls.count + 2)
    let core = try #require(after.program.layer("encoder/conv/conv_core"))
    #expect(core.variables.map(\.role) == ["kernel"])
    #expect(core.variable("kernel")?.tensor.elements(Float.self) == kernel.elements(Float.self))
    let out = try #require(after.program.layer("encoder/conv/conv_out"))
    #expect(out.variable("bias")?.tensor.elements(Float.self) == bias.elements(Float.self))
    // All else is where it was, under whatever name.
    for layer in before.program.layers where layer !== conv && layer.parts.isEmpty {
      let now = try #require(after.program.layer(layer.path))
      for (a, b) in zip(layer.variables, now.variables) {
        #expect(a.tensor.elements(Float.self) == b.tensor.elements(Float.self), "\(layer.path)/\(a.role)")
      }
    }
  }

  @Test func wherePartsCannotBeReplaced() throws {
    let file = try Opened("wrapped.keras3.keras")
    let forward = try #require(file.program.layer("both")?.part("forward_layer"))
    let refused = try failure { _ = try file.written([.replace(KerasReplacement(layer: forward, layers: []))]) }
    #expect(refused?.kind == .layerUnavailable && refused?.message.contains("Bidirectional") == true)
  }
}

/// A file of either kind.
private struct Opened {
  let name: String
  let archive: KerasArchive?
  let legacy: KerasH5?
  var notes: [String] = []

  init(_ name: String) throws { try self.init(name, at: fixture(name)) }

  private init(_ name: String, at path: String) throws {
    self.name = name
    let isLegacy = name.hasSuffix(".h5")
    archive = isLegacy ? nil : try FormatsTests.archive(path)
    legacy = isLegacy ? try FormatsTests.legacy(path) : nil
  }

  var program: KerasProgram { archive?.program ?? legacy!.program }
  var configuration: String { program.text.root.source }
  var variables: [String: Tensor] {
    Dictionary(
      program.layers.flatMap(\.variables).map { ($0.path, $0.tensor) }, uniquingKeysWith: { first, _ in first })
  }

  func written(_ edits: [KerasEdit], _ lengths: [KerasResult: [Int: Int]] = [:]) throws -> Opened {
    let scratch = try Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let output = try OutputFile(path: scratch["out"], overwrite: false)
    let notes =
      try archive?.write(making: edits, lengths: lengths, to: output, work: Work())
      ?? legacy?.write(making: edits, lengths: lengths, to: output, work: Work())
    _ = try output.finish(work: Work())
    try output.publish()
    var result = try Opened(name, at: output.path)
    result.notes = notes ?? []
    return result
  }
}
