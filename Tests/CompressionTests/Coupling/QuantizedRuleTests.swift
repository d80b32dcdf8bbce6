import Compression
import ModelGraph
import TestSupport
import Testing

// Quantized layers and what ONNX Runtime fuses, alone between the layers around them: more cases of the operator rules.

private let microsoft = "com.microsoft"

extension GraphBuilder {
  fileprivate func integers(_ shape: [Int], _ dtype: DType = .int8, name: String? = nil) -> ValueID {
    let count = shape.reduce(dtype.byteWidth ?? 1, *)
    return stored(
      Tensor(dtype: dtype, shape: shape, bytes: TensorBytes(copying: [UInt8](repeating: 1, count: count))), name: name)
  }
  /// Scale and zero point of an activation.
  fileprivate var form: [ValueID?] { [floats([0.1], shape: []), integers([])] }
  fileprivate func fused(
    _ op: String, _ inputs: [ValueID?], _ attributes: [String: Attribute] = [:]
  ) -> ValueID { node(op, inputs, attributes, domain: microsoft)[0] }
}

let quantized: [OperatorCase] =
  ["", "com.microsoft."].flatMap { domain in
    ["QuantizeLinear", "DequantizeLinear"].flatMap { op in
      [
        between(domain + op, "by one scale") { g, x in
          g.node(op, [x] + g.form, domain: domain.isEmpty ? "" : microsoft)[0]
        },
        between(domain + op, "by a scale per channel", ["8: w.0 s.0 z.0 v.1"]) { g, x in
          g.node(
            op, [x, g.weight([8], name: "s"), g.integers([8], name: "z")], ["axis": 1],
            domain: domain.isEmpty ? "" : microsoft)[0]
        },
        between(domain + op, "in blocks", []) { g, x in
          g.node(
            op, [x, g.weight([1, 4, 4, 4], name: "s")], ["axis": 1, "block_size": 2],
            domain: domain.isEmpty ? "" : microsoft)[0]
        },
      ]
    }
  } + [
    between("DynamicQuantizeLinear", exactly: []) { g, x in
      let parts = g.node("DynamicQuantizeLinear", [x], outputs: 3)
      return g("DequantizeLinear", parts[0], parts[1], parts[2])
    },
    between("ConvInteger", "", ["8: w.0 q.1", "6: q.0 z.0 v.1"], channels: 6) { g, x in
      g("ConvInteger", x, g.integers([6, 8, 1, 1], name: "q"), g.integers([]), g.integers([6], name: "z"))
    },
    between("QLinearConv", "", ["8: w.0 q.1", "6: q.0 s.0 z.0 b.0 v.1"], channels: 6) { g, x in
      g.node(
        "QLinearConv",
        [x] + g.form + [g.integers([6, 8, 1, 1], name: "q"), g.weight([6], name: "s"), g.integers([6], name: "z")]
          + g.form + [g.integers([6], .int32, name: "b")])[0]
    },
    between("QLinearConv", "in groups", ["2x4: w.0 q.1", "2x3: q.0 v.1"], channels: 6) { g, x in
      g.node("QLinearConv", [x] + g.form + [g.integers([6, 4, 1, 1], name: "q")] + g.form + g.form, ["group": 2])[0]
    },
    between("com.microsoft.QLinearSigmoid") { g, x in g.fused("QLinearSigmoid", [x] + g.form + g.form) },
    between("com.microsoft.QLinearLeakyRelu") { g, x in g.fused("QLinearLeakyRelu", [x] + g.form + g.form) },
    between("com.microsoft.QLinearSoftmax", "over space") { g, x in
      g.fused("QLinearSoftmax", [x] + g.form + g.form, ["axis": 3, "opset": 13])
    },
    between("com.microsoft.QLinearSoftmax", "over all axes from 1 on", []) { g, x in
      g.fused("QLinearSoftmax", [x] + g.form + g.form, ["axis": 1, "opset": 11])
    },
    between("com.microsoft.QLinearAdd", "", ["8: w.0 c.0 v.1"]) { g, x in
      g.fused("QLinearAdd", [x] + g.form + [g.integers([8, 1, 1], name: "c")] + g.form + g.form)
    },
    between("com.microsoft.QLinearMul", "", ["8: w.0 c.0 v.1"]) { g, x in
      g.fused("QLinearMul", [x] + g.form + [g.integers([8, 1, 1], name: "c")] + g.form + g.form)
    },
    between("com.microsoft.QLinearWhere", "", ["8: w.0 c.0 v.1"]) { g, x in
      let condition = g("Greater", x, g.floats([0], shape: []))
      return g.fused("QLinearWhere", [condition, x] + g.form + [g.integers([8, 1, 1], name: "c")] + g.form + g.form)
    },
    between("com.microsoft.QLinearConcat", "of a value with itself", ["8: w.0 v.1*2"], channels: 16) { g, x in
      g.fused("QLinearConcat", g.form + [x] + g.form + [x] + g.form, ["axis": 1])
    },
    between("com.microsoft.QLinearGlobalAveragePool") { g, x in
      g.fused("QLinearGlobalAveragePool", [x] + g.form + g.form)
    },
    between("com.microsoft.QLinearAveragePool") { g, x in
      g.fused("QLinearAveragePool", [x] + g.form + g.form, ["kernel_shape": [2, 2]])
    },
  ]

/// A matrix (6, 8) through one layer `w`, an operator, and a layer `v`.
private func overRows(
  _ op: String, _ what: String = "", _ expected: [String], exactly: [String]? = nil, channels: Int = 4,
  _ body: @escaping @Sendable (GraphBuilder, ValueID) -> ValueID
) -> OperatorCase {
  OperatorCase(op, what, expected, exactly: exactly) {
    let g = GraphBuilder()
    let x = g("MatMul", g.input("x", [6, 3]), g.weight([3, 8], name: "w"))
    g.output(g("MatMul", body(g, x), g.weight([channels, 5], name: "v")))
    return g.build()
  }
}

let fused: [OperatorCase] = [
  overRows("QLinearMatMul", "", ["8: w.1 q.0", "4: q.1 s.0 z.0 v.0"]) { g, x in
    g.node(
      "QLinearMatMul",
      [x] + g.form + [g.integers([8, 4], name: "q"), g.weight([4], name: "s"), g.integers([4], name: "z")] + g.form)[0]
  },
  overRows("MatMulInteger", "", ["8: w.1 q.0", "4: q.1 z.0 v.0"]) { g, x in
    g("MatMulInteger", x, g.integers([8, 4], name: "q"), g.integers([]), g.integers([4], name: "z"))
  },
  overRows("com.microsoft.QGemm", "", ["8: w.1 q.1", "4: q.0 s.0 z.0 b.0 v.0"]) { g, x in
    g.fused(
      "QGemm",
      [x] + g.form + [g.integers([4, 8], name: "q"), g.weight([4], name: "s"), g.integers([4], name: "z")]
        + [g.integers([4], .int32, name: "b")], ["transB": 1])
  },
  overRows("com.microsoft.MatMulIntegerToFloat", "", ["8: w.1 q.0", "4: q.1 s.0 b.0 v.0"]) { g, x in
    let inputs = [x, g.integers([8, 4], name: "q"), g.floats([1], shape: []), g.weight([4], name: "s"), nil, nil]
    return g.fused("MatMulIntegerToFloat", inputs + [g.weight([4], name: "b")])
  },
  overRows(
    "com.microsoft.DynamicQuantizeMatMul", "", ["8: w.1 q.0", "4: q.1 s.0 b.0 v.0"], exactly: ["4: q.1 s.0 b.0 v.0"]
  ) { g, x in
    let inputs = [x, g.integers([8, 4], name: "q"), g.weight([4], name: "s"), nil]
    return g.fused("DynamicQuantizeMatMul", inputs + [g.weight([4], name: "b")])
  },
  overRows("com.microsoft.FusedGemm", "", ["8: w.1 q.1", "4: q.0 b.0 v.0"]) { g, x in
    g.fused("FusedGemm", [x, g.weight([4, 8], name: "q"), g.weight([4], name: "b")], ["transB": 1])
  },
  overRows("com.microsoft.FusedMatMul", "", ["8: w.1 q.1", "4: q.0 v.0"]) { g, x in
    g.fused("FusedMatMul", [x, g.weight([4, 8], name: "q")], ["transB": 1])
  },
  overRows("com.microsoft.FusedMatMul", "of transposed batches", []) { g, x in
    g.node("FusedMatMul", [x, g.weight([8, 4], name: "q")], ["transBatchA": 1], domain: microsoft, declared: [6, 4])[0]
  },
  between("com.microsoft.FusedConv", "", ["8: w.0 q.1", "6: q.0 b.0 c.0 v.1"], channels: 6) { g, x in
    g.fused(
      "FusedConv", [x, g.weight([6, 8, 1, 1], name: "q"), g.weight([6], name: "b"), g.weight([6, 1, 1], name: "c")])
  },
  overRows("com.microsoft.Gelu", "", ["8: w.1 v.0"], channels: 8) { g, x in g.fused("Gelu", [x]) },
  overRows("com.microsoft.QuickGelu", "", ["8: w.1 v.0"], channels: 8) { g, x in g.fused("QuickGelu", [x]) },
  overRows("com.microsoft.FastGelu", "", ["8: w.1 b.0 v.0"], channels: 8) { g, x in
    g.fused("FastGelu", [x, g.weight([8], name: "b")])
  },
  overRows("com.microsoft.BiasGelu", "", ["8: w.1 b.0 v.0"], channels: 8) { g, x in
    g.fused("BiasGelu", [x, g.weight([8], name: "b")])
  },
  overRows("com.microsoft.BiasAdd", "", ["8: w.1 b.0 c.1 v.0"], channels: 8) { g, x in
    g.fused("BiasAdd", [x, g.weight([8], name: "b"), g.weight([6, 8], name: "c")])
  },
  overRows("com.microsoft.BiasSplitGelu", "", ["4: w.1*2 b.0*2 v.0"]) { g, x in
    g.fused("BiasSplitGelu", [x, g.weight([8], name: "b")])
  },
]

@Suite("Layers behind computed weights") struct ComputedWeightTests {
  /// Of the layers in `graph`: name of the parameter, channels, and whether they can be pruned.
  private func layers(_ graph: Graph) throws -> [String] {
    try CompressibleModel(graph: graph, sizeBytes: 0).inspect(work: Work()).layers.map { layer in
      "\(layer.op) \(layer.parameter) \(layer.channels)" + (layer.reason == nil ? "" : " kept")
    }
  }

  @Test(
    "A transposed, a scaled, a normalized and a quantized weight",
    arguments: [
      "Transpose", "Mul", "weight norm", "DequantizeLinear",
    ])
  func computed(_ how: String) throws {
    let graph = betweenConvolutions { g, x in
      let weight: ValueID
      switch how {
      case "Transpose": weight = g("Transpose", g.weight([8, 6, 1, 1], name: "c"), with: ["perm": [1, 0, 2, 3]])
      case "Mul": weight = g("Mul", g.weight([6, 8, 1, 1], name: "c"), g.floats([0.1], shape: []))
      case "weight norm":
        let v = g.weight([6, 8, 1, 1], name: "c")
        let norm = g("ReduceL2", v, with: ["axes": [1, 2, 3]])
        weight = g("Mul", g("Div", v, norm), g.weight([6, 1, 1, 1], name: "g"))
      default:
        weight = g(
          "DequantizeLinear", g.integers([6, 8, 1, 1], name: "c"), g.weight([6], name: "s"), with: ["axis": 0])
      }
      return g.conv(g("Conv", x, weight), 6, 8, "u")
    }
    #expect(
      try layers(graph) == ["Conv w [3, 8]", "Conv c [8, 6]", "Conv u [6, 8]", "Conv v [8, 5] kept"])
  }

  @Test("A weight made by an operator without a rule is a layer that cannot be pruned, and says why")
  func withoutRule() throws {
    let graph = betweenConvolutions { g, x in
      g("Conv", x, g("Det", g.weight([8, 8, 1, 1, 2, 2], name: "c")))
    }
    let layer = try #require(
      try CompressibleModel(graph: graph, sizeBytes: 0).inspect(work: Work()).layers.first { $0.parameter == "c" })
    #expect(layer.reason?.contains("Det") == true)
  }

  @Test("Einsum and recurrent layers have a weight, channels and a group")
  func sequences() throws {
    let g = GraphBuilder()
    let x = g("MatMul", g.input("x", [6, 2, 3]), g.weight([3, 8], name: "a"))
    let y = g.node("Einsum", [g.weight([4, 8], name: "b"), x], ["equation": .string("oc,tbc->tbo")])[0]
    let inputs = [y, g.weight([1, 16, 4], name: "w"), g.weight([1, 16, 4], name: "r")]
    let z = g("Squeeze", g.node("LSTM", inputs, ["hidden_size": 4])[0], g.ints([1]))
    g.output(g("MatMul", z, g.weight([4, 5], name: "c")))
    #expect(try layers(g.build()) == ["MatMul a [3, 8]", "Einsum b [8, 4]", "LSTM w [4, 4]", "MatMul c [4, 5] kept"])
  }

  @Test("Integer weights are ranked by what they mean: integer times scale")
  func scores() throws {
    // Equal integers, so that the scales alone decide; the zero point makes the first filter nothing at all.
    let g = GraphBuilder()
    let integers = g.stored(
      Tensor(dtype: .int8, shape: [4, 3, 1, 1], bytes: TensorBytes(copying: [Int8](repeating: 5, count: 12))), name: "q"
    )
    let zeros = g.stored(Tensor(dtype: .int8, shape: [4], bytes: TensorBytes(copying: [5, 0, 0, 0] as [Int8])))
    let weight = g("DequantizeLinear", integers, g.floats([9, 0.5, 0.1, 0.3]), zeros, with: ["axis": 0])
    let x = g("Conv", g.input("x", [1, 3, 4, 4]), weight)
    g.output(g.conv(x, 4, 5, "v"))
    let model = try CompressibleModel(graph: g.build(), sizeBytes: 0)
    var options = PruningOptions()
    (options.stepSize, options.minNumOfValue) = (1, 1)
    let plan = try model.plan(
      CompressionRequest(method: .l2, choice: .recommended(.slamp, .ratio(0.5)), options: options), work: Work())
    let removed = try #require(plan.removed.first { $0.parameter == "q" && $0.axis == 0 })
    #expect(removed.indices == .all([0, 2]))
  }
}
