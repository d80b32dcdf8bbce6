import ModelGraph
import Numerics
import TestSupport
import Testing

import Formats

/// Files of both generations, made by make_keras_fixtures.py.
@Suite struct KerasReaderTests {
  @Test(arguments: ["nested.keras3.keras", "nested.keras2.keras", "nested.keras2.h5"])
  func nestedModels(_ name: String) throws {
    let program = try program(name)
    #expect(program.inputs.map(\.name).sorted() == ["left", "right"])
    #expect(program.inputs.allSatisfy { $0.shape == [.symbol("batch"), .fixed(6), .fixed(6), .fixed(2)] })
    #expect(program.inputs.allSatisfy { $0.dtype == .float32 })
    // The encoder is called twice, and with it what it holds; each call stands behind those that it needs.
    let names = program.calls.map(\.name)
    for name in [
      "encoder/conv", "encoder/norm", "encoder/inner/inner_conv", "encoder/inner/inner_norm", "head", "pool",
    ] {
      #expect(names.contains(name) && names.contains(name + "#1") && !names.contains(name + "#2"), "\(name)")
    }
    #expect(Set(names).count == names.count)
    for (index, call) in program.calls.enumerated() {
      for tensor in call.arguments.flatMap(\.results) { #expect(tensor < index) }
    }
    // Of the encoder's two results, one comes from the model within.
    let joined = try #require(program.calls.first { $0.name == "joined" })
    #expect(
      joined.arguments.flatMap(\.results).map { names[$0] } == [
        "encoder/inner/inner_norm", "encoder/inner/inner_norm#1",
      ])
    let summed = try #require(program.calls.first { $0.name == "summed" })
    #expect(summed.arguments.flatMap(\.results).map { names[$0] } == ["encoder/norm", "encoder/norm#1"])
    guard case .dictionary(let outputs) = program.output else { throw Unexpected() }
    #expect(Set(outputs.map(\.name)) == ["flat", "scaled"])
    #expect(outputs.first { $0.name == "flat" }?.value.results.map { names[$0] } == ["flat"])
  }

  @Test(arguments: ["nested.keras3.keras", "nested.keras2.keras", "nested.keras2.h5"])
  func variables(_ name: String) throws {
    let program = try program(name)
    let norm = try #require(program.layer("encoder/norm"))
    #expect(norm.variables.map(\.role) == ["beta", "moving_mean", "moving_variance"])
    let frozen = try #require(program.layer("frozen"))
    #expect(frozen.variables.map(\.role) == ["gamma", "beta", "moving_mean", "moving_variance"])
    #expect(try #require(program.layer("encoder/conv")?.variable("kernel")).tensor.shape == [3, 3, 2, 4])
    #expect(try #require(program.layer("encoder/inner/inner_conv")?.variable("kernel")).tensor.shape == [1, 1, 4, 4])
    #expect(program.layer("encoder")?.variables.map(\.role).contains("inner/inner_norm/moving_mean") == true)
    let paths = program.layers.flatMap { $0.parts.isEmpty ? $0.variables.map(\.path) : [] }
    #expect(Set(paths).count == paths.count && paths.count == 2 + 3 + 2 + 4 + 2 + 4)
  }

  /// The same weights come from the archive and from the legacy file, whose order is another.
  @Test func bothFilesHoldTheSame() throws {
    for name in ["nested.keras2", "wrapped.keras2", "wrapped.keras3"] {
      let (modern, old) = (try program(name + ".keras"), try program(name + ".h5"))
      #expect(modern.calls.map(\.name) == old.calls.map(\.name))
      for layer in modern.layers {
        let other = try #require(old.layer(layer.path))
        #expect(layer.variables.map(\.role) == other.variables.map(\.role), "\(layer.path)")
        for (a, b) in zip(layer.variables, other.variables) {
          #expect(a.tensor.shape == b.tensor.shape && a.tensor.elements(Float.self) == b.tensor.elements(Float.self))
        }
      }
    }
  }

  @Test(arguments: ["wrapped.keras3.keras", "wrapped.keras2.keras", "wrapped.keras3.h5", "wrapped.keras2.h5"])
  func layersOfLayers(_ name: String) throws {
    let program = try program(name)
    #expect(
      program.calls.map(\.layer.className) == [
        "Bidirectional", "RNN", "TimeDistributed", "MultiHeadAttention", "SeparableConv1D",
      ])
    let both = try #require(program.layer("both"))
    #expect(both.parts.map(\.role) == ["forward_layer", "backward_layer"])
    #expect(
      both.variables.map(\.role)
        == ["forward", "backward"].flatMap { direction in
          ["kernel", "recurrent_kernel", "bias"].map { "\(direction)/cell/\($0)" }
        })
    #expect(both.part("backward_layer")?.variable("cell/kernel")?.tensor.shape == [4, 12])
    let stack = try #require(program.layer("stack"))
    #expect(stack.variables.map(\.tensor.shape) == [[6, 12], [3, 12], [12], [3, 6], [2, 6], [2, 6]])
    let steps = try #require(program.layer("steps"))
    #expect(
      steps.variables.map(\.role) == [
        "layer/d/kernel", "layer/d/bias", "layer/n/gamma", "layer/n/beta", "layer/n/moving_mean",
        "layer/n/moving_variance",
      ])
    let attention = try #require(program.calls.first { $0.layer.className == "MultiHeadAttention" })
    #expect(attention.keywords.first { $0.name == "value" }?.value.text == "in0")
    #expect(
      attention.layer.variables.map(\.role)
        == ["query", "key", "value", "attention_output"].flatMap {
          ["\($0)/kernel", "\($0)/bias"]
        })
    #expect(attention.layer.variable("attention_output/kernel")?.tensor.shape == [2, 2, 3])
    #expect(program.layer("last")?.variables.map(\.role) == ["depthwise_kernel", "pointwise_kernel", "bias"])
  }

  /// Settings that do not fit the weights name the layer and the dataset.
  @Test func settingsThatDoNotFit() throws {
    for (old, new, text) in [
      ("\"units\": 3", "\"units\": 4", "[any, 4]"), ("\"scale\": false", "\"scale\": true", "is missing"),
      ("\"use_bias\": true", "\"use_bias\": false", "where 1 follow"),
      ("\"class_name\": \"GlobalAveragePooling2D\"", "\"class_name\": \"RMSNormalization\"", "is missing"),
    ] {
      let refused = try failure { _ = try rewritten("nested.keras3.keras") { $0.replacing(old, with: new) } }
      #expect(
        refused?.kind == .modelMalformed && refused?.message.contains(text) == true, "\(String(describing: refused))")
      #expect(refused?.details["layer"] != nil && refused?.details["dataset"] != nil)
    }
  }

  @Test func layersOfOthersAreNotLookedInto() throws {
    let archive = try rewritten("nested.keras3.keras") {
      $0.replacing(
        "\"module\": \"keras.layers\", \"class_name\": \"Dense\"",
        with: "\"module\": \"mine\", \"class_name\": \"Dense\"")
    }
    let head = try #require(archive.program.layer("head"))
    #expect(head.kind == .foreign && head.variables.map(\.role) == ["vars/0", "vars/1"])
  }

  struct Unexpected: Error {}

  private func program(_ name: String) throws -> KerasProgram {
    name.hasSuffix(".h5") ? try legacy(fixture(name)).program : try archive(fixture(name)).program
  }
}

extension KerasArgument {
  /// The calls whose results are in it.
  var results: [Int] {
    switch self {
    case .result(let call, _): [call]
    case .stated(let tensor, _): tensor.results
    case .list(let items): items.flatMap(\.results)
    case .dictionary(let items): items.flatMap(\.value.results)
    case .input, .literal: []
    }
  }
}
