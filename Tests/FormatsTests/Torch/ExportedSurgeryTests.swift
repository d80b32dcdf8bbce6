import ModelGraph
import Numerics
import TestSupport
import Testing

import Formats

/// Edits made in a document, as the bytes of the new file and read again.
private struct Edited {
  let before: ExportedProgramDocument
  let after: ExportedProgramDocument
  let entries: [(name: String, bytes: [UInt8])]

  init(
    _ name: String, _ edits: (TorchProgram) throws -> [TorchEdit], lengths: [String: [Int: Int]] = [:],
    symbols: [String: Int] = [:]
  ) throws {
    before = try exportedDocument(fixture("exported.\(name).pt2"))
    let writer = try before.archive(making: edits(before.program), lengths: lengths, symbols: symbols, work: Work())
    let scratch = try Scratch()
    entries = try ExportedFile.entries(of: writer.written(to: scratch["edited.pt2"]))
    after = try exportedDocument(scratch["edited.pt2"])
  }

  func text(_ name: String = ExportedFile.program) throws -> String {
    String(decoding: try #require(entries.first { $0.name == name }).bytes, as: UTF8.self)
  }

  /// What the new program says of a value.
  func description(_ name: String) throws -> String {
    let text = try text()
    let start = try #require(text.firstRange(of: "\"\(name)\": {\"dtype\""))
    return String(text[start.upperBound...].prefix { $0 != "\n" }.prefix(900))
  }

  func tensor(_ name: String) throws -> Tensor { try #require(after.program.parameters[name]).tensor }
}

/// Sizes, strides and offset as the text has them when all are plain numbers.
private func described(_ sizes: [Int], _ strides: [Int], _ offset: Int = 0) -> (String, String, String) {
  func list(_ values: [Int]) -> String { "[" + values.map { "{\"as_int\": \($0)}" }.joined(separator: ", ") + "]" }
  return ("\"sizes\": \(list(sizes))", "\"strides\": \(list(strides))", "\"storage_offset\": {\"as_int\": \(offset)}")
}

private func cut(_ program: TorchProgram, _ name: String, _ kept: [(axis: Int, indices: [Int])]) throws -> TorchEdit {
  let tensor = try #require(program.parameters[name]).tensor
  let axes = kept.map { Gather.Axis(axis: $0.axis, kept: .indices($0.indices)) }
  let width = try #require(tensor.dtype.byteWidth)
  return .cut(parameter: name, try Gather(shape: tensor.shape, elementBytes: width, axes: axes))
}

struct ExportedSurgeryTests {
  @Test("Without edits every entry is what it was", arguments: ["convolutional", "attention", "stored"])
  func unedited(name: String) throws {
    let edited = try Edited(name, { _ in [] })
    let original = try ExportedFile(name).entries
    #expect(edited.entries.map(\.name) == original.map(\.name))
    for (a, b) in zip(edited.entries, original) { #expect(a.bytes == b.bytes, "\(a.name)") }
  }

  @Test func cutsAConvolutionAndWhatReadsIt() throws {
    let edited = try Edited(
      "convolutional",
      { program in
        [
          try cut(program, "inner.weight", [(0, [0, 2, 3, 5])]), try cut(program, "outer.weight", [(1, [0, 2, 3, 5])]),
        ]
      }, lengths: ["conv2d_1": [1: 4], "relu": [1: 4]])
    let (before, after) = (edited.before.program, edited.after.program)
    #expect(try edited.tensor("inner.weight").shape == [4, 8, 3, 3])
    let old = try #require(before.parameters["inner.weight"]).tensor.elements(Float.self)
    #expect(
      try edited.tensor("inner.weight").elements(Float.self) == [0, 2, 3, 5].flatMap { old[72 * $0..<72 * $0 + 72] })
    #expect(try edited.tensor("outer.weight").shape == [8, 4, 1, 1])
    let convolution = after.calls[3].results[0]
    #expect(after.shape(of: convolution) == [1, 4, 8, 8].map(Dimension.fixed))
    for (name, shape, strides) in [
      (convolution, [1, 4, 8, 8], nil), ("p_inner_weight", [4, 8, 3, 3], [72, 9, 3, 1]),
      ("p_outer_weight", [8, 4, 1, 1], [4, 1, 1, 1]),
    ] as [(String, [Int], [Int]?)] {
      let text = try edited.description(name)
      #expect(text.contains(described(shape, []).0), "\(name): \(text)")
      if let strides { #expect(text.contains(described(shape, strides).1), "\(name): \(text)") }
    }
    // Nothing else has changed.
    let original = try ExportedFile("convolutional").entries
    let changed = zip(edited.entries, original).filter { $0.bytes != $1.bytes }.map(\.0.name)
    #expect(
      changed.sorted().filter { $0.hasSuffix(".json") } == [
        "data/weights/model_weights_config.json", "models/model.json",
      ])
    #expect(changed.count == 4)
  }

  @Test("What is stored with channels last stays so")
  func keepsTheOrderOfMemory() throws {
    let edited = try Edited(
      "convolutional", { [try cut($0, "stem.weight", [(0, [1, 4]), (1, [0, 2])])] })
    let storage = try #require(edited.after.program.parameters["stem.weight"]).storage
    #expect(storage.shape == [2, 2, 3, 3] && storage.strides == [18, 1, 6, 2])
    let old = try #require(edited.before.program.parameters["stem.weight"]).tensor.elements(Float.self)
    let kernels = [3, 5, 12, 14]  // output channels 1 and 4 of 3 inputs each, of these 0 and 2
    let expected = kernels.flatMap { old[9 * $0..<9 * $0 + 9] }
    #expect(try edited.tensor("stem.weight").elements(Float.self) == expected)
  }

  @Test("Views of changed values get new strides and offsets though their sizes stay")
  func followsViews() throws {
    // Channels 8 to 6 everywhere: the second part of `chunk` starts elsewhere.
    let edited = try Edited(
      "convolutional", { _ in [] },
      lengths: [
        "conv2d": [1: 6], "batch_norm": [1: 6], "relu_": [1: 6], "add": [1: 6], "getitem": [1: 3], "getitem_1": [1: 3],
      ])
    let first = try edited.description("getitem"), second = try edited.description("getitem_1")
    #expect(first.contains(described([1, 3, 8, 8], []).0) && second.contains(described([1, 3, 8, 8], []).0))
    let original = try Edited("convolutional", { _ in [] }).description("getitem_1")
    // Channels last: the parts interleave; channels first: the second starts behind the first.
    let isLast = original.contains("\"storage_offset\": {\"as_int\": 4}")
    #expect(second.contains("\"storage_offset\": {\"as_int\": \(isLast ? 3 : 192)}"), "\(second)")
    #expect(second.contains(described([], isLast ? [384, 1, 48, 6] : [384, 64, 8, 1]).1), "\(second)")
  }

  @Test func rewritesLiteralsInPlace() throws {
    let edited = try Edited(
      "attention",
      { program in
        let reshape = program.calls(of: "reshape")
        let attention = try #require(program.calls(of: "scaled_dot_product_attention").first)
        return [
          .setInteger(try program.place(reshape[0], "shape", 3), 2),
          .setInteger(try program.place(reshape[1], "shape", 2), 8),
          .setKeyword(call: attention, name: "scale", value: .float(0.1)),
          try cut(program, "qkv.weight", [(0, (0..<3).flatMap { q in (0..<8).map { q * 12 + $0 } })]),
          try cut(program, "qkv.bias", [(0, (0..<3).flatMap { q in (0..<8).map { q * 12 + $0 } })]),
          try cut(program, "out.weight", [(1, Array(0..<8))]),
        ]
      },
      lengths: [
        "linear": [2: 24], "reshape": [3: 2], "permute": [2: 2], "getitem": [1: 2], "getitem_1": [1: 2],
        "getitem_2": [1: 2], "scaled_dot_product_attention": [1: 2], "transpose": [2: 2], "reshape_1": [2: 8],
      ])
    let program = edited.after.program
    let reshape = program.calls(of: "reshape")
    guard case .list(let shape)? = program.value(reshape[0], "shape") else {
      Issue.record("no shape")
      return
    }
    #expect(shape[0] == .reference("sym_size_int_2") && Array(shape[2...]) == [.int(3), .int(2), .int(4)])
    let attention = try #require(program.calls(of: "scaled_dot_product_attention").first)
    #expect(program.value(attention, "scale") == .float(0.1))
    #expect(try edited.text().contains("\"scale\", \"arg\": {\"as_float\": 0.1}, \"kind\": 2}"))
    // (n, heads, l, 4) of a packed (n, l, 3, heads, 4): strides 24 l, 4, 24, 1; offsets 0, 8, 16.
    let keys = try edited.description("getitem_1")
    #expect(keys.contains("Mul(Integer(24), Symbol('s27'"), "\(keys)")
    #expect(keys.contains("{\"as_int\": 4}, {\"as_int\": 24}, {\"as_int\": 1}]"), "\(keys)")
    #expect(keys.contains("\"storage_offset\": {\"as_int\": 8}"), "\(keys)")
    #expect(keys.contains("\"hint\": {\"as_int\": 168}"), "\(keys)")
    #expect(try edited.description("scaled_dot_product_attention").contains("Mul(Integer(8), Symbol('s27'"))
  }

  @Test("An integer that calls compute is computed anew before the call")
  func adjustsIntegers() throws {
    let edited = try Edited(
      "attention",
      { program in
        let reshape = program.calls(of: "reshape")[0]
        return [.adjustInteger(try program.place(reshape, "shape", 0), multiplier: 3, divisor: 2, offset: 1)]
      })
    let program = edited.after.program
    let reshape = program.calls(of: "reshape")[0]
    #expect(program.functions[(reshape - 3)..<reshape] == ["mul", "floordiv", "add"])
    #expect(
      program.value(reshape - 3, "a") == .reference("sym_size_int_2") && program.value(reshape - 3, "b") == .int(3))
    guard case .list(let shape)? = program.value(reshape, "shape") else {
      Issue.record("no shape")
      return
    }
    #expect(shape[0] == .reference(program.calls[reshape - 1].results[0]))
    let text = try edited.text()
    #expect(
      text.contains(
        "Add(Integer(1), FloorDiv(Mul(Integer(3), Symbol('s77', positive=True, integer=True)), Integer(2)))"))
  }

  @Test("A layer's place is taken by a row of layers")
  func replacesLayers() throws {
    func tensor(_ shape: [Int]) -> Tensor {
      Tensor(float32: (0..<shape.reduce(1, *)).map(Float.init), shape: shape)
    }
    let edited = try Edited(
      "convolutional",
      { program in
        [
          .replace(
            TorchReplacement(
              call: program.calls(of: "linear")[0], weight: "head.weight", bias: "head.bias",
              layers: [
                .init(kind: .linear, weight: tensor([2, 8]), bias: .none, name: "in"),
                .init(kind: .linear, weight: tensor([5, 2]), bias: .original, name: "out"),
              ])),
          .replace(
            TorchReplacement(
              call: program.calls(of: "conv2d")[1], weight: "inner.weight", bias: nil,
              layers: [
                .init(
                  kind: .convolution(spatialRank: 2, stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1),
                  weight: tensor([3, 8, 1, 1]), bias: .none, name: "in"),
                .init(
                  kind: .convolution(spatialRank: 2, stride: [1, 1], padding: [1, 1], dilation: [1, 1], groups: 1),
                  weight: tensor([6, 3, 3, 3]), bias: .new(tensor([6])), name: "core"),
              ])),
        ]
      })
    let (before, after) = (edited.before.program, edited.after.program)
    #expect(after.functions.count == before.functions.count + 2)
    #expect(after.calls.last?.results == before.calls.last?.results)
    #expect(
      Set(after.parameters.keys).subtracting(before.parameters.keys) == [
        "head.in.weight", "head.out.weight", "head.out.bias", "inner.in.weight", "inner.core.weight", "inner.core.bias",
      ])
    #expect(
      Set(before.parameters.keys).subtracting(after.parameters.keys) == ["head.weight", "head.bias", "inner.weight"])
    let convolutions = after.calls(of: "conv2d")
    #expect(after.value(convolutions[1], "weight") == .parameter("inner.in.weight"))
    #expect(after.value(convolutions[2], "input") == .reference(after.calls[convolutions[1]].results[0]))
    #expect(after.value(convolutions[2], "padding") == .list([.int(1), .int(1)]))
    #expect(after.shape(of: after.calls[convolutions[1]].results[0]) == [1, 3, 8, 8].map(Dimension.fixed))
    #expect(
      try edited.tensor("head.out.bias").elements(Float.self)
        == before.parameters["head.bias"]?.tensor.elements(Float.self))
    #expect(
      try !edited.text().contains("p_head_weight\"") && !edited.text(ExportedFile.weights).contains("head.weight"))
  }

  @Test("Names of one tensor stay names of one tensor; views of others keep theirs")
  func tiedAndShared() throws {
    let edited = try Edited(
      "stored",
      { program in
        [
          try cut(program, "head.weight", [(1, [0, 2, 3])]),
          try cut(program, "part", [(0, [0, 2])]),
          .setParameter(
            name: "small", Tensor(dtype: .float32, shape: [2], bytes: TensorBytes(copying: [1, 2] as [Float]))),
        ]
      })
    let parameters = edited.after.program.parameters
    #expect(parameters["embedding.weight"]?.storage == parameters["head.weight"]?.storage)
    #expect(parameters["embedding.weight"]?.tensor.shape == [10, 3])
    #expect(parameters["part"]?.tensor.elements(Float.self) == [6, 9, 12, 15, 8, 11, 14, 17])
    #expect(parameters["other"]?.tensor.elements(Float.self) == (0..<12).map { Float(2 * $0) })
    #expect(parameters["part"]?.storage.key != parameters["other"]?.storage.key)
    #expect(parameters["small"]?.tensor.dtype == .float32 && parameters["small"]?.tensor.shape == [2])
  }

  @Test func refusesEditsThatDoNotFit() throws {
    let document = try exportedDocument(fixture("exported.attention.pt2"))
    let attempts: [TorchEdit] = [
      .setInteger(ArgumentPlace(call: 99, path: [0]), 1), .setInteger(ArgumentPlace(call: 0, path: [9]), 1),
      .setInteger(ArgumentPlace(call: 0, path: [0, 0]), 1), .setParameter(name: "missing", Tensor(int64: [1])),
      .setAttribute(module: "qkv", name: "out_features", value: .int(1)),
      .replace(TorchReplacement(call: 3, weight: "missing", bias: nil, layers: [])),
      .adjustInteger(ArgumentPlace(call: 2, path: [1]), multiplier: 2, divisor: 1, offset: 0),
    ]
    for edit in attempts {
      let found = try failure {
        _ = try document.archive(making: [edit], lengths: [:], symbols: [:], work: Work())
      }
      #expect(found?.kind == .certificateFailed, "\(edit)")
    }
  }
}
