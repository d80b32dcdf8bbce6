import Formats
import ModelGraph
import TestSupport
import Testing

/// The code of a GraphModule: what it says, and what is refused because PyTorch would run it.
struct GraphModuleCodeTests {
  /// One statement and `return y`.
  private func only(_ statement: String) throws -> TorchCall {
    let program = try GraphModuleFile([statement, "return y"]).program()
    return try #require(program.calls.first)
  }

  private func name(_ call: TorchCall) -> String {
    switch call.target {
    case .function(let name): name
    case .module(let module): module.path
    }
  }

  @Test(arguments: [
    ("+", "add"), ("-", "sub"), ("*", "mul"), ("/", "truediv"), ("//", "floordiv"), ("%", "mod"), ("**", "pow"),
    ("@", "matmul"), ("&", "bitwise_and"), ("|", "bitwise_or"), ("^", "bitwise_xor"), ("<<", "lshift"),
    (">>", "rshift"), ("==", "eq"), ("!=", "ne"), ("<", "lt"), ("<=", "le"), (">", "gt"), (">=", "ge"),
  ])
  func binaryOperators(_ symbol: String, _ function: String) throws {
    let call = try only("y = x \(symbol) 2")
    #expect(name(call) == function)
    #expect(call.arguments == [.reference("x"), .int(2)])
  }

  @Test(
    arguments: [
      ("y = -x", "neg", [TorchArgument.reference("x")]),
      ("y = ~x", "bitwise_not", [.reference("x")]),
      ("y = -1 * x", "mul", [.int(-1), .reference("x")]),
      (
        "y = x[(slice(None, -2, None), 0, Ellipsis)]", "getitem",
        [
          .reference("x"), .tuple([.slice(start: .none, end: .int(-2), step: .none), .int(0), .ellipsis]),
        ]
      ),
      ("y = x.shape", "getattr", [.reference("x"), .string("shape")]),
      ("y = x.view(-1, 3)", "view", [.reference("x"), .int(-1), .int(3)]),
      ("y = torch.nn.functional.relu(x)", "relu", [.reference("x")]),
      ("y = torch._C._nn.gelu(x)", "gelu", [.reference("x")]),
      ("y = torch.ops.aten.add.Tensor(x, 1)", "add", [.reference("x"), .int(1)]),
      ("y = torch.cat((x, x), 1)", "cat", [.tuple([.reference("x"), .reference("x")]), .int(1)]),
      ("y = torch.cat([x,], 1)", "cat", []),
      ("y = torch.full((2,), 1e-05)", "full", [.tuple([.int(2)]), .float(1e-05)]),
      ("y = torch.full((), -inf)", "full", [.tuple([]), .float(-.infinity)]),
      ("y = x.to(torch.float16)", "to", [.reference("x"), .symbol("torch.float16")]),
      ("y = x.to(device(type='cuda', index=0))", "to", [.reference("x"), .symbol("device(type='cuda', index=0)")]),
      (#"y = torch._assert(x, 'a\'b\x41\u00e9 "q"')"#, "_assert", [.reference("x"), .string("a'bA\u{e9} \"q\"")]),
      (
        "y = torch.f({'a': x, 'b': [None, True]})", "f",
        [
          .dictionary([.init(key: "a", value: .reference("x")), .init(key: "b", value: .list([.none, .bool(true)]))])
        ]
      ),
    ] as [(String, String, [TorchArgument])])
  func statements(_ statement: String, _ function: String, _ arguments: [TorchArgument]) throws {
    if arguments.isEmpty {
      // A comma that torch.fx does not print.
      #expect(try failure { _ = try only(statement) }?.kind == .modelUnsafe)
      return
    }
    let call = try only(statement)
    #expect(name(call) == function)
    #expect(call.arguments == arguments)
    #expect(call.results == ["y"])
  }

  @Test func keywordsAndFreedNames() throws {
    let program = try GraphModuleFile([
      "split = torch.functional.split(x, [1, 2], dim = 1);  x = None", "a = split[0]", "b = split[1];  split = None",
      "c = a + b;  a = b = None", "return (c, {'z': [c]})",
    ]).program()
    #expect(program.calls.map(name) == ["split", "getitem", "getitem", "add"])
    #expect(program.calls[0].keywords.map(\.name) == ["dim"])
    #expect(
      program.output == .tuple([.reference("c"), .dictionary([.init(key: "z", value: .list([.reference("c")]))])]))
  }

  @Test func modulesParametersAndSettings() throws {
    var file = GraphModuleFile([
      "a = getattr(getattr(self.blocks, \"0\").inner, \"block-1\")(x)", "w = self.blocks.scale", "b = a * w",
      "n = self.heads", "c = b.view(n, -1)", "input_1 = x", "d = c + input_1;  c = None", "return d",
    ])
    file.modules = [
      (
        "blocks",
        GraphModuleFile.module(
          "Module", parameters: [("scale", GraphModuleFile.parameter(GraphModuleFile.tensor("0", [2])))],
          children: [
            (
              "0",
              GraphModuleFile.module(
                "Module",
                children: [
                  (
                    "inner",
                    GraphModuleFile.module(
                      "Module", children: [("block-1", GraphModuleFile.module("ReLU", in: "activation"))])
                  )
                ])
            )
          ])
      )
    ]
    file.attributes = [("heads", .int(4))]
    file.storages = [("0", floats([3, 4]))]
    let program = try file.program()
    #expect(program.calls.map(name) == ["blocks.0.inner.block-1", "mul", "view", "add"])
    #expect(program.calls[0].scope == "blocks.0.inner.block-1")
    #expect(program.calls[1].arguments[1] == .parameter("blocks.scale"))
    #expect(program.calls[2].arguments[1] == .int(4))
    #expect(program.calls[3].arguments[1] == .reference("x"))
    #expect(program.parameters["blocks.scale"]?.tensor.elements(Float.self) == [3, 4])
  }

  @Test func inputsWithDefaultsAreLiterals() throws {
    var file = GraphModuleFile()
    file.imports +=
      "\nfrom builtins import bool as bool\nfrom typing import Union as typing_Union\nNoneType = type(None)"
    file.code = """
      def forward(self, x : torch.Tensor, m : typing_Union[torch.Tensor,NoneType] = None, c : bool = False) -> torch.Tensor:
          y = torch._C._nn.scaled_dot_product_attention(x, x, x, attn_mask = m, is_causal = c)
          return y
      """
    let program = try file.program()
    #expect(program.inputs.map(\.name) == ["x"])
    #expect(program.calls[0].keywords.map(\.value) == [.none, .bool(false)])
  }

  @Test func wrappedFunctionsHaveTheirFullName() throws {
    var file = GraphModuleFile()
    file.imports +=
      "\nfrom torchvision.ops.stochastic_depth import stochastic_depth as torchvision_ops_stochastic_depth_stochastic_depth"
      + "\nfrom builtins import getattr as getattr"
    file.code = """
      torch.fx._symbolic_trace.wrap("torchvision_ops_stochastic_depth_stochastic_depth")

      def forward(self, x):
          y = torchvision_ops_stochastic_depth_stochastic_depth(x, 0.1, 'row', False)
          z = getattr(y, "shape")
          return z
      """
    #expect(
      try file.program().calls.map(name) == ["torchvision_ops_stochastic_depth_stochastic_depth", "getattr"])
  }

  // MARK: In place

  @Test func whatReadsAChangedTensorReadsTheResult() throws {
    var file = GraphModuleFile([
      "a = x + 1", "b = a.relu_()", "c = a * 2", "d = self.act(c)", "e = c + d", "c += e;  iadd = c", "f = c + 1",
      "return (f, a)",
    ])
    file.modules = [("act", GraphModuleFile.module("ReLU", in: "activation", settings: [("inplace", .bool(true))]))]
    let program = try file.program()
    #expect(program.calls.map(name) == ["add", "relu", "mul", "act", "add", "add", "add"])
    #expect(program.calls[2].arguments[0] == .reference("b"))
    #expect(program.calls[4].arguments[0] == .reference("d"))
    #expect(program.calls[6].arguments[0] == .reference("iadd"))
    #expect(program.output == .tuple([.reference("f"), .reference("b")]))
  }

  @Test func aViewOfAChangedTensorThatIsReadLaterIsRefused() throws {
    let body = ["a = x + 1", "v = a.view(-1)", "b = a.relu_()"]
    let refused = try failure { _ = try GraphModuleFile(body + ["c = v + 1", "return c"]).program() }
    #expect(refused?.kind == .modelUnsupportedOperator)
    #expect(try GraphModuleFile(body + ["return b"]).program().calls.count == 3)
  }

  // MARK: Refusals

  @Test(arguments: [
    "y = eval(x)", "y = __import__('os')", "import os", "y = torch.hub.load('a/b', 'c')", "y = torch.load('x')",
    "y = torch.ops.load_library('x.so')", "y = torch.ops.evil.run(x)", "y = torch.serialization.load('x')",
    "y = torch.os.system('x')", "y = torch.nn.functional.importlib.import_module('x')", "y = x.numpy()",
    "y = x.__class__", "y = x.apply_(x)", "y = x._typed_storage()", "y = x.to(torch.os)", "y = torch.from_file('x')",
    "y = torch.set_num_threads(1)", "y = torch.utils.cpp_extension.load('x')", "y = torch.compile(x)",
    "y = x.view(x.size(0), -1)", "y = (lambda: x)()", "y = x if x else x", "y = [i for i in x]", "y = f'{x}'",
    "y = x + x + x", "y = x; import os", "y = x  # comment", "x[0] = 1", "x.shape = 1", "self.a = x", "del x",
    "y = x.view(*x)", "y = x\\", "y = '''x'''", "y = torch.cat(x, x = 1, 2)", "y = 'a' 'b'", "y = (x)",
    "    y = x", "\ty = x", "y = x(1)(2)", "y = torch", "y = torch.float32.foo", "torch = x", "self = x",
    "y, z = x", "y: exec('a') = x", "y = 1 if x else 2", "y = x.real.imag", "y = -1 ** x", "y = 1j", "y = 0x10",
    "y = b'x'", "y = x[0][1]", "y = x[0:1]", "y = torch.vmap(x)", "y = device(x)", "pass", "while True: pass",
  ])
  func whatTorchFXDoesNotWriteIsRefused(_ line: String) throws {
    let failure = try #require(
      try failure { _ = try GraphModuleFile(["z = x + 1", line, "return x"]).program() }, "read: \(line)")
    #expect([.modelUnsafe, .modelMalformed].contains(failure.kind), "\(failure)")
    #expect(failure.message.contains("line 6"), "\(failure)")
  }

  @Test(arguments: [
    "y = z + 1", "y = x + 1;  q = None", "x = x + 1", "y = self.absent(x)", "y = self.absent",
    "y = 99999999999999999999", "y = x + 99999999999999999999",
  ])
  func codeThatCannotRunIsMalformed(_ line: String) throws {
    let failure = try #require(try failure { _ = try GraphModuleFile([line, "return x"]).program() })
    #expect([.modelUnsafe, .modelMalformed].contains(failure.kind), "\(failure)")
  }

  @Test func aFreedNameIsGone() throws {
    let body = ["y = x + 1;  x = None", "z = x + y", "return z"]
    #expect(try failure { _ = try GraphModuleFile(body).program() }?.kind == .modelMalformed)
  }

  @Test(arguments: [
    "import os", "from os import system as relu", "import os as torch", "from builtins import eval as getattr",
    "from torch import load as device", "from mymodel import f as f", "x = 1", "from torch.hub import load as l",
    "from torchvision.datasets.utils import download_url as d", "from timm.models import load_checkpoint as l",
    "from torchvision.ops.boxes import os as o", "from timm.models import resume_checkpoint as r",
    "from math import inf; import os", "from math import *", "from . import x", "NoneType = type(None) or exec('x')",
  ])
  func importsThatAreNotPyTorchsAreRefused(_ line: String) throws {
    var file = GraphModuleFile(["return x"])
    file.imports += "\n" + line
    #expect(try failure { _ = try file.program() }?.kind == .modelUnsafe)
  }

  @Test func wrappedFunctionsMustBeImported() throws {
    var file = GraphModuleFile()
    file.code = "torch.fx._symbolic_trace.wrap(\"f\")\n\ndef forward(self, x):\n    return x\n"
    #expect(try failure { _ = try file.program() }?.kind == .modelMalformed)
  }

  @Test(arguments: [
    "", "def forward(self, x):\n", "def forward(self, *x):\n    return x\n", "return x",
    "def forward(self, x):\n    return x\nimport os\n", "def forward(self, x=exec('a')):\n    return x\n",
    "def forward(self, x) -> exec('a'):\n    return x\n", "def forward(self):\n    return x\n",
    "@exec\ndef forward(self, x):\n    return x\n", "def forward(self, x):\n    return x\n    y = x\n",
  ])
  func filesThatAreNoFunctionAreRefused(_ code: String) throws {
    var file = GraphModuleFile()
    file.code = code
    let kind = try failure { _ = try file.program() }?.kind
    #expect(kind == .modelUnsafe || kind == .modelMalformed, "\(code)")
  }

  @Test func deepNestingIsRefused() throws {
    let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
    #expect(
      try failure { _ = try GraphModuleFile(["y = torch.f(\(deep))", "return y"]).program() }?.kind == .modelUnsafe)
  }

  @Test func codeThatWouldTakeMemoryIsRefused() throws {
    let long = "y = torch.f([" + String(repeating: "[],", count: 1 << 19) + "])"
    let line = "    y = x + [" + Array(repeating: "[]", count: 20_000).joined(separator: ", ") + "];  y = None\n"
    #expect(try failure { _ = try GraphModuleFile([long, "return y"]).program() }?.kind == .resourceLimit)
    var file = GraphModuleFile()
    let lines = (0..<60).map {
      line.replacing("y = ", with: "y\($0) = ", maxReplacements: 1).replacing("y = None", with: "y\($0) = None")
    }
    file.code = "def forward(self, x):\n" + lines.joined() + "    return x\n"
    #expect(try failure { _ = try file.program() }?.kind == .resourceLimit)
  }

  @Test func longCodeIsReadInOneGo() throws {
    let lines = (1...20_000).map { "add_\($0) = add_\($0 - 1) + 1;  add_\($0 - 1) = None" }
    let program = try GraphModuleFile(["add_0 = x * 2"] + lines + ["return add_20000"]).program()
    #expect(program.calls.count == 20_001)
  }

  /// Whatever the bytes, reading ends in a program or a failure.
  @Test func mutatedCodeEndsInAProgramOrAFailure() throws {
    let original = Array(
      GraphModuleFile([
        "a = torch.nn.functional.layer_norm(x, (4,), weight = None, eps = 1e-05);  x = None", "b = a.shape",
        "c = b[0];  b = None", "d = a.view(c, 2, -1)", "e = d[(slice(None, None, None), 0)];  d = None",
        "f = torch.cat([e, a], dim = 1);  e = a = None", "g = -f", "f += g;  iadd = f", "return (g, {'k': iadd})",
      ]).code.utf8)
    var generator = SeededGenerator(seed: 5)
    let alphabet = Array("()[]{}=,.;: \n'\"\\-+*_xself0123getattrNone".utf8)
    // Each is a file, which has to settle for ten milliseconds before it is read.
    let mutations = 500
    var read = 0
    for _ in 0..<mutations {
      var text = original
      for _ in 0..<Int.random(in: 1...3, using: &generator) where !text.isEmpty {
        let at = Int.random(in: 0..<text.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: text.remove(at: at)
        case 1: text[at] = alphabet.randomElement(using: &generator) ?? 0
        case 2: text.insert(alphabet.randomElement(using: &generator) ?? 0, at: at)
        default: text.removeSubrange(at..<min(text.count, at + Int.random(in: 1...30, using: &generator)))
        }
      }
      var file = GraphModuleFile()
      file.code = String(decoding: text, as: UTF8.self)
      if try failure({ _ = try file.program() }) == nil { read += 1 }
    }
    #expect(read > 0 && read < mutations)
  }
}
