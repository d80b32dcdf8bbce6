/// Shape rules and shape arithmetic against ONNX's own node tests: shapes and elements as each operator's reference
/// implementation computed them (Golden/make_node_cases.py writes them).
import Foundation
import ModelGraph
import TestSupport
import Testing

private struct NodeCase: Decodable {
  let name: String
  let op: String
  let opset: Int
  let inputs: [Array?]
  let outputs: [Array?]
  let attributes: [String: Attribute]

  struct Array: Decodable {
    let shape: [Int]
    let dtype: Int
    let elements: [Decimal]?

    /// The stored tensor, where the elements are known and of a type that shapes are computed with.
    var tensor: Tensor? {
      guard let elements, let dtype = DType(rawValue: dtype) else { return nil }
      let bytes: TensorBytes
      switch dtype {
      case .int64: bytes = TensorBytes(copying: elements.map { Int64("\($0)")! })
      case .int32: bytes = TensorBytes(copying: elements.map { Int32("\($0)")! })
      case .bool: bytes = TensorBytes(copying: elements.map { UInt8("\($0)")! })
      case .float32: bytes = TensorBytes(copying: elements.map { Float("\($0)")! })
      case .float64: bytes = TensorBytes(copying: elements.map { Double("\($0)")! })
      default: return nil
      }
      return Tensor(dtype: dtype, shape: shape, bytes: bytes)
    }
  }

  struct Attribute: Decodable {
    let int: Int?
    let ints: [Int]?
    let float: Float?
    let floats: [Float]?
    let string: String?
    let tensor: Array?

    var value: ModelGraph.Attribute? {
      int.map { .int($0) } ?? ints.map { .ints($0) } ?? float.map { .float($0) } ?? floats.map { .floats($0) }
        ?? string.map { .string($0) } ?? tensor?.tensor.map { .tensor($0) }
    }
  }

  static func all() throws -> [NodeCase] {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Golden/node_cases.json")
    return try JSONDecoder().decode([NodeCase].self, from: Data(contentsOf: file))
  }

  /// The node's graph: inputs from position `firstStored` on are stored where their elements are known.
  func graph(storedFrom firstStored: Int) -> (graph: Graph, shapes: [ValueID: [Int]], outputs: [ValueID]) {
    let g = GraphBuilder(opset: opset)
    var shapes: [ValueID: [Int]] = [:]
    let operands = inputs.enumerated().map { position, input -> ValueID? in
      guard let input else { return nil }
      if position >= firstStored, let tensor = input.tensor { return g.stored(tensor) }
      let id = g.input("input_\(position)", nil, dtype: DType(rawValue: input.dtype) ?? .float32)
      shapes[id] = input.shape
      return id
    }
    let results = g.node(op, operands, attributes.compactMapValues(\.value), outputs: outputs.count)
    return (g.build(), shapes, results)
  }
}

@Suite struct NodeCaseTests {
  /// Operators whose result's length depends on data that a case does not store.
  private static let dataDependent: Set = ["Compress", "NonZero", "Range", "ConstantOfShape", "Unique"]

  @Test func shapesAreTheReferences() throws {
    let known = Set(ShapeRules.operators)
    var compared = 0
    for node in try NodeCase.all() where known.contains(node.op) {
      let (graph, inputShapes, outputs) = node.graph(storedFrom: 1)
      let table = try graph.inferShapes(inputShapes: inputShapes, symbols: [:])
      for (id, output) in zip(outputs, node.outputs) {
        guard let output else { continue }
        if table[id] == nil, Self.dataDependent.contains(node.op) { continue }
        #expect(table[id] == output.shape, "\(node.name)")
        compared += 1
      }
    }
    #expect(compared > 700)
  }

  @Test func elementsAreTheReferences() throws {
    var compared = 0
    for node in try NodeCase.all() {
      let (graph, inputShapes, outputs) = node.graph(storedFrom: 0)
      let table = try graph.inferShapes(inputShapes: inputShapes, symbols: [:])
      for (id, output) in zip(outputs, node.outputs) {
        guard let output, let found = table.contents(of: id), let tensor = output.tensor else { continue }
        #expect(found == ElementArray(reading: tensor), "\(node.name)")
        compared += 1
      }
    }
    #expect(compared > 80)
  }
}
