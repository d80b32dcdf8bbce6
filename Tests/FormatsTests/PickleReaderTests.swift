import Formats
import ModelGraph
import TestSupport
import Testing

/// Pickles of PyTorch as data, and pickles that want to be more.
@Suite struct PickleReaderTests {
  @Test(arguments: ["graph.pt", "graph.protocol4.pt"]) func aGraphModule(name: String) throws {
    let root = try readPickle(pickleBytes(name))
    #expect(root.calleeName == "torch.fx.graph_module.reduce_graph_module")
    let arguments = try #require(root.callArguments)
    #expect(arguments.count == 2)
    let body = arguments[0]
    #expect(body["training"]?.bool == false)
    #expect(body["_code"]?.string?.contains("def forward(self, x):") == true)
    #expect(body["_tracer_cls"]?.globalName == "torch.fx._symbolic_trace.Tracer")
    #expect(body["nothing"] == nil)
    let modules = try #require(body["_modules"])
    #expect(modules.dictionaryEntries?.map { $0.key.string } == ["body", "first", "second"])
    let convolution = try #require(modules["body"]?.state?["_modules"]?["0"])
    #expect(convolution.calleeName == "torch.nn.modules.conv.Conv2d")
    #expect(convolution.state?["kernel_size"]?.ints == [3, 3])
    #expect(convolution.state?["out_channels"]?.int == 4)
    let norm = try #require(modules["body"]?.state?["_modules"]?["1"]?.state)
    #expect(norm["eps"]?.float == 1e-5)
  }

  @Test(arguments: ["graph.pt", "graph.protocol4.pt"]) func tiedParametersAreOneNode(name: String) throws {
    let body = try #require(try readPickle(pickleBytes(name)).callArguments?.first)
    let first = body["_modules"]?["first"]?.state?["_parameters"]
    let second = body["_modules"]?["second"]?.state?["_parameters"]
    let weight = try #require(first?["weight"])
    #expect(second?["weight"] === weight)
    #expect(first?["bias"] !== second?["bias"])
    #expect(weight.calleeName == "torch._utils._rebuild_parameter")
    let tensor = try #require(weight.callArguments?.first?.callArguments)
    #expect(tensor[0].persistent?.tuple?.first?.string == "storage")
    #expect(tensor[2].ints == [4, 4])
  }

  @Test func numbers() throws {
    func value(_ bytes: [UInt8]) throws -> PickleNode { try readPickle(Op.start + bytes + Op.stop) }
    #expect(try value([0x4a, 0xff, 0xff, 0xff, 0xff]).int == -1)
    #expect(try value([0x4d, 0xff, 0xff]).int == 65535)
    #expect(try value([0x8a, 0]).int == 0)
    #expect(try value([0x8a, 1, 0x80]).int == -128)
    #expect(try value([0x8a, 8, 0, 0, 0, 0, 0, 0, 0, 0x80]).int == .min)
    #expect(try value([0x47, 0xc0, 0, 0, 0, 0, 0, 0, 0]).float == -2)
    guard case .bigInteger(let digits) = try value([0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1]).kind else {
      Issue.record("2^64 is no big integer")
      return
    }
    #expect(digits == [0, 0, 0, 0, 0, 0, 0, 0, 1])
  }

  @Test func aTracerOfTheUserIsKeptAsAName() throws {
    let tracer = Op.text("_tracer_cls") + Op.global("my_package.tracing", "MyTracer")
    let body = try readPickle(Op.start + Op.emptyDict + tracer + Op.setItem + Op.stop)
    #expect(body["_tracer_cls"]?.globalName == "my_package.tracing.MyTracer")
  }

  // MARK: What is refused

  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let bytes: [UInt8]
    let kind: Failure.Kind
    let says: String
    var testDescription: String { name }

    init(_ name: String, _ kind: Failure.Kind, _ says: String, _ bytes: [UInt8]) {
      (self.name, self.kind, self.says) = (name, kind, says)
      self.bytes = Op.start + bytes + Op.stop
    }
  }

  private static let system = Op.global("posix", "system")
  private static let module = Op.global("torch.nn.modules.linear", "Linear")
  private static let ordered = Op.global("collections", "OrderedDict")

  static let cases: [Case] = [
    Case("system", .modelUnsafe, "posix.system", system + Op.text("id") + Op.tuple1 + Op.reduce),
    Case("system as a value", .modelUnsafe, "posix.system", system),
    Case(
      "system by stacked names", .modelUnsafe, "os.system",
      [0x8c, 2] + Array("os".utf8) + [0x8c, 6] + Array("system".utf8) + [0x93]),
    Case(
      "system as a tracer", .modelUnsafe, "posix.system", Op.emptyDict + Op.text("_tracer_cls") + system + Op.setItem),
    Case(
      "a process as a tracer", .modelUnsafe, "subprocess.Popen",
      Op.emptyDict + Op.text("_tracer_cls") + Op.global("subprocess", "Popen") + Op.setItem),
    Case("a user's class", .modelUnsafe, "my.Net", Op.global("my", "Net")),
    Case(
      "a user's class elsewhere", .modelUnsafe, "my.Net",
      Op.emptyDict + Op.text("_tracer") + Op.global("my", "Net") + Op.setItem),
    Case(
      "a tracer that is called", .modelUnsafe, "my.Tracer",
      Op.emptyDict + Op.text("_tracer_cls") + Op.global("my", "Tracer") + Op.emptyTuple + Op.reduce + Op.setItem),
    Case("eval", .modelUnsafe, "builtins.eval", Op.global("builtins", "eval")),
    Case("attribute access", .modelUnsafe, "builtins.getattr", Op.global("builtins", "getattr")),
    Case("a function of torch", .modelUnsafe, "torch.load", Op.global("torch", "load")),
    Case(
      "a function beside the modules", .modelUnsafe, "_forward_unimplemented",
      Op.global("torch.nn.modules.module", "_forward_unimplemented")),
    Case("a path through a module", .modelUnsafe, "Module.x", Op.global("torch.nn.modules.module", "Module.x")),
    Case("no module name", .modelUnsafe, "torch.nn.modules..x.M", Op.global("torch.nn.modules..x", "M")),
    Case("a module that is called", .modelUnsafe, "calls", module + Op.emptyTuple + Op.reduce),
    Case(
      "a storage that is called", .modelUnsafe, "calls", Op.global("torch", "FloatStorage") + Op.emptyTuple + Op.reduce),
    Case(
      "items of a module", .modelUnsafe, "sets items",
      module + Op.emptyTuple + Op.newObject + Op.text("a") + Op.none + Op.setItem),
    Case(
      "a state for a tensor", .modelUnsafe, "sets the state",
      Op.global("torch._utils", "_rebuild_tensor_v2") + Op.emptyTuple + Op.reduce + Op.emptyDict + Op.build),
    Case("a text that is called", .modelMalformed, "no class", Op.text("a") + Op.emptyTuple + Op.reduce),
    Case("arguments that are a list", .modelMalformed, "no tuple", ordered + Op.emptyList + Op.reduce),
    Case(
      "two states", .modelMalformed, "takes none",
      module + Op.emptyTuple + Op.newObject + Op.emptyDict + Op.build + Op.emptyDict + Op.build),
    Case("an extension", .modelUnsafe, "EXT1 (0x82)", [0x82, 1]),
    Case("an old instance", .modelUnsafe, "INST", [0x69] + Array("os\nsystem\n".utf8)),
    Case("an object with keywords", .modelUnsafe, "NEWOBJ_EX", [0x92]),
    Case("a buffer elsewhere", .modelUnsafe, "NEXT_BUFFER", [0x97]),
    Case("an unknown instruction", .modelUnsafe, "0xff", [0xff]),
    Case("a second protocol", .modelUnsafe, "0x80", [0x80, 2]),
    Case("nothing", .modelMalformed, "0 objects", []),
    Case("two objects", .modelMalformed, "2 objects", Op.none + Op.none),
    Case("a mark at the end", .modelMalformed, "1 marks", Op.none + Op.mark),
    Case("more after the end", .modelMalformed, "follow", Op.none + Op.stop),
    Case("an empty stack", .modelMalformed, "too few", Op.tuple1),
    Case("a mark in the way", .modelMalformed, "too few", Op.none + Op.mark + Op.tuple1),
    Case("no mark", .modelMalformed, "no mark", Op.none + Op.setItems),
    Case("a key without a value", .modelMalformed, "without a value", Op.emptyDict + Op.mark + Op.none + Op.setItems),
    Case("a key twice", .modelMalformed, "twice", Op.emptyDict + Op.mark + twice("a") + twice("a") + Op.setItems),
    Case("an element of no list", .modelMalformed, "no list", Op.emptyDict + Op.none + Op.append),
    Case("an item of no dictionary", .modelMalformed, "no dictionary", Op.emptyList + twice("a") + Op.setItem),
    Case("an empty slot", .modelMalformed, "slot 3", Op.get(3)),
    Case("a distant slot", .modelMalformed, "slot", Op.none + [0x72, 0xff, 0xff, 0xff, 0xff]),
    Case("a long text", .modelMalformed, "cut off", [0x58, 0xff, 0xff, 0xff, 0xff]),
    Case("a text that is not UTF-8", .modelMalformed, "UTF-8", [0x8c, 1, 0xff]),
    Case("an endless name", .modelMalformed, "does not end", [0x63] + [UInt8](repeating: 0x61, count: 5000)),
    Case("a long frame", .modelMalformed, "frame", [0x95, 0xff, 0, 0, 0, 0, 0, 0, 0]),
    Case("a list in itself", .modelMalformed, "itself", Op.emptyList + Op.put(0) + Op.get(0) + Op.append),
    Case(
      "a dictionary in a list in itself", .modelMalformed, "itself",
      Op.emptyDict + Op.put(0) + Op.text("a") + Op.emptyList + Op.get(0) + Op.append + Op.setItem),
    Case(
      "a module in its state", .modelMalformed, "itself",
      module + Op.emptyTuple + Op.newObject + Op.put(0) + Op.emptyDict + Op.text("a") + Op.get(0) + Op.setItem
        + Op.build),
    Case(
      "200,000 lists", .resourceLimit, "1000 deep",
      [UInt8](repeating: 0x5d, count: 200_000) + [UInt8](repeating: 0x61, count: 199_999)),
    Case(
      "200,000 tuples", .resourceLimit, "1000 deep", Op.none + [UInt8](repeating: 0x85, count: 200_000)),
    Case("200,000 lists that stay open", .modelMalformed, "objects", [UInt8](repeating: 0x5d, count: 200_000)),
    Case(
      "a chain of lists that is cut off", .modelMalformed, "too few",
      [UInt8](repeating: 0x5d, count: 900) + [UInt8](repeating: 0x61, count: 900)),
    Case(
      "lists put into one another from outside", .resourceLimit, "1000 deep",
      Op.emptyList + Op.mark + Op.emptyList
        + (0..<1000).flatMap { _ in Op.emptyList + Op.put(0) + Op.append + Op.get(0) } + Op.appends),
    Case(
      "a million objects", .resourceLimit, "objects", Op.emptyList + Op.mark + [UInt8](repeating: 0x7d, count: 1 << 20)),
    Case(
      "millions of instructions", .resourceLimit, "instructions",
      Op.none + Op.put(0) + (0..<(1 << 22)).flatMap { _ in Op.put(0) }),
  ]

  private static func twice(_ key: String) -> [UInt8] { Op.text(key) + Op.none }

  @Test(arguments: cases) func hostilePicklesAreRefused(pickle: Case) throws {
    let failed = try failure { _ = try readPickle(pickle.bytes) }
    #expect(failed?.kind == pickle.kind, "\(failed?.message ?? "accepted")")
    #expect(failed?.message.contains(pickle.says) == true, "\(failed?.message ?? "")")
  }

  @Test func whatIsRefusedIsNamed() throws {
    let failed = try failure { _ = try readPickle(Op.start + Op.none + Op.global("posix", "system") + Op.stop) }
    #expect(failed?.details["global"] == .string("posix.system"))
    #expect(failed?.details["offset"] == .int(3))
    #expect(failed?.message.contains("nothing in it was executed") == true)
  }

  /// 2^60 leaves in 300 bytes are 61 nodes.
  @Test func objectsThatDoubleCostWhatTheyAre() throws {
    var bytes = Op.start + Op.none
    for _ in 0..<60 { bytes += Op.put(0) + Op.get(0) + Op.tuple2 }
    let root = try readPickle(bytes + Op.stop)
    #expect(root.tuple?.count == 2)
    #expect(root.tuple?[0] === root.tuple?[1])
    #expect(describeTheSame(root, try readPickle(PickleWriter.write(root))))
    let edited = root.replacing([try #require(root.tuple?[0]).id: .int(3)])
    #expect(edited.ints == [3, 3])
  }

  @Test func theDeepestThatIsRead() throws {
    let limit = PickleReader.depthLimit
    func nested(_ levels: Int) -> [UInt8] {
      Op.start + [UInt8](repeating: 0x5d, count: levels) + [UInt8](repeating: 0x61, count: levels - 1) + Op.stop
    }
    #expect(try readPickle(nested(limit)).list?.count == 1)
    #expect(try failure { _ = try readPickle(nested(limit + 1)) }?.kind == .resourceLimit)
  }

  @Test func cancelled() throws {
    let work = Work()
    work.cancellation.set()
    let fenced = FencedBytes(Op.start + (0..<100_000).flatMap { _ in Op.none } + Op.stop)
    #expect(
      try withExtendedLifetime(fenced) { try failure { _ = try PickleReader.read(fenced.span, work: work) } }?.kind
        == .cancelled)
  }

  // MARK: Any bytes

  @Test(arguments: ["graph.pt", "graph.protocol4.pt"]) func truncatedAtEveryByte(name: String) throws {
    let whole = try pickleBytes(name)
    for count in 0..<whole.count {
      #expect(try failure { _ = try readPickle(Array(whole.prefix(count))) } != nil, "\(count)")
    }
  }

  /// Whatever the bytes are: an object that can be written and read again, or a failure.
  @Test(arguments: ["graph.pt", "graph.protocol4.pt"]) func mutated(name: String) throws {
    let whole = try pickleBytes(name)
    var random = SeededGenerator(seed: 23)
    var accepted = 0
    for _ in 0..<6000 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let position = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[position] = .random(in: 0...255, using: &random)
        case 1: bytes.remove(at: position)
        case 2: bytes.insert([0x28, 0x52, 0x61, 0x62, 0x81, 0x86].randomElement(using: &random) ?? 0, at: position)
        default: bytes.swapAt(position, Int.random(in: 0..<bytes.count, using: &random))
        }
      }
      _ = try failure {
        let root = try readPickle(bytes)
        accepted += 1
        #expect(describeTheSame(root, try readPickle(PickleWriter.write(root))))
      }
    }
    #expect(accepted > 100, "too few reach the writer: \(accepted)")
  }
}
