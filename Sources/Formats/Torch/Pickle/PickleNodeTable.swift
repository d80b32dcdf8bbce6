/// Something about each of a pickle's nodes, by node.
///
/// Nodes that were read have numbers, so that a table of them is an array; those that edits have made are few, and are
/// told apart by identity. Invariant: all nodes come from one pickle, or from no other than edits made.
struct PickleNodeTable<Value> {
  private var numbered: [Value?] = []
  private var others: [ObjectIdentifier: Value] = [:]

  subscript(node: PickleNode) -> Value? {
    get {
      let number = Int(node.number)
      guard number >= 0 else { return others[node.id] }
      return number < numbered.count ? numbered[number] : nil
    }
    set {
      let number = Int(node.number)
      guard number >= 0 else {
        others[node.id] = newValue
        return
      }
      grow(to: number)
      numbered[number] = newValue
    }
  }

  private mutating func grow(to number: Int) {
    guard number >= numbered.count else { return }
    let count = max(2 * numbered.count, number + 1)
    numbered.reserveCapacity(count)
    while numbered.count < count { numbered.append(nil) }
  }
}

/// Some of a pickle's nodes.
struct PickleNodeSet {
  private var table = PickleNodeTable<Bool>()

  func contains(_ node: PickleNode) -> Bool { table[node] != nil }

  /// - Returns: whether it was not there before.
  mutating func insert(_ node: PickleNode) -> Bool {
    if table[node] != nil { return false }
    table[node] = true
    return true
  }
}
