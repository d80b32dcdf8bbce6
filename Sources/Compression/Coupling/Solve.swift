import Glibc
import ModelGraph

// The short fixpoint that finishes the classes once the pass is over. It runs over the recorded facts, not over the
// graph, so options that change it cost milliseconds and no new pass.

extension Facts {
  /// Solves projections and orders.
  ///
  /// Phase 1 uses only what holds whatever is cut; phase 2 then chooses cut factors among as few effective factors as
  /// possible. (Orders depend on the cut: earlier they would tie blocks that phase 1 has yet to make one class.)
  /// - Parameter outer: label arrays whose whole blocks are pruned instead of indices within them
  ///   (`reshape_channel_axis` -2 or 0): joined along their last effective factor.
  package mutating func solve(joiningInner outer: [LabelArray] = []) {
    let projections = projections.map(ProjectionRows.init)
    joinUniformRows(projections)
    if !outer.isEmpty {
      // Which factor is the inner one is decided for all before any is joined: the same labels come again under other
      // axes, and what is then left of them would be taken for another inner factor.
      let inner = outer.map { labels in
        let effective = effectiveFactors(labels)
        return effective.count > 1 ? effective.last : nil
      }
      for (labels, d) in zip(outer, inner) { if let d { joinAlong(labels, d) } }
      joinUniformRows(projections)
    }
    var before: Int
    var frozenBefore: Int
    repeat {
      before = classes.joins
      frozenBefore = frozenByBlocks
      for order in orders { solve(order) }
      for projection in projections { solve(projection) }
    } while classes.joins != before || frozenByBlocks != frozenBefore
    freezePicks()
  }

  /// Checks the projections of a certificate: what is left of a joint set must agree with what it is seen as, except
  /// where that is a block that always stays (one whose row shrank to a single entry would look as if it had to go).
  /// Orders need no check: equalities see any real disorder.
  mutating func certify(isFrozen: (Int32) -> Bool) {
    let projections = projections.map(ProjectionRows.init)
    var before: Int
    repeat {
      before = classes.joins
      for rows in projections {
        let projection = rows.projection
        current = projection.node
        // A factor that lost entries varied, even if what is left of it does not.
        let varying = Set(
          effectiveFactors(projection.labels) + projection.shrunk.indices.filter { projection.shrunk[$0] })
        let cutIsVisible = varying.max().map(projection.visible.contains) ?? false
        let rowsLostEntries = projection.shrunk.indices.contains {
          projection.shrunk[$0] && !projection.visible.contains($0)
        }
        rows.forEach { row, label in
          let seen = find(label)
          if seen < certifiedLabels, isFrozen(seen) { return }
          if !rowsLostEntries, isUniform(row) {
            joinClasses(label, row[row.startIndex])
          } else if cutIsVisible {
            for other in row { joinClasses(label, other) }
          }
        }
      }
    } while classes.joins != before && faults.isEmpty
  }

  private mutating func joinUniformRows(_ projections: [ProjectionRows]) {
    var before: Int
    repeat {
      before = classes.joins
      for rows in projections {
        rows.forEach { row, label in if isUniform(row) { joinClasses(label, row[row.startIndex]) } }
      }
    } while classes.joins != before
  }

  private mutating func solve(_ rows: ProjectionRows) {
    let effective = effectiveFactors(rows.projection.labels)
    let cutIsVisible = effective.last.map(rows.projection.visible.contains) ?? false
    let reason = self.reason(.onePerBlock, rows.projection.node)
    rows.forEach { row, label in
      if isUniform(row) {
        joinClasses(label, row[row.startIndex])
      } else if cutIsVisible {
        for other in row { joinClasses(label, other) }
      } else if frozen[Int(label)] < 0 {
        // Entries of the block go one by one and never all: the block stays.
        freeze(label, reason)
        frozenByBlocks += 1
      }
    }
  }

  private mutating func solve(_ order: Order) {
    let effective = effectiveFactors(order.labels)
    guard effective.count > 1, let cut = effective.last else { return }
    switch order.kind {
    case .laid(let laid): if laid.last(where: effective.contains) == cut { return }
    case .stepped(let d, let step):
      let pieces = order.labels.splitting(d, into: [order.labels.shape[d] / step, step])
      if !effectiveFactors(pieces).contains(d + 1) { return }
    case .picked: break
    }
    for d in effective where d != cut { joinAlong(order.labels, d) }
  }

  /// What is taken alone stays. It may be one of several that all go together: then, whatever stays, one of these is
  /// there to take.
  package mutating func freezePicks() {
    for pick in picks where effectiveFactors(pick.labels).last == pick.dimension {
      freeze(pick.labels.selecting(pick.dimension, index: pick.index), reason(.onlyIndexTaken, pick.node))
    }
  }

  private mutating func isUniform(_ row: ArraySlice<Int32>) -> Bool {
    let first = find(row[row.startIndex])
    return row.allSatisfy { find($0) == first }
  }

  /// The factors along which the labels, read through their classes, vary; ascending.
  mutating func effectiveFactors(_ labels: LabelArray) -> [Int] {
    let roots = find(labels.flattened())
    return Self.varyingDimensions(LabelArray(roots, shape: labels.shape))
  }

  /// The dimensions along which a dense array varies.
  static func varyingDimensions(_ labels: LabelArray) -> [Int] {
    labels.flattened().withUnsafeBufferPointer { flat in
      guard let first = flat.baseAddress, !flat.isEmpty else { return [] }
      var inner = flat.count
      return labels.shape.indices.filter { d in
        let block = inner
        inner /= labels.shape[d]
        // What lies along a dimension is the same where everything equals what comes one index later.
        let length = (block - inner) * MemoryLayout<Int32>.stride
        return length > 0
          && stride(from: 0, to: flat.count, by: block).contains {
            memcmp(first + $0, first + $0 + inner, length) != 0
          }
      }
    }
  }
}

/// A projection laid out row by row, which the fixpoint reads again and again.
private struct ProjectionRows {
  let projection: Facts.Projection
  /// Visible factors first, so that rows are runs of the remaining ones.
  private let labels: [Int32]
  private let onto: [Int32]
  private let width: Int

  init(_ projection: Facts.Projection) {
    self.projection = projection
    let hidden = (0..<projection.labels.rank).filter { !projection.visible.contains($0) }
    labels = projection.labels.permuted(projection.visible + hidden).flattened()
    onto = projection.onto.flattened()
    width = hidden.reduce(1) { $0 * projection.labels.shape[$1] }
  }

  /// Calls `body` with every row (the labels at one visible index) and the label it is seen as.
  func forEach(_ body: (ArraySlice<Int32>, Int32) -> Void) {
    for index in onto.indices { body(labels[index * width..<(index + 1) * width], onto[index]) }
  }
}
