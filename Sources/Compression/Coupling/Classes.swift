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

  /// The smallest label of the class. Halves the path as it walks (Tarjan & van Leeuwen 1984, section 3).
  package mutating func find(_ label: Int32) -> Int32 {
    parent.withUnsafeMutableBufferPointer { parent in
      var x = label
      while parent[Int(x)] != x {
        let up = parent[Int(parent[Int(x)])]
        parent[Int(x)] = up
        x = up
      }
      return x
    }
  }

  package mutating func join(_ a: Int32, _ b: Int32) {
    let (x, y) = (find(a), find(b))
    guard x != y else { return }
    joins += 1
    if x < y { parent[Int(y)] = x } else { parent[Int(x)] = y }
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
