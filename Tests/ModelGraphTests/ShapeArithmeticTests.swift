/// Elements computed from shapes and constants: one line per operator, exporters' idioms, and what must stay unknown.
import ModelGraph
import TestSupport
import Testing

/// The elements one node computes from stored operands.
func computed(
  _ op: String, _ operands: [Tensor?], _ attributes: [String: Attribute] = [:], outputs: Int = 1, opset: Int = 21
) throws -> [ElementArray?] {
  let g = GraphBuilder(opset: opset)
  let results = g.node(op, operands.map { $0.map { g.stored($0) } }, attributes, outputs: outputs)
  let graph = g.build()
  let table = try graph.inferShapes(inputShapes: [:], symbols: [:])
  let alone = graph.evaluateShapeArithmetic(
    lengths: { table[$0] }, stored: { graph[$0].tensor.flatMap(ElementArray.init(reading:)) })
  for id in results {
    #expect(alone[id.index] == table.contents(of: id), "\(op) differs between inference and evaluation")
    if let array = table.contents(of: id) {
      #expect(array.shape == table[id], "\(op)")
      #expect(array.count == array.shape.reduce(1, *), "\(op)")
    }
  }
  return results.map { table.contents(of: $0) }
}

func checkElements(
  _ op: String, _ operands: [Tensor?], _ attributes: [String: Attribute] = [:], opset: Int = 21,
  gives expected: ElementArray?..., sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(throws: Never.self, sourceLocation: sourceLocation) {
    let found = try computed(op, operands, attributes, outputs: expected.count, opset: opset)
    #expect(found == expected, "\(op)", sourceLocation: sourceLocation)
  }
}

private func ints(_ elements: Int64..., shape: [Int]? = nil) -> Tensor { Tensor(int64: elements, shape: shape) }
private func reals(_ elements: Float..., shape: [Int]? = nil) -> Tensor { Tensor(float32: elements, shape: shape) }
private func scalar(_ element: Int64) -> Tensor { Tensor(int64: [element], shape: []) }
private func bools(_ elements: UInt8...) -> Tensor {
  Tensor(dtype: .bool, shape: [elements.count], bytes: TensorBytes(copying: elements))
}
private func int32(_ elements: Int32...) -> Tensor {
  Tensor(dtype: .int32, shape: [elements.count], bytes: TensorBytes(copying: elements))
}

extension ElementArray: ExpressibleByArrayLiteral {
  public init(arrayLiteral elements: Int64...) { self.init(elements, shape: [elements.count]) }
}

@Suite struct ShapeArithmeticTests {
  @Test func integers() {
    checkElements("Add", [ints(1, 2), scalar(3)], gives: [4, 5])
    checkElements("Sub", [ints(1, 2), ints(3, 1)], gives: [-2, 1])
    checkElements(
      "Mul", [ints(1, 2, shape: [2, 1]), ints(3, 4)], gives: ElementArray([3, 4, 6, 8] as [Int64], shape: [2, 2]))
    checkElements("Div", [ints(7, -7), ints(2, 2)], gives: [3, -3])
    checkElements("Mod", [ints(-7, 7, 6), ints(3, -3, 3)], gives: [2, -2, 0])
    checkElements("Mod", [ints(-7, 7), ints(3, -3)], ["fmod": 1], gives: [-1, 1])
    checkElements("Pow", [ints(2, 3), reals(10, 2)], gives: [1024, 9])
    checkElements("Min", [ints(1, 5), ints(3, 3), scalar(2)], gives: [1, 2])
    checkElements("Max", [ints(1, 5), ints(3, 3), scalar(2)], gives: [3, 5])
    checkElements("Sum", [ints(1), ints(2), ints(3)], gives: [6])
    checkElements("Neg", [ints(1, -2)], gives: [-1, 2])
    checkElements("Abs", [ints(1, -2)], gives: [1, 2])
    checkElements("Sign", [ints(5, 0, -2)], gives: [1, 0, -1])
    checkElements("Clip", [ints(1, 5, 9), scalar(2), scalar(8)], gives: [2, 5, 8])
  }

  @Test func whatNoIntegerHoldsIsUnknown() {
    checkElements("Add", [ints(.max), ints(1)], gives: nil)
    checkElements("Sub", [ints(.min), ints(1)], gives: nil)
    checkElements("Mul", [ints(1 << 32), ints(1 << 32)], gives: nil)
    checkElements("Div", [ints(1), ints(0)], gives: nil)
    checkElements("Div", [ints(.min), ints(-1)], gives: nil)
    checkElements("Mod", [ints(1), ints(0)], gives: nil)
    checkElements("Mod", [ints(.min), ints(-1)], gives: nil)
    checkElements("Mod", [ints(1), ints(0)], ["fmod": 1], gives: nil)
    checkElements("Neg", [ints(.min)], gives: nil)
    checkElements("Abs", [ints(.min)], gives: nil)
    checkElements("Pow", [ints(10), ints(20)], gives: nil)
    checkElements("Pow", [ints(10), ints(-1)], gives: nil)
    checkElements("Pow", [ints(1), ints(.max)], gives: nil)
    checkElements("ReduceProd", [ints(.max, 2)], gives: nil)
    checkElements("ReduceSum", [ints(.max, 2)], gives: nil)
    checkElements("Add", [int32(.max), int32(1)], gives: nil)
    checkElements("Cast", [reals(1e30)], ["to": 7], gives: nil)
    checkElements("Cast", [reals(.nan)], ["to": 7], gives: nil)
    checkElements("Cast", [ints(1 << 40)], ["to": 6], gives: nil)
    checkElements("Cast", [ints(1)], ["to": 99], gives: nil)
    checkElements("Gather", [ints(1, 2), scalar(2)], gives: nil)
  }

  @Test func realsAreRoundedToTheirType() {
    checkElements("Div", [reals(1), reals(3)], gives: ElementArray([Double(Float(1) / 3)], shape: [1]))
    checkElements("Sqrt", [reals(2)], gives: ElementArray([Double(Float(2).squareRoot())], shape: [1]))
    checkElements("Reciprocal", [reals(64)], gives: ElementArray([1.0 / 64], shape: [1]))
    checkElements("Pow", [reals(64), reals(-0.5)], gives: ElementArray([0.125], shape: [1]))
    checkElements("Pow", [reals(64), reals(0.3)], gives: nil)
    checkElements("Floor", [reals(-1.5, 1.5)], gives: ElementArray([-2.0, 1], shape: [2]))
    checkElements("Ceil", [reals(-1.5, 1.5)], gives: ElementArray([-1.0, 2], shape: [2]))
    checkElements("Round", [reals(0.5, 1.5, 2.5)], gives: ElementArray([0.0, 2, 2], shape: [3]))
    checkElements("Cast", [reals(-1.9, 1.9)], ["to": 7], gives: [-1, 1])
    checkElements("Cast", [ints(3)], ["to": 1], gives: ElementArray([3.0], shape: [1]))
    checkElements("Cast", [ints(16_777_217)], ["to": 1], gives: ElementArray([16_777_216.0], shape: [1]))
    checkElements("Cast", [ints(16_777_217)], ["to": 11], gives: ElementArray([16_777_217.0], shape: [1]))
    checkElements("CastLike", [reals(2.5), ints(0)], gives: [2])
  }

  @Test func logic() {
    checkElements("Equal", [ints(1, 2), scalar(2)], gives: [0, 1])
    checkElements("Less", [ints(1, 2), scalar(2)], gives: [1, 0])
    checkElements("LessOrEqual", [ints(1, 2, 3), scalar(2)], gives: [1, 1, 0])
    checkElements("Greater", [reals(1, 2.5), reals(2)], gives: [0, 1])
    checkElements("GreaterOrEqual", [ints(1, 2), scalar(2)], gives: [0, 1])
    checkElements("Equal", [reals(.nan), reals(.nan)], gives: [0])
    checkElements("And", [bools(0, 1, 1), bools(1, 1, 0)], gives: [0, 1, 0])
    checkElements("Or", [bools(0, 1, 0), bools(1, 1, 0)], gives: [1, 1, 0])
    checkElements("Xor", [bools(0, 1, 0), bools(1, 1, 0)], gives: [1, 0, 0])
    checkElements("Not", [bools(0, 1)], gives: [1, 0])
    checkElements("Where", [bools(0, 1), ints(7, 8), scalar(9)], gives: [9, 8])
    checkElements("Cast", [ints(0, 5)], ["to": 9], gives: [0, 1])
  }

  @Test func movement() {
    let matrix = ints(1, 2, 3, 4, 5, 6, shape: [2, 3])
    func array(_ elements: [Int64], _ shape: [Int]) -> ElementArray { ElementArray(elements, shape: shape) }
    checkElements("Identity", [matrix], gives: array([1, 2, 3, 4, 5, 6], [2, 3]))
    checkElements("Transpose", [matrix], gives: array([1, 4, 2, 5, 3, 6], [3, 2]))
    checkElements("Reshape", [matrix, ints(-1)], gives: [1, 2, 3, 4, 5, 6])
    checkElements("Flatten", [matrix], ["axis": 0], gives: array([1, 2, 3, 4, 5, 6], [1, 6]))
    checkElements("Squeeze", [ints(4)], gives: array([4], []))
    checkElements("Unsqueeze", [scalar(4), ints(0)], gives: [4])
    checkElements("Expand", [ints(1, 2, shape: [2, 1]), ints(2, 2)], gives: array([1, 1, 2, 2], [2, 2]))
    checkElements("Tile", [ints(1, 2), ints(2)], gives: [1, 2, 1, 2])
    checkElements("Tile", [matrix, ints(1, 2)], gives: array([1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6], [2, 6]))
    checkElements("Concat", [ints(1), ints(), ints(2, 3)], ["axis": 0], gives: [1, 2, 3])
    checkElements(
      "Concat", [matrix, ints(8, 9, shape: [2, 1])], ["axis": 1], gives: array([1, 2, 3, 8, 4, 5, 6, 9], [2, 4]))
    checkElements(
      "Split", [matrix, ints(1, 2)], ["axis": 1], gives: array([1, 4], [2, 1]), array([2, 3, 5, 6], [2, 2]))
    checkElements("Gather", [ints(5, 6, 7), scalar(-1)], gives: array([7], []))
    checkElements("Gather", [ints(5, 6, 7), ints(0)], gives: [5])
    checkElements("Gather", [matrix, ints(2, 0)], ["axis": 1], gives: array([3, 1, 6, 4], [2, 2]))
    checkElements("Slice", [ints(1, 2, 3, 4), ints(1), ints(.max), ints(0), ints(2)], gives: [2, 4])
    checkElements("Slice", [ints(1, 2, 3, 4), ints(-1), ints(.min), ints(0), ints(-1)], gives: [4, 3, 2, 1])
    checkElements("Slice", [ints(1, 2, 3, 4), ints(2), ints(3), ints(0), ints(.max)], gives: [3])
    checkElements("Slice", [ints(1, 2, 3, 4), ints(3), ints(2)], gives: [])
    checkElements("Slice", [matrix, ints(1), ints(2), ints(1)], gives: array([2, 5], [2, 1]))
    checkElements("Pad", [ints(1, 2), ints(1, 2), scalar(7)], gives: [7, 1, 2, 7, 7])
  }

  @Test func creationAndReduction() {
    checkElements("Shape", [ints(1, 2, shape: [2, 1])], gives: [2, 1])
    checkElements("Shape", [ints(1, 2, shape: [2, 1])], ["start": -1], gives: [1])
    checkElements("Size", [ints(1, 2, shape: [2, 1])], gives: ElementArray([2] as [Int64], shape: []))
    checkElements("ConstantOfShape", [ints(2)], gives: ElementArray([0.0, 0], shape: [2]))
    checkElements("ConstantOfShape", [ints(2)], ["value": .tensor(ints(7))], gives: [7, 7])
    checkElements("ConstantOfShape", [ints(0)], ["value": .tensor(ints(7))], gives: [])
    checkElements("Range", [scalar(3), scalar(9), scalar(2)], gives: [3, 5, 7])
    checkElements("Range", [scalar(.max - 1), scalar(.max), scalar(5)], gives: [.max - 1])
    checkElements(
      "NonZero", [ints(0, 3, 4, 0, shape: [2, 2])], gives: ElementArray([0, 1, 1, 0] as [Int64], shape: [2, 2]))
    checkElements("ReduceProd", [ints(2, 3, 4)], ["keepdims": 0], gives: ElementArray([24] as [Int64], shape: []))
    checkElements("ReduceProd", [ints()], gives: [1])
    checkElements("ReduceSum", [ints(1, 2, 3, 4, shape: [2, 2]), ints(0)], ["keepdims": 0], gives: [4, 6])
    checkElements("ReduceMax", [ints(2, 3, 4)], gives: [4])
    checkElements("ReduceMin", [ints(2, 3, 4)], gives: [2])
    checkElements("ReduceMax", [ints()], gives: nil)
    checkElements("ReduceSum", [reals(2, 3)], gives: ElementArray([5.0], shape: [1]))
    // Its last bit depends on the order of summation.
    checkElements("ReduceSum", [reals(0.1, 0.2, 0.3)], gives: nil)
  }

  @Test func largeResultsAreData() throws {
    checkElements("ConstantOfShape", [ints(4097)], gives: nil)
    checkElements(
      "Range", [scalar(0), scalar(4096), scalar(1)], gives: ElementArray((0..<4096).map { Int64($0) }, shape: [4096]))
    checkElements("Range", [scalar(0), scalar(4097), scalar(1)], gives: nil)
    checkElements("Expand", [ints(1), ints(1 << 40)], gives: nil)
    checkElements("Mul", [Tensor(float32: [Float](repeating: 1, count: 17)), reals(2)], gives: nil)
  }

  @Test func oneUnknownOperandMakesTheResultUnknown() throws {
    let g = GraphBuilder()
    let x = g.input("x", [3])
    let results = ["Add", "Sub", "Equal", "Pow", "Max"].map { g($0, g.ints([1, 2, 3]), x) }
    let hidden = g.node("Custom", [x], domain: "mine")[0]
    let shapeless = ["Add", "Sub", "Equal", "Pow", "Max"].map { g($0, g.ints([1, 2, 3]), hidden) }
    let table = try g.build().inferShapes(inputShapes: [x: [3]], symbols: [:])
    for id in results + shapeless { #expect(table.contents(of: id) == nil) }
    #expect(results.allSatisfy { table[$0] == [3] })
    #expect(shapeless.allSatisfy { table[$0] == nil })
  }

  @Test func scalarsAndListsOfOneDiffer() throws {
    let g = GraphBuilder()
    let x = g.input("x", [4, 6, 8])
    let shape = g("Shape", x)
    let scalar = g("Gather", shape, g.ints([1], shape: []))
    let list = g("Gather", shape, g.ints([1]))
    let target = g("Concat", g("Unsqueeze", scalar, g.ints([0])), list, g.ints([-1]), with: ["axis": 0])
    let y = g("Reshape", g("Tile", x, g.ints([1, 6, 1])), target)
    let table = try g.build().inferShapes(inputShapes: [x: [4, 6, 8]], symbols: [:])
    #expect(table.contents(of: scalar) == ElementArray([6] as [Int64], shape: []))
    #expect(table.contents(of: list) == [6])
    #expect(table[y] == [6, 6, 32])
  }

  /// Old exporters build a Pad's pads from a list by extension, reshaping and reversing.
  @Test func padsIdiom() throws {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 8, 8])
    let given = g.ints([1, 2, 3, 4])
    let missing = g("Sub", g.ints([8]), g.ints([4]))
    let zeros = g("ConstantOfShape", missing, with: ["value": Attribute.tensor(Tensor(int64: [0]))])
    let all = g("Concat", given, zeros, with: ["axis": 0])
    let rows = g("Reshape", all, g.ints([-1, 2]))
    let reversed = g("Slice", rows, g.ints([-1]), g.ints([.min]), g.ints([0]), g.ints([-1]))
    let pads = g("Cast", g("Reshape", g("Transpose", reversed, with: ["perm": [1, 0]]), g.ints([-1])), with: ["to": 7])
    let y = g("Pad", x, pads)
    let table = try g.build().inferShapes(inputShapes: [x: [1, 3, 8, 8]], symbols: [:])
    #expect(table.contents(of: pads) == [0, 0, 3, 1, 0, 0, 4, 2])
    #expect(table[y] == [1, 3, 15, 11])
  }

  /// Interpolation to twice the size through floats, as exporters of opset 9 write it.
  @Test func upsampleIdiom() throws {
    let g = GraphBuilder(opset: 11)
    let x = g.input("x", [1, 3, 7, 9])
    func doubled(_ axis: Int64) -> ValueID {
      let length = g("Gather", g("Shape", x), g.ints([axis], shape: []))
      let product = g("Mul", g("Cast", length, with: ["to": 1]), g.floats([2], shape: []))
      return g("Unsqueeze", g("Cast", g("Floor", product), with: ["to": 7]), with: ["axes": [0]])
    }
    let head = g("Slice", g("Shape", x), g.ints([0]), g.ints([2]))
    let y = g(
      "Resize", x, nil, nil, g("Concat", head, doubled(2), doubled(3), with: ["axis": 0]))
    let table = try g.build().inferShapes(inputShapes: [x: [1, 3, 7, 9]], symbols: [:])
    #expect(table[y] == [1, 3, 14, 18])
  }

  @Test func otherLengthsGiveOtherElements() throws {
    let g = GraphBuilder()
    let x = g.input("x", [2, 64, 8, 8])
    let hidden = g("Relu", x)
    let channels = g("Gather", g("Shape", hidden), g.ints([1], shape: []))
    let groups = g.ints([4], shape: [], name: "groups")
    let perGroup = g("Div", channels, groups)
    let graph = g.build()
    func evaluate(channels: Int, groups: Int64) -> ElementArray? {
      graph.evaluateShapeArithmetic(
        lengths: { $0 == hidden ? [2, channels, 8, 8] : nil },
        stored: { id in
          graph[id].name == "groups"
            ? ElementArray([groups], shape: []) : graph[id].tensor.flatMap(ElementArray.init(reading:))
        })[perGroup.index]
    }
    #expect(evaluate(channels: 64, groups: 4) == ElementArray([16] as [Int64], shape: []))
    #expect(evaluate(channels: 40, groups: 4) == ElementArray([10] as [Int64], shape: []))
    #expect(evaluate(channels: 40, groups: 2) == ElementArray([20] as [Int64], shape: []))
    #expect(evaluate(channels: 40, groups: 0) == nil)
    #expect(graph.evaluateShapeArithmetic(lengths: { _ in nil }, stored: { _ in nil })[perGroup.index] == nil)
    // Lengths no value can have are no lengths.
    #expect(graph.evaluateShapeArithmetic(lengths: { _ in [-1] }, stored: { _ in [4] })[perGroup.index] == nil)
  }

  @Test func contradictionsAreUnknown() throws {
    let g = GraphBuilder()
    let a = g.ints([1, 2], name: "a")
    let sum = g("Add", a, g.ints([1, 2]))
    let graph = g.build()
    let longer = graph.evaluateShapeArithmetic(
      lengths: { _ in nil }, stored: { $0 == a ? [1, 2, 3] : [1, 2] })
    #expect(longer[sum.index] == nil)
  }

  @Test func chainsEndAtTheBudget() throws {
    let g = GraphBuilder()
    var y = g.ints((0..<4096).map { Int64($0) })
    for _ in 0..<1100 { y = g("Neg", y) }
    let table = try g.build().inferShapes(inputShapes: [:], symbols: [:])
    #expect(table[y] == [4096])
    #expect(table.contents(of: y) == nil)
  }

  @Test func halfPrecisionIsRead() throws {
    let bits: [UInt16] = [0x3c00, 0xc000, 0x0001, 0x7c00]
    let tensor = Tensor(dtype: .float16, shape: [4], bytes: TensorBytes(copying: bits))
    #expect(ElementArray(reading: tensor) == ElementArray([1, -2, 0x1p-24, .infinity], shape: [4]))
  }
}
