import ModelGraph

// Fused attention states its numbers of heads and, silently, the scale 1 / sqrt(width): both must survive a change of
// the lengths they were once derived from.

extension Reconciliation {
  mutating func reconcileAttention(_ id: NodeID, _ node: Node) {
    switch node.qualifiedOperator {
    case "Attention":
      guard let x = node.input(0), let shape = old.analysis[x] else { return }
      if shape.count == 3 {
        keepHeads(id, node, "q_num_heads", of: x, axis: 2)
        if let key = node.input(1) { keepHeads(id, node, "kv_num_heads", of: key, axis: 2) }
      }
      keepScale(id, node, widths: widths(x, heads: shape.count == 4 ? shape[1] : node.int("q_num_heads")))
    case "com.microsoft.MultiHeadAttention":
      guard let x = node.input(0), let heads = node.int("num_heads") else { return }
      keepHeads(id, node, "num_heads", of: x, axis: 2)
      keepScale(id, node, widths: widths(x, heads: heads))
    case "com.microsoft.GroupQueryAttention":
      guard let x = node.input(0), let key = node.input(1), let heads = node.int("num_heads") else { return }
      keepHeads(id, node, "num_heads", of: x, axis: 2)
      keepHeads(id, node, "kv_num_heads", of: key, axis: 2)
      keepScale(id, node, widths: widths(x, heads: heads))
    case "com.microsoft.Attention": reconcilePackedAttention(id, node)
    case "RotaryEmbedding", "com.microsoft.RotaryEmbedding":
      guard let x = node.input(0), node.int("num_heads", default: 0) > 0, let rank = old.analysis[x]?.count,
        rank == 3
      else { return }
      keepHeads(id, node, "num_heads", of: x, axis: 2)
    default: break
    }
  }

  /// Query, key and value lie side by side in one weight, in equal thirds unless sizes are stated.
  private mutating func reconcilePackedAttention(_ id: NodeID, _ node: Node) {
    guard let w = node.input(1), let heads = node.int("num_heads"), heads > 0, let width = old.analysis[w]?.last,
      let kept = removal.keptPositions(of: w, axis: 1)
    else { return }
    let stated = node.ints("qkv_hidden_sizes")
    let sizes = stated ?? Array(repeating: width / 3, count: 3)
    guard sizes.count == 3, sizes.allSatisfy((0...width).contains), sizes.reduce(0, +) == width else { return }
    var (start, now, headCount) = (0, [Int](), heads)
    for (k, size) in sizes.enumerated() {
      let part = kept[start..<start + size]
      now.append(part.count { $0 })
      if k == 0 { headCount = Self.survivors(Array(part), blocks: heads) }
      start += size
    }
    if headCount != heads { add(.setAttribute(node: id, name: "num_heads", value: .int(headCount))) }
    if now != sizes, stated != nil || Set(now).count > 1 {
      add(.setAttribute(node: id, name: "qkv_hidden_sizes", value: .ints(now)))
    }
    keepScale(id, node, widths: (sizes[0] / heads, now[0] / max(headCount, 1)))
  }

  /// The attribute counts heads along an axis of `value`, of which whole ones may be gone.
  private mutating func keepHeads(_ id: NodeID, _ node: Node, _ attribute: String, of value: ValueID, axis: Int) {
    guard let heads = node.int(attribute), heads > 0, let kept = removal.keptPositions(of: value, axis: axis)
    else { return }
    let now = Self.survivors(kept, blocks: heads)
    if now != heads { add(.setAttribute(node: id, name: attribute, value: .int(now))) }
  }

  /// How many of `blocks` equal runs keep anything; all, where they cannot be of equal length.
  static func survivors(_ kept: [Bool], blocks: Int) -> Int {
    guard blocks > 0, kept.count.isMultiple(of: blocks) else { return blocks }
    let width = kept.count / blocks
    return (0..<blocks).count { b in kept[b * width..<(b + 1) * width].contains(true) }
  }

  /// The width of a head of `value` before and after, its heads packed in the last axis or lying on axis 1.
  private func widths(_ value: ValueID, heads: Int?) -> (Int, Int)? {
    guard let heads, heads > 0, let before = old.analysis[value], let after = new.analysis[value],
      let last = before.last, let lastNow = after.last
    else { return nil }
    guard before.count == 3, let kept = removal.keptPositions(of: value, axis: 2) else { return (last, lastNow) }
    return (last / heads, lastNow / max(Self.survivors(kept, blocks: heads), 1))
  }

  /// Scores stay divided by the root of the original width.
  private mutating func keepScale(_ id: NodeID, _ node: Node, widths: (before: Int, after: Int)?) {
    guard let widths, widths.before != widths.after, (node.float("scale") ?? 0) == 0 else { return }
    add(.setAttribute(node: id, name: "scale", value: .float(1 / Float(widths.before).squareRoot())))
  }

  /// Groups that are normalized together go only whole.
  mutating func reconcileNormalizedGroups(_ id: NodeID, _ node: Node) {
    guard let x = node.input(0), let groups = node.int("num_groups"), groups > 0,
      let kept = removal.keptPositions(of: x, axis: 1), kept.count % groups == 0
    else { return }
    let now = Self.survivors(kept, blocks: groups)
    if now != groups { add(.setAttribute(node: id, name: "num_groups", value: .int(now))) }
  }
}
