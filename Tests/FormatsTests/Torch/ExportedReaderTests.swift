import ModelGraph
import TestSupport
import Testing

import Formats

struct ExportedReaderTests {
  @Test func readsCallsAsTheyAreMeant() throws {
    let program = try ExportedFile("convolutional").document().program
    #expect(
      program.functions == [
        "conv2d", "batch_norm", "relu", "conv2d", "relu", "conv2d", "add", "chunk", "mul", "cat", "mean", "linear",
      ])
    #expect(program.inputs.map(\.name) == ["x"] && program.inputs[0].shape == [1, 3, 8, 8].map(Dimension.fixed))
    #expect(program.calls.map(\.scope)[..<4] == ["stem", "norm", "", "inner"])
    let chunk = program.calls[7]
    #expect(chunk.bindsElements && chunk.results.count == 2)
    #expect(program.value(7, "chunks") == .int(2) && program.value(7, "dim") == .int(1))
    #expect(chunk.declared.map(\.shape) == [[1, 4, 8, 8].map(Dimension.fixed), [1, 4, 8, 8].map(Dimension.fixed)])
    #expect(program.value(0, "weight") == .parameter("stem.weight") && program.value(3, "bias") == TorchArgument.none)
    #expect(program.value(9, "tensors") == .list([.reference("mul"), .reference(chunk.results[1])]))
    #expect(program.parameters["norm.running_mean"]?.isBuffer == true)
    #expect(program.parameters["stem.weight"]?.isBuffer == false && program.mutated.isEmpty)
  }

  @Test("What reads a changed tensor later reads what changed it")
  func inPlaceCalls() throws {
    let convolutional = try ExportedFile("convolutional").document().program
    // relu_ on the normalized values: the next convolution reads its result.
    #expect(convolutional.value(3, "input") == .reference(convolutional.calls[2].results[0]))
    let stored = try ExportedFile("stored").document().program
    let add = try #require(stored.calls.first { $0.keywords.first?.value == .parameter("count") })
    #expect(stored.mutated == ["count"])
    #expect(stored.calls.contains { $0.keywords.contains { $0.value == .reference(add.results[0]) } })
    // Where a part is written into and the whole is read later, the call keeps its name.
    let relu = #""torch.ops.aten.relu.default""#
    let whole = try ExportedFile("convolutional").replacing(relu, with: #""torch.ops.aten.relu_.default""#)
    #expect(try whole.document().program.functions[4] == "relu")
    let part = try ExportedFile("convolutional").replacing("aten.mul.Tensor", with: "aten.mul_.Tensor")
    #expect(try part.document().program.functions[8] == "mul")
    let seen = try part.replacing(#"[{"name": "mul"}"#, with: #"[{"name": "add"}"#)
    #expect(try seen.document().program.functions[8] == "mul_")
  }

  @Test func readsTensorsWithAnyStrides() throws {
    let program = try ExportedFile("stored").document().program
    func floats(_ name: String) throws -> [Float] { try #require(program.parameters[name]).tensor.elements(Float.self) }
    #expect(try floats("part") == [6, 9, 12, 15, 7, 10, 13, 16, 8, 11, 14, 17])
    #expect(program.parameters["part"]?.tensor.shape == [3, 4])
    #expect(try floats("other") == (0..<12).map { Float(2 * $0) })
    #expect(try floats("unsaved") == [0, 1, 2, 3])
    let small = try #require(program.parameters["small"]).tensor
    #expect(small.dtype == .bfloat16 && small.elements(UInt16.self) == [0, 0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0])
    #expect(program.parameters["embedding.weight"]?.storage == program.parameters["head.weight"]?.storage)
    // Channels last: the elements of a copy in order.
    let weight = try #require(try ExportedFile("convolutional").document().program.parameters["stem.weight"])
    #expect(weight.tensor.shape == [8, 3, 3, 3] && weight.storage.strides == [27, 1, 9, 3])
  }

  @Test func readsWhatIsReturned() throws {
    let program = try ExportedFile("stored").document().program
    guard case .dictionary(let entries) = program.output else {
      Issue.record("\(program.output)")
      return
    }
    #expect(entries.map(\.key) == ["logits", "rest"])
    guard case .list(let rest) = entries[1].value, case .tuple(let inner)? = rest.last else {
      Issue.record("\(program.output)")
      return
    }
    #expect(rest.count == 2 && inner.count == 2)
    #expect(program.calls.contains { $0.keywords.contains { $0.value == .float(-.infinity) } })
  }

  @Test func readsOpenLengths() throws {
    let program = try ExportedFile("attention").document().program
    let shape = try #require(program.inputs.first?.shape)
    guard case .symbol(let batch) = shape[0], case .symbol(let length) = shape[1] else {
      Issue.record("\(shape)")
      return
    }
    #expect(shape[2] == .fixed(12) && program.lengths == [batch: 2, length: 7])
    let reshape = try #require(program.calls(of: "reshape").first)
    #expect(
      program.value(reshape, "shape")
        == .list([
          .reference("sym_size_int_2"), .reference("sym_size_int_3"), .int(3), .int(3), .int(4),
        ]))
    #expect(program.shape(of: "reshape") == [.symbol(batch), .symbol(length), .fixed(3), .fixed(3), .fixed(4)])
  }

  @Test(
    "What is not taken is refused with its kind",
    arguments: [
      ("\"major\": 8", "\"major\": 7", .modelUnsupportedFormat),
      ("\"major\": 8", "\"major\": \"8\"", .modelMalformed),
      ("\"minor\"", "\"major\"", .modelMalformed),
      ("\"guards_code\": []", "\"guards_code\": [\"__import__('os')\"]", .modelUnsafe),
      ("\"guards_code\": []", "\"guards_code\": [\"L['x'].size()[0] == (lambda: 1)()\"]", .modelUnsafe),
      ("Symbol('s77', positive=True", "Symbol('s77', positive=exit()", .modelUnsafe),
      ("Symbol('s77'", "__import__('s77'", .modelUnsafe),
      ("\"as_int\": 36", "\"as_int\": -36", .modelMalformed),
      ("\"name\": \"p_qkv_weight\"", "\"name\": \"p_qkv_bias\"", .modelMalformed),
      (
        "{\"as_tensor\": {\"name\": \"linear\"}}, \"kind\"", "{\"as_tensor\": {\"name\": \"linear_1\"}}, \"kind\"",
        .modelMalformed
      ),
      ("\"parameter_name\": \"qkv.weight\"", "\"parameter_name\": \"missing\"", .modelMalformed),
      ("\"as_ints\": [2, 0", "\"as_ints\": [2.5, 0", .modelMalformed),
      ("\"as_ints\": [2, 0", "\"as_what\": [2, 0", .modelMalformed),
      ("\"layout\": 7", "\"layout\": 1", .modelUnsupportedFormat),
      ("\"user_input\": {\"arg\": {\"as_tensor\"", "\"token\": {\"arg\": {\"as_tensor\"", .modelUnsupportedOperator),
      ("\"user_output\"", "\"gradient_to_parameter\"", .modelUnsupportedOperator),
    ] as [(String, String, Failure.Kind)])
  func refusals(old: String, new: String, kind: Failure.Kind) throws {
    let file = try ExportedFile("attention").replacing(old, with: new)
    #expect(try failure { _ = try file.document() }?.kind == kind)
  }

  @Test(
    "Tensors that are not what their tables say are refused",
    arguments: [
      ("\"use_pickle\": false", "\"use_pickle\": true", .modelUnsafe),
      ("\"path_name\": \"weight_0\"", "\"path_name\": \"../weight_0\"", .modelMalformed),
      ("\"as_int\": 36", "\"as_int\": 37", .modelMalformed),
      ("\"as_int\": 36", "\"as_int\": 4611686018427387904", .modelMalformed),
      ("\"as_int\": 36", "\"as_int\": -1", .modelMalformed),
      ("\"strides\": [{\"as_int\": 12}", "\"strides\": [{\"as_int\": 9223372036854775807}", .modelMalformed),
      ("\"strides\": [{\"as_int\": 12}", "\"strides\": [{\"as_int\": -12}", .modelMalformed),
      ("\"storage_offset\": {\"as_int\": 0}", "\"storage_offset\": {\"as_int\": 1}", .modelMalformed),
      ("\"dtype\": 7", "\"dtype\": 8", .modelMalformed),
      ("\"dtype\": 7", "\"dtype\": 99", .modelUnsupportedFormat),
      // A view that repeats one row a hundred million times.
      (
        "\"sizes\": [{\"as_int\": 36}, {\"as_int\": 12}]", "\"sizes\": [{\"as_int\": 12}, {\"as_int\": 100000000}]",
        .modelMalformed
      ),
    ] as [(String, String, Failure.Kind)])
  func refusedTensors(old: String, new: String, kind: Failure.Kind) throws {
    let file = try ExportedFile("attention").replacing(old, with: new, in: ExportedFile.weights)
    #expect(try failure { _ = try file.document() }?.kind == kind)
  }

  @Test func refusesViewsThatTakeMoreMemoryThanTheFileHas() throws {
    let file = try ExportedFile("attention").replacing(
      "\"sizes\": [{\"as_int\": 36}, {\"as_int\": 12}]", with: "\"sizes\": [{\"as_int\": 100000000}, {\"as_int\": 12}]",
      in: ExportedFile.weights
    ).replacing("\"strides\": [{\"as_int\": 12}", with: "\"strides\": [{\"as_int\": 0}", in: ExportedFile.weights)
    #expect(try failure { _ = try file.document() }?.kind == .resourceLimit)
  }

  @Test func refusesOtherArchives() throws {
    let file = try ExportedFile("attention")
    func kind(_ file: ExportedFile) throws -> Failure.Kind? { try failure { _ = try file.document() }?.kind }
    #expect(try kind(file) == nil)
    #expect(try kind(file.removing("archive_version")) == .modelUnsupportedFormat)
    #expect(try kind(file.replacing("0", with: "1", in: "archive_version")) == .modelUnsupportedFormat)
    #expect(try kind(file.replacing("little", with: "big", in: "byteorder")) == .modelUnsupportedFormat)
    #expect(try kind(file.adding("models/second.json", Array("{}".utf8))) == .modelUnsupportedFormat)
    #expect(try kind(file.removing("models/model.json")) == .modelUnsupportedFormat)
    #expect(try kind(file.adding("data/aotinductor/model/wrapper.cpp")) == .modelUnsupportedFormat)
    #expect(try kind(file.adding("data/weights/model.pt")) == .modelUnsupportedFormat)
    #expect(try kind(file.adding("serialized_exported_program.json")) == .modelUnsupportedFormat)
    #expect(try kind(file.removing("data/weights/weight_0")) == .modelMalformed)
    #expect(try kind(file.replacing("{", with: "{\"a\": 1, \"a\": 1, ")) == .modelMalformed)
    #expect(try kind(file.replacing("{", with: String(repeating: "[", count: 200))) == .modelMalformed)
  }

  @Test("Text damaged anywhere gives a program or an error", arguments: ["convolutional", "attention", "stored"])
  func damaged(name: String) throws {
    var generator = SeededGenerator(seed: 5)
    var bytes = try bytes(fixture("exported.\(name).pt2"))
    try withoutChecksums(&bytes)
    let places = try ExportedFile(name).zip.entries.filter { $0.name.hasSuffix(".json") }.map(\.range)
    let alphabet = Array("\"\\{}[]:,0123456789.-eE asnul_".utf8)
    var read = 0
    for round in 0..<3000 {
      var mutant = bytes
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let place = try #require(places.randomElement(using: &generator))
        guard let position = place.randomElement(using: &generator) else { continue }
        // A digit for a digit and a letter for a letter get further than noise.
        let old = mutant[position]
        let isDigit = (48...57).contains(old)
        mutant[position] =
          isDigit && round % 2 == 0
          ? UInt8.random(in: 48...57, using: &generator) : try #require(alphabet.randomElement(using: &generator))
      }
      let owner = FencedBytes(mutant)
      do throws(Failure) {
        let archive = try ExportedArchive(ZipArchive(owner.span, owner: owner), owner: owner, work: Work())
        if try !ExportedProgramReader.read(archive, work: Work()).program.calls.isEmpty { read += 1 }
      } catch {
        // A typed failure is as good as an answer; anything else would not compile.
        let _: Failure = error
      }
    }
    // Many places are names and comments, which may be anything.
    #expect(read > 100)
  }

  /// Zeroes the checksums in the archive's directory, which stands for those that nobody computed.
  private func withoutChecksums(_ bytes: inout [UInt8]) throws {
    let signature: [UInt8] = [0x50, 0x4B, 1, 2]
    var count = 0
    for position in 0..<(bytes.count - 46) where bytes[position..<position + 4].elementsEqual(signature) {
      bytes.replaceSubrange(position + 16..<position + 20, with: [0, 0, 0, 0])
      count += 1
    }
    try #require(count > 5)
  }
}
