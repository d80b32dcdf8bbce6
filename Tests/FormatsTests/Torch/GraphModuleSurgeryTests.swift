import Formats
import ModelGraph
import Numerics
import TestSupport
import Testing

/// Edits of a GraphModule: what changes, and that nothing else does.
struct GraphModuleSurgeryTests {
  private typealias File = GraphModuleFile

  /// Two layers, one of them functional, a tie, a view of a parameter's storage, and lengths as literals.
  private func file() -> GraphModuleFile {
    let tied = File.parameter(File.tensor("1", [4]))
    var file = GraphModuleFile([
      "first = self.first(x);  x = None",
      "a = self.a.scale", "b = self.b.scale",
      "mul = first * a;  a = None",
      "mul_1 = mul * b;  b = None",
      "split = mul_1.split([1, 3], dim = 1)",
      "getitem = split[0]",
      "size = mul_1.size(1)",
      "view = mul_1.view(-1, size);  size = None",
      "plain_weight = self.plain.weight", "plain_bias = self.plain.bias",
      "linear = torch._C._nn.linear(view, plain_weight, plain_bias);  view = plain_weight = plain_bias = None",
      "cat = torch.cat((linear, getitem), dim = 1)",
      "return cat",
    ])
    file.storages = [
      ("0", floats((0..<8).map(Float.init))), ("1", floats([1, 2, 3, 4])), ("2", floats((0..<12).map(Float.init))),
      ("3", floats([5, 6, 7])),
    ]
    file.modules = [
      (
        "first",
        File.module(
          "Linear", in: "linear",
          parameters: [("weight", File.parameter(File.tensor("0", [4, 2]))), ("bias", .none)],
          settings: [("in_features", .int(2)), ("out_features", .int(4))])
      ),
      ("a", File.module("Module", parameters: [("scale", tied)])),
      ("b", File.module("Module", parameters: [("scale", tied)])),
      (
        "plain",
        File.module(
          "Module",
          parameters: [
            ("weight", File.parameter(File.tensor("2", [3, 4]))), ("bias", File.parameter(File.tensor("3", [3]))),
          ],
          buffers: [("corner", File.tensor("2", [2], offset: 4, count: 12))])
      ),
    ]
    return file
  }

  private func call(_ name: String, _ program: TorchProgram) throws -> Int {
    try #require(program.calls.firstIndex { $0.results == [name] })
  }

  private func gather(_ shape: [Int], _ axis: Int, _ kept: [Int]) throws -> Gather {
    try Gather(shape: shape, elementBytes: 4, axes: [.init(axis: axis, kept: .indices(kept))])
  }

  private func code(_ bytes: [UInt8]) throws -> String { try #require(GraphModuleDocument.reading(bytes).text) }

  // MARK: Nothing changes

  @Test func withoutEditsEveryEntryIsWhatItWas() throws {
    let bytes = try file().bytes()
    #expect(try GraphModuleDocument.reading(bytes).edited([]) == bytes)
  }

  // MARK: Parameters

  @Test func cutsReachTheirStorageAndNoOther() throws {
    let document = try file().document()
    let edited = try document.edited([
      .cut(parameter: "first.weight", try gather([4, 2], 0, [0, 3])),
      .setAttribute(module: "first", name: "out_features", value: .int(2)),
      .cut(parameter: "b.scale", try gather([4], 0, [0, 3])),
      .cut(parameter: "plain.weight", try gather([3, 4], 1, [0, 3])),
    ])
    let after = try GraphModuleDocument.reading(edited)
    let parameters = after.program.parameters
    #expect(parameters["first.weight"]?.tensor.elements(Float.self) == [0, 1, 6, 7])
    #expect(parameters["first.weight"]?.storage.key == "0")
    // Tied before, tied after.
    #expect(parameters["a.scale"]?.tensor.elements(Float.self) == [1, 4])
    #expect(parameters["a.scale"]?.storage == parameters["b.scale"]?.storage)
    // The buffer keeps the storage that the weight leaves.
    #expect(parameters["plain.weight"]?.tensor.elements(Float.self) == [0, 3, 4, 7, 8, 11])
    #expect(parameters["plain.weight"]?.storage.key == "4")
    #expect(parameters["plain.corner"]?.tensor.elements(Float.self) == [4, 5])
    #expect(parameters["plain.corner"]?.storage.key == "2")
    guard case .module(let first) = after.program.calls[0].target else { throw wrongTarget }
    #expect(first.attributes["out_features"] == .int(2))
    #expect(first.attributes["in_features"] == .int(2))
    #expect(Set(parameters.keys) == Set(document.program.parameters.keys))
  }

  private var wrongTarget: Failure { Failure(.modelMalformed, "the call is of another kind") }

  @Test func contentsCanChangeAndBeCutAtOnce() throws {
    let document = try file().document()
    let new = Tensor(float32: [10, 20, 30, 40])
    let cut = TorchEdit.cut(parameter: "a.scale", try gather([4], 0, [1, 2]))
    for tensor in [new, Tensor(float32: [20, 30])] {
      let edited = try document.edited([.setParameter(name: "a.scale", tensor), cut])
      let after = try GraphModuleDocument.reading(edited).program.parameters["b.scale"]
      #expect(after?.tensor.elements(Float.self) == [20, 30])
    }
    #expect(
      try failure { _ = try document.edited([.setParameter(name: "a.scale", Tensor(float32: [1]))]) }?.kind
        == .certificateFailed)
    #expect(
      try failure { _ = try document.edited([.setParameter(name: "nowhere", new)]) }?.kind == .certificateFailed)
  }

  // MARK: Code

  @Test func literalsChangeAloneInTheirLine() throws {
    let document = try file().document()
    let split = try call("split", document.program)
    let edited = try document.edited([
      .setInteger(ArgumentPlace(call: split, path: [1, 0]), 11),
      .setInteger(ArgumentPlace(call: split, path: [1, 1]), 2),
    ])
    let before = try #require(document.text)
    #expect(try code(edited) == before.replacing("mul_1.split([1, 3], dim = 1)", with: "mul_1.split([11, 2], dim = 1)"))
  }

  @Test func argumentsKeywordsAndFunctionsChange() throws {
    let document = try file().document()
    let (split, size) = (try call("split", document.program), try call("size", document.program))
    let edited = try code(
      document.edited([
        .setFunction(call: split, name: "split_with_sizes"), .setKeyword(call: split, name: "dim", value: .int(-1)),
        .setArgument(call: split, index: 1, value: .tuple([.int(4)])),
        .setKeyword(call: size, name: "scale", value: .float(0.125)),
        .setArgument(call: try call("mul", document.program), index: 1, value: .float(1e-05)),
      ]))
    #expect(edited.contains("    split = mul_1.split_with_sizes((4,), dim = -1)\n"))
    #expect(edited.contains("    size = mul_1.size(1, scale = 0.125)\n"))
    #expect(edited.contains("    mul = first * 1e-05;  a = None\n"))
  }

  @Test func callsWithoutArgumentsGetTheirFirst() throws {
    let edited = try code(
      GraphModuleFile(["y = x.f()", "return y"]).document().edited([
        .setKeyword(call: 0, name: "a", value: .bool(true)), .setKeyword(call: 0, name: "b", value: .string("it's")),
      ]))
    #expect(edited.contains(#"    y = x.f(a = True, b = 'it\'s')"#))
  }

  @Test func keywordsOfSplitsAreRenamedWithTheFunction() throws {
    let file = GraphModuleFile([
      "a = torch.functional.split(tensor = x, split_size_or_sections = 4, dim = 1)", "b = x.chunk(chunks = 2)",
      "return (a, b)",
    ])
    let sizes = TorchArgument.list([.int(1), .int(2)])
    let edited = try code(
      file.document().edited([
        .setFunction(call: 0, name: "split_with_sizes"),
        .setKeyword(call: 0, name: "split_size_or_sections", value: sizes),
        .setFunction(call: 1, name: "split_with_sizes"), .setKeyword(call: 1, name: "chunks", value: sizes),
      ]))
    #expect(edited.contains("    a = torch.split_with_sizes(input = x, split_sizes = [1, 2], dim = 1)\n"))
    #expect(edited.contains("    b = x.split_with_sizes(split_sizes = [1, 2])\n"))
  }

  @Test func dynamicIntegersAreComputedOnLinesOfTheirOwn() throws {
    let document = try file().document()
    let view = try call("view", document.program)
    let place = ArgumentPlace(call: view, path: [2])
    let edited = try document.edited([.adjustInteger(place, multiplier: 3, divisor: 4, offset: -1)])
    let expected = """
          width = size * 3
          width_2 = width // 4;  width = None
          width_3 = width_2 - 1;  width_2 = None
          view = mul_1.view(-1, width_3);  size = None

      """
    #expect(try code(edited).contains(expected))
    #expect(try GraphModuleDocument.reading(edited).program.calls.count == document.program.calls.count + 3)
    #expect(
      try code(document.edited([.adjustInteger(place, multiplier: 1, divisor: 1, offset: 0)])) == document.text)
  }

  @Test func literalsBehindANameTakeItsPlace() throws {
    var file = GraphModuleFile(["sizes = self.sizes", "a = x.split(sizes, dim = 1)", "b = a[0]", "return b"])
    file.attributes = [("sizes", .tuple([4, 8]))]
    let edited = try file.document().edited([
      .setInteger(ArgumentPlace(call: 0, path: [1, 0]), 3), .setInteger(ArgumentPlace(call: 0, path: [1, 1]), 5),
    ])
    #expect(try code(edited).contains("    a = x.split((3, 5), dim = 1)\n"))
  }

  @Test func changesThatContradictAreRefused() throws {
    let document = try file().document()
    let split = try call("split", document.program)
    let place = ArgumentPlace(call: split, path: [1, 0])
    let edits: [[TorchEdit]] = [
      [.setInteger(place, 1), .setInteger(place, 2)],
      [.setInteger(place, 9), .setArgument(call: split, index: 1, value: .int(2))],
      [.setInteger(ArgumentPlace(call: split, path: [1, 7]), 1)], [.setInteger(ArgumentPlace(call: 99, path: [0]), 1)],
      [.setArgument(call: split, index: 9, value: .int(1))],
      [.setAttribute(module: "first", name: "no", value: .int(1))],
      [.setAttribute(module: "no", name: "out_features", value: .int(1))],
    ]
    for edits in edits { #expect(try failure { _ = try document.edited(edits) }?.kind == .certificateFailed) }
  }

  // MARK: Replacements

  @Test func aModuleBecomesARowOfLayers() throws {
    let document = try file().document()
    let edited = try document.edited([
      .replace(
        TorchReplacement(
          call: 0, weight: "first.weight", bias: nil,
          layers: [
            .init(kind: .linear, weight: Tensor(float32: [1, 2], shape: [1, 2]), bias: .none, name: "0"),
            .init(
              kind: .linear, weight: Tensor(float32: [3, 4, 5, 6], shape: [4, 1]),
              bias: .new(Tensor(float32: [1, 1, 1, 1])), name: "1"),
          ]))
    ])
    let program = try GraphModuleDocument.reading(edited).program
    #expect(try code(edited) == document.text)
    guard case .module(let module) = program.calls[0].target else { throw wrongTarget }
    #expect(module.className == "Sequential")
    #expect(module.children.map(\.className) == ["Linear", "Linear"])
    #expect(module.children[1].attributes["out_features"] == .int(4))
    #expect(module.children[0].parameters == ["weight": "first.0.weight", "bias": nil])
    #expect(program.parameters["first.1.weight"]?.tensor.elements(Float.self) == [3, 4, 5, 6])
    #expect(program.parameters["first.1.bias"]?.tensor.elements(Float.self) == [1, 1, 1, 1])
    #expect(program.parameters["first.weight"] == nil)
    // The replaced weight's storage went with it.
    #expect(!Set(program.parameters.values.map(\.storage.key)).contains("0"))
  }

  @Test func convolutionsHaveEveryAttributeTheirClassSets() throws {
    var file = GraphModuleFile(["c = self.c(x)", "return c"])
    file.storages = [("0", floats([Float](repeating: 1, count: 36))), ("1", floats([1, 2, 3]))]
    file.modules = [
      (
        "c",
        File.module(
          "Conv2d", in: "conv",
          parameters: [
            ("weight", File.parameter(File.tensor("0", [3, 4, 3, 1]))), ("bias", File.parameter(File.tensor("1", [3]))),
          ],
          settings: [
            ("kernel_size", .tuple([3, 1])), ("padding", .tuple([1, 0])), ("padding_mode", .string("reflect")),
          ])
      )
    ]
    func layer(_ shape: [Int], _ bias: TorchReplacement.Layer.Bias) -> TorchReplacement.Layer {
      .init(
        kind: .convolution(spatialRank: 2, stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1),
        weight: Tensor(float32: [Float](repeating: 1, count: shape.reduce(1, *)), shape: shape), bias: bias,
        name: String(shape[0]))
    }
    let edited = try file.document().edited([
      .replace(
        TorchReplacement(
          call: 0, weight: "c.weight", bias: "c.bias",
          layers: [layer([2, 4, 1, 1], .none), layer([1, 2, 3, 1], .none), layer([3, 1, 1, 1], .original)]))
    ])
    let program = try GraphModuleDocument.reading(edited).program
    guard case .module(let module) = program.calls[0].target else { throw wrongTarget }
    let core = module.children[1]
    #expect(core.attributes["padding"] == .tuple([.int(1), .int(0)]))
    #expect(core.attributes["padding_mode"] == .string("reflect"))
    #expect(core.attributes["_reversed_padding_repeated_twice"] == .tuple([.int(0), .int(0), .int(1), .int(1)]))
    #expect(module.children[0].attributes["padding_mode"] == .string("zeros"))
    #expect(core.attributes["in_channels"] == .int(2) && core.attributes["transposed"] == .bool(false))
    #expect(program.parameters["c.3.bias"]?.storage.key == "1")
  }

  private func functional(bias: TorchReplacement.Layer.Bias = .original, call: Int) -> TorchEdit {
    .replace(
      TorchReplacement(
        call: call, weight: "plain.weight", bias: "plain.bias",
        layers: [
          .init(kind: .linear, weight: Tensor(float32: [1, 2, 3, 4], shape: [1, 4]), bias: .none, name: "in"),
          .init(kind: .linear, weight: Tensor(float32: [1, 2, 3], shape: [3, 1]), bias: bias, name: "out"),
        ]))
  }

  @Test func aFunctionalCallBecomesARowOfStatements() throws {
    let document = try file().document()
    let edited = try document.edited([functional(call: try call("linear", document.program))])
    let expected = """
          plain_weight = self.plain.weight_in
          plain_bias = self.plain.bias
          plain_weight_in_out = torch._C._nn.linear(view, plain_weight, None)
          plain_weight_out = self.plain.weight_out
          linear = torch._C._nn.linear(plain_weight_in_out, plain_weight_out, plain_bias);  view = plain_weight = plain_bias = None

      """
    #expect(try code(edited).contains(expected))
    let parameters = try GraphModuleDocument.reading(edited).program.parameters
    #expect(parameters["plain.weight_out"]?.tensor.elements(Float.self) == [1, 2, 3])
    #expect(parameters["plain.weight"] == nil)
    // The buffer still sees the storage of the weight that is gone.
    #expect(parameters["plain.corner"]?.tensor.elements(Float.self) == [4, 5])
  }

  @Test func weightsThatAreReadElsewhereAreNotReplaced() throws {
    var file = file()
    file.code = file.code.replacing(
      "    return cat", with: "    again = self.plain.weight\n    z = cat + again\n    return z")
    let document = try file.document()
    let edit = functional(call: try call("linear", document.program))
    #expect(try failure { _ = try document.edited([edit]) }?.kind == .modelUnsupportedOperator)
    file = self.file()
    file.code = file.code.replacing("    return cat", with: "    w = self.first.weight\n    z = cat + w\n    return z")
    let replacement = TorchEdit.replace(
      TorchReplacement(
        call: 0, weight: "first.weight", bias: nil,
        layers: [.init(kind: .linear, weight: Tensor(float32: [1, 2], shape: [1, 2]), bias: .none, name: "0")]))
    #expect(try failure { _ = try file.document().edited([replacement]) }?.kind == .modelUnsupportedOperator)
  }
}
