/// Indices into axes that lie as one, the last of them fastest.
package enum IndexGrid {
  /// One ascending list for each of the axes; nil if the indices are not all combinations of such.
  /// - Parameter lengths: of the axes, outermost first.
  package static func lists(_ indices: [Int], _ lengths: [Int]) -> [[Int]]? {
    guard lengths.count > 1 else { return lengths.isEmpty ? [] : [indices] }
    var lists = [Set<Int>](repeating: [], count: lengths.count)
    for index in indices {
      var rest = index
      for axis in lengths.indices.reversed() where lengths[axis] > 0 {
        lists[axis].insert(rest % lengths[axis])
        rest /= lengths[axis]
      }
    }
    guard lists.reduce(1, { $0 * $1.count }) == indices.count else { return nil }
    return lists.map { $0.sorted() }
  }

  /// The indices, ascending, at least one of whose positions is listed for its axis.
  package static func indices(touching lists: [Set<Int>], _ lengths: [Int]) -> [Int] {
    (0..<lengths.reduce(1, *)).filter { index in
      var rest = index
      for axis in lengths.indices.reversed() {
        if lists[axis].contains(rest % lengths[axis]) { return true }
        rest /= lengths[axis]
      }
      return false
    }
  }
}
