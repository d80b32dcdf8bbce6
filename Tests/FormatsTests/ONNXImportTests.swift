import Foundation
import Formats
import ModelGraph
import TestSupport
import Testing

/// What is read: graphs, tensors in every form, names, order.
@Suite struct ONNXImportTests {
  @Test func readsTheGraph() throws {
    let document = try open(fixture("convolutions.before.onnx"))
    let graph = document.graph
    #expect(document.description.format == "onnx")
    #expect(document.description.framework == "espalier 1.0")
    #expect(document.description.opset == 17)
    #expect(document.description.sizeBytes == 2135)
    #expect(graph.nodes.map(\.op).prefix(4) == ["Conv", "BatchNormalization", "Relu", "Conv"])
    #expect(graph.inputs.map { graph[$0].name } == ["x"])
    #expect(graph.outputs.map { graph[$0].name } == ["flat", "flat2", "part", "y2"])
    #expect(graph.value("x")?.declaredShape == [.symbol("N"), .fixed(3), .fixed(8), .fixed(8)])
    #expect(graph.value("c1")?.declaredShape == [.symbol("N"), .fixed(8), .fixed(6), .fixed(6)])
    #expect(graph.value("c1")?.dtype == .float32)
    #expect(graph.node("conv2")?.int("group") == 2)
    #expect(graph.node("conv2")?.ints("kernel_shape") == [1, 1])
    let weight = try #require(graph.value("w2")?.tensor)
    #expect(weight.shape == [6, 4, 1, 1])
    #expect(weight.elements(Float.self) == (0..<24).map(Float.init))
  }

  @Test(arguments: 7...28) func readsEveryOpset(version: Int) throws {
    #expect(try read(Proto.model(.relu, opset: version)).nodes.first?.opset == version)
  }

  @Test(arguments: [1, 6, 29, 9999]) func refusesOperatorSetsItDoesNotKnow(version: Int) throws {
    #expect {
      try read(Proto.model(.relu, opset: version))
    } throws: {
      ($0 as? Failure)?.kind == .modelUnsupportedOperator
    }
  }

  @Test func operatorsOfUnknownDomainsAreReadToo() throws {
    let node = Proto.node("Fancy", ["x"], ["y"], .text(7, "some.vendor"))
    let graph = try read(Proto.model(.input("x") + node + .output("y"), opset: 17, domains: ["some.vendor"]))
    #expect(graph.nodes.map(\.domain) == ["some.vendor"])
    #expect(graph.nodes.map(\.opset) == [1])
  }

  @Test func nodesOfOneNameAreNumbered() throws {
    let names = ["relu", "relu", "relu#2", "relu", "", ""]
    var proto = Proto.input("v0")
    for (index, name) in names.enumerated() {
      proto = proto + Proto.node("Relu", ["v\(index)"], ["v\(index + 1)"], .text(3, name))
    }
    let graph = try read(Proto.model(proto + .output("v6")))
    #expect(graph.nodes.map(\.name) == ["relu", "relu#2", "relu#2#2", "relu#3", "", ""])
  }

  /// Typed fields and raw bytes hold the same elements, bit for bit.
  @Test(arguments: [
    "float", "double", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "float16",
    "bfloat16", "complex64", "complex128", "float8",
  ])
  func readsElementsWhereverTheyAre(name: String) throws {
    let graph = try open(fixture("storage.before.onnx")).graph
    let typed = try #require(graph.value("\(name)_typed")?.tensor)
    let raw = try #require(graph.value("\(name)_raw")?.tensor)
    #expect(typed.shape == [4, 3])
    #expect(typed.dtype == raw.dtype)
    #expect(typed.elements(UInt8.self) == raw.elements(UInt8.self))
    #expect(raw.elements(UInt8.self).contains { $0 != 0 })
  }

  @Test func constantNodesAreStoredValues() throws {
    let graph = try open(fixture("storage.before.onnx")).graph
    func tensor(_ name: String) throws -> Tensor { try #require(graph.value(name)?.tensor) }
    #expect(try tensor("constant").elements(Float.self) == (0..<12).map(Float.init))
    #expect(try tensor("floats").elements(Float.self) == [0, 1, 2, 3])
    #expect(try tensor("ints").elements(Int64.self) == [0, 1, -2, 3])
    #expect(try tensor("scalar").shape == [])
    #expect(try tensor("scalar").elements(Float.self) == [2.5])
    #expect(try tensor("int").elements(Int64.self) == [-7])
    #expect(try tensor("text").dtype == .string)
    #expect(graph.node("k")?.op == "Constant")
    #expect(graph.value("constant")?.producer == graph.nodeID("k"))
  }

  @Test func packedSmallTypesAreReadFromBothForms() throws {
    let entries = Proto.bytes(5, [0x21, 0x43])
    let sixBit = Proto.bytes(5, [0x3f, 0x01, 0x02])
    let graph = try read(
      Proto.model(
        .relu + .initializer("q", [4], type: 22, raw: [0x21, 0x43]) + .initializer("p", [4], type: 22, entries)
          + .initializer("s", [3], type: 27, sixBit) + .initializer("r", [3], type: 27, raw: [0x7f, 0x20, 0x00])))
    for (name, bytes) in [
      ("q", [0x21, 0x43]), ("p", [0x21, 0x43]), ("s", [0x7f, 0x20, 0x00]), ("r", [0x7f, 0x20, 0x00]),
    ] {
      #expect(graph.value(name)?.tensor?.elements(UInt8.self) == bytes.map(UInt8.init), "\(name)")
    }
  }

  @Test func listsInManyPiecesAreJoined() throws {
    let pieces = Proto(raw: [0x25, 0, 0, 0x80, 0x3f]) + .bytes(4, [0, 0, 0, 0x40, 0, 0, 0x40, 0x40])
    let graph = try read(Proto.model(.relu + .initializer("w", [3], pieces)))
    #expect(graph.value("w")?.tensor?.elements(Float.self) == [1, 2, 3])
  }

  @Test func initializersThatAreInputsAreNotFedByTheCaller() throws {
    let graph = try open(fixture("old.before.onnx")).graph
    #expect(graph.inputs.map { graph[$0].name } == ["x"])
    #expect(graph.value("w")?.isStored == true)
  }

  @Test func nodesAreSortedAndOtherwiseKeepTheirOrder() throws {
    #expect(try open(fixture("disorder.onnx")).graph.nodes.map(\.name) == ["first", "second", "third", "last"])
  }

  @Test func subgraphsTellWhatTheyReadFromOutside() throws {
    let graph = try open(fixture("control_flow.onnx")).graph
    let loop = try #require(graph.node("loop"))
    #expect(loop.captures.map { graph[$0].name } == ["hidden", "w", "x"])
    #expect(loop.inputs.map { $0.map { graph[$0].name } } == ["count", nil, "hidden"])
    guard case .graph? = loop.attributes["body"] else {
      Issue.record("the body is no graph attribute")
      return
    }
  }

  @Test func functionsAreInlined() throws {
    let scratch = try Scratch()
    let document = try open(fixture("functions.onnx"))
    let graph = document.graph
    #expect(graph.nodes.allSatisfy { $0.domain.isEmpty })
    #expect(
      graph.nodes.map(\.op) == [
        "LeakyRelu", "Add", "Identity", "If", "Identity", "LeakyRelu", "Add", "Identity", "If", "Abs", "LeakyRelu",
        "Add",
        "Identity", "Add",
      ])
    // s = 0.5 is handed through Outer to Scale; where no one gives it, Scale's own default holds.
    #expect(graph.nodes.filter { $0.op == "LeakyRelu" }.map { $0.float("alpha") } == [0.5, 0.25, 0.25])
    #expect(Set(graph.values.map(\.name)).count == graph.values.count)
    // What is written holds the inlined graph and no function, and reads as the same graph.
    _ = try document.write(applying: .init(), to: scratch["out.onnx"], overwrite: false, work: Work())
    let again = try open(scratch["out.onnx"]).graph
    #expect(again.nodes.map(\.op) == graph.nodes.map(\.op))
    #expect(again.values.map(\.name) == graph.values.map(\.name))
    #expect(try !bytes(scratch["out.onnx"]).contains(sequence: Array("Never".utf8)))
  }
}

extension Array where Element: Equatable {
  fileprivate func contains(sequence: [Element]) -> Bool {
    indices.contains { self[$0...].starts(with: sequence) }
  }
}
