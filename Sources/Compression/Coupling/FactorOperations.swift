import ModelGraph

// Data movement on labelled values: split, permute, take, fuse, reshape. None of them relates labels; where a movement
// cannot be expressed, it freezes what it touches and says why.

/// The length of an axis that a reshape makes, and whether it carries a factor: axes of length 1 do so only if they
/// were longer in the original model (certificates run on shrunken axes).
package struct Extent: Sendable {
  var length: Int
  var hasFactor: Bool
  /// In a certificate: whether the axis was longer, so that it must hold a factor that lost entries.
  var isShrunk: Bool
  package init(_ length: Int, original: Int) {
    (self.length, hasFactor, isShrunk) = (length, length > 1 || original > 1, length < original)
  }
}

extension LabelledValue {
  /// Replaces `factor` by factors of `sizes`, outermost first, in its axis and in its sets.
  /// - Returns: the new factors.
  @discardableResult
  package mutating func split(_ factor: Factor, into sizes: [Int], _ facts: inout Facts) -> [Factor] {
    let parts = sizes.map { facts.factor(size: $0, like: factor) }
    replace(factor, with: parts)
    return parts
  }

  mutating func replace(_ factor: Factor, with parts: [Factor]) {
    for a in axes.indices {
      if let k = axes[a].firstIndex(of: factor) { axes[a].replaceSubrange(k...k, with: parts) }
    }
    for s in sets.indices {
      guard let k = sets[s].position(of: factor) else { continue }
      sets[s].labels = sets[s].labels.splitting(k, into: parts.map(\.size))
      sets[s].factors.replaceSubrange(k...k, with: parts)
    }
  }

  package func permuted(_ order: [Int]) -> LabelledValue {
    var copy = self
    copy.axes = order.map { axes[$0] }
    return copy
  }

  /// Makes one factor of the factors of axis `axis` that lie in `range` (positions in that axis).
  package mutating func fuse(axis: Int, _ range: Range<Int>, at node: NodeID, _ facts: inout Facts) {
    let parts = Array(axes[axis][range])
    guard parts.count > 1 else { return }
    let size = parts.reduce(1) { $0 * $1.size }
    if size == 0 { sets.removeAll { set in parts.contains(where: set.contains) } }
    let touched = sets.indices.filter { s in parts.contains { sets[s].contains($0) } }
    guard let s = touched.first else {
      axes[axis].replaceSubrange(range, with: [facts.factor(size: size, like: parts)])
      return
    }
    var full = sets[s]
    if touched.count == 1 {
      for part in parts where !full.contains(part) {
        full.labels = full.labels.broadcast(at: full.factors.count, size: part.size)
        full.factors.append(part)
      }
    }
    if touched.count > 1 || full.labels.count > LabelArray.limit {
      let reason = facts.reason(touched.count > 1 ? .axesMerged : .arrayTooLarge, node)
      for s in touched { facts.freeze(sets[s].labels, reason) }
      for s in touched.reversed() { sets.remove(at: s) }
      axes[axis].replaceSubrange(range, with: [facts.factor(size: size, like: parts, reason: reason)])
      return
    }
    noteOrder(sets[s], flat: parts, at: node, &facts)
    let fused = facts.factor(size: size, like: parts)
    // The fused factor takes the place of the last of its parts in canonical order.
    let others = full.factors.filter { !parts.contains($0) }
    let lastPart = full.factors.lastIndex { parts.contains($0) } ?? 0
    let before = full.factors[..<lastPart].filter { !parts.contains($0) }.count
    let order = (others[..<before] + parts[...] + others[before...]).map { factor in
      full.factors.firstIndex(of: factor) ?? 0
    }
    let shape = others[..<before].map(\.size) + [size] + others[before...].map(\.size)
    sets[s] = LabelSet(
      factors: Array(others[..<before]) + [fused] + Array(others[before...]),
      labels: LabelArray(full.labels.permuted(order).flattened(), shape: shape))
    axes[axis].replaceSubrange(range, with: [fused])
  }

  /// Records that factors of one set now lie flat in the order of `flat`, where that is not the canonical one.
  func noteOrder(_ set: LabelSet, flat: [Factor], at node: NodeID, _ facts: inout Facts) {
    let laid = flat.compactMap { set.position(of: $0) }
    if laid.count > 1, laid != laid.sorted() {
      let rest = set.factors.indices.filter { !laid.contains($0) }
      facts.order(set.labels, .laid(rest + laid), at: node)
    }
  }

  /// The positions `positions` of axis `axis`, in that order: Slice, Split, Gather with a constant index.
  /// A run of whole blocks of the outermost factor cuts that factor alone.
  /// - Parameter keepsFactor: a single position still makes an axis with a factor, as it does in a certificate where
  ///   there were several.
  package mutating func take(
    axis: Int, _ positions: Positions, keepsFactor: Bool = false, at node: NodeID, _ facts: inout Facts
  ) {
    let length = axes[axis].reduce(1) { $0 * $1.size }
    if case .run(let run) = positions, run == 0..<length { return }
    let count = positions.count
    if count == 0 { return takeNothing(axis: axis, at: node, &facts) }
    guard axes[axis].contains(where: isLabelled) else {
      // Lengths of fixed axes are whatever a file claims: nothing here grows with them.
      let reason = axes[axis].first?.reason ?? facts.reason(.expanded, node)
      axes[axis] = count > 1 || keepsFactor ? [facts.factor(size: count, like: axes[axis], reason: reason)] : []
      return
    }
    if axes[axis].count > 1 {
      let inner = length / axes[axis][0].size
      if case .run(let run) = positions, run.lowerBound % inner == 0, run.upperBound % inner == 0 {
        let outer = axes[axis][0]
        takeFactor(outer, indices: Array(run.lowerBound / inner..<run.upperBound / inner), at: node, &facts)
        return
      }
      fuse(axis: axis, 0..<axes[axis].count, at: node, &facts)
    }
    guard axes[axis].contains(where: isLabelled) else {
      return take(axis: axis, positions, keepsFactor: keepsFactor, at: node, &facts)
    }
    takeFactor(axes[axis][0], indices: positions.indices, keepsFactor: keepsFactor, at: node, &facts)
  }

  /// No position of axis `axis`: what was labelled along other axes too is still seen there.
  private mutating func takeNothing(axis: Int, at node: NodeID, _ facts: inout Facts) {
    let gone = axes[axis]
    axes[axis] = [facts.factor(size: 0, like: gone)]
    let touched = sets.filter { set in gone.contains(where: set.contains) }
    sets.removeAll { set in gone.contains(where: set.contains) }
    for set in touched {
      let visible = set.factors.indices.filter { !gone.contains(set.factors[$0]) }
      let rest = visible.map { set.factors[$0] }
      guard !rest.isEmpty, !sets.contains(where: { rest.allSatisfy($0.contains) }) else { continue }
      let block = facts.freshArray(shape: rest.map(\.size))
      facts.project(set, visible: visible, onto: block, at: node)
      sets.append(LabelSet(factors: rest, labels: block))
    }
  }

  /// Positions along an axis.
  package enum Positions {
    case run(Range<Int>)
    case list([Int])

    init(_ selection: SliceSelection) {
      self =
        selection.step == 1
        ? .run(selection.start..<selection.start + selection.count) : .list(selection.positions)
    }

    var count: Int {
      switch self {
      case .run(let run): run.count
      case .list(let list): list.count
      }
    }

    var indices: [Int] {
      switch self {
      case .run(let run): Array(run)
      case .list(let list): list
      }
    }
  }

  private mutating func takeFactor(
    _ factor: Factor, indices: [Int], keepsFactor: Bool = false, at node: NodeID, _ facts: inout Facts
  ) {
    let contiguous = zip(indices, indices.dropFirst()).allSatisfy { $1 == $0 + 1 }
    let single = indices.count == 1 && !keepsFactor
    let part =
      single
      ? nil
      : facts.factor(size: indices.count, reason: factor.reason, isShrunk: factor.isShrunk || indices.count == 1)
    for a in axes.indices {
      if let k = axes[a].firstIndex(of: factor) { axes[a].replaceSubrange(k...k, with: part.map { [$0] } ?? []) }
    }
    var remaining: [LabelSet] = []
    for var set in sets {
      guard let k = set.position(of: factor) else {
        remaining.append(set)
        continue
      }
      if set.factors.count > 1 {
        if !contiguous {
          let step = indices[1] - indices[0]
          let isStepped =
            step != 0 && indices.count * abs(step) == factor.size
            && zip(indices, indices.dropFirst()).allSatisfy { $1 - $0 == step }
          facts.order(set.labels, isStepped ? .stepped(dimension: k, step: abs(step)) : .picked, at: node)
        }
        if contiguous, let start = indices.first, start > 0 {
          // The part before `start` must lose equally many in every block, or one number could not say where to begin.
          facts.keepRectangular(set.labels.taking(k, indices: Array(0..<start)), at: node)
        }
      }
      if set.labels.count / max(factor.size, 1) * indices.count > LabelArray.limit {
        facts.freeze(set.labels, facts.reason(.arrayTooLarge, node))
        continue
      }
      if let part {
        set.labels = set.labels.taking(k, indices: indices)
        set.factors[k] = part
        remaining.append(set)
      } else {
        facts.pick(set.labels, k, index: indices[0], at: node)
        set.labels = set.labels.selecting(k, index: indices[0])
        set.factors.remove(at: k)
        if !set.factors.isEmpty { remaining.append(set) }
      }
    }
    sets = remaining
  }

  /// Drops the factors of size 1 on axis `axis`: in a certificate, what is left of an axis that had only one entry.
  mutating func dropUnits(ofAxis axis: Int) {
    for factor in axes[axis] where factor.size == 1 {
      for s in sets.indices.reversed() {
        guard let k = sets[s].position(of: factor) else { continue }
        sets[s].labels = sets[s].labels.selecting(k, index: 0)
        sets[s].factors.remove(at: k)
        if sets[s].factors.isEmpty { sets.remove(at: s) }
      }
    }
    axes[axis].removeAll { $0.size == 1 }
  }

  /// Forgets the factor, freezing nothing: its axis gets length 1 (reductions, after the sets were dealt with).
  mutating func dropFactors(ofAxis axis: Int) { axes[axis] = [] }

  /// The same elements under other axis lengths (row-major): Reshape, Flatten, Squeeze, Unsqueeze, views inside rules.
  ///
  /// Takes whole factors while they divide what is needed, splits one where the need divides it; where neither divides
  /// (24 x 16 read as 16 x 24) the smallest run of factors and targets with equal products is fused and then split.
  /// - Returns: nil if the element counts differ or an axis is empty.
  package func reshaped(_ targets: [Extent], at node: NodeID, _ facts: inout Facts) -> LabelledValue? {
    var result = self
    result.axes = [axes.flatMap { $0 }]
    guard result.axes[0].reduce(1, { $0 * $1.size }) == targets.reduce(1, { $0 * $1.length }),
      targets.allSatisfy({ $0.length > 0 })
    else { return nil }
    var newAxes: [[Factor]] = []
    var next = 0  // position in result.axes[0] of the first factor not yet given to an axis
    var t = 0
    while t < targets.count {
      var need = targets[t].length
      var axis: [Factor] = []
      var failed = false
      while need > 1, next < result.axes[0].count {
        let factor = result.axes[0][next]
        if need % factor.size == 0 {
          axis.append(factor)
          need /= factor.size
          next += 1
        } else if factor.size % need == 0 {
          axis.append(result.split(factor, into: [need, factor.size / need], &facts)[0])
          need = 1
          next += 1
        } else {
          failed = true
          break
        }
      }
      if failed {
        // Fuse the smallest run with equal products, beginning with this target.
        let start = next - axis.count
        var (factorProduct, targetProduct) = (1, 1)
        var (f, run) = (start, t)
        repeat {
          if factorProduct <= targetProduct, f < result.axes[0].count {
            factorProduct *= result.axes[0][f].size
            f += 1
          } else if run < targets.count {
            targetProduct *= targets[run].length
            run += 1
          } else {
            return nil
          }
        } while factorProduct != targetProduct || run == t
        result.fuse(axis: 0, start..<f, at: node, &facts)
        let fused = result.axes[0][start]
        let sizes = targets[t..<run].filter { $0.length > 1 }.map(\.length)
        let parts = sizes.count > 1 ? result.split(fused, into: sizes, &facts) : [fused]
        var k = 0
        for target in targets[t..<run] {
          newAxes.append(target.length > 1 ? [parts[k]] : [])
          if target.length > 1 { k += 1 }
        }
        next = start + parts.count
        t = run
        continue
      }
      if targets[t].length == 1, targets[t].hasFactor {
        axis = result.unitFactor(&next, newAxes: newAxes, &facts)
      } else {
        // A factor that shrank to 1 stays with the axis of the factors it shares a set with, or that has lost entries
        // and shows no other factor that did, unless the next target asks for it.
        let wanted = t + 1 < targets.count && targets[t + 1].length == 1 && targets[t + 1].hasFactor
        while !wanted, next < result.axes[0].count, result.axes[0][next].size == 1,
          t == targets.count - 1 || result.shareSet(result.axes[0][next], axis)
            || (targets[t].isShrunk && !axis.contains(where: \.isShrunk))
        {
          axis.append(result.axes[0][next])
          next += 1
        }
      }
      newAxes.append(axis)
      t += 1
    }
    result.axes = newAxes
    for set in result.sets {
      for axis in newAxes { result.noteOrder(set, flat: axis, at: node, &facts) }
      facts.keepRectangular(set.labels, at: node)
    }
    return result
  }

  /// Axis `axis` read as axes of `targets`.
  func splitting(
    axis: Int, into targets: [Extent], at node: NodeID, _ facts: inout Facts
  ) -> LabelledValue? {
    guard axes.indices.contains(axis) else { return nil }
    var alone = self
    alone.axes = [axes[axis]]
    guard var result = alone.reshaped(targets, at: node, &facts) else { return nil }
    result.axes = Array(axes[..<axis]) + result.axes + Array(axes[(axis + 1)...])
    return result
  }

  private func shareSet(_ factor: Factor, _ others: [Factor]) -> Bool {
    sets.contains { set in set.contains(factor) && others.contains(where: set.contains) }
  }

  /// The factor of size 1 for an axis that shrank to 1: the next one in line, or split off its neighbour.
  private mutating func unitFactor(_ next: inout Int, newAxes: [[Factor]], _ facts: inout Facts) -> [Factor] {
    if next < axes[0].count, axes[0][next].size == 1 {
      next += 1
      return [axes[0][next - 1]]
    }
    if next > 0 {
      // Split off the factor taken last: it stays where it is and gains an inner neighbour of size 1.
      let last = axes[0][next - 1]
      let unit = facts.factor(size: 1, reason: last.reason, isShrunk: true)
      axes[0].insert(unit, at: next)
      for s in sets.indices {
        guard let k = sets[s].position(of: last) else { continue }
        sets[s].labels = sets[s].labels.splitting(k, into: [last.size, 1])
        sets[s].factors.insert(unit, at: k + 1)
      }
      next += 1
      return [unit]
    }
    guard let front = axes[0].first else { return [] }
    let unit = facts.factor(size: 1, reason: front.reason, isShrunk: true)
    axes[0].insert(unit, at: 0)
    for s in sets.indices {
      guard let k = sets[s].position(of: front) else { continue }
      sets[s].labels = sets[s].labels.splitting(k, into: [1, front.size])
      sets[s].factors.insert(unit, at: k)
    }
    next += 1
    return [unit]
  }
}
