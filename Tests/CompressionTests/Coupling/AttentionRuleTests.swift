import ModelGraph
import TestSupport

// Normalizations over the last axis and fused attention, alone between the layers around them: more cases of the
// operator rules.

private let microsoft = "com.microsoft"

/// Tokens (1, 6, 8) through one layer `w`, an operator, and a layer `v`.
private func overTokens(
  _ op: String, _ what: String = "", _ expected: [String], exactly: [String]? = nil, opset: Int = 23,
  _ body: @escaping @Sendable (GraphBuilder, ValueID) -> ValueID
) -> OperatorCase {
  OperatorCase(op, what, expected, exactly: exactly) {
    let g = GraphBuilder(opset: opset)
    let x = g("MatMul", g.input("x", [1, 6, 3]), g.weight([3, 8], name: "w"))
    g.output(g("MatMul", body(g, x), g.weight([8, 5], name: "v")))
    return g.build()
  }
}

private func vector(_ g: GraphBuilder, _ name: String, _ length: Int = 8) -> ValueID { g.weight([length], name: name) }

let layerNormalizations: [OperatorCase] = [
  overTokens("LayerNormalization", "", ["8: w.1 s.0 b.0 v.0"], exactly: []) { g, x in
    g("LayerNormalization", x, vector(g, "s"), vector(g, "b"))
  },
  overTokens("LayerNormalization", "over heads", ["2x4: w.1 v.0"], exactly: ["2: w.1*4 v.0*4"]) { g, x in
    // Without scale and shift the heads choose their own dims.
    let heads = g("Reshape", x, g.ints([1, 6, 2, 4]))
    return g("Reshape", g("LayerNormalization", heads, g.floats([1])), g.ints([1, 6, 8]))
  },
  overTokens("LayerNormalization", "over heads with one scale", ["4: w.1*2 s.0 v.0*2"], exactly: ["2: w.1*4 v.0*4"]) {
    g, x in
    let heads = g("Reshape", x, g.ints([1, 6, 2, 4]))
    return g("Reshape", g("LayerNormalization", heads, vector(g, "s", 4)), g.ints([1, 6, 8]))
  },
  overTokens("RMSNormalization", "", ["8: w.1 s.0 v.0"], exactly: []) { g, x in
    g("RMSNormalization", x, vector(g, "s"))
  },
  overTokens("SimplifiedLayerNormalization", "", ["8: w.1 s.0 v.0"], exactly: []) { g, x in
    g("SimplifiedLayerNormalization", x, vector(g, "s"))
  },
  overTokens("com.microsoft.SkipLayerNormalization", "", ["8: w.1 u.1 s.0 b.0 c.0 v.0"], exactly: []) { g, x in
    let u = g("MatMul", g.input("y", [1, 6, 3]), g.weight([3, 8], name: "u"))
    return g.node(
      "SkipLayerNormalization", [x, u, vector(g, "s"), vector(g, "b"), vector(g, "c")], domain: microsoft)[0]
  },
  overTokens("com.microsoft.SkipSimplifiedLayerNormalization", "", ["8: w.1 u.1 s.0 v.0"], exactly: []) { g, x in
    let u = g("MatMul", g.input("y", [1, 6, 3]), g.weight([3, 8], name: "u"))
    // The fourth output is the sum, which is not normalized.
    let outputs = g.node(
      "SkipSimplifiedLayerNormalization", [x, u, vector(g, "s")], outputs: 4, domain: microsoft)
    return g("Add", outputs[0], outputs[3])
  },
  overTokens(
    "com.microsoft.EmbedLayerNormalization", "", ["8: w.1 t.1 p.1 s.0 b.0 v.0"], exactly: []
  ) { g, x in
    let ids = g.input("ids", [1, 6], dtype: .int32)
    let embedded = g.node(
      "EmbedLayerNormalization",
      [
        ids, nil, g.weight([20, 8], name: "t"), g.weight([10, 8], name: "p"), nil, vector(g, "s"), vector(g, "b"),
      ], outputs: 2, domain: microsoft)[0]
    return g("Add", x, embedded)
  },
  between("MeanVarianceNormalization", "over space") { g, x in g("MeanVarianceNormalization", x) },
  between("MeanVarianceNormalization", "over channels", exactly: []) { g, x in
    g("MeanVarianceNormalization", x, with: ["axes": [1]])
  },
  between("GroupNormalization", "", ["2x4: w.0 s.0 b.0 v.1"], exactly: ["2: w.0*4 s.0*4 b.0*4 v.1*4"], opset: 21) {
    g, x in
    g("GroupNormalization", x, vector(g, "s"), vector(g, "b"), with: ["num_groups": 2])
  },
  between(
    "GroupNormalization", "with numbers per group", ["2x4: w.0 v.1"], exactly: ["2: w.0*4 s.0 b.0 v.1*4"], opset: 18
  ) { g, x in
    g("GroupNormalization", x, vector(g, "s", 2), vector(g, "b", 2), with: ["num_groups": 2])
  },
  between("GroupNormalization", "of single channels", ["8: w.0 s.0 b.0 v.1"], opset: 21) { g, x in
    g("GroupNormalization", x, vector(g, "s"), vector(g, "b"), with: ["num_groups": 8])
  },
]

/// Queries, keys and values of two heads of four from tokens, by layers of their own.
private func projections(_ g: GraphBuilder, _ x: ValueID, keyWidth: Int = 8) -> (ValueID, ValueID, ValueID) {
  (
    g("MatMul", x, g.weight([8, 8], name: "q")), g("MatMul", x, g.weight([8, keyWidth], name: "k")),
    g("MatMul", x, g.weight([8, keyWidth], name: "u"))
  )
}

/// The stream itself: read by the projections.
private let stream = "8: w.1 q.0 k.0 u.0"
private let heads = ["2x4: q.1 k.1", "2x4: u.1 v.0"]

let attentions: [OperatorCase] = [
  overTokens("Attention", "", [stream] + heads) { g, x in
    let (q, k, v) = projections(g, x)
    return g("Attention", q, k, v, with: ["q_num_heads": 2, "kv_num_heads": 2])
  },
  overTokens("Attention", "with a mask per head", [stream] + heads) { g, x in
    let (q, k, v) = projections(g, x)
    return g("Attention", q, k, v, g.input("m", [1, 2, 6, 6]), with: ["q_num_heads": 2, "kv_num_heads": 2])
  },
  // Both query heads read the one key head, so they lose the same dims, and its values lie under both.
  overTokens(
    "Attention", "with shared keys", [stream, "4: q.1*2 k.1", "4: u.1 v.0*2"]
  ) { g, x in
    let (q, k, v) = projections(g, x, keyWidth: 4)
    return g("Attention", q, k, v, with: ["q_num_heads": 2, "kv_num_heads": 1])
  },
  overTokens("com.microsoft.MultiHeadAttention", "", [stream, "2x4: q.1 k.1 b.0*2", "2x4: u.1 b.0 v.0"]) { g, x in
    let (q, k, v) = projections(g, x)
    return g.node(
      "MultiHeadAttention", [q, k, v, g.weight([24], name: "b")], ["num_heads": 2], domain: microsoft)[0]
  },
  overTokens("com.microsoft.Attention", "", ["8: w.1 p.0", "2x4: p.1*2 b.0*2", "2x4: p.1 b.0 v.0"]) { g, x in
    g.node(
      "Attention", [x, g.weight([8, 24], name: "p"), g.weight([24], name: "b")], ["num_heads": 2], domain: microsoft
    )[0]
  },
  overTokens("com.microsoft.GroupQueryAttention", "", [stream, "4: q.1*2 k.1 u.1 v.0*2"]) { g, x in
    let (q, k, v) = projections(g, x, keyWidth: 4)
    return g.node(
      "GroupQueryAttention", [q, k, v, nil, nil, g.ints([5]), g.ints([6])], ["num_heads": 2, "kv_num_heads": 1],
      domain: microsoft)[0]
  },
  // Halves of a head turn against each other, and all heads by the same angles.
  overTokens("RotaryEmbedding", "", ["2: w.1*4 c.1 s.1 v.0*4"]) { g, x in
    g(
      "RotaryEmbedding", x, g.weight([9, 2], name: "c"), g.weight([9, 2], name: "s"),
      g.input("p", [1, 6], dtype: .int64),
      with: ["num_heads": 2])
  },
  overTokens("com.microsoft.RotaryEmbedding", "", ["2: w.1*4 c.1 s.1 v.0*4"]) { g, x in
    g.node(
      "RotaryEmbedding",
      [x, g.input("p", [1, 6], dtype: .int64), g.weight([9, 2], name: "c"), g.weight([9, 2], name: "s")],
      ["num_heads": 2], domain: microsoft)[0]
  },
]
