import Foundation
import Formats
import ModelGraph
import TestSupport
import Testing

/// Wrong models: every one ends in a failure that says what is wrong, and none in anything else.
@Suite struct ONNXHostileTests {
  private static let huge = Int(Int64.max)

  struct Case: Sendable, CustomTestStringConvertible {
    let name: String
    let bytes: [UInt8]
    var kind = Failure.Kind.modelMalformed
    /// Has to occur in the message.
    var says = ""
    var testDescription: String { name }
  }

  static let cases: [Case] = [
    Case(name: "no graph", bytes: (Proto.int(1, 8)).bytes, says: "no graph"),
    Case(name: "two graphs", bytes: Proto.model(.relu) + Proto.message(7, .relu).bytes, says: "two graphs"),
    Case(name: "empty graph", bytes: Proto.model(Proto()), says: "no nodes"),
    Case(name: "no outputs", bytes: Proto.model(.input("x") + .node("Relu", ["x"], ["y"])), says: "no outputs"),
    Case(
      name: "cycle",
      bytes: Proto.model(
        .input("x") + .node("Add", ["x", "b"], ["a"]) + .node("Relu", ["a"], ["b"]) + .output("b")),
      says: "computed from its own result"),
    Case(name: "node that reads itself", bytes: Proto.model(.node("Relu", ["a"], ["a"]) + .output("a")), says: "'a'"),
    Case(
      name: "missing initializer",
      bytes: Proto.model(
        .input("x") + .node("Conv", ["x", "w"], ["y"]) + .output("y")),
      says: "Conv 'n_y' reads the value 'w', which nothing in the graph provides"),
    Case(name: "output of nothing", bytes: Proto.model(.relu + .output("z")), says: "'z'"),
    Case(name: "output twice", bytes: Proto.model(.relu + .output("y")), says: "'y' is listed twice"),
    Case(name: "value twice", bytes: Proto.model(.relu + .node("Abs", ["x"], ["y"])), says: "'y' is defined twice"),
    Case(name: "node over input", bytes: Proto.model(.relu + .node("Abs", ["y"], ["x"])), says: "'x' is defined twice"),
    Case(
      name: "initializer twice",
      bytes: Proto.model(
        .relu + .initializer("w", [0], raw: []) + .initializer("w", [0], raw: [])), says: "'w' is defined twice"),
    Case(name: "nameless initializer", bytes: Proto.model(.relu + .initializer("", [0], raw: [])), says: "no name"),
    Case(name: "no opset", bytes: (Proto.int(1, 8) + .message(7, .relu)).bytes, says: "ai.onnx"),
    Case(
      name: "no opset of the domain", bytes: Proto.model(.relu + .node("F", ["x"], ["z"], .text(7, "d"))), says: "'d'"),
    Case(name: "opset 0", bytes: Proto.model(.relu, opset: 0), says: "version 0"),
    Case(name: "negative opset", bytes: Proto.model(.relu, opset: -3), says: "version -3"),
    Case(name: "old opset", bytes: Proto.model(.relu, opset: 6), kind: .modelUnsupportedOperator, says: "6"),
    Case(name: "node without operator", bytes: Proto.model(.relu + .message(1, .text(1, "x"))), says: "no operator"),
    Case(
      name: "attribute twice",
      bytes: Proto.model(
        .relu + .node("Elu", ["x"], ["z"], .attribute("a", 2, .int(3, 1)) + .attribute("a", 2, .int(3, 2)))),
      says: "'a' twice"),
    Case(
      name: "attribute of a function",
      bytes: Proto.model(
        .relu + .node("Elu", ["x"], ["z"], .attribute("a", 1, .text(21, "b")))), says: "function"),
    Case(name: "negative length", bytes: Proto.model(.relu + .initializer("w", [-1], raw: [])), says: "'w'"),
    Case(
      name: "product overflows", bytes: Proto.model(.relu + .initializer("w", [1 << 32, 1 << 32], raw: [])), says: "'w'"
    ),
    Case(
      name: "product of zero overflows", bytes: Proto.model(.relu + .initializer("w", [0, huge, huge], raw: [])),
      says: "'w'"),
    Case(name: "huge length", bytes: Proto.model(.relu + .initializer("w", [huge], raw: [1])), says: "'w'"),
    Case(
      name: "more shape than bytes", bytes: Proto.model(.relu + .initializer("w", [1 << 40], raw: [1, 2, 3, 4])),
      says: "4 bytes"),
    Case(
      name: "more bytes than shape", bytes: Proto.model(.relu + .initializer("w", [1], raw: [0, 0, 0, 0, 0])),
      says: "5 bytes"),
    Case(name: "no bytes", bytes: Proto.model(.relu + .initializer("w", [1])), says: "0 bytes"),
    Case(
      name: "typed claims", bytes: Proto.model(.relu + .initializer("w", [1 << 30], type: 7, .bytes(7, [1, 2]))),
      says: "'w'"),
    Case(
      name: "typed excess", bytes: Proto.model(.relu + .initializer("w", [1], type: 7, .bytes(7, [1, 2]))),
      says: "more elements"),
    Case(
      name: "floats of odd bytes", bytes: Proto.model(.relu + .initializer("w", [1], .bytes(4, [1, 2, 3]))),
      says: "3 bytes"),
    Case(
      name: "raw and typed",
      bytes: Proto.model(.relu + .initializer("w", [1], raw: [0, 0, 0, 0], .bytes(4, [0, 0, 0, 0]))), says: "both"),
    Case(
      name: "two typed fields",
      bytes: Proto.model(
        .relu + .initializer("w", [1], .bytes(4, [0, 0, 0, 0]) + .bytes(7, [1]))), says: "two typed fields"),
    Case(
      name: "wrong typed field", bytes: Proto.model(.relu + .initializer("w", [1], .bytes(7, [1]))), says: "field 7"),
    Case(name: "element type 0", bytes: Proto.model(.relu + .initializer("w", [0], type: 0, raw: [])), says: "type 0"),
    Case(
      name: "element type 99", bytes: Proto.model(.relu + .initializer("w", [0], type: 99, raw: [])), says: "type 99"),
    Case(name: "raw strings", bytes: Proto.model(.relu + .initializer("w", [1], type: 8, raw: [1])), says: "strings"),
    Case(
      name: "65 axes",
      bytes: Proto.model(.relu + .initializer("w", Array(repeating: 1, count: 65), raw: [0, 0, 0, 0])), says: "64"),
    Case(
      name: "segments", bytes: Proto.model(.relu + .initializer("w", [0], raw: [], .message(3, .int(1, 0)))),
      says: "segments"),
    Case(
      name: "sparse initializer", bytes: Proto.model(.relu + .message(15, Proto())), kind: .modelUnsupportedOperator,
      says: "sparse"),
    Case(
      name: "name that is not UTF-8",
      bytes: Proto.model(
        .input("x") + .message(1, .text(1, "x") + .bytes(2, [0xff, 0xfe]) + .text(4, "Relu")) + .output("x")),
      says: "UTF-8"),
    Case(
      name: "declared shape overflows",
      bytes: Proto.model(
        .relu
          + .message(
            13,
            .text(1, "y")
              + .message(
                2,
                .message(
                  1,
                  .message(
                    2,
                    .message(1, .int(1, huge)) + .message(1, .int(1, huge))))))), says: "'y'"),
    Case(name: "field number 0", bytes: Proto.model(.relu) + [0x02, 0x00], says: "field number 0"),
    Case(name: "group", bytes: Proto.model(.relu) + [0x0b, 0x0c], says: "wire type 3"),
    Case(
      name: "length beyond the end", bytes: Proto.model(.relu) + [0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f], says: "claims"),
    Case(name: "length beyond 2^63", bytes: Proto.model(.relu) + [0x3a] + Proto.varint(.max), says: "claims"),
    Case(
      name: "number of 11 bytes", bytes: Proto.model(.relu) + [0x08] + Array(repeating: 0x80, count: 10) + [1],
      says: "10 bytes"),
    Case(
      name: "number of 65 bits", bytes: Proto.model(.relu) + [0x08] + Array(repeating: 0xff, count: 9) + [2],
      says: "64 bits"),
    Case(name: "huge field number", bytes: Proto.model(.relu) + Proto.varint(1 << 40), says: "field number"),
    Case(name: "name that is a number", bytes: Proto.model(.relu + .message(1, .int(4, 7))), says: "wire type"),
    Case(name: "graph that is a number", bytes: (Proto.int(1, 8) + .int(7, 3)).bytes, says: "wire type"),
  ]

  @Test(arguments: cases) func isRefusedByName(_ wrong: Case) throws {
    let failed = try failure { _ = try read(wrong.bytes) }
    #expect(failed?.kind == wrong.kind)
    #expect(failed?.message.contains(wrong.says) == true, "\(failed?.message ?? "nothing failed")")
  }

  @Test func deepSubgraphsAreRefused() throws {
    var graph = Proto.node("Relu", ["x"], ["y"]) + .output("y")
    for _ in 0..<200 {
      graph = .node("If", ["x"], ["y"], .attribute("then_branch", 5, .message(6, graph))) + .output("y")
    }
    #expect(try failure { _ = try read(Proto.model(.input("x") + graph)) }?.message.contains("nested") == true)
  }

  @Test func subgraphsMayOnlyReadWhatIsThere() throws {
    let branch = Proto.message(6, .node("Relu", ["nowhere"], ["y"]) + .output("y"))
    let model = Proto.model(
      .input("x") + .node("If", ["x"], ["y"], .attribute("then_branch", 5, branch)) + .output("y"))
    #expect(try failure { _ = try read(model) }?.message.contains("'nowhere'") == true)
  }

  @Test func aLongChainInReverseOrderIsSorted() throws {
    let count = 50_000
    var graph = Proto.input("v0").bytes
    for index in stride(from: count, to: 0, by: -1) {
      graph += Proto.node("Relu", ["v\(index - 1)"], ["v\(index)"]).bytes
    }
    let nodes = try read(Proto.model(Proto(raw: graph) + .output("v\(count)"))).nodes
    #expect(nodes.map(\.name) == (1...count).map { "n_v\($0)" })
  }

  // MARK: Functions

  private func function(_ name: String, _ body: Proto, inputs: [String] = ["a"], outputs: [String] = ["b"]) -> Proto {
    .message(
      25,
      .text(1, name)
        + Proto(raw: inputs.flatMap { Proto.text(4, $0).bytes } + outputs.flatMap { Proto.text(5, $0).bytes })
        + body + .message(9, .text(1, "") + .int(2, 17)) + .message(9, .text(1, "f") + .int(2, 1)) + .text(10, "f"))
  }

  /// A node inside a function.
  private func step(_ op: String, _ input: String, _ output: String, domain: String = "f") -> Proto {
    .message(7, .text(1, input) + .text(2, output) + .text(4, op) + .text(7, domain))
  }

  private func calling(_ functions: Proto...) -> [UInt8] {
    Proto.model(.input("x") + .node("F0", ["x"], ["y"], .text(7, "f")) + .output("y"), domains: ["f"])
      + functions.flatMap(\.bytes)
  }

  @Test func functionsThatCallThemselvesAreRefused() throws {
    let direct = calling(function("F0", step("F0", "a", "b")))
    #expect(try failure { _ = try read(direct) }?.message.contains("calls itself") == true)
    let roundabout = calling(function("F0", step("F1", "a", "b")), function("F1", step("F0", "a", "b")))
    #expect(try failure { _ = try read(roundabout) }?.message.contains("calls itself") == true)
  }

  @Test func functionsThatDoubleAreStopped() throws {
    var functions = Proto()
    for level in 0..<60 {
      functions = functions + function("F\(level)", step("F\(level + 1)", "a", "t") + step("F\(level + 1)", "t", "b"))
    }
    functions = functions + function("F60", step("Relu", "a", "b", domain: ""))
    let start = ContinuousClock.now
    #expect(try failure { _ = try read(calling(functions)) }?.kind == .resourceLimit)
    #expect(ContinuousClock.now - start < .seconds(20))
  }

  @Test func functionsNestedTooDeepAreRefused() throws {
    var functions = Proto()
    for level in 0..<2000 { functions = functions + function("F\(level)", step("F\(level + 1)", "a", "b")) }
    #expect(try failure { _ = try read(calling(functions)) }?.message.contains("nested") == true)
  }

  @Test func functionsForAnotherOpsetStayCalls() throws {
    let scratch = try Scratch()
    let other = Proto.message(
      25,
      .text(1, "F0") + .text(4, "a") + .text(5, "b") + step("Relu", "a", "b", domain: "")
        + .message(9, .text(1, "") + .int(2, 12)) + .text(10, "f"))
    let unused = function("G", step("Relu", "a", "b", domain: ""))
    let model = calling(other, unused)
    let document = try open(try scratch.write(model, "model.onnx"))
    #expect(document.graph.nodes.map(\.op) == ["F0"])
    _ = try document.write(applying: .init(), to: scratch["out.onnx"], overwrite: false, work: Work())
    #expect(try bytes(scratch["out.onnx"]) == model)
  }

  // MARK: Damage

  /// Every prefix of a model is a model or fails.
  @Test(arguments: ["convolutions.before.onnx", "storage.before.onnx", "control_flow.onnx", "functions.onnx"])
  func truncationAtEveryByte(name: String) throws {
    let whole = try bytes(fixture(name))
    let scratch = try Scratch()
    // All are written before any is read: a file that has just been written is waited for.
    for count in whole.indices { try scratch.write(Array(whole[..<count]), "\(count).onnx") }
    let readable = try whole.indices.count { count in try failure { _ = try open(scratch["\(count).onnx"]) } == nil }
    #expect(readable < whole.count / 4)
  }

  /// Seeded mutations: bytes flipped, inserted, removed and repeated. Reading them and writing them again may fail,
  /// with a failure; no other end is allowed.
  @Test(arguments: [
    "convolutions.before.onnx", "storage.before.onnx", "control_flow.onnx", "functions.onnx", "old.before.onnx",
    "external.before.onnx",
  ])
  func mutations(name: String) throws {
    let whole = try bytes(fixture(name))
    var random = SeededGenerator(seed: UInt64(whole.count))
    let scratch = try Scratch()
    if name.hasPrefix("external") { try scratch.write(bytes(fixture(name + ".data")), name + ".data") }
    let rounds = 1500
    for round in 0..<rounds { try scratch.write(mutated(whole, using: &random), "m\(round).onnx") }
    var readable = 0
    for round in 0..<rounds {
      let failed = try failure {
        let document = try open(scratch["m\(round).onnx"])
        readable += 1
        _ = try document.write(applying: .init(), to: scratch["out.onnx"], overwrite: true, work: Work())
      }
      if let failed { #expect(failed.kind != .certificateFailed && !failed.message.isEmpty) }
    }
    // The mutations are neither harmless nor hopeless.
    #expect(readable > rounds / 100 && readable < rounds)
  }

  private func mutated(_ whole: [UInt8], using random: inout SeededGenerator) -> [UInt8] {
    var mutated = whole
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let position = Int.random(in: 0..<mutated.count, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0: mutated[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 1: mutated[position] = UInt8.random(in: .min ... .max, using: &random)
      case 2: mutated.insert(UInt8.random(in: .min ... .max, using: &random), at: position)
      case 3: mutated.remove(at: position)
      case 4: mutated[position] = [0x00, 0x7f, 0x80, 0xff].randomElement(using: &random) ?? 0
      default:
        let end = min(mutated.count, position + Int.random(in: 1...64, using: &random))
        mutated.insert(contentsOf: mutated[position..<end], at: Int.random(in: 0..<mutated.count, using: &random))
      }
    }
    return mutated
  }
}
