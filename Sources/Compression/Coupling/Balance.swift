import ModelGraph

/// What must stay rectangular, read off the label sets that vary along two or more factors (heads, groups of a
/// convolution, packed projections): every surviving row must keep the same number of entries.
struct Balance: Sendable {
  /// Rows of one signature. They may choose their own columns, or the same ones, as the group policy says.
  struct Family: Sendable {
    /// Distinct classes of each row, in column order; all of the same length.
    var rows: [[Int32]]
  }

  /// Rows that share a number: one count k per row for all families.
  struct Component: Sendable {
    var families: [Family]
  }

  var components: [Component] = []
  /// Classes in rows that nothing can be taken from, with the node of the row.
  var frozen: [(label: Int32, node: NodeID)] = []
  /// Columns to join because rows overlap irregularly (an axis read as 4 x 8 here and as 8 x 4 there): any subset of
  /// the joined classes is balanced.
  var joins: [(Int32, Int32)] = []

  private struct Row {
    var classes: [Int32]
    var multiplicity: Int?
    var node: NodeID
    var matrix: Int

    /// Distinct entries in order of first appearance, and how often each occurs if all occur equally often.
    init(entries: [Int32], node: NodeID, matrix: Int) {
      (self.node, self.matrix) = (node, matrix)
      if zip(entries, entries.dropFirst()).allSatisfy(<) {
        (classes, multiplicity) = (entries, 1)
        return
      }
      var counts: [Int32: Int] = [:]
      classes = []
      for entry in entries {
        if counts.updateValue((counts[entry] ?? 0) + 1, forKey: entry) == nil { classes.append(entry) }
      }
      let distinct = Set(counts.values)
      multiplicity = distinct.count == 1 ? distinct.first : nil
    }
  }

  /// A list of classes as a key. Lists are as long as layers are wide: a few entries are hashed, all are compared.
  private struct Entries: Hashable {
    let all: [Int32]

    func hash(into hasher: inout Hasher) {
      hasher.combine(all.count)
      for k in [0, all.count / 2, all.count - 1] where all.indices.contains(k) { hasher.combine(all[k]) }
    }
  }

  /// - Parameters:
  ///   - blocks: label arrays over several factors, as recorded during the pass.
  ///   - classOf: the class of every label.
  ///   - isFrozen: per class.
  ///   - signature: per class, what it cuts.
  init(
    blocks: [(labels: LabelArray, node: NodeID)], classOf: [Int32], isFrozen: (Int32) -> Bool,
    signature: (Int32) -> UInt64
  ) {
    var matrices: [(columns: [[Int32]], rows: [Int])] = []
    var rows: [Row] = []
    var seen: Set<Entries> = []
    // Values that only pass a label array on share its storage: look at each once.
    var met: Set<LabelArray.Identity> = []
    for (labels, node) in blocks where met.insert(labels.identity).inserted {
      let classes = labels.mapping { classOf[Int($0)] }
      // What stays whole is balanced.
      var canMove = false
      classes.forEach { if !isFrozen($0) { canMove = true } }
      guard canMove, let matrix = Self.matrix(classes) else { continue }
      guard seen.insert(Entries(all: [Int32(matrix.width)] + matrix.entries)).inserted else { continue }
      let count = matrix.entries.count / matrix.width
      var mine: [Int] = []
      var contents: Set<Entries> = []
      for r in 0..<count {
        let entries = Array(matrix.entries[r * matrix.width..<(r + 1) * matrix.width])
        guard contents.insert(Entries(all: entries)).inserted else { continue }
        mine.append(rows.count)
        rows.append(Row(entries: entries, node: node, matrix: matrices.count))
      }
      guard mine.count > 1 else {
        rows.removeLast(mine.count)
        continue
      }
      let columns = (0..<matrix.width).map { c in (0..<count).map { matrix.entries[$0 * matrix.width + c] } }
      matrices.append((columns, mine))
    }
    for component in Self.components(of: rows, labelCount: classOf.count) {
      assemble(component.map { rows[$0] }, matrices.map(\.columns), isFrozen, signature)
    }
  }

  /// The array with ineffective factors dropped and the cut factor last; nil with fewer than two effective factors.
  private static func matrix(_ classes: LabelArray) -> (entries: [Int32], width: Int)? {
    let effective = Facts.varyingDimensions(classes)
    guard effective.count > 1, let cut = effective.last else { return nil }
    var reduced = classes
    for d in (0..<classes.rank).reversed() where !effective.contains(d) { reduced = reduced.selecting(d, index: 0) }
    return (reduced.flattened(), classes.shape[cut])
  }

  /// Rows connected through shared classes, in order of their first row.
  private static func components(of rows: [Row], labelCount: Int) -> [[Int]] {
    var parent = Array(rows.indices)
    func find(_ x: Int) -> Int {
      var x = x
      while parent[x] != x { x = parent[x] }
      return x
    }
    func join(_ x: Int, _ y: Int) {
      let (a, b) = (find(x), find(y))
      parent[max(a, b)] = min(a, b)
    }
    // Per class, the last row that has it.
    var owner = [Int32](repeating: -1, count: rows.isEmpty ? 0 : labelCount)
    var firstOfMatrix: [Int: Int] = [:]
    for (r, row) in rows.enumerated() {
      for entry in row.classes {
        let other = Int(owner[Int(entry)])
        if other >= 0, other != r { join(r, other) }
        owner[Int(entry)] = Int32(r)
      }
      // Rows of one matrix share their number even when they share no class.
      if let first = firstOfMatrix[row.matrix] { join(r, first) } else { firstOfMatrix[row.matrix] = r }
    }
    var members: [Int: [Int]] = [:]
    for r in rows.indices { members[find(r), default: []].append(r) }
    return members.keys.sorted().compactMap { members[$0] }
  }

  private mutating func assemble(
    _ rows: [Row], _ columns: [[[Int32]]], _ isFrozen: (Int32) -> Bool, _ signature: (Int32) -> UInt64
  ) {
    if rows.contains(where: { $0.classes.allSatisfy(isFrozen) }) {
      // A row that keeps everything keeps everything everywhere.
      for row in rows { for label in row.classes where !isFrozen(label) { frozen.append((label, row.node)) } }
      return
    }
    var distinct: [Row] = []
    var contents: Set<Entries> = []
    for row in rows where contents.insert(Entries(all: row.classes.sorted())).inserted { distinct.append(row) }
    let width = distinct[0].classes.count
    let all = distinct.flatMap(\.classes).sorted()
    let disjoint = zip(all, all.dropFirst()).allSatisfy(<)
    let multiplicities = Set(distinct.map(\.multiplicity))
    let uniform = distinct.allSatisfy { row in
      let free = row.classes.filter { !isFrozen($0) }
      return row.classes.count == width && row.multiplicity != nil
        && free.allSatisfy { signature($0) == free.first.map(signature) }
    }
    guard disjoint, uniform, multiplicities.count == 1 else {
      let concerned = Set(rows.map(\.matrix))
      for m in concerned.sorted() {
        for column in columns[m] { for label in column.dropFirst() { joins.append((column[0], label)) } }
      }
      return
    }
    guard distinct.count > 1 else { return }
    var families: [Family] = []
    var familyOf: [UInt64: Int] = [:]
    for row in distinct {
      guard let free = row.classes.first(where: { !isFrozen($0) }) else { continue }
      if let f = familyOf[signature(free)] {
        families[f].rows.append(row.classes)
      } else {
        familyOf[signature(free)] = families.count
        families.append(Family(rows: [row.classes]))
      }
    }
    components.append(Component(families: families))
  }
}
