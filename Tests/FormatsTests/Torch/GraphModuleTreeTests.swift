import Formats
import ModelGraph
import TestSupport
import Testing

/// Modules and tensors of a GraphModule, and what a pickle may not claim of them.
struct GraphModuleTreeTests {
  private typealias File = GraphModuleFile

  /// A GraphModule whose one parameter `w` is `tensor`.
  private func file(_ tensor: PickleNode, storage: [UInt8] = floats([0, 1, 2, 3, 4, 5])) -> GraphModuleFile {
    var file = GraphModuleFile(["w = self.w", "y = x * w", "return y"])
    file.parameters = [("w", File.parameter(tensor))]
    file.storages = [("0", storage)]
    return file
  }

  private func kind(_ tensor: PickleNode, storage: [UInt8] = floats([0, 1, 2, 3, 4, 5])) throws -> Failure.Kind? {
    try failure { _ = try file(tensor, storage: storage).document() }?.kind
  }

  // MARK: What is read

  @Test func settingsAreThoseOfTheModule() throws {
    var file = GraphModuleFile(["y = self.c(x)", "return y"])
    file.storages = [("0", floats([1, 2]))]
    file.modules = [
      (
        "c",
        File.module(
          "Conv1d", in: "conv",
          parameters: [("weight", File.parameter(File.tensor("0", [1, 1, 2]))), ("bias", .none)],
          settings: [
            ("in_channels", .int(1)), ("kernel_size", .tuple([2])), ("padding", .string("same")),
            ("transposed", .bool(false)), ("eps", .float(0.5)), ("_reversed_padding_repeated_twice", .list([.int(0)])),
          ])
      )
    ]
    let program = try file.program()
    guard case .module(let module) = program.calls[0].target else { throw failureOfTest }
    #expect(module.className == "Conv1d")
    #expect(module.parameters == ["weight": "c.weight", "bias": nil])
    #expect(module.attributes["kernel_size"] == .tuple([.int(2)]))
    #expect(module.attributes["padding"] == .string("same"))
    #expect(module.attributes["eps"] == .float(0.5))
    #expect(module.attributes["_forward_hooks"] == nil)
  }

  private var failureOfTest: Failure { Failure(.modelMalformed, "the call is of no module") }

  @Test func tensorsAreRowMajorWhateverTheirStrides() throws {
    func elements(_ tensor: PickleNode) throws -> [Float] {
      try #require(try file(tensor).program().parameters["w"]).tensor.elements(Float.self)
    }
    #expect(try elements(File.tensor("0", [2, 3])) == [0, 1, 2, 3, 4, 5])
    #expect(try elements(File.tensor("0", [3, 2], strides: [1, 3])) == [0, 3, 1, 4, 2, 5])
    #expect(try elements(File.tensor("0", [2, 2], strides: [0, 1], offset: 4, count: 6)) == [4, 5, 4, 5])
    #expect(try elements(File.tensor("0", [], offset: 5, count: 6)) == [5])
    #expect(try elements(File.tensor("0", [0, 7], count: 6)) == [])
  }

  @Test func oneObjectWithTwoNamesIsOneTensor() throws {
    let tied = File.parameter(File.tensor("0", [6]))
    var file = GraphModuleFile(["a = self.a.weight", "b = self.b.weight", "c = a * b", "return c"])
    file.storages = [("0", floats([0, 1, 2, 3, 4, 5]))]
    file.modules = [
      ("a", File.module("Module", parameters: [("weight", tied)])),
      ("b", File.module("Module", parameters: [("weight", tied)])),
    ]
    let parameters = try file.program().parameters
    #expect(parameters["a.weight"]?.storage == parameters["b.weight"]?.storage)
  }

  @Test func attributesThatAreTensorsCanBeRead() throws {
    var file = GraphModuleFile(["t = self._tensor_constant0", "y = x + t", "return y"])
    file.attributes = [("_tensor_constant0", File.tensor("0", [2], of: "LongStorage"))]
    file.storages = [("0", [UInt8](repeating: 0, count: 16))]
    let parameter = try #require(try file.program().parameters["_tensor_constant0"])
    #expect(parameter.isBuffer)
    #expect(parameter.tensor.dtype == .int64)
  }

  // MARK: What is refused

  @Test func tensorsOutsideTheirStorageAreRefused() throws {
    #expect(try kind(File.tensor("0", [7], count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [2, 3], offset: 1, count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [2, 3], strides: [6, 1], count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [6], offset: -1, count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [2, 3], strides: [-3, 1], offset: 3, count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [-2, -3], count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [6], strides: [1, 1], count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [1 << 62, 1 << 62], strides: [0, 0], count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [2], strides: [.max], count: 6)) == .modelMalformed)
    #expect(try kind(File.tensor("0", [1], offset: .max, count: 6)) == .modelMalformed)
  }

  @Test func storagesMustHaveTheBytesTheyClaim() throws {
    #expect(try kind(File.tensor("0", [5])) == .modelMalformed)
    #expect(try kind(File.tensor("0", [6]), storage: floats([0, 1, 2, 3, 4])) == .modelMalformed)
    #expect(try kind(File.tensor("0", [6], count: .max)) == .modelMalformed)
    #expect(try kind(File.tensor("1", [6])) == .modelMalformed)
    #expect(
      try kind(File.tensor("0", [6], of: "QInt8Storage"), storage: [1, 2, 3, 4, 5, 6]) == .modelUnsupportedOperator)
  }

  @Test func expandedTensorsMayNotTakeMemory() throws {
    #expect(try kind(File.tensor("0", [1 << 20, 1 << 6], strides: [0, 0], count: 6)) == .resourceLimit)
  }

  @Test func bigEndianFilesAndFilesWithoutAVersionAreRefused() throws {
    var file = file(File.tensor("0", [6]))
    file.entries = [("version", Array("3\n".utf8)), ("byteorder", Array("big".utf8))]
    #expect(try failure { _ = try file.document() }?.kind == .modelUnsupportedFormat)
    file.entries = []
    #expect(try failure { _ = try file.document() }?.kind == .modelMalformed)
  }

  @Test func hooksAndParametrizationsAreRefused() throws {
    var file = GraphModuleFile(["y = self.a(x)", "return y"])
    let hook = PickleNode.orderedDictionary([("0", .int(1))])
    file.modules = [
      (
        "a",
        .newObject(
          .global("torch.nn.modules.activation", "ReLU"),
          state: .dict(
            File.base().filter { $0.0 != "_forward_pre_hooks" } + [("_forward_pre_hooks", hook)]))
      )
    ]
    #expect(try failure { _ = try file.document() }?.message.contains("remove_parametrizations") == true)
    file.modules = [
      (
        "a",
        File.module(
          "Linear", in: "linear", children: [("parametrizations", File.module("ModuleDict", in: "container"))])
      )
    ]
    #expect(try failure { _ = try file.document() }?.kind == .modelUnsupportedOperator)
  }

  @Test func codeOfAGraphModuleWithinIsReadToo() throws {
    var inner = GraphModuleFile(["y = x * 2", "return y"])
    var outer = GraphModuleFile(["y = self.inner(x)", "return y"])
    outer.modules = [("inner", inner.root)]
    #expect(try outer.program().calls.count == 1)
    inner = GraphModuleFile(["y = torch.hub.load('a', 'b')", "return y"])
    outer.modules = [("inner", inner.root)]
    #expect(try failure { _ = try outer.document() }?.kind == .modelUnsafe)
  }

  @Test func oneModuleInManyPlacesCostsWhatItTakes() throws {
    var module = File.module("ReLU", in: "activation")
    for _ in 0..<40 { module = File.module("Module", children: [("0", module), ("1", module)]) }
    var file = GraphModuleFile(["return x"])
    file.modules = [("a", module)]
    #expect(try failure { _ = try file.document() }?.kind == .resourceLimit)
  }

  // MARK: Other files

  @Test func otherFilesOfPyTorchsSayWhatToDo() throws {
    let file = GraphModuleFile()
    let module = File.module("ReLU", in: "activation")
    let tensor = File.parameter(File.tensor("0", [1]))
    for root in [module, PickleNode.orderedDictionary([("w", tensor)]), .dict([("w", tensor)]), tensor, .int(1)] {
      let failure = try #require(try failure { _ = try GraphModuleDocument.reading(file.bytes(root: root)) })
      #expect(failure.kind == .modelUnsupportedFormat)
      #expect(failure.message.contains("torch.fx.symbolic_trace") || failure.message.contains("a tensor"))
    }
    var script = GraphModuleFile()
    script.entries += [("constants.pkl", [0x80, 2, 0x4e, 0x2e]), ("code/__torch__.py", [])]
    #expect(try failure { _ = try script.document() }?.message.contains("TorchScript") == true)
    let scratch = try Scratch()
    let legacy: [UInt8] = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e]
    let old = try failure { _ = try open(try scratch.write(legacy, "old.pt")) }
    #expect(old?.kind == .modelUnsupportedFormat && old?.message.contains("before 1.6") == true)
  }

  @Test func graphModulesWithNestedInputsAreRefused() throws {
    var file = GraphModuleFile(["return x"])
    file.attributes = [("_in_spec", .none)]
    #expect(try failure { _ = try file.document() }?.kind == .modelUnsupportedFormat)
  }

  /// Every cut of the pickle is an error, and none a crash.
  @Test func cutPicklesAreErrors() throws {
    let file = file(File.tensor("0", [6]))
    let pickle = PickleWriter.write(file.root)
    for count in stride(from: 0, to: pickle.count, by: 3) {
      let scratch = try Scratch()
      var writer = ZipWriter(alignment: 1)
      writer.add("m/data.pkl", Array(pickle[..<count]))
      writer.add("m/data/0", floats([0, 1, 2, 3, 4, 5]))
      writer.add("m/version", Array("3\n".utf8))
      let bytes = try writer.written(to: scratch["m.pt"])
      #expect(try failure { _ = try GraphModuleDocument.reading(bytes) } != nil)
    }
  }
}
