import ModelGraph

/// What a choice of classes leaves of a set of labels.
enum KeptSet: Equatable {
  case whole
  /// Per factor its new size.
  case sizes([Int])
  case notRectangular
  case vanishes
}

/// The classes of a label set, prepared for being asked what is left of it.
struct ClassGrid: Hashable, Sendable {
  /// Dense, over factors of `sizes`.
  let classes: [Int32]
  let sizes: [Int]
  /// The factors along which the classes vary, ascending; the last is the one that is cut. Empty for a single factor,
  /// of which it does not matter.
  private let effective: [Int]

  init(_ set: LabelSet, classOf: [Int32]) {
    let grid = set.labels.mapping { classOf[Int($0)] }
    (classes, sizes) = (grid.flattened(), grid.shape)
    effective = sizes.count > 1 ? Facts.varyingDimensions(grid) : []
  }

  /// - Parameter removed: per class.
  func kept(_ removed: [Bool]) -> KeptSet {
    var keptCount = 0
    for c in classes where !removed[Int(c)] { keptCount += 1 }
    if keptCount == classes.count { return .whole }
    if keptCount == 0 { return .vanishes }
    return sizes.count == 1 ? .sizes([keptCount]) : rectangle(removed)
  }

  /// Rows that survive must form the grid of the indices that survive along the block factors, and be equally long.
  private func rectangle(_ removed: [Bool]) -> KeptSet {
    guard let cut = effective.last else { return .vanishes }
    let blocks = effective.dropLast()
    var strides = sizes
    var next = 1
    for d in sizes.indices.reversed() { (strides[d], next) = (next, next * sizes[d]) }
    var survives = sizes.map { [Bool](repeating: false, count: $0) }
    var rowCounts = [Int](repeating: 0, count: blocks.reduce(1) { $0 * sizes[$1] })
    // In runs along the innermost factor, which is the one that is cut or one that only repeats.
    let run = sizes[sizes.count - 1]
    for start in stride(from: 0, to: classes.count, by: run) {
      var count = 0
      for position in start..<start + run where !removed[Int(classes[position])] { count += 1 }
      guard count > 0 else { continue }
      var row = 0
      for d in blocks {
        let index = start / strides[d] % sizes[d]
        survives[d][index] = true
        row = row * sizes[d] + index
      }
      rowCounts[row] += count
    }
    let surviving = rowCounts.filter { $0 > 0 }
    guard let count = surviving.first, surviving.allSatisfy({ $0 == count }) else { return .notRectangular }
    let repeats = sizes.indices.filter { !effective.contains($0) }.reduce(1) { $0 * sizes[$1] }
    var kept = sizes
    for d in blocks { kept[d] = survives[d].count { $0 } }
    guard blocks.reduce(1, { $0 * kept[$1] }) == surviving.count, count % repeats == 0 else { return .notRectangular }
    kept[cut] = count / repeats
    return .sizes(kept)
  }
}

/// The lengths of chosen values as functions of what is removed: prepared once for a coupling, so that a choice of
/// classes is asked for its sizes without a plan, and in proportion to the distinct sets of labels alone.
struct KeptLengths: Sendable {
  /// Distinct ones.
  private var grids: [ClassGrid] = []
  /// Distinct axes: the product of their factors, each as long as the shortest that a set leaves of it.
  private var axes: [[CutFactor]] = []
  /// Per value its axes; nil where its shape is not asked for or not known.
  private var shapes: [[Int]?]

  private struct CutFactor: Hashable {
    let size: Int
    let cuts: [Cut]
  }
  /// Dimension `dimension` of a grid.
  private struct Cut: Hashable {
    let grid: Int
    let dimension: Int
  }

  init(_ values: some Sequence<ValueID>, of coupling: ChannelCoupling) {
    let analysis = coupling.analysis
    shapes = Array(repeating: nil, count: analysis.values.count)
    var gridOfArray: [LabelArray.Identity: Int] = [:]
    var gridOf: [ClassGrid: Int] = [:]
    var axisOf: [[CutFactor]: Int] = [:]
    func number<Key: Hashable>(_ key: Key, _ numbers: inout [Key: Int], _ list: inout [Key]) -> Int {
      if let known = numbers[key] { return known }
      numbers[key] = list.count
      list.append(key)
      return list.count - 1
    }
    for id in values where shapes[id.index] == nil {
      guard let value = analysis.values[id.index] else { continue }
      let numbers = value.sets.map { set in
        if let known = gridOfArray[set.labels.identity] { return known }
        let number = number(ClassGrid(set, classOf: coupling.classOf), &gridOf, &grids)
        gridOfArray[set.labels.identity] = number
        return number
      }
      shapes[id.index] = value.axes.map { factors in
        let cut = factors.map { factor in
          CutFactor(
            size: factor.size,
            cuts: zip(value.sets, numbers).compactMap { set, grid in
              set.position(of: factor).map { Cut(grid: grid, dimension: $0) }
            })
        }
        return number(cut, &axisOf, &axes)
      }
    }
  }

  /// - Parameter removed: per class.
  /// - Returns: the shape of each chosen value, nil where it has none; nil altogether if a set vanishes or is no
  ///   rectangle any more (`Removal` says which).
  func shapes(removing removed: [Bool]) -> ((ValueID) -> [Int]?)? {
    var kept: [[Int]] = []
    kept.reserveCapacity(grids.count)
    for grid in grids {
      switch grid.kept(removed) {
      case .whole: kept.append(grid.sizes)
      case .sizes(let sizes): kept.append(sizes)
      case .vanishes, .notRectangular: return nil
      }
    }
    let lengths = axes.map { factors in
      factors.reduce(1) { length, factor in
        length * factor.cuts.reduce(factor.size) { min($0, kept[$1.grid][$1.dimension]) }
      }
    }
    return { id in shapes[id.index]?.map { lengths[$0] } }
  }
}
