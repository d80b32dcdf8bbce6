// What can be chosen in one group under a `group_policy`, and in which order: the removable units of every block that
// chooses on its own, weakest first.
//
// G blocks of n cells must lose the same number k each. Under `sum` and `average` the cells of equal local index are
// one unit with a common score, and every block loses the same indices. Under `none` and `count` each block ranks its
// own cells; the two differ only in how k comes from a ratio (see ManualRatio and SLAMP). Where whole blocks go, a
// block is one unit, scored by the sum or the mean of its cells.
//
// Invariant: orders are total: by score, then index. Source of the policies: NetsPresso's documentation of its pruning
// options.

/// The units of a group, in rows that each choose on their own: one row, or under `none` and `count` one per block.
struct UnitTable: Sendable {
  let rows: Int
  /// Units per row.
  let width: Int
  /// Row-major, per unit; like all that follows.
  let removable: [Bool]
  /// Channels removed with the unit.
  let cost: [Int]
  private let layout: Layout

  private enum Layout: Sendable {
    /// Unit = cell.
    case cells
    /// Unit j = cell j of every block.
    case acrossBlocks
    /// Unit q = all cells of block q.
    case wholeBlocks
  }

  init(_ group: SelectionGroup, policy: PruningOptions.GroupPolicy) {
    if group.removesWholeBlocks {
      (layout, rows, width) = (.wholeBlocks, 1, group.blocks)
    } else if group.blocks > 1, policy == .sum || policy == .average {
      (layout, rows, width) = (.acrossBlocks, 1, group.width)
    } else {
      (layout, rows, width) = (.cells, group.blocks, group.width)
    }
    let cells = 0..<group.cellCount
    let voted = cells.map { cell in group.members.contains { $0.covers?[cell] ?? true } }
    let free = cells.map { voted[$0] && (group.removable?[$0] ?? true) }
    let weights = group.weights ?? [Int](repeating: 1, count: group.cellCount)
    guard layout != .cells else {
      (removable, cost) = (free, weights)
      return
    }
    var (unitFree, unitCost) = ([Bool](repeating: true, count: width), [Int](repeating: 0, count: width))
    for cell in cells {
      let unit = layout == .wholeBlocks ? cell / group.width : cell % group.width
      unitFree[unit] = unitFree[unit] && free[cell]
      unitCost[unit] += weights[cell]
    }
    (removable, cost) = (unitFree, unitCost)
  }

  /// The scores of the units, from those of the cells.
  func scores(ofCells scores: [Double], policy: PruningOptions.GroupPolicy) -> [Double] {
    guard layout != .cells else { return scores }
    let cellsPerUnit = scores.count / width
    var total = [Double](repeating: 0, count: width)
    for (cell, score) in scores.enumerated() {
      total[layout == .wholeBlocks ? cell / cellsPerUnit : cell % width] += score
    }
    if policy != .sum { for unit in total.indices { total[unit] /= Double(cellsPerUnit) } }
    return total
  }

  /// The cells of a unit, given by its place in the table.
  func forEachCell(ofUnit unit: Int, blocks: Int, blockWidth: Int, _ body: (Int) -> Void) {
    switch layout {
    case .cells: body(unit)
    case .acrossBlocks: for block in 0..<blocks { body(block * blockWidth + unit) }
    case .wholeBlocks: for cell in unit * blockWidth..<(unit + 1) * blockWidth { body(cell) }
    }
  }

  /// The most units that every row can lose: one always stays, and so do fixed ones.
  var limit: Int { min(width - 1, (0..<rows).map { row in units(inRow: row).count { removable[$0] } }.min() ?? 0) }

  func units(inRow row: Int) -> Range<Int> { row * width..<(row + 1) * width }
}

/// Removal order: `units` by ascending score, or descending when reversed; ties by ascending index either way.
func removalOrder(of units: some Sequence<Int>, by scores: [Double], reversed: Bool = false) -> [Int] {
  // A total key: no two units compare equal, so the result does not depend on the algorithm. Scores stand beside their
  // units, so that a comparison looks up nothing.
  var keyed = units.map { (score: scores[$0], unit: $0) }
  keyed.sort { a, b in a.score == b.score ? a.unit < b.unit : (a.score < b.score) != reversed }
  return keyed.map(\.unit)
}

/// Under group policy `count`, all cells of a group are marked together, weakest first, and the block with fewest
/// marks decides for all.
struct CountMarks: Sendable {
  /// `marks[k]`: the fewest marks that leave no block with less than k.
  private let marks: [Int]
  private let cells: Int

  /// - Parameter order: the removable units of the whole table in the order they are marked.
  init(_ table: UnitTable, order: [Int]) {
    var perRow = [Int](repeating: 0, count: table.rows)
    var rowsBelow = table.rows
    var marks = [0]
    for (index, unit) in order.enumerated() where marks.count <= table.limit {
      let row = unit / table.width
      perRow[row] += 1
      if perRow[row] == marks.count {
        rowsBelow -= 1
        if rowsBelow == 0 {
          marks.append(index + 1)
          rowsBelow = perRow.count { $0 < marks.count }
        }
      }
    }
    (self.marks, cells) = (marks, table.rows * table.width)
  }

  /// What every block loses when `ratio` of all cells are marked.
  func count(ratio: Double) -> Int { marks.lastIndex { $0 <= cells.share(ratio) } ?? 0 }

  /// The smallest ratio at which every block loses `count`.
  func ratio(count: Int) -> Double { Double(marks[count]) / Double(cells) }
}
