/// Every operator's shape rule, one line per case: inputs, attributes and the shapes that must come out.
import ModelGraph
import TestSupport
import Testing

/// An input of a case: a graph input of that shape, a stored tensor, or left out.
enum Operand {
  case shape([Int])
  case ints([Int64])
  case scalar(Int64)
  case floats([Float])
  case absent
}

extension Operand: ExpressibleByArrayLiteral, ExpressibleByNilLiteral {
  init(arrayLiteral lengths: Int...) { self = .shape(lengths) }
  init(nilLiteral: ()) { self = .absent }
}

/// The output shapes of one node.
func inferred(
  _ op: String, _ operands: [Operand], _ attributes: [String: Attribute] = [:], outputs: Int = 1, opset: Int = 21
) throws -> [[Int]?] {
  let g = GraphBuilder(opset: opset)
  var shapes: [ValueID: [Int]] = [:]
  let inputs: [ValueID?] = operands.enumerated().map { position, operand in
    switch operand {
    case .shape(let shape):
      let id = g.input("input_\(position)", shape.map(Dimension.fixed))
      shapes[id] = shape
      return id
    case .ints(let elements): return g.ints(elements)
    case .scalar(let element): return g.ints([element], shape: [])
    case .floats(let elements): return g.floats(elements)
    case .absent: return nil
    }
  }
  let results = g.node(op, inputs, attributes, outputs: outputs)
  let table = try g.build().inferShapes(inputShapes: shapes, symbols: [:])
  return results.map { table[$0] }
}

func checkShapes(
  _ op: String, _ operands: [Operand], _ attributes: [String: Attribute] = [:], opset: Int = 21,
  gives expected: [Int]?...,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(throws: Never.self, sourceLocation: sourceLocation) {
    let found = try inferred(op, operands, attributes, outputs: expected.count, opset: opset)
    #expect(found == expected, "\(op)", sourceLocation: sourceLocation)
  }
}

/// The node must be refused as malformed, and the message must name it and its operator.
func refuse(
  _ op: String, _ operands: [Operand], _ attributes: [String: Attribute] = [:], outputs: Int = 1, opset: Int = 21,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  #expect(sourceLocation: sourceLocation) {
    _ = try inferred(op, operands, attributes, outputs: outputs, opset: opset)
  } throws: { error in
    guard let failure = error as? Failure else { return false }
    return failure.kind == .modelMalformed && failure.message.contains("'\(op)_0' (\(op))")
  }
}

@Suite struct ShapeRuleTests {
  @Test func elementwise() {
    checkShapes("Relu", [[2, 3]], gives: [2, 3])
    checkShapes("Add", [[2, 3, 1], [4]], gives: [2, 3, 4])
    checkShapes("Add", [[], [4]], gives: [4])
    checkShapes("Add", [[0, 3], [1, 3]], gives: [0, 3])
    checkShapes("Where", [[3, 1], [1, 4], []], gives: [3, 4])
    checkShapes("Max", [[3], [2, 1], [1, 1, 1]], gives: [1, 2, 3])
    checkShapes("Sum", [[3]], gives: [3])
    checkShapes("Clip", [[3, 2], nil, [1]], gives: [3, 2])
    checkShapes("Dropout", [[3, 2]], gives: [3, 2], [3, 2])
    checkShapes("PRelu", [[2, 3, 4], [3, 1]], gives: [2, 3, 4])
    checkShapes("ScatterND", [[2, 3], [1, 1], [1, 3]], gives: [2, 3])
    refuse("Add", [[2, 3], [2]])
    refuse("Mul", [[0], [2]])
    refuse("PRelu", [[3], [2, 3]])
  }

  @Test func normalization() {
    checkShapes(
      "BatchNormalization", [[2, 3, 4], [3], [3], [3], [3]], opset: 9, gives: [2, 3, 4], [3], [3], [3], [3])
    checkShapes("InstanceNormalization", [[2, 3, 4], [3], [3]], gives: [2, 3, 4])
    checkShapes("GroupNormalization", [[2, 6, 4], [6], [6]], ["num_groups": 3], gives: [2, 6, 4])
    checkShapes(
      "LayerNormalization", [[2, 3, 4], [3, 4], [4]], ["axis": 1], gives: [2, 3, 4], [2, 1, 1], [2, 1, 1])
    checkShapes("LRN", [[2, 3, 4, 4]], gives: [2, 3, 4, 4])
    checkShapes("Softmax", [[2, 3]], ["axis": 1], gives: [2, 3])
    refuse("BatchNormalization", [[2, 3, 4], [3], [3], [3], [4]])
    refuse("GroupNormalization", [[2, 6, 4], [6], [6]], ["num_groups": 4])
    refuse("LayerNormalization", [[2, 3, 4], [5]])
    refuse("LayerNormalization", [[2, 3, 4], [4]], ["axis": 3])
  }

  @Test func convolution() {
    checkShapes(
      "Conv", [[1, 3, 224, 224], [64, 3, 7, 7]], ["strides": [2, 2], "pads": [3, 3, 3, 3]], gives: [1, 64, 112, 112])
    checkShapes("Conv", [[1, 8, 9], [8, 1, 3], [8]], ["group": 8, "dilations": [2]], gives: [1, 8, 5])
    checkShapes("Conv", [[1, 2, 5, 6, 7], [4, 2, 1, 2, 3]], gives: [1, 4, 5, 5, 5])
    checkShapes(
      "Conv", [[1, 3, 7, 8], [4, 3, 3, 3]], ["auto_pad": "SAME_UPPER", "strides": [2, 3]], gives: [1, 4, 4, 3])
    checkShapes(
      "Conv", [[1, 3, 7, 8], [4, 3, 3, 3]], ["auto_pad": "VALID", "strides": [2, 3]], gives: [1, 4, 3, 2])
    checkShapes("Conv", [[0, 3, 7, 8], [4, 3, 3, 3]], gives: [0, 4, 5, 6])
    checkShapes("ConvInteger", [[1, 3, 7, 8], [4, 3, 3, 3]], gives: [1, 4, 5, 6])
    checkShapes("QLinearConv", [[1, 3, 7, 8], [], [], [4, 3, 3, 3], [4], [4], [], [], [4]], gives: [1, 4, 5, 6])
    checkShapes("DeformConv", [[1, 3, 7, 8], [4, 3, 3, 3], [1, 18, 5, 6]], gives: [1, 4, 5, 6])
    refuse("Conv", [[1, 4, 8, 8], [8, 3, 3, 3]])
    refuse("Conv", [[1, 4, 8, 8], [9, 2, 3, 3]], ["group": 2])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3]])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3, 3], [7]])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3, 3]], ["kernel_shape": [3, 5]])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3, 3]], ["group": 0])
    refuse("Conv", [[1, 4, 2, 8], [8, 4, 3, 3]])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3, 3]], ["strides": [0, 1]])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3, 3]], ["pads": [1, 1]])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3, 3]], ["pads": [.max, 0, .max, 0]])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3, 3]], ["dilations": [.max, .max]])
    refuse("Conv", [[1, 4, 8, 8], [8, 4, 3, 3]], ["auto_pad": "SOME"])
  }

  @Test func transposedConvolution() {
    checkShapes("ConvTranspose", [[1, 8, 7, 7], [8, 4, 2, 2]], ["strides": [2, 2]], gives: [1, 4, 14, 14])
    checkShapes(
      "ConvTranspose", [[1, 8, 7], [8, 4, 3]], ["strides": [2], "pads": [1, 1], "output_padding": [1], "group": 2],
      gives: [1, 8, 14])
    checkShapes("ConvTranspose", [[1, 8, 7], [8, 4, 3]], ["dilations": [3]], gives: [1, 4, 13])
    checkShapes("ConvTranspose", [[1, 8, 7], [8, 4, 3]], ["strides": [2], "output_shape": [13]], gives: [1, 4, 13])
    checkShapes(
      "ConvTranspose", [[1, 8, 7], [8, 4, 3]], ["strides": [2], "auto_pad": "SAME_LOWER"], gives: [1, 4, 14])
    refuse("ConvTranspose", [[1, 8, 7], [4, 8, 3]])
    refuse("ConvTranspose", [[1, 8, 7], [8, 4, 3]], ["pads": [5, 5]])
    refuse("ConvTranspose", [[1, 8, 7], [8, 4, 3]], ["group": .int(.max)])
    checkShapes("Col2Im", [[2, 12, 20], .ints([5, 6]), .ints([2, 2])], gives: [2, 3, 5, 6])
  }

  @Test func pooling() {
    checkShapes(
      "MaxPool", [[1, 3, 7, 7]], ["kernel_shape": [3, 3], "strides": [2, 2]], gives: [1, 3, 3, 3], [1, 3, 3, 3])
    checkShapes(
      "MaxPool", [[1, 3, 8, 8]], ["kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1], gives: [1, 3, 4, 4])
    // The extra window would begin in the padding after the input.
    checkShapes(
      "MaxPool", [[1, 1, 4]], ["kernel_shape": [1], "strides": [2], "pads": [0, 1], "ceil_mode": 1], gives: [1, 1, 2])
    checkShapes(
      "AveragePool", [[1, 3, 9]], ["kernel_shape": [3], "dilations": [2], "auto_pad": "VALID"], gives: [1, 3, 5])
    checkShapes(
      "LpPool", [[1, 3, 9]], ["kernel_shape": [3], "auto_pad": "SAME_UPPER", "strides": [2]], gives: [1, 3, 5])
    checkShapes("GlobalAveragePool", [[2, 3, 4, 5]], gives: [2, 3, 1, 1])
    checkShapes(
      "MaxUnpool", [[1, 1, 2, 2], [1, 1, 2, 2]], ["kernel_shape": [2, 2], "strides": [2, 2]], gives: [1, 1, 4, 4])
    checkShapes("MaxUnpool", [[1, 1, 2], [1, 1, 2], .ints([1, 1, 5])], ["kernel_shape": [2]], gives: [1, 1, 5])
    checkShapes("MaxRoiPool", [[1, 3, 9, 9], [7, 5]], ["pooled_shape": [2, 4]], gives: [7, 3, 2, 4])
    refuse("MaxPool", [[1, 3, 7, 7]])
    refuse("MaxPool", [[1, 3, 7, 7]], ["kernel_shape": [3]])
    refuse("GlobalMaxPool", [[4]])
  }

  @Test func matrixProducts() {
    checkShapes("Gemm", [[2, 3], [3, 4], [4]], gives: [2, 4])
    checkShapes("Gemm", [[3, 2], [4, 3], []], ["transA": 1, "transB": 1], gives: [2, 4])
    checkShapes("MatMul", [[2, 1, 3, 4], [5, 4, 6]], gives: [2, 5, 3, 6])
    checkShapes("MatMul", [[4], [4, 6]], gives: [6])
    checkShapes("MatMul", [[2, 3, 4], [4]], gives: [2, 3])
    checkShapes("MatMul", [[4], [4]], gives: [])
    checkShapes("MatMulInteger", [[3, 4], [4, 5]], gives: [3, 5])
    checkShapes("QLinearMatMul", [[3, 4], [], [], [4, 5], [], [], [], []], gives: [3, 5])
    refuse("Gemm", [[2, 3], [4, 3]])
    refuse("Gemm", [[2, 3, 1], [3, 4]])
    refuse("Gemm", [[2, 3], [3, 4], [5]])
    refuse("MatMul", [[2, 3], [4, 5]])
    refuse("MatMul", [[], [1]])
    refuse("MatMul", [[2, 3, 4], [3, 4, 5]])
    // Each operand is allowed, the product is not.
    refuse("MatMul", [[1 << 40, 1], [1, 1 << 40]])
  }

  @Test func einsum() {
    checkShapes("Einsum", [[2, 3], [3, 4]], ["equation": "ij,jk->ik"], gives: [2, 4])
    checkShapes("Einsum", [[2, 3], [3, 4]], ["equation": "ij, jk"], gives: [2, 4])
    checkShapes("Einsum", [[5, 2, 3], [1, 3, 4]], ["equation": "...ij,...jk->...ki"], gives: [5, 4, 2])
    checkShapes("Einsum", [[3, 3]], ["equation": "ii->i"], gives: [3])
    checkShapes("Einsum", [[3, 3]], ["equation": "ii"], gives: [])
    checkShapes("Einsum", [[2, 7, 3], [3]], ["equation": "...a,a"], gives: [2, 7])
    for equation in ["ij,jk->il", "ij->ij", "i..j,jk", "ij,jk->ii", "ij,jk->i->k", "ij,j", "1j,jk"] {
      refuse("Einsum", [[2, 3], [3, 4]], ["equation": .string(equation)])
    }
    refuse("Einsum", [[2, 3], [4, 5]], ["equation": "ij,jk->ik"])
  }

  @Test func reduction() {
    checkShapes("ReduceMean", [[2, 3, 4]], ["axes": [-1, 0]], opset: 13, gives: [1, 3, 1])
    checkShapes("ReduceMean", [[2, 3, 4], .ints([1])], ["keepdims": 0], gives: [2, 4])
    checkShapes("ReduceSum", [[2, 3, 4]], gives: [1, 1, 1])
    checkShapes("ReduceSum", [[2, 3, 4]], ["keepdims": 0], gives: [])
    checkShapes("ReduceSum", [[2, 3, 4], .ints([])], ["noop_with_empty_axes": 1], gives: [2, 3, 4])
    checkShapes("ReduceSum", [[2, 3, 4], [1]], gives: nil)
    checkShapes("ArgMax", [[2, 3, 4]], ["axis": -2, "keepdims": 0], gives: [2, 4])
    checkShapes("ArgMin", [[2, 3, 4]], gives: [1, 3, 4])
    checkShapes("TopK", [[2, 9], .ints([4])], gives: [2, 4], [2, 4])
    checkShapes("TopK", [[2, 9], [1]], gives: nil, nil)
    refuse("ReduceMax", [[2, 3]], ["axes": [2]])
    refuse("ReduceMax", [[2, 3]], ["axes": [1, -1]])
    refuse("TopK", [[2, 9], .ints([10])], outputs: 2)
  }

  @Test func reshaping() {
    checkShapes("Reshape", [[2, 3, 4], .ints([0, -1])], gives: [2, 12])
    checkShapes("Reshape", [[2, 3, 4], .ints([4, 6])], gives: [4, 6])
    checkShapes("Reshape", [[0, 3], .ints([0, 5])], ["allowzero": 1], gives: [0, 5])
    checkShapes("Reshape", [[2, 0], .ints([-1])], gives: [0])
    checkShapes("Reshape", [[1], .ints([])], gives: [])
    checkShapes("Reshape", [[2, 3], [2]], gives: nil)
    for target: [Int64] in [[5], [-1, -1], [4, -1], [-2, -3], [0, 0, 0], [.max, .max], [.min], []] {
      refuse("Reshape", [[2, 3], .ints(target)])
    }
    refuse("Reshape", [[0, 3], .ints([0, -1])])
    checkShapes("Flatten", [[2, 3, 4]], gives: [2, 12])
    checkShapes("Flatten", [[2, 3, 4]], ["axis": -1], gives: [6, 4])
    checkShapes("Flatten", [[2, 3, 4]], ["axis": 0], gives: [1, 24])
    checkShapes("Flatten", [[2, 3, 4]], ["axis": 3], gives: [24, 1])
    refuse("Flatten", [[2, 3]], ["axis": 3])
    checkShapes("Squeeze", [[1, 3, 1]], gives: [3])
    checkShapes("Squeeze", [[1, 3, 1]], ["axes": [-1]], opset: 11, gives: [1, 3])
    checkShapes("Squeeze", [[1, 3, 1], .ints([0])], gives: [3, 1])
    refuse("Squeeze", [[1, 3, 1], .ints([1])])
    checkShapes("Unsqueeze", [[2, 3], .ints([0, -1])], gives: [1, 2, 3, 1])
    checkShapes("Unsqueeze", [[], .ints([0])], gives: [1])
    refuse("Unsqueeze", [[2], .ints([0, 0])])
    refuse("Unsqueeze", [[2], .ints([2])])
    refuse("Unsqueeze", [[2], .ints(Array(0..<100))])
    checkShapes("Transpose", [[2, 3, 4]], gives: [4, 3, 2])
    checkShapes("Transpose", [[2, 3, 4]], ["perm": [1, 2, 0]], gives: [3, 4, 2])
    refuse("Transpose", [[2, 3, 4]], ["perm": [1, 1, 0]])
    refuse("Transpose", [[2, 3, 4]], ["perm": [1, 0]])
    checkShapes("DepthToSpace", [[1, 8, 2, 3]], ["blocksize": 2], gives: [1, 2, 4, 6])
    checkShapes("SpaceToDepth", [[1, 2, 4, 6]], ["blocksize": 2], gives: [1, 8, 2, 3])
    refuse("DepthToSpace", [[1, 6, 2, 3]], ["blocksize": 2])
    refuse("DepthToSpace", [[1, 6, 2, 3]], ["blocksize": .int(.max)])
    refuse("SpaceToDepth", [[1, 2, 5, 6]], ["blocksize": 2])
  }

  @Test func joining() {
    checkShapes("Concat", [[2, 3], [2, 5]], ["axis": -1], gives: [2, 8])
    checkShapes("Concat", [[0], [2, 5]], ["axis": 0], gives: [2, 5])
    refuse("Concat", [[2, 3], [3, 3]], ["axis": 1])
    refuse("Concat", [[2, 3], [3]], ["axis": 0])
    refuse("Concat", [[2, 3]])
    checkShapes("Split", [[2, 6]], ["axis": 1], opset: 13, gives: [2, 2], [2, 2], [2, 2])
    checkShapes("Split", [[2, 6]], ["axis": 1, "split": [1, 5]], opset: 11, gives: [2, 1], [2, 5])
    checkShapes("Split", [[6], .ints([4, 2])], gives: [4], [2])
    checkShapes("Split", [[7]], ["num_outputs": 3], gives: [3], [3], [1])
    checkShapes("Split", [[6], [2]], gives: nil, nil)
    refuse("Split", [[7]], outputs: 2, opset: 13)
    refuse("Split", [[7]], ["num_outputs": 5], outputs: 5)
    refuse("Split", [[6], .ints([4, 3])], outputs: 2)
    refuse("Split", [[6], .ints([.max, .min])], outputs: 2)
  }

  @Test func slicing() {
    checkShapes("Slice", [[10, 8], .ints([1]), .ints([.max])], gives: [9, 8])
    checkShapes("Slice", [[10, 8]], ["starts": [1, 2], "ends": [-1, 4]], opset: 9, gives: [8, 2])
    checkShapes("Slice", [[10], .ints([-1]), .ints([.min]), .ints([0]), .ints([-1])], gives: [10])
    checkShapes("Slice", [[10], .ints([8]), .ints([1]), .ints([0]), .ints([-3])], gives: [3])
    checkShapes("Slice", [[10], .ints([0]), .ints([10]), nil, .ints([.max])], gives: [1])
    checkShapes("Slice", [[10], .ints([9]), .ints([0]), nil, .ints([.min])], gives: [1])
    checkShapes("Slice", [[10], .ints([7]), .ints([3])], gives: [0])
    checkShapes("Slice", [[0], .ints([0]), .ints([.max])], gives: [0])
    checkShapes("Slice", [[0], .ints([0]), .ints([.min]), nil, .ints([-1])], gives: [0])
    checkShapes("Slice", [[10], .ints([.min]), .ints([.min])], gives: [0])
    checkShapes("Slice", [[10], [1], [1]], gives: nil)
    refuse("Slice", [[10], .ints([0]), .ints([1]), nil, .ints([0])])
    refuse("Slice", [[10], .ints([0]), .ints([1]), .ints([1])])
    refuse("Slice", [[10], .ints([0]), .ints([1, 2])])
  }

  @Test func selection() {
    checkShapes("Gather", [[5, 6, 7], [2, 3]], ["axis": 1], gives: [5, 2, 3, 7])
    checkShapes("Gather", [[5, 6], []], gives: [6])
    checkShapes("GatherElements", [[5, 6], [2, 6]], gives: [2, 6])
    checkShapes("GatherND", [[5, 6, 7], [3, 2]], gives: [3, 7])
    checkShapes("GatherND", [[5, 6, 7], [5, 3, 1]], ["batch_dims": 1], gives: [5, 3, 7])
    checkShapes("NonZero", [[3]], gives: nil)
    checkShapes("NonZero", [.ints([0, 4, 5])], gives: [1, 2])
    refuse("Gather", [[5], [2]], ["axis": 1])
    refuse("GatherElements", [[5], [2, 2]])
    refuse("GatherND", [[5], [3, 2]])
    refuse("GatherND", [[5], [3, 1]], ["batch_dims": 2])
  }

  @Test func lengthening() {
    checkShapes("Expand", [[3, 1], .ints([2, 1, 6])], gives: [2, 3, 6])
    checkShapes("Expand", [[3, 4], .ints([1])], gives: [3, 4])
    refuse("Expand", [[3], .ints([-1])])
    checkShapes("Tile", [[2, 3], .ints([2, 0])], gives: [4, 0])
    refuse("Tile", [[2, 3], .ints([2])])
    refuse("Tile", [[2, 3], .ints([.max, .max])])
    refuse("Tile", [[2], .ints([-1])])
    checkShapes("Pad", [[2, 3]], ["pads": [0, 1, 1, 2]], opset: 9, gives: [3, 6])
    checkShapes("Pad", [[2, 3], .ints([-1, 2]), nil, .ints([-1])], gives: [2, 4])
    refuse("Pad", [[2, 3], .ints([1, 1])])
    refuse("Pad", [[2, 3], .ints([-3, 0, 0, 0])])
    refuse("Pad", [[2, 3], .ints([.max, .max, .max, .max])])
    checkShapes("CenterCropPad", [[9, 9, 3], .ints([5, 12])], ["axes": [0, 1]], gives: [5, 12, 3])
  }

  @Test func creation() {
    checkShapes("Shape", [[2, 3, 4]], gives: [3])
    checkShapes("Shape", [[2, 3, 4]], ["start": -2, "end": 9], gives: [2])
    checkShapes("Shape", [[2, 3, 4]], ["start": 2, "end": 1], gives: [0])
    checkShapes("Size", [[2, 3, 4]], gives: [])
    checkShapes("ConstantOfShape", [.ints([2, 0])], gives: [2, 0])
    checkShapes("ConstantOfShape", [.ints([])], gives: [])
    refuse("ConstantOfShape", [.ints([-1])])
    refuse("ConstantOfShape", [.ints([1 << 31, 1 << 31])])
    checkShapes("Range", [.scalar(1), .scalar(8), .scalar(3)], gives: [3])
    checkShapes("Range", [.scalar(8), .scalar(1), .scalar(-3)], gives: [3])
    checkShapes("Range", [.scalar(8), .scalar(1), .scalar(3)], gives: [0])
    checkShapes("Range", [.floats([0]), .floats([1]), .floats([0.3])], gives: [4])
    refuse("Range", [.scalar(1), .scalar(8), .scalar(0)])
    refuse("Range", [.scalar(.min), .scalar(.max), .scalar(1)])
    refuse("Range", [.floats([0]), .floats([.infinity]), .floats([1])])
    checkShapes("OneHot", [[2, 3], .scalar(10), [2]], gives: [2, 3, 10])
    checkShapes("OneHot", [[2, 3], .scalar(10), [2]], ["axis": 0], gives: [10, 2, 3])
    refuse("OneHot", [[2, 3], .scalar(-10), [2]])
    checkShapes("RandomNormal", [], ["shape": [3, 4]], gives: [3, 4])
    checkShapes("EyeLike", [[3, 4]], gives: [3, 4])
    checkShapes("Multinomial", [[3, 4]], ["sample_size": 7], gives: [3, 7])
    checkShapes("AffineGrid", [[2, 2, 3], .ints([2, 5, 6, 7])], gives: [2, 6, 7, 2])
  }

  @Test func resampling() {
    checkShapes("Upsample", [[1, 3, 5, 5], .floats([1, 1, 2, 2.5])], opset: 9, gives: [1, 3, 10, 12])
    checkShapes("Resize", [[1, 3, 5, 5], .floats([1, 1, 2, 0.5])], opset: 10, gives: [1, 3, 10, 2])
    checkShapes("Resize", [[1, 3, 5, 5], nil, .floats([1, 1, 2, 2])], opset: 11, gives: [1, 3, 10, 10])
    checkShapes(
      "Resize", [[1, 3, 5, 5], .floats([]), .floats([]), .ints([1, 3, 8, 9])], opset: 11, gives: [1, 3, 8, 9])
    checkShapes("Resize", [[1, 3, 5, 5], nil, .floats([2, 3])], ["axes": [2, 3]], gives: [1, 3, 10, 15])
    checkShapes(
      "Resize", [[1, 3, 4, 8], nil, nil, .ints([8, 8])], ["axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"],
      gives: [1, 3, 4, 8])
    checkShapes(
      "Resize", [[1, 3, 4, 8], nil, nil, .ints([8, 8])], ["axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"],
      gives: [1, 3, 8, 16])
    checkShapes("Resize", [[1, 3, 5, 5], nil, [4]], gives: nil)
    refuse("Resize", [[1, 3, 5, 5], nil, .floats([2, 2])])
    refuse("Resize", [[1, 3, 5, 5], nil, .floats([1, 1, .nan, 2])])
    refuse("Resize", [[1, 3, 5, 5], nil, .floats([1, 1, -1, 2])])
    refuse("Resize", [[1, 3, 5, 5], nil, .floats([1, 1, 3e38, 2])])
    refuse("Resize", [[1, 3, 5, 5], nil, nil, .ints([1, 3, -8, 9])])
    checkShapes("GridSample", [[2, 3, 5, 5], [2, 7, 8, 2]], gives: [2, 3, 7, 8])
    checkShapes("RoiAlign", [[2, 3, 5, 5], [9, 4], [9]], ["output_height": 7], gives: [9, 3, 7, 1])
  }

  @Test func quantizationAndRecurrence() {
    checkShapes("DequantizeLinear", [[4, 5], []], gives: [4, 5])
    checkShapes("DynamicQuantizeLinear", [[4, 5]], gives: [4, 5], [], [])
    checkShapes("LSTM", [[7, 2, 5], [2, 12, 5], [2, 12, 3]], gives: [7, 2, 2, 3], [2, 2, 3], [2, 2, 3])
    checkShapes("GRU", [[2, 7, 5], [1, 9, 5], [1, 9, 3]], ["layout": 1], gives: [2, 7, 1, 3], [2, 1, 3])
    refuse("RNN", [[7, 2, 5], [1, 3, 4], [1, 3, 3]], outputs: 2)
    refuse("RNN", [[7, 2, 5], [1, 3, 5], [1, 3, 3], nil, nil, [1, 7, 3]], outputs: 2)
    refuse("RNN", [[7, 2], [1, 3, 4], [1, 3, 3]], outputs: 2)
  }

  @Test func attention() {
    checkShapes(
      "Attention", [[2, 6, 4, 8], [2, 3, 5, 8], [2, 3, 5, 7]], opset: 23,
      gives: [2, 6, 4, 7], [2, 3, 5, 8], [2, 3, 5, 7], [2, 6, 4, 5])
    checkShapes(
      "Attention", [[2, 4, 48], [2, 5, 24], [2, 5, 21], nil, [2, 3, 9, 8], [2, 3, 9, 7]],
      ["q_num_heads": 6, "kv_num_heads": 3], opset: 23,
      gives: [2, 4, 42], [2, 3, 14, 8], [2, 3, 14, 7], [2, 6, 4, 14])
    refuse("Attention", [[2, 6, 4, 8], [2, 4, 5, 8], [2, 4, 5, 8]])
    refuse("Attention", [[2, 4, 48], [2, 5, 24], [2, 5, 21]])
  }
}
