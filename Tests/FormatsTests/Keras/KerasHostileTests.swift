import ModelGraph
import TestSupport
import Testing

import Formats

/// Configurations that are damaged, or made to do harm: each ends in its typed error, in bounded time and memory.
@Suite struct KerasHostileTests {
  static let dense = ", \"units\": 4"

  @Test func referencesToNothing() throws {
    let missing = functional(
      [layer("Dense", "d", settings: Self.dense, calls: [tensor("nobody")])], output: "[\"d\", 0, 0]")
    #expect(try refusal(missing)?.kind == .modelMalformed)
    let call = functional([layer("Dense", "d", settings: Self.dense, calls: [tensor("x")])], output: "[\"d\", 7, 0]")
    #expect(try refusal(call)?.kind == .modelMalformed)
    let output = functional([layer("Dense", "d", settings: Self.dense, calls: [tensor("x")])], output: "[\"e\", 0, 0]")
    #expect(try refusal(output)?.message.contains("'e'") == true)
    let negative = functional([layer("ReLU", "d", calls: [tensor("x", 0, -1)])], output: "[\"d\", 0, 0]")
    #expect(try refusal(negative)?.kind == .modelMalformed)
  }

  @Test func cycles() throws {
    let two = functional(
      [layer("ReLU", "a", calls: [tensor("b")]), layer("ReLU", "b", calls: [tensor("a")])], output: "[\"a\", 0, 0]")
    #expect(try refusal(two)?.message.contains("its own result") == true)
    let own = functional([layer("ReLU", "a", calls: [tensor("x"), tensor("a", 1)])], output: "[\"a\", 1, 0]")
    #expect(try refusal(own)?.message.contains("its own result") == true)
  }

  /// A chain as long as the file costs no stack.
  @Test func longChain() throws {
    var layers: [String] = []
    for index in 0..<20_000 {
      layers.append(layer("ReLU", "r\(index)", calls: [tensor(index == 0 ? "x" : "r\(index - 1)")]))
    }
    // In the worst order, the last layer first.
    let config = functional(layers.reversed(), output: "[\"r19999\", 0, 0]")
    // Everything is right but the weights, which are looked for last.
    #expect(try refusal(config)?.message.contains("model.weights.h5") == true)
  }

  @Test func namesThatRepeat() throws {
    let config = functional(
      [layer("ReLU", "a", calls: [tensor("x")]), layer("ReLU", "a", calls: [tensor("x")])], output: "[\"a\", 0, 0]")
    #expect(try refusal(config)?.message.contains("two layers") == true)
  }

  /// A model that calls a model twice, which calls a model twice, and so on: 2^30 calls in 30 KB.
  @Test func nestedCalls() throws {
    var inner = functional([layer("ReLU", "r", calls: [tensor("x")])], output: "[\"r\", 0, 0]", name: "m0")
    for depth in 1..<24 {
      let model =
        inner.dropLast() + ", \"inbound_nodes\": [{\"args\": [\(tensor("x"))], \"kwargs\": {}}, "
        + "{\"args\": [\(tensor("m\(depth - 1)", 0))], \"kwargs\": {}}]}"
      // A nested Functional counts its own making as its first call where outputs are listed.
      inner = functional([String(model)], output: "[\"m\(depth - 1)\", 2, 0]", name: "m\(depth)")
    }
    let failure = try withWeights(inner)
    #expect(failure?.kind == .resourceLimit)
  }

  /// Wrappers that are read once for each direction: 2^40 layers.
  @Test func nestedDirections() throws {
    var inner = "{\"module\": \"keras.layers\", \"class_name\": \"LSTM\", \"config\": {\"name\": \"l\", \"units\": 1}}"
    for depth in 0..<40 {
      inner = """
        {"module": "keras.layers", "class_name": "Bidirectional", "config": {"name": "b\(depth)", "layer": \(inner)}}
        """
    }
    let root = "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"s\", \"layers\": [\(inner)]}}"
    #expect(try refusal(root)?.kind == .resourceLimit)
  }

  @Test func deepNesting() throws {
    let deep = String(repeating: "[", count: 100_000)
    #expect(try refusal("{\"class_name\": \(deep)")?.kind == .modelMalformed)
  }

  @Test func codeOfOthers() throws {
    let root = "{\"module\": \"mine\", \"class_name\": \"Net\", \"registered_name\": \"Custom>Net\", \"config\": {}}"
    let refused = try refusal(root)
    #expect(refused?.kind == .modelUnsupportedFormat)
    #expect(refused?.message.contains("keras.Model(inputs, outputs)") == true)
    // A class of the user's that bears the name of one of Keras's.
    let disguised = "{\"module\": \"mine\", \"class_name\": \"Functional\", \"config\": {}}"
    #expect(try refusal(disguised)?.kind == .modelUnsupportedFormat)
  }

  /// Code that hides where no layer is: Keras would look it up when it loads the file.
  @Test func codeInSettings() throws {
    for setting in [
      "\"kernel_initializer\": {\"module\": \"os\", \"class_name\": \"system\", \"config\": {}}",
      "\"nobody_reads\": [{\"deep\": {\"module\": \"builtins\", \"class_name\": \"function\", \"config\": \"eval\"}}]",
      "\"dtype\": {\"class_name\": \"os.system\", \"config\": {\"name\": \"float32\"}}",
      "\"kernel_constraint\": {\"class_name\": \"__lambda__\", \"config\": {\"value\": \"x\"}}",
      "\"bias_initializer\": {\"module\": \"keras\", \"class_name\": \"Mine\", \"registered_name\": \"pack>Mine\"}",
    ] {
      let config = functional(
        [layer("Dense", "d", settings: "\(Self.dense), \(setting)", calls: [tensor("x")])], output: "[\"d\", 0, 0]")
      let refused = try refusal(config)
      #expect(refused?.kind == .modelUnsafe && refused?.details["layer"] == .string("d"), "\(setting)")
    }
    let keyword = functional([layer("Dense", "d", settings: Self.dense, calls: [tensor("x")])], output: "[\"d\", 0, 0]")
      .replacing("\"kwargs\": {}", with: "\"kwargs\": {\"a\": {\"module\": \"os\", \"class_name\": \"system\"}}")
    #expect(try refusal(keyword)?.kind == .modelUnsafe)
  }

  @Test func settingsThatKerasDoesNotTake() throws {
    for setting in [
      "\"filters\": \"8\"", "\"filters\": 8.5", "\"filters\": true", "\"filters\": null", "\"filters\": [8]",
      "\"filters\": -8", "\"units\": 8", "\"filters\": 8, \"kernel_size\": [3]",
      "\"filters\": 8, \"kernel_size\": [3, 3, 1]",
      "\"filters\": 8, \"data_format\": \"channels_middle\"", "\"filters\": 8, \"dtype\": \"quaternion\"",
      "\"filters\": 8, \"use_bias\": 1",
    ] {
      let size = setting.contains("kernel_size") ? "" : ", \"kernel_size\": [3, 3]"
      let config = functional(
        [layer("Conv2D", "c", settings: ", \(setting)\(size)", calls: [tensor("x")])], output: "[\"c\", 0, 0]")
      let refused = try refusal(config)
      #expect(refused?.kind == .modelMalformed && refused?.details["layer"] == .string("c"), "\(setting)")
    }
  }

  @Test func shapesAndTypesOfInputs() throws {
    for (old, new) in [
      ("[null, 4]", "[null, -4]"), ("[null, 4]", "[null, 4.5]"), ("[null, 4]", "[null, 99999999999]"),
      ("[null, 4]", "4"),
      ("\"batch_shape\": [null, 4]", "\"batch_shape\": [null, 4], \"dtype\": \"float7\""),
    ] {
      let config = functional([layer("ReLU", "a", calls: [tensor("x")])], output: "[\"a\", 0, 0]")
      #expect(try withWeights(config.replacing(old, with: new))?.kind == .modelMalformed, "\(new)")
    }
  }

  @Test func damagedText() throws {
    let whole = functional([layer("Dense", "d", settings: Self.dense, calls: [tensor("x")])], output: "[\"d\", 0, 0]")
    for end in stride(from: 1, to: whole.utf8.count - 1, by: 7) {
      #expect(try refusal(String(whole.prefix(end)))?.kind == .modelMalformed)
    }
    for name in ["class_name", "config", "layers", "input_layers", "output_layers", "keras_history", "args", "name"] {
      let damaged = whole.replacing("\"\(name)\"", with: "\"\(name)_\"")
      #expect(try withWeights(damaged) != nil, "\(name)")
    }
  }

  @Test func filesThatAreNoModels() throws {
    let scratch = try Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let output = try OutputFile(path: scratch["saved.zip"], overwrite: false)
    var writer = ZipWriter(alignment: 1)
    writer.add("model/saved_model.pb", [1, 2, 3])
    try writer.write(to: output, work: Work())
    _ = try output.finish(work: Work())
    try output.publish()
    let file = try MappedFile(path: output.path, work: Work())
    let zip = try ZipArchive(file.span, owner: file)
    #expect(KerasArchive.recognizes(zip))
    let refused = try failure { _ = try KerasArchive(file: file, zip: zip, work: Work()) }
    #expect(refused?.kind == .modelUnsupportedFormat && refused?.message.contains("load_model") == true)
    #expect(KerasRefusals.refusal(ofDirectory: scratch.path) == nil)
    _ = try scratch.write([1], "saved_model.pb")
    #expect(KerasRefusals.refusal(ofDirectory: scratch.path)?.kind == .modelUnsupportedFormat)
  }

  /// Reads `config` with the weights of a model that has none.
  private func withWeights(_ config: String) throws -> Failure? {
    let donor = try MappedFile(path: fixture("plain.keras3.keras"), work: Work())
    let zip = try ZipArchive(donor.span, owner: donor)
    let weights = try #require(zip.entry(named: "model.weights.h5"))
    let scratch = try Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let output = try OutputFile(path: scratch["model.keras"], overwrite: false)
    var writer = ZipWriter(alignment: 1)
    writer.add("metadata.json", Array("{\"keras_version\": \"3.15.1\"}".utf8))
    writer.add("config.json", Array(config.utf8))
    try writer.copy(weights, of: zip, limit: 1 << 20, work: Work())
    try writer.write(to: output, work: Work())
    _ = try output.finish(work: Work())
    try output.publish()
    return try failure { _ = try archive(output.path) }
  }
}
