/// Inference over whole graphs: unknown operators, declared shapes, limits.
import ModelGraph
import TestSupport
import Testing

@Suite struct ShapeInferenceTests {
  @Test func unknownOperatorTakesTheDeclaredShape() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", 4])
    let known = g.node("Custom", [x], domain: "mine", declared: ["N", 7])[0]
    let derived = g.node("Custom", [x], domain: "mine", declared: ["2*N + 1", 7])[0]
    let open = g.node("Custom", [x], domain: "mine", declared: ["M", 7])[0]
    let relu = g("Relu", known)
    let after = g("Relu", open)
    // An operator of the standard set's name in another domain is another operator.
    let foreign = g.node("Relu", [x], domain: "mine")[0]
    let table = try g.build().inferShapes(inputShapes: [x: [5, 4]], symbols: ["N": 5])
    #expect(table[known] == [5, 7])
    #expect(table[relu] == [5, 7])
    #expect(table[derived] == [11, 7])
    #expect(table[open] == nil)
    #expect(table[after] == nil)
    #expect(table[foreign] == nil)
  }

  @Test func opaqueNodesSayWhatTheyReturn() throws {
    let g = GraphBuilder()
    let x = g.input("x", ["N", nil, 7])
    let lengths: [OpaqueLength] = [
      .axis(0), .axis(1).places(window: 3, stride: 2), .axis(1).multiplied(by: 4), .fixed(5),
    ]
    let results = g.node(
      "Layer", [x], OpaqueLength.attributes([lengths, [.axis(3)]]), outputs: 2,
      domain: Node.opaqueDomain)
    let graph = g.build()
    for (given, wanted) in [([2, 9, 7], [2, 4, 36, 5]), ([2, 1, 7], [2, 0, 4, 5])] {
      let table = try graph.inferShapes(inputShapes: [x: given], symbols: [:])
      #expect(table[results[0]] == wanted)
      #expect(table[results[1]] == nil)
    }
    let impossible = GraphBuilder()
    let y = impossible.input("y", [3])
    _ = impossible.node("Layer", [y], OpaqueLength.attributes([[.fixed(-1)]]), domain: Node.opaqueDomain)
    #expect(throws: Failure.self) { try impossible.build().inferShapes(inputShapes: [y: [3]], symbols: [:]) }
  }

  @Test func inferredShapesOverruleDeclaredOnes() throws {
    let g = GraphBuilder()
    let x = g.input("x", [5, 4])
    let y = g.node("Relu", [x], declared: [1, 2, 3])[0]
    #expect(try g.build().inferShapes(inputShapes: [x: [5, 4]], symbols: [:])[y] == [5, 4])
  }

  @Test func limitsHold() throws {
    let huge = GraphBuilder()
    let x = huge.input("x", nil)
    for shape in [[-1], [Int.max, 2], [Int.max, Int.max, 0], [Int](repeating: 1, count: 65)] {
      #expect { try huge.build().inferShapes(inputShapes: [x: shape], symbols: [:]) } throws: {
        ($0 as? Failure)?.kind == .inputShapeMismatch
      }
    }
    let claims = GraphBuilder()
    _ = claims.stored(Tensor(dtype: .string, shape: [.max, .max], bytes: TensorBytes(copying: [UInt8]())))
    #expect { try claims.build().inferShapes(inputShapes: [:], symbols: [:]) } throws: {
      ($0 as? Failure)?.kind == .modelMalformed
    }
  }

  @Test func repeatedDoublingStopsAtTheLimit() throws {
    let g = GraphBuilder()
    let x = g.input("x", [2])
    let two = g.ints([2])
    var y = x
    for _ in 0..<80 { y = g("Tile", y, two) }
    #expect { try g.build().inferShapes(inputShapes: [x: [2]], symbols: [:]) } throws: {
      ($0 as? Failure)?.kind == .modelMalformed
    }
  }

  @Test func constantNodesAreStored() throws {
    let g = GraphBuilder()
    let x = g.input("x", [2, 6])
    let target = g.constant(Tensor(int64: [3, 4]))
    let y = g("Reshape", x, target)
    #expect(try g.build().inferShapes(inputShapes: [x: [2, 6]], symbols: [:])[y] == [3, 4])
  }
}
