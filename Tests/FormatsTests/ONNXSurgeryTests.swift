import Compression
import Foundation
import Formats
import ModelGraph
import TestSupport
import Testing

/// What is written, byte for byte against what the onnx package writes for the same edits (make_fixtures.py).
@Suite struct ONNXSurgeryTests {
  /// Writes the model with `plan`; every untouched byte has to come out as it went in.
  private func written(_ document: any ModelDocument, _ plan: CompressionPlan) throws -> [UInt8] {
    let scratch = try Scratch()
    let files = try document.write(applying: plan, to: scratch["out.onnx"], overwrite: false, work: Work())
    #expect(files.map(\.path) == [scratch["out.onnx"]])
    #expect(scratch.names == ["out.onnx"])
    let bytes = try bytes(scratch["out.onnx"])
    #expect(files[0].sizeBytes == bytes.count)
    return bytes
  }

  @Test(arguments: [
    "convolutions.before.onnx", "convolutions.after.onnx", "storage.before.onnx", "storage.after.onnx",
    "old.before.onnx", "old.after.onnx", "control_flow.onnx", "disorder.onnx",
  ])
  func savesUneditedFilesByteForByte(name: String) throws {
    #expect(try written(open(fixture(name)), CompressionPlan()) == bytes(fixture(name)))
  }

  @Test func appliesEveryKindOfEdit() throws {
    let document = try open(fixture("convolutions.before.onnx"))
    let graph = document.graph
    func value(_ name: String) throws -> ValueID { try #require(graph.id(name)) }
    func node(_ name: String) throws -> NodeID { try #require(graph.nodeID(name)) }
    let kept = AxisSlice.Kept.indices([1, 2, 4, 7])
    let plan = CompressionPlan(
      slices: try ["w1", "b1", "s", "b", "m", "v"].map {
        TensorSlice(value: try value($0), axes: [AxisSlice(axis: 0, kept: kept)])
      } + [
        TensorSlice(
          value: try value("w2"),
          axes: [
            AxisSlice(axis: 0, kept: .indices([0, 2, 4, 5])),
            AxisSlice(axis: 1, kept: .perBlock(blockAxis: 0, [[1, 2], [0, 3]])),
          ])
      ],
      edits: [
        .setAttribute(node: try node("conv2"), name: "group", value: .int(2)),
        .setAttribute(node: try node("conv2"), name: "pads", value: .ints([0, 0, 0, 0])),
        .removeAttribute(node: try node("conv2"), name: "kernel_shape"),
        .setAttribute(node: try node("conv2"), name: "kernel_shape", value: .ints([1, 1])),
        .setInput(node: try node("reshape"), input: 1, tensor: Tensor(int64: [0, 4, -1])),
        .becomeGather(node: try node("slice"), axis: 1, indices: [0, 1]),
        .adjustInput(
          node: try node("expand"), input: 1, multiplier: Tensor(int64: [1, 0, 1, 1]),
          divisor: Tensor(int64: [1, 1, 1, 1]), offset: Tensor(int64: [0, 6, 0, 0])),
      ],
      lengths: try [("c1", 4), ("r1", 4), ("c2", 4)].map { (value: try value($0.0), axis: 1, length: $0.1) })
    #expect(try written(document, plan) == bytes(fixture("convolutions.after.onnx")))
  }

  @Test func keepsTheStorageOfWhatItCuts() throws {
    let document = try open(fixture("storage.before.onnx"))
    let graph = document.graph
    var slices: [TensorSlice] = []
    for id in graph.valueIDs {
      guard let tensor = graph[id].tensor else { continue }
      switch tensor.shape {
      case [4, 3]:
        slices.append(
          TensorSlice(
            value: id,
            axes: [AxisSlice(axis: 0, kept: .indices([0, 2, 3])), AxisSlice(axis: 1, kept: .indices([0, 2]))]))
      case [4]: slices.append(TensorSlice(value: id, axes: [AxisSlice(axis: 0, kept: .indices([0, 2, 3]))]))
      default: continue
      }
    }
    #expect(slices.count == 2 * 16 + 3)
    #expect(try written(document, CompressionPlan(slices: slices)) == bytes(fixture("storage.after.onnx")))
  }

  @Test func oldFilesGetNodesForNewConstantsAndKeepTheirInputsInStep() throws {
    let document = try open(fixture("old.before.onnx"))
    let graph = document.graph
    let plan = CompressionPlan(
      slices: [
        TensorSlice(value: try #require(graph.id("w")), axes: [AxisSlice(axis: 0, kept: .indices([1, 3]))])
      ],
      edits: [
        .setInput(node: try #require(graph.nodeID("reshape")), input: 1, tensor: Tensor(int64: [1, 2, -1]))
      ])
    #expect(try written(document, plan) == bytes(fixture("old.after.onnx")))
  }

  @Test func appendsInputsThatWereAbsent() throws {
    let scratch = try Scratch()
    let document = try open(try scratch.write(Proto.model(.relu), "model.onnx"))
    let plan = CompressionPlan(edits: [.setInput(node: NodeID(0), input: 2, tensor: Tensor(int64: [5]))])
    _ = try document.write(applying: plan, to: scratch["out.onnx"], overwrite: false, work: Work())
    let graph = try open(scratch["out.onnx"]).graph
    let node = try #require(graph.node("n_y"))
    #expect(node.inputs.map { $0.map { graph[$0].name } } == ["x", nil, "n_y_input2"])
    #expect(graph.value("n_y_input2")?.tensor?.elements(Int64.self) == [5])
  }

  @Test func keepsInitializersThatAreReadElsewhere() throws {
    let reshape = { (output: String) in Proto.node("Reshape", ["x", "shape"], [output]) }
    let branch = Proto.message(6, Proto.node("Identity", ["held"], ["e"]) + Proto.output("e"))
    let model = Proto.model(
      .input("x") + reshape("a") + reshape("b") + .node("Reshape", ["x", "held"], ["c"])
        + .node("Reshape", ["x", "out"], ["d"]) + .node("If", ["x"], ["i"], .attribute("then_branch", 5, branch))
        + .initializer("shape", [1], type: 7, raw: [1, 0, 0, 0, 0, 0, 0, 0])
        + .initializer("held", [1], type: 7, raw: [1, 0, 0, 0, 0, 0, 0, 0])
        + .initializer("out", [1], type: 7, raw: [1, 0, 0, 0, 0, 0, 0, 0])
        + .output("a") + .output("b") + .output("c") + .output("d") + .output("i") + .output("out"))
    let scratch = try Scratch()
    let document = try open(try scratch.write(model, "model.onnx"))
    func initializersAfter(_ nodes: String...) throws -> [String] {
      let edits = try nodes.map {
        NodeEdit.setInput(
          node: try #require(document.graph.nodeID($0)), input: 1, tensor: Tensor(int64: [2]))
      }
      let out = scratch["out.onnx"]
      _ = try document.write(applying: CompressionPlan(edits: edits), to: out, overwrite: true, work: Work())
      return try open(out).graph.values.filter(\.isStored).map(\.name)
    }
    #expect(try initializersAfter("n_a") == ["shape", "held", "out", "n_a_input1"])
    #expect(try initializersAfter("n_a", "n_b") == ["held", "out", "n_a_input1", "n_b_input1"])
    #expect(try initializersAfter("n_c") == ["shape", "held", "out", "n_c_input1"])
    #expect(try initializersAfter("n_d") == ["shape", "held", "out", "n_d_input1"])
  }

  @Test func refusesPlansForOtherModels() throws {
    let document = try open(fixture("convolutions.before.onnx"))
    let weight = try #require(document.graph.id("w1"))
    let scratch = try Scratch()
    func kind(_ slices: TensorSlice...) throws -> Failure.Kind? {
      try failure {
        _ = try document.write(
          applying: CompressionPlan(slices: slices), to: scratch["out.onnx"], overwrite: false, work: Work())
      }?.kind
    }
    let first = TensorSlice(value: weight, axes: [AxisSlice(axis: 0, kept: .indices([0]))])
    #expect(try kind(TensorSlice(value: weight, axes: [AxisSlice(axis: 4, kept: .indices([0]))])) == .certificateFailed)
    #expect(try kind(TensorSlice(value: weight, axes: [AxisSlice(axis: 0, kept: .indices([8]))])) == .certificateFailed)
    #expect(try kind(first, first) == .certificateFailed)
    let computed = try #require(document.graph.id("c1"))
    #expect(try kind(TensorSlice(value: computed, axes: first.axes)) == .certificateFailed)
    #expect(scratch.names.isEmpty)
  }

  @Test func neverCutsTensorsOfHalfBytes() throws {
    let scratch = try Scratch()
    let model = Proto.model(.relu + .initializer("q", [4], type: 22, raw: [0x21, 0x43]))
    let document = try open(try scratch.write(model, "model.onnx"))
    let slice = TensorSlice(
      value: try #require(document.graph.id("q")), axes: [AxisSlice(axis: 0, kept: .indices([1]))])
    let failed = try failure {
      _ = try document.write(
        applying: CompressionPlan(slices: [slice]), to: scratch["out.onnx"], overwrite: false, work: Work())
    }
    #expect(failed?.kind == .certificateFailed)
  }
}
