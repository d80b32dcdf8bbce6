import JSON
import ModelGraph

/// Attention of several heads, whose projections are kernels (width, heads, head width).
///
/// Scores are divided by the root of the head width as it is, as Keras does it; a plan that changes the width keeps the
/// number, and the file has it as a factor of the queries' projection (`FormatConstraints.derivedRoots`).
enum AttentionLayers {
  static let rules: [String: KerasRule] = [
    "MultiHeadAttention": KerasRule("query value key") { (l, a) throws(Failure) in
      let heads = try a.integer("num_heads")
      return try l.attentionLayer(a, AttentionHeads(query: heads, key: heads, isGrouped: false))
    },
    "GroupQueryAttention": groupQuery, "GroupedQueryAttention": groupQuery,
  ]

  private static let groupQuery = KerasRule("query value key") { (l, a) throws(Failure) in
    let (query, key) = (try a.integer("num_query_heads"), try a.integer("num_key_value_heads"))
    guard key.value > 0, query.value % key.value == 0 else {
      throw l.malformed("\(query.value) query heads are not shared out over \(key.value) key heads")
    }
    return try l.attentionLayer(a, AttentionHeads(query: query, key: key, isGrouped: true))
  }
}

/// Numbers of heads.
struct AttentionHeads {
  let query: KerasInteger
  let key: KerasInteger
  /// Whether queries share keys: then one number says how wide the heads of queries, keys and values are, and what is
  /// returned and the values that come in are as wide as the queries that come in.
  let isGrouped: Bool

  /// How many queries share a key.
  var share: Int { query.value / key.value }
}

extension KerasLowering {
  fileprivate mutating func attentionLayer(
    _ a: KerasArguments, _ heads: AttentionHeads
  ) throws(Failure) -> LoweredOperand {
    let query = try a.tensor("query")
    let others = try [
      a.tensor("value"), a.optionalTensor("key"), a.optionalTensor("attention_mask"), a.optionalTensor("query_mask"),
      a.optionalTensor("value_mask"), a.optionalTensor("key_mask"),
    ].compactMap { $0 }
    return try runnable(a, [query] + others) { (l) throws(Failure) in
      try l.attention(a, heads)
    } orOpaqueOf: { (l) throws(Failure) in
      guard try !a.bool("return_attention_scores", false), let kernel = a.layer.variable("attention_output/kernel")
      else {
        throw l.unsupported("it returns scores, or has no output projection")
      }
      return [l.lengths(query).dropLast() + kernel.tensor.shape.dropFirst(2).map(OpaqueLength.fixed)]
    }
  }

  private mutating func attention(_ a: KerasArguments, _ heads: AttentionHeads) throws(Failure) -> LoweredOperand {
    let (query, value) = (try a.tensor("query"), try a.tensor("value"))
    let key = try a.optionalTensor("key") ?? value
    let rank = rank(query)
    guard rank >= 3, self.rank(key) == rank, self.rank(value) == rank, rank == 3 || !heads.isGrouped else {
      throw unsupported("its queries have \(rank) axes")
    }
    var axes: [Int] = []
    for axis in try a.ints("attention_axes", Array(1..<rank - 1)) { axes.append(try self.axis(axis, of: query)) }
    guard axes == axes.sorted(), Set(axes).count == axes.count, axes.allSatisfy({ (1..<rank - 1).contains($0) }),
      rank == 3 || !hasOpenLengths
    else { throw unsupported("it attends over the axes \(axes) of \(rank)") }
    let plan = AttentionAxes(rank: rank, attended: axes)

    let q = try projected(query, "query", heads.query, a, plan)
    let k = try projected(key, "key", heads.key, sharedBy: heads, a, plan)
    let v = try projected(value, "value", heads.key, sharedBy: heads, a, plan)
    for x in [q, k, v] { even.append(FormatConstraints.FixedAxis(value: x.split, axis: rank)) }
    if heads.isGrouped {
      // Heads and their widths.
      tied.append(FormatConstraints.TiedAxes(k.split, v.split, axes: [(rank - 1, rank - 1), (rank, rank)]))
    }

    var order = Array(0..<(try self.rank(k.turned)))
    order.swapAt(order.count - 1, order.count - 2)
    let product = try node(
      "MatMul", [q.turned, node("Transpose", [k.turned], ["perm": .ints(order)], as: "transposed")], as: "scores")
    var scores = try node("Div", [product, rootOfWidth(q, of: a.layer, dtype(product))], as: "scaled")
    if let mask = try attentionMask(a, query: query, key: key, value: value, scores: scores, plan) {
      scores = try node("Where", [mask, scores, scalar(-3e38, dtype(scores), as: "lowest")], as: "masked")
    }
    let weights = try node("Softmax", [scores], ["axis": .int(-1)], as: "weights")
    let attended = try node("MatMul", [weights, v.turned], as: "attended")
    var joined = try joinedHeads(attended, of: query, plan)
    if try a.bool("use_gate", false) {
      let gate = try projection(query, "gate", a)
      joined = try node("Mul", [joined, node("Sigmoid", [gate], as: "gated")], as: "passed")
    }
    let output = try outputProjection(joined, a)
    if heads.isGrouped {
      // Keras builds the one as wide as the other, and refuses values of another width.
      let queries = try asWritten(query)
      tied.append(FormatConstraints.TiedAxes(queries, output, axes: [(2, 2)]))
      if value != query { tied.append(FormatConstraints.TiedAxes(queries, try asWritten(value), axes: [(2, 2)])) }
    }
    let widths = (try shape(output).last, try shape(query).last)
    guard a.has("output_shape") || widths.0 == widths.1 else {
      throw malformed("it gives back other channels than its queries have, and says nothing of it")
    }
    guard try a.bool("return_attention_scores", false) else { return .tensor(tensor(output)) }
    guard rank == 3 else { throw unsupported("it returns scores of \(rank + 1) axes") }
    return .list([.tensor(tensor(output)), .tensor(tensor(weights))])
  }

  // MARK: Projections

  /// x kernel + bias, heads side by side: (..., heads * width).
  private mutating func projection(_ x: KerasTensor, _ role: String, _ a: KerasArguments) throws(Failure) -> ValueID {
    let kernel = try stored("\(role)/kernel", a.layer)
    guard kernel.tensor.shape.count == 3 else { throw malformed("its \(role) kernel is \(kernel.tensor.shape)") }
    let weight = try variable(kernel, [[0], [1, 2]])
    let value = try asWritten(cast(x, to: dtype(weight)))
    var bias: ValueID?
    if let stored = a.layer.variable("\(role)/bias") {
      bias = try variable(stored, [Array(stored.tensor.shape.indices)])
    }
    return try part(role, weight, value, bias)
  }

  /// One of the products that the layer is made of, under a name of its own.
  private mutating func part(
    _ role: String, _ weight: ValueID, _ x: ValueID, _ bias: ValueID?
  ) throws(Failure) -> ValueID {
    let outer = base
    base = "\(outer)/\(role)"
    defer { base = outer }
    keepWhole(weight, "the projection is part of an attention layer")
    let product = try node("MatMul", [x, weight])
    guard let bias else { return product }
    return try node("Add", [product, bias], as: "bias")
  }

  /// The same by heads: (axes..., heads, width) and, to be multiplied, (batch axes..., heads, steps, width).
  /// - Parameter shared: heads of keys that several heads of queries share come as often as these.
  private mutating func projected(
    _ x: KerasTensor, _ role: String, _ heads: KerasInteger, sharedBy shared: AttentionHeads? = nil,
    _ a: KerasArguments, _ plan: AttentionAxes
  ) throws(Failure) -> (split: ValueID, turned: ValueID) {
    let flat = try projection(x, role, a)
    let same = [KerasInteger](repeating: KerasInteger(value: 0), count: plan.rank - 1)
    let rest = KerasInteger(value: -1)
    let split = try node("Reshape", [flat, integers(same + [heads, rest], as: "\(role)_heads")], as: "\(role)_split")
    var all = split
    if let shared, shared.share > 1 {
      let single = try node("Unsqueeze", [split, integers([3], as: "axes")], as: "\(role)_single")
      let times = integers([1, 1, 1, shared.share, 1], as: "times")
      let repeated = try node("Expand", [single, times], as: "\(role)_repeated")
      all = try node(
        "Reshape", [repeated, integers(same + [shared.query, rest], as: "\(role)_all")], as: "\(role)_shared")
    }
    let turned = try node("Transpose", [all], ["perm": .ints(plan.byHeads)], as: "\(role)_turned")
    guard plan.attended.count > 1 else { return (split, turned) }
    // Several attended axes are one.
    let lengths = try shape(x)
    let steps = plan.attended.reduce(1) { $0 * lengths[$1] }
    let target = integers(plan.batch.map { _ in 0 } + [0, steps, -1], as: "\(role)_steps")
    return (split, try node("Reshape", [turned, target], as: "\(role)_flat"))
  }

  /// The root of the width of the queries' heads, which their projection makes up for where it is to stay what it was.
  private mutating func rootOfWidth(
    _ queries: (split: ValueID, turned: ValueID), of layer: KerasLayer, _ type: DType
  ) throws(Failure) -> ValueID {
    let axis = try rank(queries.turned) - 1
    let width = try node("Shape", [queries.turned], ["start": .int(axis), "end": .int(axis + 1)], as: "width")
    let root = try cast(node("Sqrt", [cast(width, to: .float32)], as: "root"), to: type)
    let carriers = ["query/kernel", "query/bias"].compactMap { layer.variable($0).flatMap { variableValues[$0.path] } }
    if carriers.allSatisfy({ [.float32, .float64].contains(dtype($0)) }) {
      roots[root] = FormatConstraints.DerivedRoot(
        of: FormatConstraints.FixedAxis(value: queries.turned, axis: axis), carriers: carriers)
    } else {
      decisive[FormatConstraints.FixedAxis(value: queries.split, axis: try rank(queries.split) - 1)] =
        "'\(base)' divides its scores by the root of the width of a head, and its numbers are too coarse to make up for "
        + "another"
    }
    return root
  }

  /// The heads side by side again: (..., heads * width).
  private mutating func joinedHeads(
    _ x: ValueID, of query: KerasTensor, _ plan: AttentionAxes
  ) throws(Failure) -> ValueID {
    var x = x
    if plan.attended.count > 1 {
      let lengths = try shape(query)
      let tail = try node("Shape", [x], ["start": .int(plan.batch.count + 2)], as: "width")
      let target = integers(plan.batch.map { _ in 0 } + [0] + plan.attended.map { lengths[$0] }, as: "steps")
      x = try node("Reshape", [x, node("Concat", [target, tail], ["axis": .int(0)], as: "places")], as: "spread")
    }
    let turned = try node("Transpose", [x], ["perm": .ints(plan.fromHeads)], as: "turned")
    let target = [Int](repeating: 0, count: plan.rank - 1) + [-1]
    return try node("Reshape", [turned, integers(target, as: "joined_shape")], as: "joined")
  }

  private mutating func outputProjection(_ x: ValueID, _ a: KerasArguments) throws(Failure) -> ValueID {
    let role = "attention_output"
    let kernel = try stored("\(role)/kernel", a.layer)
    guard kernel.tensor.shape.count == 3 else { throw unsupported("its output kernel is \(kernel.tensor.shape)") }
    let weight = try variable(kernel, [[0, 1], [2]])
    var bias: ValueID?
    if let stored = a.layer.variable("\(role)/bias") { bias = try variable(stored, [[0]]) }
    return try part(role, weight, x, bias)
  }

  // MARK: Masks

  /// Where scores count, to be broadcast against (batch axes..., heads, queries, keys); nil where all do.
  private mutating func attentionMask(
    _ a: KerasArguments, query: KerasTensor, key: KerasTensor, value: KerasTensor, scores: ValueID,
    _ plan: AttentionAxes
  ) throws(Failure) -> ValueID? {
    var all: [ValueID] = []
    if let mask = try a.optionalTensor("attention_mask") {
      guard plan.attended.count == 1 else { throw unsupported("it is given a mask over several axes") }
      let own = rank(mask)
      var value = try cast(asWritten(mask), to: .bool)
      let missing = try rank(scores) - own
      guard missing >= 0, own >= 2 else { throw unsupported("its mask has \(own) axes") }
      // The heads' axis is what it has not, right before queries and keys.
      if missing > 0, own > 2 {
        value = try node(
          "Unsqueeze", [value, integers(Array(own - 2..<own - 2 + missing), as: "axes")], as: "mask")
      }
      all.append(value)
    }
    func steps(_ name: StaticString, _ tensor: KerasTensor, _ axes: [Int], _ l: inout KerasLowering) throws(Failure) {
      guard let mask = try a.optionalTensor(name) ?? l.masks[tensor] else { return }
      guard plan.rank == 3 else { throw l.unsupported("its steps are masked") }
      let value = try l.cast(l.asWritten(mask), to: .bool)
      all.append(try l.node("Unsqueeze", [value, l.integers(axes, as: "axes")], as: "mask"))
    }
    try steps("query_mask", query, [1, 3], &self)
    try steps("value_mask", value, [1, 2], &self)
    if a.has("key"), key != value { try steps("key_mask", key, [1, 2], &self) }
    if try a.bool("use_causal_mask", false) {
      guard plan.attended.count == 1 else { throw unsupported("it attends causally over several axes") }
      all.append(try causalMask(scores))
    }
    if a.has("sliding_window") {
      let reach = try a.int("sliding_window") - 1
      guard reach >= 0, plan.attended.count == 1 else { throw unsupported("its window slides over several axes") }
      let before = try node(
        "Trilu", [whereAll(scores), integers([reach], shape: [], as: "reach")], ["upper": .int(0)],
        as: "not_far_after", dtype: .bool)
      all.append(
        try node(
          "Trilu", [before, integers([-reach], shape: [], as: "reach")], ["upper": .int(1)], as: "window", dtype: .bool)
      )
    }
    guard var mask = all.first else { return nil }
    for other in all.dropFirst() { mask = try node("And", [mask, other], as: "mask", dtype: .bool) }
    return mask
  }

  /// True where a key is not after its query, for scores (..., queries, keys).
  mutating func causalMask(_ scores: ValueID) throws(Failure) -> ValueID {
    try node("Trilu", [whereAll(scores)], ["upper": .int(0)], as: "causal", dtype: .bool)
  }

  /// True everywhere, (queries, keys).
  private mutating func whereAll(_ scores: ValueID) throws(Failure) -> ValueID {
    let rank = try rank(scores)
    let size = try node(
      "Concat", [length(scores, rank - 2), length(scores, rank - 1)], ["axis": .int(0)], as: "mask_shape")
    let one = Tensor(dtype: .bool, shape: [1], bytes: TensorBytes(copying: [UInt8(1)]))
    return try node("ConstantOfShape", [size], ["value": .tensor(one)], as: "ones", dtype: .bool)
  }
}

/// The axes of what attention projects, (batch..., heads, width) in place of the last.
struct AttentionAxes {
  let rank: Int
  let attended: [Int]
  /// The others, the first among them.
  var batch: [Int] { (0..<rank - 1).filter { !attended.contains($0) } }
  /// (batch axes, heads, attended axes, width) of (axes..., heads, width).
  var byHeads: [Int] { batch + [rank - 1] + attended + [rank] }
  /// And back.
  var fromHeads: [Int] { (0...rank).compactMap { byHeads.firstIndex(of: $0) } }
}
