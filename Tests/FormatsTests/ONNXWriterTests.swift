import Compression
import Formats
import Glibc
import ModelGraph
import TestSupport
import Testing

/// Graphs written down as models and read again. That they also run as the originals do, bit for bit, Tests/Proof
/// shows.
@Suite struct ONNXWriterTests {
  /// What a graph says, without where its tensors lie.
  private func summary(_ graph: Graph) -> [String] {
    func name(_ id: ValueID?) -> String { id.map { graph[$0].name } ?? "-" }
    let tensors = graph.values.filter(\.isStored).sorted { $0.name < $1.name }.map { value in
      let bytes = value.dtype == .string ? [] : value.tensor.map { Array($0.bytes.buffer) } ?? []
      return "\(value.name) \(value.tensor.map { "\($0.dtype) \($0.shape)" } ?? "") \(bytes)"
    }
    let ports = (graph.inputs + graph.outputs).map { id in
      "\(name(id)) \(graph[id].dtype.map { "\($0)" } ?? "-") \(graph[id].declaredShape ?? [])"
    }
    let nodes = graph.nodes.filter { $0.op != "Constant" }.map { node in
      let attributes = node.attributes.sorted { $0.key < $1.key }.map { "\($0.key)=\(words($0.value))" }
      return "\(node.name) \(node.domain).\(node.op)@\(node.opset) \(node.inputs.map(name)) -> "
        + "\(node.outputs.map(name)) \(attributes) captures \(node.captures.map(name))"
    }
    return ports + nodes + tensors
  }

  private func words(_ attribute: Attribute) -> String {
    switch attribute {
    case .tensor(let tensor): "\(tensor.dtype) \(tensor.shape) \(Array(tensor.bytes.buffer))"
    case .graph(let bytes, _), .other(let bytes): "\(Array(bytes.buffer))"
    default: "\(attribute)"
    }
  }

  /// The graph written down and read again.
  private func again(_ graph: Graph, additionalOutputs: [ValueID] = []) throws -> Graph {
    let written = try ONNXWriter(graph, additionalOutputs: additionalOutputs).bytes(work: Work())
    return try withExtendedLifetime(written) { try read(Array(written.buffer)) }
  }

  @Test(arguments: [
    "convolutions.before.onnx", "convolutions.after.onnx", "storage.before.onnx", "storage.after.onnx",
    "old.before.onnx", "old.after.onnx", "control_flow.onnx", "disorder.onnx", "functions.onnx",
  ])
  func readsBackAsTheSameGraph(name: String) throws {
    let graph = try open(fixture(name)).graph
    #expect(summary(try again(graph)) == summary(graph))
  }

  @Test func tensorsBeyondOneMessageGetAFileOfTheirOwn() throws {
    let scratch = try Scratch()
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 8, 8])
    let y = g("Conv", x, g.weight([32, 3, 3, 3], name: "w"), g.weight([32], name: "b"))
    g.output(g("Conv", y, g.weight([8, 32, 3, 3], name: "v")))
    let graph = g.build()
    let writer = try ONNXWriter(graph, messageLimit: 2000)
    let refusal = try failure { _ = try writer.bytes(work: Work()) }
    #expect(refusal?.kind == .resourceLimit)
    let files = try writer.write(to: scratch["m.onnx"], overwrite: false, work: Work())
    #expect(files.map(\.path) == [scratch["m.onnx"], scratch["m.onnx.data"]])
    #expect(try files.map(\.sizeBytes) == [bytes(scratch["m.onnx"]).count, bytes(scratch["m.onnx.data"]).count])
    #expect(files[0].sizeBytes < 2000)
    #expect(try summary(open(scratch["m.onnx"]).graph) == summary(graph))

    let whole = try ONNXWriter(graph).write(to: scratch["whole.onnx"], overwrite: false, work: Work())
    #expect(whole.map(\.path) == [scratch["whole.onnx"]])
    #expect(try summary(open(scratch["whole.onnx"]).graph) == summary(graph))
    let second = try failure {
      _ = try ONNXWriter(graph).write(to: scratch["whole.onnx"], overwrite: false, work: Work())
    }
    #expect(second?.kind == .outputExists)
    #expect(scratch.names == ["m.onnx", "m.onnx.data", "whole.onnx"])
  }

  @Test func furtherOutputsFollowTheGraphsOwn() throws {
    let graph = try open(fixture("convolutions.before.onnx")).graph
    let inner = try #require(graph.nodes.first?.outputs.first ?? nil)
    let again = try again(graph, additionalOutputs: [inner, graph.outputs[0]])
    #expect(again.outputs.map { again[$0].name } == graph.outputs.map { graph[$0].name } + [graph[inner].name])
  }

  @Test func namelessValuesGetNamesOfTheirOwn() throws {
    let nodes = [
      Node(name: "", op: "Relu", opset: 17, inputs: [ValueID(0)], outputs: [ValueID(1)]),
      Node(name: "", op: "Add", opset: 17, inputs: [ValueID(1), ValueID(2)], outputs: [ValueID(3)]),
    ]
    let graph = Graph(
      values: [
        Value(name: "value", dtype: .float32, declaredShape: [.fixed(2), .symbol("N"), .unknown]),
        Value(name: "", producer: NodeID(0)), Value(name: "", tensor: Tensor(float32: [1], shape: [])),
        Value(name: "y", producer: NodeID(1)),
      ], nodes: nodes, inputs: [ValueID(0)], outputs: [ValueID(3)])
    let again = try again(graph)
    #expect(Set(again.values.map(\.name)).count == 4 && !again.values.map(\.name).contains(""))
    #expect(again.nodes.map(\.op) == ["Relu", "Add"])
    #expect(again[again.inputs[0]].declaredShape == [.fixed(2), .symbol("N"), .unknown])
  }

  @Test func inputsThatAreNoTensorsAreRefused() throws {
    let graph = Graph(
      values: [Value(name: "x"), Value(name: "y", producer: NodeID(0))],
      nodes: [Node(name: "", op: "SequenceLength", opset: 17, inputs: [ValueID(0)], outputs: [ValueID(1)])],
      inputs: [ValueID(0)], outputs: [ValueID(1)])
    #expect(try failure { _ = try ONNXWriter(graph) }?.kind == .modelUnsupportedOperator)
  }
}

/// What looks at a file before it has its name.
@Suite struct FileCheckTests {
  @Test(arguments: ["convolutions.before.onnx", "external.before.onnx"])
  func aFileThatDoesNotPassLeavesNothing(name: String) throws {
    let scratch = try Scratch()
    let document = try open(fixture(name))
    var seen: [Int] = []
    let refusal = try failure {
      _ = try document.write(
        applying: CompressionPlan(), to: scratch["out.onnx"], overwrite: false,
        checking: { path throws(Failure) in
          // What is looked at is the whole model, with all its tensors.
          seen.append(try ModelFormats.open(path: path, work: Work()).graph.nodes.count)
          throw Failure(.verifyFailed, "no")
        }, work: Work())
    }
    #expect(refusal?.kind == .verifyFailed)
    #expect(seen == [document.graph.nodes.count])
    #expect(scratch.names == [])
  }

  @Test(arguments: ["convolutions.before.onnx", "external.before.onnx"])
  func cancelledWhileItIsLookedAtLeavesNothing(name: String) throws {
    let scratch = try Scratch()
    let document = try open(fixture(name))
    let work = Work()
    let failed = try failure {
      _ = try document.write(
        applying: CompressionPlan(), to: scratch["out.onnx"], overwrite: false,
        checking: { _ throws(Failure) in
          // The disk is long done with so little by then.
          usleep(50_000)
          work.cancellation.set()
        }, work: work)
    }
    #expect(failed?.kind == .cancelled)
    #expect(scratch.names == [])
  }

  @Test func aFileThatPassesIsWhatWasLookedAt() throws {
    let scratch = try Scratch()
    let document = try open(fixture("external.before.onnx"))
    var seen: [UInt8] = []
    _ = try document.write(
      applying: CompressionPlan(), to: scratch["out.onnx"], overwrite: false,
      checking: { path throws(Failure) in seen = (try? bytes(path)) ?? [] }, work: Work())
    #expect(try seen == bytes(scratch["out.onnx"]))
    #expect(scratch.names.filter { $0.hasPrefix(".") } == [])
  }
}
