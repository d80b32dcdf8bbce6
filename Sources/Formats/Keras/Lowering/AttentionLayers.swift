import JSON
import ModelGraph

/// Attention of several heads, whose projections are kernels (width, heads, head width).
///
/// Heads go whole: what a score is divided by is the root of the stated head width, so that this stays.
enum AttentionLayers {
  static let rules: [String: KerasRule] = [
    "MultiHeadAttention": KerasRule("query value key") { (l, a) throws(Failure) in
      let heads = try a.integer("num_heads")
      return try l.attention(
        a,
        AttentionHeads(
          query: heads, key: heads, keyWidth: a.int("key_dim"),
          valueWidth: a.has("value_dim") ? a.integer("value_dim") : KerasInteger(value: a.int("key_dim")),
          holdsValues: !a.has("value_dim")))
    },
    "GroupQueryAttention": groupQuery, "GroupedQueryAttention": groupQuery,
  ]

  private static let groupQuery = KerasRule("query value key") { (l, a) throws(Failure) in
    let (query, key) = (try a.integer("num_query_heads"), try a.integer("num_key_value_heads"))
    guard key.value > 0, query.value % key.value == 0 else {
      throw l.malformed("\(query.value) query heads are not shared out over \(key.value) key heads")
    }
    let width = try a.int("head_dim")
    return try l.attention(
      a,
      AttentionHeads(
        query: query, key: key, keyWidth: width, valueWidth: KerasInteger(value: width), holdsValues: true))
  }
}

/// Numbers of heads and their widths.
struct AttentionHeads {
  let query: KerasInteger
  let key: KerasInteger
  let keyWidth: Int
  let valueWidth: KerasInteger
  /// Whether the values' width is not a setting of its own.
  let holdsValues: Bool
}

extension KerasLowering {
  fileprivate mutating func attention(_ a: KerasArguments, _ heads: AttentionHeads) throws(Failure) -> LoweredOperand {
    let (query, value) = (try a.tensor("query"), try a.tensor("value"))
    let key = try a.optionalTensor("key") ?? value
    guard !a.has("sliding_window") else { throw unsupported("it has a sliding window") }
    let rank = rank(query)
    guard rank >= 3, self.rank(key) == rank, self.rank(value) == rank, heads.keyWidth > 0 else {
      throw unsupported("its queries have \(rank) axes")
    }
    var axes: [Int] = []
    for axis in try a.ints("attention_axes", Array(1..<rank - 1)) { axes.append(try self.axis(axis, of: query)) }
    guard axes == axes.sorted(), Set(axes).count == axes.count, axes.allSatisfy({ (1..<rank - 1).contains($0) }),
      rank == 3 || !hasOpenLengths
    else { throw unsupported("it attends over the axes \(axes) of \(rank)") }
    let plan = AttentionAxes(rank: rank, attended: axes)

    let q = try projected(query, "query", heads.query, KerasInteger(value: heads.keyWidth), a, plan, holdsWidth: true)
    var k = try projected(key, "key", heads.key, KerasInteger(value: heads.keyWidth), a, plan, holdsWidth: true)
    var v = try projected(value, "value", heads.key, heads.valueWidth, a, plan, holdsWidth: heads.holdsValues)
    if heads.query.value != heads.key.value {
      guard rank == 3 else { throw unsupported("its queries have \(rank) axes") }
      k = try repeated(k, heads, as: "keys")
      v = try repeated(v, heads, as: "values")
    }

    var order = Array(0..<(try self.rank(k)))
    order.swapAt(order.count - 1, order.count - 2)
    let product = try node(
      "MatMul", [q, node("Transpose", [k], ["perm": .ints(order)], as: "transposed")], as: "scores")
    let scale = try scalar(1 / Double(heads.keyWidth).squareRoot(), dtype(product), as: "scale")
    var scores = try node("Mul", [product, scale], as: "scaled")
    if let mask = try attentionMask(a, query: query, key: key, value: value, scores: scores, plan) {
      scores = try node("Where", [mask, scores, scalar(-3e38, dtype(scores), as: "lowest")], as: "masked")
    }
    let weights = try node("Softmax", [scores], ["axis": .int(-1)], as: "weights")
    let attended = try node("MatMul", [weights, v], as: "attended")
    var joined = try joinedHeads(attended, of: query, plan)
    if try a.bool("use_gate", false) {
      let gate = try projection(query, "gate", a)
      joined = try node("Mul", [joined, node("Sigmoid", [gate], as: "gated")], as: "passed")
    }
    let output = try outputProjection(joined, a)
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

  /// The same by heads: (batch axes..., heads, steps, width).
  private mutating func projected(
    _ x: KerasTensor, _ role: String, _ heads: KerasInteger, _ width: KerasInteger, _ a: KerasArguments,
    _ plan: AttentionAxes, holdsWidth: Bool
  ) throws(Failure) -> ValueID {
    let flat = try projection(x, role, a)
    let lengths = [KerasInteger](repeating: KerasInteger(value: 0), count: plan.rank - 1) + [heads, width]
    let split = try node("Reshape", [flat, integers(lengths, as: "\(role)_heads")], as: "\(role)_split")
    if holdsWidth { hold(split, plan.rank, "'\(base)' divides its scores by the root of the stated width of a head") }
    let turned = try node("Transpose", [split], ["perm": .ints(plan.byHeads)], as: "\(role)_turned")
    guard plan.attended.count > 1 else { return turned }
    // Several attended axes are one.
    let target = plan.batch.map { _ in 0 } + [0, -1, width.value]
    let list =
      target.map { KerasInteger(value: $0) }.dropLast() + [holdsWidth ? KerasInteger(value: width.value) : width]
    return try node("Reshape", [turned, integers(Array(list), as: "\(role)_steps")], as: "\(role)_flat")
  }

  /// Every head as often as queries share it.
  private mutating func repeated(
    _ x: ValueID, _ heads: AttentionHeads, as name: String
  ) throws(Failure) -> ValueID {
    let times = heads.query.value / heads.key.value
    let single = try node("Unsqueeze", [x, integers([2], as: "axes")], as: "\(name)_single")
    let expanded = try node("Expand", [single, integers([1, 1, times, 1, 1], as: "times")], as: "\(name)_repeated")
    let target = [KerasInteger(value: 0), heads.query, KerasInteger(value: -1), KerasInteger(value: heads.keyWidth)]
    return try node("Reshape", [expanded, integers(target, as: "heads")], as: "\(name)_shared")
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
    let role = a.layer.variable("attention_output/kernel") == nil ? "output" : "attention_output"
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
    guard var mask = all.first else { return nil }
    for other in all.dropFirst() { mask = try node("And", [mask, other], as: "mask", dtype: .bool) }
    return mask
  }

  /// True where a key is not after its query, for scores (..., queries, keys).
  mutating func causalMask(_ scores: ValueID) throws(Failure) -> ValueID {
    let rank = try rank(scores)
    let size = try node(
      "Concat", [length(scores, rank - 2), length(scores, rank - 1)], ["axis": .int(0)], as: "mask_shape")
    let one = Tensor(dtype: .bool, shape: [1], bytes: TensorBytes(copying: [UInt8(1)]))
    let ones = try node("ConstantOfShape", [size], ["value": .tensor(one)], as: "ones", dtype: .bool)
    return try node("Trilu", [ones], ["upper": .int(0)], as: "causal", dtype: .bool)
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
