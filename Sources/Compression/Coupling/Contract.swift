import ModelGraph

// The one rule behind most operators: an einsum on labels. Conv, grouped Conv, Gemm, MatMul, element-wise operators and
// per-channel parameters are all `contract` with other letters.

/// A letter names an index of a labelled einsum; axes that share one run together.
package typealias Letter = Int

/// One operand: a value and a letter for each of its axes.
package struct Operand {
  var value: LabelledValue
  var letters: [Letter]

  package init(value: LabelledValue, letters: [Letter]) { (self.value, self.letters) = (value, letters) }
}

extension Facts {
  /// Relates the operands and gives the value over `output`'s letters; what is not in `output` is summed away.
  ///
  /// - Returns: nil if two operands disagree about the length of a letter, or one has more or fewer axes than letters.
  package mutating func contract(
    _ operands: [Operand], output: [Letter], at node: NodeID, roles: Bool = false
  ) -> LabelledValue? {
    guard let aligned = align(operands, at: node) else { return nil }
    if roles {
      noteRoles(aligned, output: output, at: node)
      noteProduct(aligned, output: output, at: node)
    }
    noteBatches(aligned, output: output)
    if sumsLabels(aligned, output: output) { noteContraction(node) }
    relate(aligned, at: node)
    return emit(aligned, output: output, at: node)
  }

  /// Whether an index that carries labels is summed away.
  private func sumsLabels(_ operands: [Operand], output: [Letter]) -> Bool {
    operands.contains { operand in
      zip(operand.letters, operand.value.axes).contains { letter, axis in
        !output.contains(letter) && axis.contains(where: operand.value.isLabelled)
      }
    }
  }

  /// Element-wise: letters from the right, every axis in the output.
  package mutating func elementwise(_ values: [LabelledValue], rank: Int, at node: NodeID) -> LabelledValue? {
    if let form = LabelledValue.common(to: values, rank: rank) { return form }
    return contract(
      values.map { Operand(value: $0, letters: Array(rank - $0.axes.count..<rank)) }, output: Array(0..<rank),
      at: node, roles: true)
  }

  // MARK: Alignment

  /// Brings the factor lists of every letter to their common refinement and gives shared factors one identity.
  mutating func align(_ operands: [Operand], at node: NodeID) -> [Operand]? {
    guard operands.allSatisfy({ $0.letters.count == $0.value.axes.count }) else { return nil }
    var result = operands
    // Identities must differ between letters and operands before they are made to agree within a letter.
    var taken: [Factor] = []
    for k in result.indices {
      result[k].value.rename(taken, &self)
      if k + 1 < result.count { for axis in result[k].value.axes { taken += axis } }
    }
    var met: [(letter: Letter, operand: Int, axis: Int)] = []
    for (k, operand) in result.enumerated() {
      for (axis, letter) in operand.letters.enumerated() where !operand.value.axes[axis].isEmpty {
        met.append((letter, k, axis))
      }
    }
    // A handful: sorting them is quicker than hashing.
    met.sort { ($0.letter, $0.operand, $0.axis) < ($1.letter, $1.operand, $1.axis) }
    var next = 0
    while next < met.count {
      let places = met[next...].prefix { $0.letter == met[next].letter }
      next = places.endIndex
      if places.count == 1 { continue }
      let lists = places.map { result[$0.operand].value.axes[$0.axis].map(\.size) }
      let lengths = lists.map { $0.reduce(1, *) }
      // A certificate's factor of size 1 may meet a longer axis only where lengths agree; 1 broadcasts.
      let length = lengths.max() ?? 1
      guard lengths.allSatisfy({ $0 == length || $0 == 1 }) else { return nil }
      let meeting = lengths.indices.filter { lengths[$0] == length }
      guard meeting.count > 1 else { continue }
      let refined = Self.commonRefinement(meeting.map { lists[$0] })
      var shared: [Factor] = []
      for (order, m) in meeting.enumerated() {
        let place = places[places.startIndex + m]
        if let refined {
          refine(&result[place.operand].value, axis: place.axis, to: refined)
        } else {
          let count = result[place.operand].value.axes[place.axis].count
          result[place.operand].value.fuse(axis: place.axis, 0..<count, at: node, &self)
        }
        let factors = result[place.operand].value.axes[place.axis]
        if order == 0 {
          shared = factors
        } else {
          for (factor, identity) in zip(factors, shared) {
            let named = Factor(
              id: identity.id, size: factor.size, reason: factor.reason, isShrunk: factor.isShrunk || identity.isShrunk)
            result[place.operand].value.replace(factor, with: [named])
          }
        }
      }
    }
    return result
  }

  /// The coarsest list of sizes that every given list can be split to, or nil: the union of their suffix products must
  /// be a chain of divisors. Factors that shrank to 1 keep their place: what was a set over them and others still is.
  static func commonRefinement(_ lists: [[Int]]) -> [Int]? {
    if let first = lists.first, lists.allSatisfy({ $0 == first }) { return first }
    if lists.contains(where: { $0.contains(0) }) { return nil }
    var products: Set<Int> = [1]
    // By the product of what follows them, the factors of size 1.
    var units: [Int: Int] = [:]
    for list in lists {
      var product = 1
      var own: [Int: Int] = [:]
      for size in list.reversed() {
        if size == 1 { own[product, default: 0] += 1 }
        product *= size
        products.insert(product)
      }
      units.merge(own, uniquingKeysWith: max)
    }
    var previous = 1
    var sizes: [Int] = []
    for product in products.sorted() {
      guard product % previous == 0 else { return nil }
      if product > 1 { sizes.append(product / previous) }
      sizes += repeatElement(1, count: units[product] ?? 0)
      previous = product
    }
    return sizes.reversed()
  }

  /// Splits the factors of an axis so that their sizes become `sizes`, a refinement of them.
  private mutating func refine(_ value: inout LabelledValue, axis: Int, to sizes: [Int]) {
    guard value.axes[axis].map(\.size) != sizes else { return }
    var k = 0
    let old = value.axes[axis]
    for (place, factor) in old.enumerated() {
      if factor.size == 1 {
        k += 1
        continue
      }
      var parts: [Int] = []
      var product = 1
      // The last factor takes what is left, places of factors that shrank to 1 included.
      while product < factor.size || (place == old.count - 1 && k < sizes.count) {
        parts.append(sizes[k])
        product *= sizes[k]
        k += 1
      }
      if parts.count > 1 { value.split(factor, into: parts, &self) }
    }
  }

  // MARK: Relation

  /// Records what the sets of every two operands demand of each other.
  mutating func relate(_ operands: [Operand], at node: NodeID) {
    for p in operands.indices {
      let a = operands[p].value
      for s in a.sets {
        // Only operands that have one of a set's factors can demand anything of it.
        for q in operands.indices where q != p && s.factors.contains(where: operands[q].value.has) {
          let b = operands[q].value
          let partners = b.sets.filter { t in t.factors.contains(where: s.contains) }
          if partners.isEmpty {
            freezeAgainstFixed(s, b, at: node)
          } else if p < q {
            for t in partners { relate(s, of: a, with: t, of: b, at: node) }
          }
        }
      }
    }
  }

  /// `set` meets an operand in which some of its factors are present but carry no label: these indices always exist.
  private mutating func freezeAgainstFixed(_ set: LabelSet, _ other: LabelledValue, at node: NodeID) {
    let present = set.factors.indices.filter { other.has(set.factors[$0]) }
    guard let first = present.first else { return }
    let reason = fixedReason(of: set.factors[first], in: other)
    if present.count == set.factors.count { return freeze(set.labels, reason) }
    let block = freshArray(shape: present.map { set.factors[$0].size })
    freeze(block, reason)
    project(set, visible: present, onto: block, at: node)
  }

  private func fixedReason(of factor: Factor, in value: LabelledValue) -> ReasonID {
    for axis in value.axes { for f in axis where f == factor { return f.reason } }
    return factor.reason
  }

  private mutating func relate(
    _ s: LabelSet, of a: LabelledValue, with t: LabelSet, of b: LabelledValue, at node: NodeID
  ) {
    let s = extend(s, of: a, by: t)
    let t = extend(t, of: b, by: s)
    guard s.labels.count <= LabelArray.limit, t.labels.count <= LabelArray.limit else {
      let reason = self.reason(.arrayTooLarge, node)
      freeze(s.labels, reason)
      return freeze(t.labels, reason)
    }
    let common = s.factors.filter(t.contains)
    let (inS, inT) = (common.compactMap(s.position), common.compactMap(t.position))
    switch (common.count == s.factors.count, common.count == t.factors.count) {
    case (true, true):
      if isCollapsedBlocks(s, t) { return }
      equal(s.labels, t.labels.permuted(inT))
      if inT != inT.sorted() { order(t.labels, .laid(inT), at: node) }
    case (false, true):
      project(s, visible: inS, onto: t.labels.permuted(inT), at: node)
    case (true, false):
      project(t, visible: inT.sorted(), onto: s.labels.permuted(ranks(inT)), at: node)
    case (false, false):
      let block = freshArray(shape: common.map(\.size))
      project(s, visible: inS, onto: block, at: node)
      project(t, visible: inT.sorted(), onto: block.permuted(ranks(inT)), at: node)
    }
  }

  /// The order that sorts `positions`: `positions[result[k]]` ascends.
  private func ranks(_ positions: [Int]) -> [Int] { positions.indices.sorted { positions[$0] < positions[$1] } }

  /// `set` with the factors of `other` that `value` has as fixed: along them its labels are constant.
  private func extend(_ set: LabelSet, of value: LabelledValue, by other: LabelSet) -> LabelSet {
    var result = set
    for (k, factor) in other.factors.enumerated() where !result.contains(factor) {
      guard value.has(factor), !value.isLabelled(factor) else { continue }
      // Before the first factor that follows it in the other's order, or after the last that precedes it: repeats of a
      // block belong to the block, not inside what is cut from it.
      let position =
        other.factors[(k + 1)...].lazy.compactMap(result.position).first
        ?? other.factors[..<k].reversed().lazy.compactMap(result.position).first.map { $0 + 1 }
        ?? result.factors.count
      result.labels = result.labels.broadcast(at: position, size: factor.size)
      result.factors.insert(factor, at: position)
    }
    return result
  }

  // MARK: Output

  /// The value over the output letters: sets that lie wholly in it survive; of what is partly summed away, block
  /// labels remain.
  private mutating func emit(_ operands: [Operand], output: [Letter], at node: NodeID) -> LabelledValue {
    var axes: [[Factor]] = []
    for letter in output {
      // The longest list: an axis of length 1 (or a shrunken factor) broadcasts against the others.
      var best: [Factor] = []
      for operand in operands {
        for (axis, name) in operand.letters.enumerated() where name == letter {
          let list = operand.value.axes[axis]
          if best.isEmpty || list.reduce(1, { $0 * $1.size }) > best.reduce(1, { $0 * $1.size }) { best = list }
        }
      }
      axes.append(best)
    }
    func isPresent(_ factor: Factor) -> Bool { axes.contains { $0.contains(factor) } }
    let sets = operands.flatMap(\.value.sets)
    var surviving: [LabelSet] = []
    func isCovered(_ factors: [Factor]) -> Bool { surviving.contains { set in factors.allSatisfy(set.contains) } }
    for set in sets.sorted(by: { $0.factors.count > $1.factors.count })
    where set.factors.allSatisfy(isPresent) && !isCovered(set.factors) {
      surviving.append(set)
    }
    for set in sets where !set.factors.allSatisfy(isPresent) {
      let visible = set.factors.indices.filter { isPresent(set.factors[$0]) }
      let remaining = visible.map { set.factors[$0] }
      guard !remaining.isEmpty, !isCovered(remaining) else { continue }
      let block = freshArray(shape: remaining.map(\.size))
      project(set, visible: visible, onto: block, at: node)
      surviving.append(LabelSet(factors: remaining, labels: block))
    }
    return LabelledValue(axes: axes, sets: surviving, isStored: operands.allSatisfy(\.value.isStored))
  }

  /// A stored operand's letter that is summed away makes it a consumer, one that only it brings into the output a
  /// producer; whatever runs along with another operand follows.
  private mutating func noteRoles(_ operands: [Operand], output: [Letter], at node: NodeID) {
    // A scale times a weight makes a weight: what it is for shows where the weight is used.
    if operands.allSatisfy(\.value.isStored), operands.allSatisfy({ $0.letters.allSatisfy(output.contains) }) { return }
    for (k, operand) in operands.enumerated() where operand.value.isStored {
      for set in operand.value.sets {
        // A set joins the letters of all its factors; the innermost one says what it is for.
        guard let factor = set.factors.last,
          let axis = operand.value.axes.firstIndex(where: { $0.contains(factor) })
        else { continue }
        let letter = operand.letters[axis]
        let elsewhere = operands.indices.contains { other in
          other != k
            && operands[other].letters.enumerated().contains {
              $1 == letter && !operands[other].value.axes[$0].isEmpty
            }
        }
        let kind: Role.Kind = !output.contains(letter) ? .consumer : elsewhere ? .follower : .producer
        noteRole(kind, label: set.labels.first, node: node)
      }
    }
  }

  /// In a product of activations: sets over an index that runs along both operands and another that does not.
  private mutating func noteBatches(_ operands: [Operand], output: [Letter]) {
    guard operands.count > 1, !operands.contains(where: \.value.isStored),
      operands.contains(where: { $0.letters.contains { !output.contains($0) } })
    else { return }
    for (k, operand) in operands.enumerated() {
      for set in operand.value.sets where set.factors.count > 1 {
        let isShared = set.factors.map { factor in
          operands.indices.contains { $0 != k && operands[$0].value.has(factor) }
            && operand.letters.indices.contains {
              output.contains(operand.letters[$0]) && operand.value.axes[$0].contains(factor)
            }
        }
        if isShared.contains(true), isShared.contains(false) { noteBatched(set.labels) }
      }
    }
  }

  /// Two computed operands that are summed over an axis on which both have labels.
  private mutating func noteProduct(_ operands: [Operand], output: [Letter], at node: NodeID) {
    guard operands.count == 2, operands.allSatisfy({ !$0.value.isStored }) else { return }
    func summed(_ operand: Operand) -> Set<Letter> {
      Set(
        operand.letters.indices.lazy.filter { axis in
          !output.contains(operand.letters[axis]) && operand.value.axes[axis].contains(where: operand.value.isLabelled)
        }.map { operand.letters[$0] })
    }
    guard !summed(operands[0]).isDisjoint(with: summed(operands[1])) else { return }
    noteProduct(
      Product(node: node, letters: operands.map(\.letters), lengths: operands.map(\.value.shape), output: output))
  }

  // MARK: Mixing

  /// The operator's result depends on all indices along `factors`: labels must not vary along them. They are joined,
  /// and the factors leave their sets; where nothing of a set is left it is frozen.
  package mutating func mix(_ value: LabelledValue, _ factors: [Factor], reason: ReasonID) -> LabelledValue {
    var result = value
    for s in result.sets.indices.reversed() {
      var set = result.sets[s]
      guard set.factors.contains(where: factors.contains) else { continue }
      if set.factors.allSatisfy(factors.contains) {
        freeze(set.labels, reason)
        result.sets.remove(at: s)
        continue
      }
      for d in set.factors.indices.reversed() where factors.contains(set.factors[d]) {
        joinAlong(set.labels, d)
        set.labels = set.labels.selecting(d, index: 0)
        set.factors.remove(at: d)
      }
      result.sets[s] = set
    }
    return result
  }
}
