/// A piece of an axis. Axes are ordered lists of factors whose sizes multiply to their length; an axis of length 1 has
/// none (except in a certificate, where a factor that shrank to 1 stays visible).
package struct Factor: Hashable, Sendable {
  /// Unique within one pass.
  let id: Int
  package let size: Int
  /// Why the factor cannot be cut while it is in no set; meaningless for labelled ones.
  let reason: ReasonID
  /// In a certificate: whether the axis it lies on lost entries. What is left of it may look uniform, or like no block
  /// at all, where the original was neither.
  let isShrunk: Bool

  init(id: Int, size: Int, reason: ReasonID, isShrunk: Bool = false) {
    (self.id, self.size, self.reason, self.isShrunk) = (id, size, reason, isShrunk)
  }

  package static func == (a: Factor, b: Factor) -> Bool { a.id == b.id }
  package func hash(into hasher: inout Hasher) { hasher.combine(id) }
}

/// One label for every combination of indices of some factors: the joint identity of what is removed together.
///
/// The factors are in canonical order: the order in which a flat axis was split, outermost first.
package struct LabelSet: Sendable {
  package var factors: [Factor]
  /// Of shape `factors.map(\.size)`.
  package var labels: LabelArray

  package init(factors: [Factor], labels: LabelArray) { (self.factors, self.labels) = (factors, labels) }

  func position(of factor: Factor) -> Int? { factors.firstIndex(of: factor) }
  func contains(_ factor: Factor) -> Bool { factors.contains(factor) }
}

/// A value as the analysis sees it: factored axes and the label sets over them.
///
/// Element i disappears iff some set's label at i is removed. A factor in no set is fixed: all its indices always
/// exist. Fixed is not absent: an axis of length 1 demands nothing of what it is broadcast against.
package struct LabelledValue: Sendable {
  package var axes: [[Factor]]
  package var sets: [LabelSet]
  /// Computed from stored tensors alone.
  var isStored = false

  package init(axes: [[Factor]], sets: [LabelSet], isStored: Bool = false) {
    (self.axes, self.sets, self.isStored) = (axes, sets, isStored)
  }

  package var shape: [Int] { axes.map { $0.reduce(1) { $0 * $1.size } } }

  /// The sets in which `factor` is labelled.
  func sets(touching factor: Factor) -> [Int] { sets.indices.filter { sets[$0].contains(factor) } }
  func isLabelled(_ factor: Factor) -> Bool { sets.contains { $0.contains(factor) } }
  func has(_ factor: Factor) -> Bool { axes.contains { $0.contains(factor) } }

  /// What two operands of an element-wise operator make where one demands nothing of the other: a computed tensor and
  /// a number, or two tensors of one labelled form (x and sigmoid(x)).
  static func common(to values: [LabelledValue], rank: Int) -> LabelledValue? {
    guard values.count == 2 else { return nil }
    for (value, other) in [(values[0], values[1]), (values[1], values[0])]
    where value.axes.count == rank && !value.isStored && other.axes.allSatisfy(\.isEmpty) { return value }
    let (a, b) = (values[0], values[1])
    guard !a.isStored, !b.isStored, a.axes == b.axes, a.axes.count == rank, a.sets.count <= 1,
      a.sets.count == b.sets.count,
      zip(a.sets, b.sets).allSatisfy({ $0.factors == $1.factors && $0.labels.identity == $1.labels.identity })
    else { return nil }
    return a
  }

  /// Gives factors that are among `taken` identities of their own.
  mutating func rename(_ taken: [Factor], _ facts: inout Facts) {
    if taken.isEmpty { return }
    for a in axes.indices {
      for k in axes[a].indices where taken.contains(axes[a][k]) {
        let (old, new) = (axes[a][k], facts.factor(size: axes[a][k].size, like: axes[a][k]))
        axes[a][k] = new
        for s in sets.indices {
          if let position = sets[s].position(of: old) { sets[s].factors[position] = new }
        }
      }
    }
  }

  /// The invariant of this type, for tests: every factor of a set occurs in exactly one axis, once, and label arrays
  /// have their factors' sizes.
  package var invariantViolation: String? {
    let all = axes.flatMap { $0 }
    if Set(all).count != all.count { return "a factor occurs twice" }
    for set in sets {
      if set.labels.shape != set.factors.map(\.size) { return "a label array does not have its factors' sizes" }
      if Set(set.factors).count != set.factors.count { return "a set names a factor twice" }
      if !set.factors.allSatisfy(all.contains) { return "a set names a factor that no axis has" }
      if set.factors.isEmpty { return "an empty set" }
    }
    return nil
  }
}
