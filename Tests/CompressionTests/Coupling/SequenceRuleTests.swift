import ModelGraph
import TestSupport

// Einsum, recurrence, indexing and sampling, alone between the layers around them: more cases of the operator rules.

/// Tokens (2, 6, 8) through one layer `w`, an operator, and a layer `v`.
private func overTokens(
  _ op: String, _ what: String = "", _ expected: [String] = ["8: w.1 v.0"], exactly: [String]? = nil, opset: Int = 17,
  channels: Int = 8, _ body: @escaping @Sendable (GraphBuilder, ValueID) -> ValueID
) -> OperatorCase {
  OperatorCase(op, what, expected, exactly: exactly) {
    let g = GraphBuilder(opset: opset)
    let x = g("MatMul", g.input("x", [2, 6, 3]), g.weight([3, 8], name: "w"))
    g.output(g("MatMul", body(g, x), g.weight([channels, 5], name: "v")))
    return g.build()
  }
}

private func einsum(_ g: GraphBuilder, _ equation: String, _ operands: ValueID...) -> ValueID {
  g.node("Einsum", operands, ["equation": .string(equation)])[0]
}

let contractions: [OperatorCase] = [
  overTokens("Einsum", "as a layer", ["8: w.1 e.1", "4: e.0 v.0"], channels: 4) { g, x in
    einsum(g, "bnc,oc->bno", x, g.weight([4, 8], name: "e"))
  },
  overTokens("Einsum", "under an ellipsis", ["8: w.1 e.0", "4: e.1 v.0"], channels: 4) { g, x in
    einsum(g, "...c,co->...o", x, g.weight([8, 4], name: "e"))
  },
  overTokens("Einsum", "whose ellipsis is longer on one side", ["8: w.1 e.0 v.0"]) { g, x in
    einsum(g, "...c,...c->...c", x, g.weight([8], name: "e"))
  },
  overTokens("Einsum", "without an arrow", ["8: w.1 e.0", "4: e.1 v.0"], channels: 4) { g, x in
    einsum(g, "xyk, kz", x, g.weight([8, 4], name: "e"))
  },
  overTokens("Einsum", "to heads, which stay while their widths may go", ["8: w.1 e.0", "3: e.2 v.0*2"], channels: 6) {
    g, x in
    g("Reshape", einsum(g, "bnc,chk->bnhk", x, g.weight([8, 2, 3], name: "e")), g.ints([2, 6, 6]))
  },
  overTokens("Einsum", "that transposes") { g, x in g("Transpose", einsum(g, "abc->cab", x), with: ["perm": [1, 2, 0]])
  },
  overTokens("Einsum", "that sums channels", ["8: w.1"], exactly: [], channels: 6) { g, x in einsum(g, "bnc->bn", x) },
  overTokens("Einsum", "of a diagonal", [], channels: 8) { g, x in
    let square = g("Reshape", g("Slice", x, g.ints([0]), g.ints([4]), g.ints([1])), g.ints([8, 8]))
    return g("Reshape", einsum(g, "ii->i", square), g.ints([1, 8]))
  },
  OperatorCase("Einsum", "of two activations", ["8: w.1 u.1"]) {
    let g = GraphBuilder()
    let x = g.input("x", [2, 6, 3])
    let (q, k) = (g("MatMul", x, g.weight([3, 8], name: "w")), g("MatMul", x, g.weight([3, 8], name: "u")))
    g.output(einsum(g, "bqd,bkd->bqk", q, k))
    return g.build()
  },
]

/// (6, 2, 8) steps through a layer with `gates` gates of 4, and its last output into `v`.
private func recurrent(
  _ op: String, _ what: String, _ expected: [String], gates: Int, directions: Int = 1,
  _ more: @escaping @Sendable (GraphBuilder) -> [ValueID?] = { _ in [] }
) -> OperatorCase {
  OperatorCase(op, what, expected) {
    let g = GraphBuilder()
    let x = g("MatMul", g.input("x", [6, 2, 3]), g.weight([3, 8], name: "x_w"))
    let inputs = [
      x, g.weight([directions, gates * 4, 8], name: "w"), g.weight([directions, gates * 4, 4], name: "r"),
      g.weight([directions, 2 * gates * 4], name: "b"),
    ]
    let steps = g.node(op, inputs + more(g), ["hidden_size": 4], outputs: 2)[0]
    let y = g("Reshape", g("Transpose", steps, with: ["perm": [0, 2, 1, 3]]), g.ints([6, 2, -1]))
    g.output(g("MatMul", y, g.weight([directions * 4, 5], name: "v")))
    return g.build()
  }
}

let recurrences: [OperatorCase] = [
  recurrent("RNN", "", ["8: x_w.1 w.2", "4: w.1 r.1 r.2 b.1*2 v.0"], gates: 1),
  recurrent("GRU", "", ["8: x_w.1 w.2", "4: w.1*3 r.1*3 r.2 b.1*6 v.0"], gates: 3),
  recurrent("LSTM", "", ["8: x_w.1 w.2", "4: w.1*4 r.1*4 r.2 b.1*8 v.0"], gates: 4),
  recurrent(
    "LSTM", "of both directions", ["8: x_w.1 w.2", "4: w.1*4 r.1*4 r.2 b.1*8 v.0*2"], gates: 4, directions: 2),
  recurrent(
    "LSTM", "with states and peepholes", ["8: x_w.1 w.2", "4: w.1*4 r.1*4 r.2 b.1*8 h.2 c.2 p.1*3 v.0"], gates: 4
  ) { g in
    [nil, g.weight([1, 2, 4], name: "h"), g.weight([1, 2, 4], name: "c"), g.weight([1, 12], name: "p")]
  },
  recurrent("GRU", "with a state from outside", ["8: x_w.1 w.2"], gates: 3) { g in [nil, g.input("h", [1, 2, 4])] },
  recurrent("GRU", "with a filled state", ["8: x_w.1 w.2", "4: w.1*3 r.1*3 r.2 b.1*6 v.0"], gates: 3) { g in
    [nil, g("ConstantOfShape", g.ints([1, 2, 4]))]
  },
]

let indexing: [OperatorCase] =
  ["CumSum", "CumProd"].flatMap { op in
    [
      overTokens(op, "over tokens") { g, x in g(op, x, g.ints([1], shape: [])) },
      overTokens(op, "over channels", []) { g, x in g(op, x, g.ints([-1], shape: [])) },
    ]
  } + [
    overTokens("Trilu", "of other axes") { g, x in
      g("Transpose", g("Trilu", g("Transpose", x, with: ["perm": [2, 0, 1]])), with: ["perm": [1, 2, 0]])
    },
    overTokens("Trilu", "of channels", []) { g, x in g("Trilu", x) },
    overTokens("ReverseSequence", "over tokens") { g, x in
      g("ReverseSequence", x, g.ints([3, 6]), with: ["batch_axis": 0, "time_axis": 1])
    },
    overTokens("TopK", "of tokens") { g, x in g.node("TopK", [x, g.ints([2])], ["axis": 1], outputs: 2)[0] },
    overTokens("TopK", "of channels", [], channels: 4) { g, x in g.node("TopK", [x, g.ints([4])], outputs: 2)[0] },
    overTokens("Tile", "of tokens") { g, x in g("Tile", x, g.ints([1, 3, 1])) },
    overTokens("Tile", "of channels", ["8: w.1 v.0*2"], channels: 16) { g, x in g("Tile", x, g.ints([1, 1, 2])) },
    overTokens("GatherElements", "of tokens, the index as wide as the channels") { g, x in
      let index = g("Expand", g.ints([0, 2, 5, 1], shape: [2, 2, 1]), g.ints([2, 2, 8]))
      return g("GatherElements", x, index, with: ["axis": 1])
    },
    overTokens("GatherElements", "of channels", []) { g, x in
      g("GatherElements", x, g("Expand", g.ints([3]), g.ints([2, 6, 8])), with: ["axis": 2])
    },
    overTokens("GatherND", "of tokens") { g, x in
      g("GatherND", x, g.ints([0, 3, 5, 1], shape: [2, 2, 1]), with: ["batch_dims": 1])
    },
    overTokens("GatherND", "of single channels", [], channels: 2) { g, x in
      g("GatherND", x, g.ints([0, 1, 2, 1, 5, 7], shape: [1, 2, 3]))
    },
    overTokens("ScatterND", "over tokens", ["8: w.1 c.1 v.0"]) { g, x in
      g("ScatterND", x, g.ints([0, 3, 1, 4], shape: [2, 2]), g.weight([2, 8], name: "c"))
    },
    overTokens("ScatterND", "of whole channels", ["6: w.1 v.0", "2: w.1 c.0 v.0"]) { g, x in
      let channels = g("Transpose", x, with: ["perm": [2, 0, 1]])
      let written = g("ScatterND", channels, g.ints([6, -7], shape: [2, 1]), g.weight([2, 2, 6], name: "c"))
      return g("Transpose", written, with: ["perm": [1, 2, 0]])
    },
    overTokens("ScatterElements", "over tokens", ["8: w.1 c.2 v.0"]) { g, x in
      let index = g("Expand", g.ints([0, 2, 5, 1], shape: [2, 2, 1]), g.ints([2, 2, 8]))
      return g("ScatterElements", x, index, g.weight([2, 2, 8], name: "c"), with: ["axis": 1])
    },
    overTokens("Scatter", "over channels", [], opset: 9) { g, x in
      g(
        "Scatter", x, g.ints([Int64](repeating: 0, count: 12), shape: [2, 6, 1]), g.weight([2, 6, 1]), with: ["axis": 2]
      )
    },
  ]

let sampling: [OperatorCase] = [
  between("GridSample") { g, x in g("GridSample", x, g.input("grid", [1, 2, 3, 2])) },
  between("RoiAlign") { g, x in
    g(
      "RoiAlign", x, g.input("boxes", [5, 4]), g.ints([0, 0, 0, 0, 0]), with: ["output_height": 2, "output_width": 2])
  },
  between("MaxRoiPool") { g, x in g("MaxRoiPool", x, g.input("boxes", [5, 5]), with: ["pooled_shape": [2, 2]]) },
  between("MaxUnpool", "of what was pooled", ["8: w.0 v.1"]) { g, x in
    let pooled = g.node("MaxPool", [x], ["kernel_shape": [2, 2], "strides": [2, 2]], outputs: 2)
    return g("MaxUnpool", pooled[0], pooled[1], with: ["kernel_shape": [2, 2], "strides": [2, 2]])
  },
  between("MaxUnpool", "to another size", []) { g, x in
    let pooled = g.node("MaxPool", [x], ["kernel_shape": [2, 2], "strides": [2, 2]], outputs: 2)
    return g(
      "MaxUnpool", pooled[0], pooled[1], g.ints([1, 8, 5, 5]), with: ["kernel_shape": [2, 2], "strides": [2, 2]])
  },
  between("CenterCropPad", "of space", opset: 18) { g, x in
    g("CenterCropPad", x, g.ints([3, 6]), with: ["axes": [2, 3]])
  },
  between("CenterCropPad", "of channels", [], opset: 18, channels: 6) { g, x in
    g("CenterCropPad", x, g.ints([6]), with: ["axes": [1]])
  },
  between("Col2Im", "of patches of 2 x 2 places", ["2: w.0*4 v.1"], opset: 18, channels: 2) { g, x in
    g("Col2Im", g("Reshape", x, g.ints([1, 8, 16])), g.ints([5, 5]), g.ints([2, 2]))
  },
  between("DeformConv", "", ["8: w.0 d.1", "6: d.0 b.0 v.1"], opset: 19, channels: 6) { g, x in
    g("DeformConv", x, g.weight([6, 8, 1, 1], name: "d"), g.input("offset", [1, 2, 4, 4]), g.weight([6], name: "b"))
  },
  between("DeformConv", "with offsets of their own for half the channels", [], opset: 19, channels: 6) { g, x in
    g(
      "DeformConv", x, g.weight([6, 8, 1, 1], name: "d"), g.input("offset", [1, 4, 4, 4]), with: ["offset_group": 2])
  },
]
