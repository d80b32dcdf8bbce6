import Foundation
import ModelGraph
import Runtime
import TestSupport
import Testing

/// Models a few nodes large, whose numbers can be checked by hand.
struct SessionTests {
  /// y = relu(x) * 2, with the value between them among the outputs.
  private static let tapped = Proto.model(
    .input("x", .float32, ["N", 3]) + .floats("two", [1], [2]) + .node("Relu", ["x"], ["r"])
      + .node("Mul", ["r", "two"], ["y"]) + .output("y") + .output("r"))

  private static let x = Tensor(float32: [-1, 0, 1, 2, -3, 4], shape: [2, 3])

  @Test("A session tells names, types and shapes, and gives the outputs that are asked for, in that order")
  func tappedValues() throws {
    let session = try session(Self.tapped)
    #expect(session.inputs == [ModelValue(name: "x", dtype: .float32, shape: ["N", 3])])
    #expect(session.outputs.map(\.name) == ["y", "r"])
    let outputs = try session.run(["x": Self.x], outputs: ["r", "y"], work: Work())
    #expect(outputs.map(\.shape) == [[2, 3], [2, 3]])
    #expect(outputs[0].elements(Float.self) == [0, 0, 1, 2, 0, 4])
    #expect(outputs[1].elements(Float.self) == [0, 0, 2, 4, 0, 8])
    #expect(try session.run(["x": Self.x], outputs: ["y"], work: Work()).count == 1)
  }

  @Test("Bytes that somebody keeps, and files, are models like bytes of one's own")
  func otherModels() throws {
    let scratch = try Scratch()
    let path = try scratch.write(Self.tapped, "model.onnx")
    for model in [InferenceSession.Model.view(TensorBytes(copying: Self.tapped)), .file(path)] {
      let session = try InferenceSession(model, runtime: runtime(), work: Work())
      #expect(try session.run(["x": Self.x], outputs: ["y"], work: Work())[0].elements(Float.self).max() == 8)
    }
  }

  @Test("Tensors in other files are found beside the file, or in the folder that is named")
  func externalTensors() throws {
    let scratch = try Scratch()
    try scratch.write([2.0 as Float].flatMap { withUnsafeBytes(of: $0) { Array($0) } }, "weights")
    let model = Proto.model(
      .input("x", .float32, ["N", 3]) + .external("two", [1], [("location", "weights")])
        + .node("Mul", ["x", "two"], ["y"]) + .output("y"))
    let path = try scratch.write(model, "model.onnx")
    for session in [
      try InferenceSession(.file(path), runtime: runtime(), work: Work()),
      try session(model, .init(externalDataFolder: scratch.path)),
    ] {
      #expect(try session.run(["x": Self.x], outputs: ["y"], work: Work())[0].elements(Float.self).max() == 8)
    }
    let failure = try failure { _ = try session(model, .init(externalDataFolder: scratch.path + "/none")) }
    #expect(failure?.kind == .runtimeFailed)
  }

  @Test("Every element type goes in and comes out as it was")
  func types() throws {
    for dtype in DType.allCases {
      guard let width = dtype.byteWidth, GeneratedInputs.canMake(dtype) else { continue }
      let session = try session(
        Proto.model(
          .input("x", dtype, [2, "n", 0]) + .input("z", dtype, []) + .node("Identity", ["x"], ["y"])
            + .node("Identity", ["z"], ["w"]) + .output("y") + .output("w")))
      #expect(session.inputs.map(\.dtype) == [dtype, dtype])
      #expect(session.inputs.map(\.shape) == [[2, "n", 0], nil])
      let empty = Tensor(dtype: dtype, shape: [2, 5, 0], bytes: TensorBytes(copying: [UInt8]()))
      let one = Tensor(dtype: dtype, shape: [], bytes: TensorBytes(copying: [UInt8](repeating: 1, count: width)))
      let outputs = try session.run(["x": empty, "z": one], outputs: ["y", "w"], work: Work())
      #expect(outputs[0].shape == [2, 5, 0])
      #expect(outputs[1].shape == [])
      #expect(outputs[1].elements(UInt8.self) == one.elements(UInt8.self))
      #expect(outputs.map(\.dtype) == [dtype, dtype])
    }
  }

  struct Refusal: CustomTestStringConvertible, Sendable {
    let testDescription: String
    let says: String
    let body: @Sendable () throws -> Void
  }

  @Test(
    "What ONNX Runtime refuses is a failure with its message",
    arguments: [
      Refusal(testDescription: "no model", says: "protobuf") { _ = try session([1, 2, 3]) },
      Refusal(testDescription: "nothing", says: "model") { _ = try session([]) },
      Refusal(testDescription: "unknown operator", says: "Unheard") {
        _ = try session(Proto.model(.input("x", .float32, [1]) + .node("Unheard", ["x"], ["y"]) + .output("y")))
      },
      Refusal(testDescription: "missing file", says: "/nowhere") {
        _ = try InferenceSession(.file("/nowhere.onnx"), runtime: runtime(), work: Work())
      },
      Refusal(testDescription: "missing input", says: "x") {
        _ = try session(tapped).run([:], outputs: ["y"], work: Work())
      },
      Refusal(testDescription: "unknown input", says: "q") {
        _ = try session(tapped).run(["x": x, "q": x], outputs: ["y"], work: Work())
      },
      Refusal(testDescription: "unknown output", says: "nothing") {
        _ = try session(tapped).run(["x": x], outputs: ["nothing"], work: Work())
      },
      Refusal(testDescription: "wrong length", says: "Got: 4 Expected: 3") {
        _ = try session(tapped).run(
          ["x": Tensor(float32: [1, 2, 3, 4], shape: [1, 4])], outputs: ["y"], work: Work())
      },
      Refusal(testDescription: "wrong type", says: "tensor(int64)") {
        _ = try session(tapped).run(["x": Tensor(int64: [1, 2, 3], shape: [1, 3])], outputs: ["y"], work: Work())
      },
      Refusal(testDescription: "beyond the table", says: "out of data bounds") {
        let model = Proto.model(
          .input("i", .int64, ["N"]) + .floats("t", [2, 1], [1, 2]) + .node("Gather", ["t", "i"], ["y"]) + .output("y"))
        _ = try session(model).run(["i": Tensor(int64: [5])], outputs: ["y"], work: Work())
      },
      Refusal(testDescription: "no tensor", says: "'s' is no tensor") {
        let session = try session(
          Proto.model(.input("x", .float32, [2]) + .node("SequenceConstruct", ["x", "x"], ["s"]) + .output("s")))
        #expect(session.outputs == [ModelValue(name: "s", dtype: nil, shape: nil)])
        _ = try session.run(["x": Tensor(float32: [1, 2])], outputs: ["s"], work: Work())
      },
    ])
  func refusals(_ refusal: Refusal) throws {
    let failure = try #require(try failure(refusal.body))
    #expect(failure.kind == .runtimeFailed)
    #expect(failure.message.contains(refusal.says), "\(failure)")
  }

  @Test("Outputs live as long as somebody holds them, beyond their session, and no longer")
  func lifetimes() throws {
    let size = 1 << 20
    var session: InferenceSession? = try session(
      Proto.model(.input("x", .float32, ["N"]) + .node("Neg", ["x"], ["y"]) + .output("y")))
    let x = Tensor(float32: (0..<size).map(Float.init))
    var kept: Tensor?
    let start = try privateBytes()
    for _ in 0..<400 { kept = try session?.run(["x": x], outputs: ["y"], work: Work())[0] }
    // 400 outputs of 4 MB each; other tests of the process have some memory of their own meanwhile.
    #expect(try privateBytes() - start < 800 << 20)
    session = nil
    #expect(kept?.elements(Float.self) == x.elements(Float.self).map { -$0 })
  }

  @Test("An output that is an input holds its numbers when the input's memory is others'")
  func inputsAsOutputs() throws {
    final class Memory {
      let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 24, alignment: 64)
      deinit { bytes.deallocate() }
    }
    let session = try session(
      Proto.model(
        .input("x", .float32, ["N", 3]) + .node("Relu", ["x"], ["y"]) + .output("y") + .output("x")))
    let memory = Memory()
    memory.bytes.copyBytes(from: Self.x.bytes.buffer)
    let base = try #require(memory.bytes.baseAddress)
    let x = Tensor(
      dtype: .float32, shape: [2, 3], bytes: TensorBytes(base: UnsafeRawPointer(base), count: 24, owner: memory))
    let outputs = try session.run(["x": x], outputs: ["x", "y"], work: Work())
    for offset in 0..<24 { memory.bytes[offset] = 0 }
    #expect(outputs[0].elements(Float.self) == Self.x.elements(Float.self))
    #expect(outputs[1].elements(Float.self) == [0, 0, 1, 2, 0, 4])
  }

  @Test("Many threads run one session, each with its own numbers")
  func parallelRuns() throws {
    let session = try session(Self.tapped)
    DispatchQueue.concurrentPerform(iterations: 200) { index in
      let x = Tensor(float32: [Float](repeating: Float(index), count: 3), shape: [1, 3])
      let y = try? session.run(["x": x], outputs: ["y"], work: Work())[0].elements(Float.self)
      #expect(y == [Float](repeating: 2 * Float(index), count: 3))
    }
  }
}
