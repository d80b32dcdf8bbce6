import Compression
import ModelGraph
import TestSupport
import Testing

// Every operator that has a channel rule, alone between two layers: which slices go together, and what stays.

/// One operator in a small graph, and the groups that must come out.
struct OperatorCase: Sendable, CustomStringConvertible {
  let op: String
  let what: String
  let expected: [String]
  /// What is left when only exact removals are allowed.
  let exactly: [String]
  let build: @Sendable () -> Graph
  var description: String { "\(op) \(what)" }

  init(
    _ op: String, _ what: String = "", _ expected: [String], exactly: [String]? = nil,
    _ build: @escaping @Sendable () -> Graph
  ) {
    (self.op, self.what, self.expected, self.build) = (op, what, expected, build)
    self.exactly = exactly ?? expected
  }
}

/// The channels of w run on into v, untouched.
private let passes = ["8: w.0 v.1"]

func between(
  _ op: String, _ what: String = "", _ expected: [String] = ["8: w.0 v.1"], exactly: [String]? = nil, opset: Int = 17,
  channels: Int = 8, _ body: @escaping @Sendable (GraphBuilder, ValueID) -> ValueID
) -> OperatorCase {
  OperatorCase(op, what, expected, exactly: exactly) { betweenConvolutions(opset: opset, channels: channels, body) }
}

private let unary: [OperatorCase] = [
  "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "Tanh", "Softplus", "Softsign", "HardSigmoid", "HardSwish",
  "Mish", "Gelu", "Swish", "Erf", "Exp", "Log", "Sqrt", "Reciprocal", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round",
  "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "ThresholdedRelu", "Shrink",
  "IsNaN", "IsInf", "Not", "BitwiseNot", "Identity",
].map { op in between(op, opset: 24) { g, x in g(op, x) } }

private let perChannel: [OperatorCase] = [
  "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Mod", "PRelu", "Equal", "Greater", "GreaterOrEqual",
  "Less", "LessOrEqual", "And", "Or", "Xor", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor",
].map { op in
  between(op, "with a constant per channel", ["8: w.0 c.0 v.1"], opset: 18) { g, x in
    g(op, x, g.weight([8, 1, 1], name: "c"), with: op == "BitShift" ? ["direction": "LEFT"] : [:])
  }
}

private let elementwise: [OperatorCase] = [
  between("Cast") { g, x in g("Cast", x, with: ["to": 1]) },
  between("CastLike") { g, x in g("CastLike", x, g.floats([0], shape: [])) },
  between("CastLike", "as what a type is taken from") { g, x in
    g("Mul", x, g("CastLike", g.floats([0.5], shape: []), x))
  },
  between("Dropout") { g, x in g("Dropout", x, g.floats([0.5], shape: [])) },
  between("Clip") { g, x in g("Clip", x, g.floats([0], shape: []), g.floats([6], shape: [])) },
  between("Where", "", ["8: w.0 c.0 d.0 v.1"]) { g, x in
    g("Where", g("Greater", x, g.weight([8, 1, 1], name: "c")), x, g.weight([8, 1, 1], name: "d"))
  },
  between("Where", "with a stored mask of every channel", []) { g, x in
    let mask = Tensor(dtype: .bool, shape: [8, 1, 1], bytes: TensorBytes(copying: [UInt8](repeating: 1, count: 8)))
    return g("Where", g.stored(mask), x, g.floats([0], shape: []))
  },
  between("Add", "with a number for all", passes) { g, x in g("Add", x, g.floats([1], shape: [1])) },
  between("Add", "with a table over space", passes) { g, x in g("Add", x, g.weight([4, 4], name: "c")) },
]

private let layers: [OperatorCase] = [
  between("Conv") { _, x in x },
  OperatorCase("Conv", "with bias", ["8: w.0 b.0 v.1"]) {
    let g = GraphBuilder()
    let x = g.input("x", [1, 3, 4, 4])
    let h = g("Conv", x, g.weight([8, 3, 3, 3], name: "w"), g.weight([8], name: "b"))
    g.output(g.conv(h, 8, 5, "v"))
    return g.build()
  },
  OperatorCase("Conv", "in one dimension", passes) {
    let g = GraphBuilder()
    let h = g("Conv", g.input("x", [1, 3, 9]), g.weight([8, 3, 3], name: "w"))
    g.output(g("Conv", h, g.weight([5, 8, 3], name: "v")))
    return g.build()
  },
  between("ConvTranspose", "", ["8: w.0 t.0", "6: t.1 v.1"], channels: 6) { g, x in
    g("ConvTranspose", x, g.weight([8, 6, 2, 2], name: "t"), with: ["strides": [2, 2]])
  },
  OperatorCase("Gemm", "", ["8: w.1 b.0 v.0"]) {
    let g = GraphBuilder()
    let h = g("Gemm", g.input("x", [2, 3]), g.weight([3, 8], name: "w"), g.weight([8], name: "b"))
    g.output(g("Gemm", h, g.weight([8, 5], name: "v")))
    return g.build()
  },
  OperatorCase("Gemm", "transposed", ["8: w.0 b.1 v.1"]) {
    let g = GraphBuilder()
    let x = g.input("x", [3, 2])
    let h = g(
      "Gemm", x, g.weight([8, 3], name: "w"), g.weight([1, 8], name: "b"), with: ["transA": 1, "transB": 1])
    g.output(g("Gemm", h, g.weight([5, 8], name: "v"), with: ["transB": 1]))
    return g.build()
  },
  OperatorCase("MatMul", "", ["8: w.1 v.0"]) {
    let g = GraphBuilder()
    let h = g("MatMul", g.input("x", [2, 7, 3]), g.weight([3, 8], name: "w"))
    g.output(g("MatMul", h, g.weight([8, 5], name: "v")))
    return g.build()
  },
  OperatorCase("MatMul", "by a vector", ["8: w.1 v.0"]) {
    let g = GraphBuilder()
    let h = g("MatMul", g.input("x", [7, 3]), g.weight([3, 8], name: "w"))
    g.output(g("MatMul", h, g.weight([8], name: "v")))
    return g.build()
  },
]

private let normalizations: [OperatorCase] = [
  between("BatchNormalization", "", ["8: w.0 s.0 b.0 m.0 r.0 v.1"]) { g, x in
    g(
      "BatchNormalization", x, g.weight([8], name: "s"), g.weight([8], name: "b"), g.weight([8], name: "m"),
      g.weight([8], name: "r"))
  },
  between("BatchNormalization", "in training", ["8: w.0 s.0 b.0 m.0 r.0 v.1"]) { g, x in
    g.node(
      "BatchNormalization",
      [x, g.weight([8], name: "s"), g.weight([8], name: "b"), g.weight([8], name: "m"), g.weight([8], name: "r")],
      ["training_mode": 1], outputs: 3)[0]
  },
  between("InstanceNormalization", "", ["8: w.0 s.0 b.0 v.1"]) { g, x in
    g("InstanceNormalization", x, g.weight([8], name: "s"), g.weight([8], name: "b"))
  },
  between("LRN", "across channels", exactly: []) { g, x in g("LRN", x, with: ["size": 3]) },
  between("LpNormalization", "along the width") { g, x in g("LpNormalization", x) },
  between("LpNormalization", "across channels", exactly: []) { g, x in g("LpNormalization", x, with: ["axis": 1]) },
]

private let pooling: [OperatorCase] =
  ["MaxPool", "AveragePool", "LpPool"].map { op in
    between(op) { g, x in g(op, x, with: ["kernel_shape": [2, 2]]) }
  }
  + ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"].map { op in between(op) { g, x in g(op, x) } } + [
    between("MaxPool", "whose positions nobody reads") { g, x in
      g.node("MaxPool", [x], ["kernel_shape": [2, 2]], outputs: 2)[0]
    },
    between("MaxPool", "whose positions are read", []) { g, x in
      let outputs = g.node("MaxPool", [x], ["kernel_shape": [2, 2]], outputs: 2)
      return g("Add", outputs[0], g("Cast", outputs[1], with: ["to": 1]))
    },
    between("Resize", "twice as large") { g, x in g("Resize", x, nil, g.floats([1, 1, 2, 2], name: "scales")) },
    between("Resize", "of the channel axis", [], channels: 16) { g, x in
      g("Resize", x, nil, g.floats([1, 2, 1, 1], name: "scales"))
    },
    between("Upsample", "twice as large", opset: 9) { g, x in
      g("Upsample", x, g.floats([1, 1, 2, 2], name: "scales"))
    },
  ]

private let reductions: [OperatorCase] =
  [
    "ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceMax", "ReduceMin", "ReduceProd",
    "ReduceLogSum", "ReduceLogSumExp",
  ].flatMap { op in
    [
      between(op, "over space", opset: 18) { g, x in g(op, x, g.ints([2, -1])) },
      between(op, "over channels", ["8: w.0"], exactly: [], opset: 18, channels: 1) { g, x in g(op, x, g.ints([1])) },
    ]
  }
  + ["Softmax", "LogSoftmax", "Hardmax"].flatMap { op in
    [
      between(op, "along the width") { g, x in g(op, x, with: ["axis": -1]) },
      between(op, "over channels", []) { g, x in g(op, x, with: ["axis": 1]) },
      between(op, "over all axes from 1 on, before opset 13", [], opset: 12) { g, x in g(op, x) },
      between(op, "over all axes from 2 on, before opset 13", opset: 12) { g, x in g(op, x, with: ["axis": 2]) },
    ]
  }
  + ["ArgMax", "ArgMin"].flatMap { op in
    [
      between(op, "along the width") { g, x in g(op, x, with: ["axis": 3]) },
      between(op, "over channels", [], channels: 1) { g, x in g(op, x, with: ["axis": 1]) },
    ]
  } + [
    // Only pieces of a unit meet in the result, so it is exact with larger units.
    between("ReduceMax", "over halves of the channels", ["4: w.0*2 v.1"], opset: 18, channels: 4) { g, x in
      g("ReduceMax", g("Reshape", x, g.ints([1, 2, 4, 4, 4])), g.ints([1]), with: ["keepdims": 0])
    },
    between("ReduceSum", "over halves of the channels", ["4: w.0*2 v.1"], opset: 18, channels: 4) { g, x in
      g("ReduceSum", g("Reshape", x, g.ints([1, 2, 4, 4, 4])), g.ints([1]), with: ["keepdims": 0])
    },
  ]

private let reshaping: [OperatorCase] = [
  between("Reshape", "of space") { g, x in g("Reshape", x, g.ints([1, 8, 2, 8])) },
  between("Reshape", "that reads memory in another rhythm", ["1: w.0*8 v.1*3"], channels: 3) { g, x in
    // 8 channels of 6 x 3 positions as 3 of 6 x 8: each new one holds parts of its neighbour's.
    let padded = g("Pad", x, g.ints([0, 0, 0, 0, 0, 0, 2, -1]))
    return g("Reshape", padded, g.ints([1, 3, 6, 8]))
  },
  OperatorCase("Flatten", "into a Gemm", ["8: w.0 v.0*16"]) {
    let g = GraphBuilder()
    let h = g("Flatten", g.conv(g.input("x", [1, 3, 4, 4]), 3, 8, "w"))
    g.output(g("Gemm", h, g.weight([128, 5], name: "v")))
    return g.build()
  },
  between("Squeeze") { g, x in g("Squeeze", g("Unsqueeze", x, g.ints([0])), g.ints([0])) },
  between("Unsqueeze") { g, x in g("Squeeze", g("Unsqueeze", x, g.ints([2])), g.ints([2])) },
  OperatorCase("Transpose", "channels last", ["8: w.0 v.0"]) {
    let g = GraphBuilder()
    let h = g("Transpose", g.conv(g.input("x", [1, 3, 4, 4]), 3, 8, "w"), with: ["perm": [0, 2, 3, 1]])
    g.output(g("MatMul", h, g.weight([8, 5], name: "v")))
    return g.build()
  },
  between("DepthToSpace", "DCR", ["2: w.0*4 v.1"], channels: 2) { g, x in
    g("DepthToSpace", x, with: ["blocksize": 2])
  },
  between("DepthToSpace", "CRD", ["2: w.0*4 v.1"], channels: 2) { g, x in
    g("DepthToSpace", x, with: ["blocksize": 2, "mode": "CRD"])
  },
  between("SpaceToDepth", "", ["8: w.0 v.1*4"], channels: 32) { g, x in g("SpaceToDepth", x, with: ["blocksize": 2]) },
]

private let movement: [OperatorCase] = [
  between("Concat", "of a value with itself", ["8: w.0 v.1*2"], channels: 16) { g, x in
    g("Concat", x, g("Relu", x), with: ["axis": 1])
  },
  between("Split", "whose halves are added", ["4: w.0*2 v.1"], channels: 4) { g, x in
    let halves = g.node("Split", [x], ["axis": 1], outputs: 2)
    return g("Add", halves[0], halves[1])
  },
  between("Slice", "of half the channels", ["4: w.0 v.1", "4: w.0"], channels: 4) { g, x in
    g("Slice", x, g.ints([0]), g.ints([4]), g.ints([1]))
  },
  between("Slice", "of space", passes) { g, x in g("Slice", x, g.ints([1]), g.ints([Int64.max]), g.ints([-1])) },
  between("Gather", "of listed channels", ["4: w.0 v.1", "4: w.0"], channels: 4) { g, x in
    g("Gather", x, g.ints([0, 2, 4, -1]), with: ["axis": 1])
  },
  between("Gather", "of positions that are data", [], channels: 4) { g, x in
    let position = g("Cast", g("ReduceMax", g.ints([3, 2, 1, 0]), with: ["keepdims": 1]), with: ["to": 7])
    return g("Gather", x, g("Concat", position, position, position, position, with: ["axis": 0]), with: ["axis": 1])
  },
  between("Pad", "of space") { g, x in g("Pad", x, g.ints([0, 0, 1, 1, 0, 0, 1, 1])) },
  between("Pad", "of channels", ["8: w.0 v.1", "2: v.1"], channels: 10) { g, x in
    g("Pad", x, g.ints([0, 1, 0, 0, 0, 1, 0, 0]))
  },
  between("Pad", "of channels by reflection", [], channels: 10) { g, x in
    g("Pad", x, g.ints([0, 1, 0, 0, 0, 1, 0, 0]), with: ["mode": "reflect"])
  },
  between("Expand", "of space") { g, x in g("Expand", g("GlobalAveragePool", x), g.ints([1, 8, 4, 4])) },
  between("Shape") { g, x in g("Reshape", x, g("Shape", x)) },
  between("Size") { g, x in g("Div", x, g("Cast", g("Size", x), with: ["to": 1])) },
  between("ConstantOfShape", "as long as the channels") { g, x in
    g("Add", x, g("ConstantOfShape", g("Shape", x)))
  },
  between("Expand", "to the channels, beside them", exactly: []) { g, x in
    g("Div", x, g("Expand", g("ReduceL2", x, with: ["axes": [1]]), g("Shape", x)))
  },
  between("ConstantOfShape", "of the channels, that is reshaped") { g, x in
    g("Add", x, g("Reshape", g("ConstantOfShape", g("Shape", x)), g("Shape", x)))
  },
]

private let allCases =
  unary + perChannel + elementwise + layers + normalizations + layerNormalizations + attentions + pooling + reductions
  + reshaping + movement + contractions + recurrences + indexing + sampling + quantized + fused

@Suite("Operator rules") struct OperatorRuleTests {
  @Test("What goes together", arguments: allCases)
  func groups(_ subject: OperatorCase) throws {
    let reading = try CouplingReading(subject.build())
    #expect(reading.groups == subject.expected)
    let exact = try CouplingReading(subject.build(), exactOnly: true).groups
    #expect(exact == subject.exactly)
    // The model's own inputs and outputs keep their channels whatever lies between.
    let usesMatrices = reading.model.graph.nodes.contains { ["Gemm", "MatMul"].contains($0.op) }
    #expect(reading.reason("w", 1)?.kind != nil || usesMatrices)
    #expect(reading.model.graph.nodes.contains { $0.qualifiedOperator == subject.op })
  }

  @Test("No operator has a rule without a case here")
  func coverage() {
    #expect(Set(RuleTable.operators).subtracting(allCases.map(\.op)) == [])
    #expect(Set(allCases.map(\.op)).subtracting(RuleTable.operators) == [])
  }

  @Test("An operator without a rule stops channels, and is named")
  func barrier() throws {
    let graph = betweenConvolutions { g, x in g("Bernoulli", x) }
    let reading = try CouplingReading(graph)
    #expect(reading.groups == [])
    let reason = try #require(reading.reason("w", 0))
    #expect(reason.kind == .noRule)
    #expect(reason.sentence(in: graph).contains("Bernoulli"))
  }
}
