import ModelGraph

// Fused attention and rotary embedding, expanded to what they compute: a product of queries and keys per head, softmax
// over the keys, a product with the values. Heads and their widths are factors like any other; which of them can go
// follows from what the projections around them allow.

let attentionRules: [String: Rule] = [
  "Attention": attention,
  "RotaryEmbedding": { call in rotaryEmbedding(&call, tables: [1, 2], positions: 3) },
  "com.microsoft.RotaryEmbedding": { call in rotaryEmbedding(&call, tables: [2, 3], positions: 1) },
  "com.microsoft.Attention": packedAttention,
  "com.microsoft.MultiHeadAttention": multiHeadAttention,
  "com.microsoft.GroupQueryAttention": groupQueryAttention,
]

/// Letters: batch, key head, query heads per key head, query, key, width of queries and keys, width of values.
private enum L {
  static let (batch, head, share, query, key, width, valueWidth) = (0, 1, 2, 3, 4, 5, 6)
}

// MARK: Operators

/// Operator set 23: operands as (N, heads, length, width), or with the heads packed as (N, length, heads * width).
@Sendable private func attention(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let shape = call.shape(0) else { return nil }
  let packed = shape.count == 3
  let heads: HeadCounts?
  if packed {
    heads = HeadCounts(call, query: "q_num_heads", key: "kv_num_heads")
  } else if let keys = call.shape(1), let original = call.originalShape(0), let originalKeys = call.originalShape(1),
    [shape, keys, original, originalKeys].allSatisfy({ $0.count == 4 })
  {
    heads = HeadCounts(
      query: shape[1], key: keys[1], originalQuery: original[1], originalKey: originalKeys[1])
  } else {
    heads = nil
  }
  guard let heads, let query = call.input(0), let key = call.input(1), let value = call.input(2),
    let q = packed ? call.unpackedQuery(query, heads) : call.sharedHeads(query, heads),
    var k = packed ? call.unpackedKey(key, heads) : key, var v = packed ? call.unpackedKey(value, heads) : value,
    let extents = call.outputExtents()
  else { return nil }
  guard let keys = call.following(call.input(4), k), let values = call.following(call.input(5), v) else { return nil }
  (k, v) = (keys, values)
  guard let attended = call.attended(q, k, v, heads, mask: call.input(3)),
    let y = call.laidOut(attended.output, packed: packed, extents)
  else { return nil }
  return call.node.output(3) == nil ? [y, k, v] : attended.scores.map { [y, k, v, $0] }
}

/// ONNX Runtime's Attention: projections of one input by one weight (D, q | k | v), each side with its heads in order.
@Sendable private func packedAttention(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let x = call.input(0), let w = call.input(1), let width = call.shape(1)?.last,
    let originalWidth = call.originalShape(1)?.last, x.axes.count == 3, w.axes.count == 2,
    call.input(4) == nil, call.node.output(1) == nil, call.node.int("do_rotary", default: 0) == 0,
    let count = call.node.int("num_heads"), let originalCount = call.originalNode.int("num_heads"),
    let extents = call.outputExtents(),
    var projected = call.facts.contract(
      [Operand(value: x, letters: [0, 1, 2]), Operand(value: w, letters: [2, 3])], output: [0, 1, 3], at: call.id,
      roles: true)
  else { return nil }
  if let bias = call.input(2) {
    guard let biased = call.facts.elementwise([projected, bias], rank: 3, at: call.id) else { return nil }
    projected = biased
  }
  let sizes = call.node.ints("qkv_hidden_sizes") ?? Array(repeating: width / 3, count: 3)
  let originalSizes = call.originalNode.ints("qkv_hidden_sizes") ?? Array(repeating: originalWidth / 3, count: 3)
  let heads = HeadCounts(query: count, key: count, originalQuery: originalCount, originalKey: originalCount)
  guard let parts = call.runs(of: projected, axis: 2, sizes, original: originalSizes),
    let q = call.unpackedQuery(parts[0], heads), let k = call.unpackedKey(parts[1], heads),
    let v = call.unpackedKey(parts[2], heads),
    let attended = call.attended(q, k, v, heads, mask: call.input(5))
  else { return nil }
  return call.laidOut(attended.output, packed: true, extents).map { [$0] }
}

/// ONNX Runtime's MultiHeadAttention with query, key and value apart; one bias for all three.
@Sendable private func multiHeadAttention(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let query = call.input(0), var key = call.input(1), var value = call.input(2), query.axes.count == 3,
    let count = call.node.int("num_heads"), let originalCount = call.originalNode.int("num_heads"),
    let extents = call.outputExtents(), call.node.output(3) == nil
  else { return nil }
  var q = query
  let heads = HeadCounts(query: count, key: count, originalQuery: originalCount, originalKey: originalCount)
  if let bias = call.input(3) {
    let shapes = [0, 1, 2].compactMap { call.shape($0) }
    let originals = [0, 1, 2].compactMap { call.originalShape($0) }
    guard bias.axes.count == 1, (shapes + originals).allSatisfy({ $0.count == 3 }),
      let parts = call.runs(of: bias, axis: 0, shapes.map { $0[2] }, original: originals.map { $0[2] }),
      let first = call.facts.elementwise([q, parts[0]], rank: 3, at: call.id),
      let second = call.facts.elementwise([key, parts[1]], rank: 3, at: call.id),
      let third = call.facts.elementwise([value, parts[2]], rank: 3, at: call.id)
    else { return nil }
    (q, key, value) = (first, second, third)
  }
  // Keys and values of another sequence may come with their heads already apart.
  func unpacked(_ call: inout RuleCall, _ value: LabelledValue) -> LabelledValue? {
    value.axes.count == 3 ? call.unpackedKey(value, heads) : value.axes.count == 4 ? value : nil
  }
  guard let queries = call.unpackedQuery(q, heads), var keys = unpacked(&call, key),
    var values = unpacked(&call, value)
  else { return nil }
  guard let allKeys = call.following(call.input(6), keys), let allValues = call.following(call.input(7), values)
  else { return nil }
  (keys, values) = (allKeys, allValues)
  guard let attended = call.attended(queries, keys, values, heads, mask: call.input(5)) else { return nil }
  return call.laidOut(attended.output, packed: true, extents).map { [$0, keys, values] }
}

/// ONNX Runtime's GroupQueryAttention: several query heads share one key head; it may rotate, and keeps a cache.
@Sendable private func groupQueryAttention(_ call: inout RuleCall) -> [LabelledValue]? {
  guard let query = call.input(0), let key = call.input(1), let value = call.input(2), query.axes.count == 3,
    let heads = HeadCounts(call, query: "num_heads", key: "kv_num_heads"), let extents = call.outputExtents(),
    var q = call.unpackedQuery(query, heads), var k = call.unpackedKey(key, heads),
    let v = call.unpackedKey(value, heads)
  else { return nil }
  // There is one width for the heads of all three.
  let sides = [
    Operand(value: k, letters: [L.batch, L.head, L.key, L.width]),
    Operand(value: v, letters: [L.batch, L.head, L.query, L.width]),
  ]
  guard let aligned = call.facts.align(sides, at: call.id) else { return nil }
  call.facts.relate(aligned, at: call.id)
  if call.node.int("do_rotary", default: 0) != 0 {
    guard let cos = call.input(7), let sin = call.input(8),
      let rotatedQueries = call.rotated(q, by: [cos, sin], interleavedName: "rotary_interleaved"),
      let rotatedKeys = call.rotated(k, by: [cos, sin], interleavedName: "rotary_interleaved")
    else { return nil }
    (q, k) = (rotatedQueries, rotatedKeys)
  }
  // The cache has room for what is to come: only heads and widths run along with it.
  func cached(_ call: inout RuleCall, _ new: LabelledValue, _ past: LabelledValue?, output: Int) -> LabelledValue? {
    guard let shape = call.outputShape(output) ?? call.shape(output + 2), shape.count == 4 else { return new }
    let letters = [L.batch, L.head, L.key, L.width]
    var present = new
    if let past {
      guard past.axes.count == 4,
        let joined = call.facts.contract(
          [
            Operand(value: new, letters: letters),
            Operand(value: past, letters: [L.batch, L.head, L.query, L.width]),
          ], output: letters, at: call.id)
      else { return nil }
      present = joined
    }
    present.axes[2] = call.fixedAxis(shape[2], .expanded)
    return present
  }
  guard let keys = cached(&call, k, call.input(3), output: 1), let values = cached(&call, v, call.input(4), output: 2),
    let attended = call.attended(q, k, v, heads, mask: call.input(10))
  else { return nil }
  return call.laidOut(attended.output, packed: true, extents).map { [$0, keys, values] }
}

/// Pairs of entries turn by an angle: a pair goes as one, and with it the columns of the tables of cosines and sines.
private func rotaryEmbedding(_ call: inout RuleCall, tables: [Int], positions: Int) -> [LabelledValue]? {
  guard let x = call.input(0), let shape = call.shape(0), let original = call.originalShape(0),
    let cos = call.input(tables[0]), let sin = call.input(tables[1]), let extents = call.outputExtents(),
    let half = call.shape(tables[0])?.last, let originalHalf = call.originalShape(tables[0])?.last,
    call.node.int("rotary_embedding_dim", default: 0) == 0, half > 0, originalHalf > 0, !shape.isEmpty
  else { return nil }
  // Per head, as (..., heads, 2 * half) or packed.
  let last = shape.count - 1
  guard
    let heads = x.splitting(
      axis: last,
      into: [
        Extent(shape[last] / (2 * half), original: original[last] / (2 * originalHalf)),
        Extent(2 * half, original: 2 * originalHalf),
      ], at: call.id, &call.facts),
    let turned = call.rotated(heads, by: [cos, sin], interleavedName: "interleaved")
  else { return nil }
  return turned.reshaped(extents, at: call.id, &call.facts).map { [$0] }
}

// MARK: Parts

/// Numbers of heads now and in the original model; the keys' divide the queries'.
private struct HeadCounts {
  var query: Int
  var key: Int
  var originalQuery: Int
  var originalKey: Int

  init?(query: Int, key: Int, originalQuery: Int, originalKey: Int) {
    guard query > 0, key > 0, query % key == 0, originalQuery > 0, originalKey > 0, originalQuery % originalKey == 0
    else { return nil }
    (self.query, self.key, self.originalQuery, self.originalKey) = (query, key, originalQuery, originalKey)
  }

  init?(_ call: RuleCall, query: String, key: String) {
    guard let q = call.node.int(query), let k = call.node.int(key), let originalQ = call.originalNode.int(query),
      let originalK = call.originalNode.int(key)
    else { return nil }
    self.init(query: q, key: k, originalQuery: originalQ, originalKey: originalK)
  }

  var keyExtent: Extent { Extent(key, original: originalKey) }
  var shareExtent: Extent { Extent(query / key, original: originalQuery / originalKey) }
  var queryExtent: Extent { Extent(query, original: originalQuery) }
}

extension RuleCall {
  /// (N, length, heads * width) as (N, key heads, share, length, width).
  fileprivate mutating func unpackedQuery(_ x: LabelledValue, _ heads: HeadCounts?) -> LabelledValue? {
    guard let heads, let (width, original) = width(of: x, heads.query, heads.originalQuery) else { return nil }
    return x.splitting(
      axis: 2, into: [heads.keyExtent, heads.shareExtent, Extent(width, original: original)], at: id, &facts
    )?.permuted([0, 2, 3, 1, 4])
  }

  /// (N, length, heads * width) as (N, heads, length, width).
  fileprivate mutating func unpackedKey(_ x: LabelledValue, _ heads: HeadCounts?) -> LabelledValue? {
    guard let heads, let (width, original) = width(of: x, heads.key, heads.originalKey) else { return nil }
    return x.splitting(axis: 2, into: [heads.keyExtent, Extent(width, original: original)], at: id, &facts)?
      .permuted([0, 2, 1, 3])
  }

  /// (N, query heads, length, width) as (N, key heads, share, length, width).
  fileprivate mutating func sharedHeads(_ x: LabelledValue, _ heads: HeadCounts) -> LabelledValue? {
    x.splitting(axis: 1, into: [heads.keyExtent, heads.shareExtent], at: id, &facts)
  }

  /// The width of a head, now and in the original model: an axis that shrank to one entry had more.
  private func width(of x: LabelledValue, _ heads: Int, _ originalHeads: Int) -> (Int, Int)? {
    guard x.axes.count == 3 else { return nil }
    let total = x.axes[2].reduce(1) { $0 * $1.size }
    guard total % heads == 0 else { return nil }
    let shrank = x.axes[2].contains { $0.isShrunk }
    return (total / heads, shrank ? max(total / heads, 2) : total / heads)
  }

  /// Keys or values after those of the past, both as (N, heads, length, width).
  fileprivate mutating func following(_ past: LabelledValue?, _ new: LabelledValue) -> LabelledValue? {
    guard let past else { return new }
    guard past.axes.count == 4, new.axes.count == 4 else { return nil }
    return facts.concatenate([past, new], axis: 2, at: id)
  }

  /// Runs of `sizes` along `axis`, one after the other.
  fileprivate mutating func runs(
    of x: LabelledValue, axis: Int, _ sizes: [Int], original: [Int]
  ) -> [LabelledValue]? {
    let length = x.axes[axis].reduce(1) { $0 * $1.size }
    guard sizes.count == 3, original.count == 3, sizes.allSatisfy((1...max(length, 1)).contains),
      sizes.reduce(0, +) == length
    else { return nil }
    var start = 0
    return zip(sizes, original).map { size, original in
      var part = x
      part.take(axis: axis, .run(start..<start + size), keepsFactor: original > 1, at: id, &facts)
      start += size
      return part
    }
  }

  /// Attention over heads: the output as (N, key heads, share, queries, value width), the scores as
  /// (N, query heads, queries, keys).
  fileprivate mutating func attended(
    _ q: LabelledValue, _ k: LabelledValue, _ v: LabelledValue, _ heads: HeadCounts?, mask: LabelledValue?
  ) -> (output: LabelledValue, scores: LabelledValue?)? {
    let scoreLetters = [L.batch, L.head, L.share, L.query, L.key]
    guard let heads,
      var scores = facts.contract(
        [
          Operand(value: q, letters: [L.batch, L.head, L.share, L.query, L.width]),
          Operand(value: k, letters: [L.batch, L.head, L.key, L.width]),
        ], output: scoreLetters, at: id, roles: true)
    else { return nil }
    if var mask {
      // Aligned with (N, query heads, queries, keys) from the right; one for all heads demands nothing of them.
      if mask.axes.count >= 3 {
        let axis = mask.axes.count - 3
        if mask.axes[axis].isEmpty {
          mask.axes.insert([], at: axis)
        } else if let split = mask.splitting(axis: axis, into: [heads.keyExtent, heads.shareExtent], at: id, &facts) {
          mask = split
        } else {
          return nil
        }
      }
      guard mask.axes.count <= 5, let masked = facts.elementwise([scores, mask], rank: 5, at: id) else { return nil }
      scores = masked
    }
    scores = facts.mix(scores, scores.axes[4], reason: facts.reason(.mixed, id))
    guard
      let output = facts.contract(
        [
          Operand(value: scores, letters: scoreLetters),
          Operand(value: v, letters: [L.batch, L.head, L.key, L.valueWidth]),
        ], output: [L.batch, L.head, L.share, L.query, L.valueWidth], at: id, roles: true)
    else { return nil }
    let shape = scores.shape
    let merged = [
      Extent(shape[0], original: shape[0]), heads.queryExtent, Extent(shape[3], original: shape[3]),
      Extent(shape[4], original: shape[4]),
    ]
    return (output, node.output(3) == nil ? nil : scores.reshaped(merged, at: id, &facts))
  }

  /// The heads side by side again, in the form the operands came in.
  fileprivate mutating func laidOut(
    _ output: LabelledValue, packed: Bool, _ extents: [Extent]
  ) -> LabelledValue? {
    (packed ? output.permuted([0, 3, 1, 2, 4]) : output).reshaped(extents, at: id, &facts)
  }

  /// Pairs along the last axis, (i, i + half) or neighbours, joined and related to the tables' columns.
  fileprivate mutating func rotated(
    _ x: LabelledValue, by tables: [LabelledValue], interleavedName: String
  ) -> LabelledValue? {
    guard let last = x.axes.indices.last else { return nil }
    let width = x.axes[last].reduce(1) { $0 * $1.size }
    guard width % 2 == 0 else { return nil }
    let shrank = x.axes[last].contains(where: \.isShrunk)
    let half = Extent(width / 2, original: shrank ? max(width / 2, 2) : width / 2)
    let pair = Extent(2, original: 2)
    let interleaved = node.int(interleavedName, default: 0) != 0
    guard var split = x.splitting(axis: last, into: interleaved ? [half, pair] : [pair, half], at: id, &facts)
    else { return nil }
    let (pairAxis, halfAxis) = interleaved ? (last + 1, last) : (last, last + 1)
    split = facts.mix(split, split.axes[pairAxis], reason: facts.reason(.mixed, id))
    let letters = Array(0..<split.axes.count)
    var result = split
    for table in tables {
      guard let tableLast = table.axes.indices.last else { return nil }
      // Which row is used is data.
      var columns = facts.mix(
        table, table.axes[..<tableLast].flatMap { $0 }, reason: facts.reason(.indexedByData, id))
      columns.axes = [table.axes[tableLast]]
      guard
        let turned = facts.contract(
          [Operand(value: result, letters: letters), Operand(value: columns, letters: [halfAxis])], output: letters,
          at: id, roles: true)
      else { return nil }
      result = turned
    }
    var merged = result
    merged.axes.remove(at: last + 1)
    merged.axes[last] = result.axes[last] + result.axes[last + 1]
    for set in merged.sets { merged.noteOrder(set, flat: merged.axes[last], at: id, &facts) }
    return merged
  }
}
