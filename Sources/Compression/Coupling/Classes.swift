/// Classes of labels joined by equalities: a union-find whose representative is always the smallest label, so that
/// class ids do not depend on the order in which facts arrive.
package struct Classes: Sendable {
  private var parent: [Int32] = []
  /// Counts joins that changed something: the fixpoint loops compare it.
  package private(set) var joins = 0

  package init() {}

  var count: Int { parent.count }

  /// Adds `count` labels, each a class of its own.
  package mutating func add(_ count: Int) -> Int32 {
    let first = Int32(parent.count)
    parent.append(contentsOf: first..<first + Int32(count))
    return first
  }

  /// The smallest label of the class.
  package mutating func find(_ label: Int32) -> Int32 {
    parent.withUnsafeMutableBufferPointer { Self.find(label, in: $0) }
  }

  /// The class of each of `labels`.
  mutating func find(_ labels: [Int32]) -> [Int32] {
    parent.withUnsafeMutableBufferPointer { parent in labels.map { Self.find($0, in: parent) } }
  }

  package mutating func join(_ a: Int32, _ b: Int32) {
    let isNew = parent.withUnsafeMutableBufferPointer { Self.join(a, b, in: $0) }
    if isNew { joins += 1 }
  }

  /// Joins every label of `a` with that of `b` at the same position.
  mutating func join(_ a: [Int32], _ b: [Int32]) {
    joins += parent.withUnsafeMutableBufferPointer { parent in
      zip(a, b).count { x, y in x != y && Self.join(x, y, in: parent) }
    }
  }

  /// Halves the path as it walks (Tarjan & van Leeuwen 1984, section 3).
  @inline(__always)
  private static func find(_ label: Int32, in parent: UnsafeMutableBufferPointer<Int32>) -> Int32 {
    var x = label
    while parent[Int(x)] != x {
      let up = parent[Int(parent[Int(x)])]
      parent[Int(x)] = up
      x = up
    }
    return x
  }

  /// - Returns: whether they were two classes.
  @inline(__always)
  private static func join(_ a: Int32, _ b: Int32, in parent: UnsafeMutableBufferPointer<Int32>) -> Bool {
    let (x, y) = (find(a, in: parent), find(b, in: parent))
    if x == y { return false }
    parent[Int(max(x, y))] = min(x, y)
    return true
  }

  /// Every label's class, with all paths compressed.
  package mutating func representatives() -> [Int32] {
    for label in parent.indices where parent[label] != Int32(label) {
      // Parents are smaller and already compressed when labels are visited in ascending order.
      parent[label] = parent[Int(parent[label])]
    }
    return parent
  }
}
