/// Shapes of the fused Attention operator (operator set 23 on): query, key and value as (N, heads, length, width), or
/// with the heads packed as (N, length, heads * width).
enum AttentionShapes {
  static let rules: [String: ShapeRule] = [
    "Attention": attention,
    // ONNX Runtime's. (Its RotaryEmbedding is shaped like its input, as the standard one is.)
    "com.microsoft.RotaryEmbedding": ElementwiseShapes.sameAsFirst,
    "com.microsoft.Attention": packedAttention, "com.microsoft.MultiHeadAttention": multiHeadAttention,
    "com.microsoft.GroupQueryAttention": groupQueryAttention,
  ]

  /// Input (N, length, D), weight (D, q | k | v).
  @Sendable private static func packedAttention(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let w = call.shape(1), x.count == 3, w.count == 2 else { return [nil] }
    let sizes = call.node.ints("qkv_hidden_sizes") ?? Array(repeating: w[1] / 3, count: 3)
    guard x[2] == w[0], sizes.count == 3, sizes.allSatisfy((0...w[1]).contains), w[1] == sizes.reduce(0, +),
      let heads = call.node.int("num_heads"), heads > 0,
      sizes.allSatisfy({ $0.isMultiple(of: heads) })
    else {
      throw call.malformed("the weight \(w) does not fit the input \(x) and its heads")
    }
    return [[x[0], x[1], sizes[2]]]
  }

  /// Query (N, length, D); key and value likewise or with heads apart. Packed operands have shapes we do not read.
  @Sendable private static func multiHeadAttention(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let query = call.shape(0), query.count == 3, let value = call.shape(2),
      let heads = call.node.int("num_heads"),
      heads > 0, value.count == 3 || value.count == 4
    else { return [nil] }
    let width = value.count == 4 ? value[1] * value[3] : value[2]
    let output = [query[0], query[1], width]
    guard let key = call.shape(1), key.count == value.count, key.count == 3 || key.count == 4 else { return [output] }
    let pastKeys = call.isPresent(6) ? call.shape(6) : [query[0], heads, 0, 0]
    guard let pastKeys, pastKeys.count == 4 else { return [output] }
    let past = pastKeys[2]
    func present(_ shape: [Int]) throws(Failure) -> [Int] {
      let (length, width) = shape.count == 4 ? (shape[2], shape[3]) : (shape[1], shape[2] / heads)
      return [query[0], heads, try call.length(Int128(length) + Int128(past), "the keys' axis 2"), width]
    }
    return [output, try present(key), try present(value)]
  }

  /// The cache's length depends on data unless it comes in whole.
  @Sendable private static func groupQueryAttention(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let query = call.shape(0), query.count == 3, call.isPresent(1) else { return [nil] }
    return [query]
  }

  /// Output, keys and values with the past before them, scores.
  @Sendable private static func attention(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let query = call.shape(0), let key = call.shape(1), let value = call.shape(2) else { return [nil] }
    guard let heads = AttentionHeads(node: call.node, query: query, key: key, value: value) else {
      throw call.malformed("the query \(query), key \(key) and value \(value) do not fit together")
    }
    let output =
      query.count == 4
      ? [heads.batch, heads.queryHeads, heads.queries, heads.valueWidth]
      : [heads.batch, heads.queries, heads.queryHeads * heads.valueWidth]
    guard !call.isPresent(4) || call.shape(4) != nil else { return [output] }
    let past = call.shape(4) ?? [heads.batch, heads.keyHeads, 0, heads.width]
    guard past.count == 4 else { throw call.malformed("the past keys are \(past) where 4 axes are expected") }
    let length = try call.length(Int128(past[2]) + Int128(heads.keys), "the keys' axis 2")
    return [
      output, [heads.batch, heads.keyHeads, length, heads.width],
      [heads.batch, heads.keyHeads, length, heads.valueWidth],
      [heads.batch, heads.queryHeads, heads.queries, length],
    ]
  }
}

/// The lengths that the operands of an attention agree on.
struct AttentionHeads {
  let batch: Int
  let queryHeads: Int
  let keyHeads: Int
  let queries: Int
  let keys: Int
  /// Of a head, in queries and keys.
  let width: Int
  let valueWidth: Int

  /// nil if a shape is unknown or the shapes do not fit together.
  init?(node: Node, query: [Int]?, key: [Int]?, value: [Int]?) {
    func split(_ shape: [Int]?, _ attribute: String) -> [Int]? {
      guard let shape else { return nil }
      if shape.count == 4 { return shape }
      guard shape.count == 3, let heads = node.int(attribute), heads > 0, shape[2].isMultiple(of: heads) else {
        return nil
      }
      return [shape[0], heads, shape[1], shape[2] / heads]
    }
    guard let q = split(query, "q_num_heads"), let k = split(key, "kv_num_heads"),
      let v = split(value, "kv_num_heads"), query?.count == key?.count, key?.count == value?.count,
      q[0] == k[0], k[0] == v[0], k[1] == v[1], k[2] == v[2], q[3] == k[3], k[1] > 0, q[1].isMultiple(of: k[1])
    else { return nil }
    (batch, queryHeads, keyHeads, queries, keys, width, valueWidth) = (q[0], q[1], k[1], q[2], k[2], q[3], v[3])
  }
}
