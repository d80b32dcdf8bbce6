// How the members of a coupled group, each normalized by itself, agree on one score per cell (the option `policy`).
//
// Invariant: a cell's score depends only on the members that produce it. Within one group sum and average order cells
// alike; between groups, sum favours keeping groups with many members. Source: NetsPresso's documentation of its
// pruning options (rows are normalized before they are combined, as its figures compute).

extension PruningOptions.Policy {
  /// The ranking score R of every cell: the sum or the mean of the normalized scores of the members that produce it;
  /// 0 where there is none, infinite where doubles do not reach. Under `backward` one member speaks for all, and where
  /// several are left they are averaged.
  package func combined(_ members: [MemberScores], normalization: PruningOptions.LayerNorm) -> [Double] {
    guard let cells = members.first?.scores.count else { return [] }
    var total = [Double](repeating: 0, count: cells)
    var voters = [Int](repeating: 0, count: cells)
    for member in members {
      let covered = member.covers.map { covers in covers.indices.filter { covers[$0] } } ?? Array(0..<cells)
      let scores = normalization.normalized(covered.map { member.scores[$0] })
      for (cell, score) in zip(covered, scores) {
        total[cell] += score
        voters[cell] += 1
      }
    }
    for cell in total.indices {
      if self != .sum, voters[cell] > 1 { total[cell] /= Double(voters[cell]) }
    }
    return total
  }
}
