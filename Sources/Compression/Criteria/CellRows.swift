import ModelGraph
import Numerics

/// The filters of some weights as one vector per cell, read in panels: the matrix `[cells, elements]` is never whole in
/// memory, in double it may be eight times the model.
///
/// A panel is a range of elements of the k-th filters of all cells in one weight; where a cell has fewer filters there
/// than others it holds zeros.
struct CellRows {
  let count: Int
  /// Per cell; of the vectors around their mean, once `center` has run.
  private(set) var squaredNorms: [Double]
  /// Per cell; equal for cells with equal elements.
  private(set) var fingerprints: [UInt64]
  private let sources: [WeightFilters]
  private let scale: Double
  private let panels: [Panel]
  /// Per panel the mean of its columns, if vectors are centered.
  private var means: [[Double]] = []

  private struct Panel {
    var source: Int
    /// Per cell the filter, or -1.
    var filters: [Int32]
    /// Per filter the elements `elements` of row `rows.lowerBound`, or, where filters are columns, the rows `rows`.
    var rows: Range<Int>
    var elements: Range<Int>
    var layout: LinearAlgebra.Layout
    var length: Int { rows.count * elements.count }
  }

  /// Cells of which the products are held at a time; 32 MB.
  private static let tileWidth = 2048
  /// Multiply-adds between two looks at the cancellation flag: some ten milliseconds.
  private static let multiplyAdds = 1 << 28
  /// Elements of a panel, in double: 16 MB.
  private static let panelElements = 1 << 21

  /// - Parameter scale: a power of two that all elements are multiplied by.
  init(_ sources: [WeightFilters], cellCount: Int, scale: Double) {
    (self.sources, count, self.scale) = (sources, cellCount, scale)
    (squaredNorms, fingerprints) = (
      [Double](repeating: 0, count: cellCount), [UInt64](repeating: 0, count: cellCount)
    )
    let tile = min(cellCount, Self.tileWidth)
    let widest = max(16, min(Self.panelElements / max(tile, 1), Self.multiplyAdds / max(tile * tile, 1)))
    var panels: [Panel] = []
    for (k, source) in sources.enumerated() {
      for filters in Self.filtersByOrdinal(source, cellCount) {
        if source.inner == 1 {
          for first in stride(from: 0, to: source.outer, by: widest) {
            panels.append(
              Panel(
                source: k, filters: filters, rows: first..<min(first + widest, source.outer), elements: 0..<1,
                layout: .elements))
          }
        } else {
          for row in 0..<source.outer {
            for first in stride(from: 0, to: source.inner, by: widest) {
              panels.append(
                Panel(
                  source: k, filters: filters, rows: row..<row + 1,
                  elements: first..<min(first + widest, source.inner), layout: .vectors))
            }
          }
        }
      }
    }
    self.panels = panels
  }

  /// The first filters of all cells, the second ones, and so on.
  private static func filtersByOrdinal(_ source: WeightFilters, _ cellCount: Int) -> [[Int32]] {
    var ordinals: [[Int32]] = []
    var taken = [Int](repeating: 0, count: cellCount)
    for (filter, cell) in source.cells.enumerated() where cell >= 0 {
      if taken[cell] == ordinals.count { ordinals.append([Int32](repeating: -1, count: cellCount)) }
      ordinals[taken[cell]][cell] = Int32(filter)
      taken[cell] += 1
    }
    return ordinals
  }

  // MARK: Panels

  /// Writes the elements of some cells: `[cells, length]` or `[length, cells]`, as the panel's layout says.
  private func fill(_ p: Int, cells: Range<Int>, _ target: UnsafeMutableBufferPointer<Double>) {
    let panel = panels[p]
    let source = sources[panel.source]
    let length = panel.length
    switch panel.layout {
    case .vectors:
      for (k, cell) in cells.enumerated() {
        let part = UnsafeMutableBufferPointer(rebasing: target[k * length..<(k + 1) * length])
        let filter = Int(panel.filters[cell])
        guard filter >= 0 else {
          part.update(repeating: 0)
          continue
        }
        let start = source.address(filter: filter, row: panel.rows.lowerBound, element: panel.elements.lowerBound)
        Widening.copy(source.format, at: start, to: part)
        let factor = factor(source, filter)
        if factor != 1 { for e in part.indices { part[e] *= factor } }
      }
    case .elements:
      // A row holds one element of every filter of a run.
      withUnsafeTemporaryAllocation(of: Double.self, capacity: source.width) { row in
        for (r, index) in panel.rows.enumerated() {
          var loaded = -1
          for (k, cell) in cells.enumerated() {
            let filter = Int(panel.filters[cell])
            guard filter >= 0 else {
              target[r * cells.count + k] = 0
              continue
            }
            if loaded != filter / source.width {
              loaded = filter / source.width
              Widening.copy(source.format, at: source.address(filter: loaded * source.width, row: index), to: row)
            }
            target[r * cells.count + k] = row[filter % source.width] * factor(source, filter)
          }
        }
      }
    }
    guard !means.isEmpty else { return }
    let (vector, element) = strides(p, cells)
    for k in 0..<cells.count { for e in 0..<length { target[k * vector + e * element] -= means[p][e] } }
  }

  private func factor(_ source: WeightFilters, _ filter: Int) -> Double { (source.scales?[filter] ?? 1) * scale }

  /// How far apart cells and elements lie in a filled panel.
  private func strides(_ p: Int, _ cells: Range<Int>) -> (vector: Int, element: Int) {
    panels[p].layout == .vectors ? (panels[p].length, 1) : (1, cells.count)
  }

  private var tiles: [Range<Int>] {
    stride(from: 0, to: count, by: Self.tileWidth).map { $0..<min($0 + Self.tileWidth, count) }
  }

  /// Room for the elements of a tile in any panel.
  private func panelBuffer() -> UnsafeMutableBufferPointer<Double> {
    .allocate(capacity: max(1, (panels.lazy.map(\.length).max() ?? 0) * min(count, Self.tileWidth)))
  }

  // MARK: Vectors by themselves

  /// Moves all vectors so that their mean is 0, and measures them.
  mutating func center(_ work: Work) throws(Failure) {
    let buffer = panelBuffer()
    defer { buffer.deallocate() }
    var means = panels.map { [Double](repeating: 0, count: $0.length) }
    for p in panels.indices {
      for cells in tiles {
        try work.checkCancellation()
        fill(p, cells: cells, buffer)
        let (vector, element) = strides(p, cells)
        for k in 0..<cells.count { for e in means[p].indices { means[p][e] += buffer[k * vector + e * element] } }
      }
      for e in means[p].indices { means[p][e] /= Double(count) }
    }
    self.means = means
    try measure(work)
  }

  /// Finds the vectors' norms, and what tells them apart.
  mutating func measure(_ work: Work) throws(Failure) {
    let buffer = panelBuffer()
    defer { buffer.deallocate() }
    for p in panels.indices {
      for cells in tiles {
        try work.checkCancellation()
        fill(p, cells: cells, buffer)
        let (vector, element) = strides(p, cells)
        for (k, cell) in cells.enumerated() {
          var (norm, print) = (squaredNorms[cell], fingerprints[cell])
          for e in 0..<panels[p].length {
            let x = buffer[k * vector + e * element]
            norm += x * x
            // Steps of a multiplicative hash (Knuth's constant); 0 and -0 are equal numbers.
            print = (print ^ (x == 0 ? 0 : x.bitPattern)) &* 0x9E37_79B9_7F4A_7C15
            print ^= print >> 29
          }
          (squaredNorms[cell], fingerprints[cell]) = (norm, print)
        }
      }
    }
  }

  /// The squared distance of two cells' vectors, element by element.
  func squaredDistance(_ i: Int, _ j: Int) -> Double {
    var total = 0.0
    for panel in panels {
      let source = sources[panel.source]
      let length = panel.elements.count
      withUnsafeTemporaryAllocation(of: Double.self, capacity: 2 * length) { both in
        for row in panel.rows {
          for (k, cell) in [i, j].enumerated() {
            let part = UnsafeMutableBufferPointer(rebasing: both[k * length..<(k + 1) * length])
            let filter = Int(panel.filters[cell])
            guard filter >= 0 else {
              part.update(repeating: 0)
              continue
            }
            Widening.copy(
              source.format, at: source.address(filter: filter, row: row, element: panel.elements.lowerBound), to: part)
            let factor = factor(source, filter)
            for e in part.indices { part[e] *= factor }
          }
          for e in 0..<length { total += (both[e] - both[length + e]) * (both[e] - both[length + e]) }
        }
      }
    }
    return total
  }

  // MARK: Vectors against each other

  /// The scalar products of the vectors of two ranges of cells.
  struct Tile {
    let rows: Range<Int>
    fileprivate let columns: Range<Int>
    fileprivate let products: UnsafeMutableBufferPointer<Double>

    /// Every pair comes once: columns beyond `row`.
    func columns(after row: Int) -> Range<Int> { max(columns.lowerBound, row + 1)..<max(columns.upperBound, row + 1) }
    subscript(row: Int, column: Int) -> Double {
      products[(row - rows.lowerBound) * columns.count + column - columns.lowerBound]
    }
  }

  /// Calls `body` with tiles that together hold every pair of cells.
  func forEachTile(
    _ algebra: LinearAlgebra, _ work: Work, _ body: (Tile) throws(Failure) -> Void
  ) throws(Failure) {
    let tiles = tiles
    let (a, b) = (panelBuffer(), panelBuffer())
    let side = min(count, Self.tileWidth)
    let products = UnsafeMutableBufferPointer<Double>.allocate(capacity: max(1, side * side))
    defer { for buffer in [a, b, products] { buffer.deallocate() } }
    guard let aBase = a.baseAddress, let bBase = b.baseAddress, let sum = products.baseAddress else { return }
    for (t, rows) in tiles.enumerated() {
      for columns in tiles[t...] {
        products.initialize(repeating: 0)
        for (p, panel) in panels.enumerated() {
          try work.checkCancellation()
          fill(p, cells: rows, a)
          if rows == columns {
            algebra.addGram(of: aBase, count: rows.count, length: panel.length, layout: panel.layout, to: sum)
          } else {
            fill(p, cells: columns, b)
            algebra.addProducts(
              of: aBase, rows: rows.count, with: bBase, columns: columns.count, length: panel.length,
              layout: panel.layout, to: sum)
          }
        }
        try body(Tile(rows: rows, columns: columns, products: products))
      }
    }
  }
}
