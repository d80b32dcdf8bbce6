import ModelGraph

/// Ends of slices that programs leave open and plans give as numbers.
enum SliceEnds {
  /// The ends of a slice, with those that lie behind everything left there where they still do.
  /// - Parameters:
  ///   - input: of `node`, which becomes `new`; only a slice's ends are looked at.
  ///   - changes: the new lengths of the axes that change, by value.
  static func open(
    _ node: Node, _ input: Int, old: [Int], new: [Int], in graph: Graph, _ changes: [ValueID: [Int: Int]]
  ) -> [Int] {
    guard node.op == "Slice", input == 2, old.count == new.count, let data = node.input(0),
      let axes = node.input(3).flatMap({ graph[$0].tensor }).flatMap(ElementArray.init(reading:))?.integers
    else { return new }
    return new.indices.map { k in
      let isWhole = k < axes.count && changes[data]?[Int(axes[k])] == new[k]
      return isWhole && old[k] >= Int(Int32.max) ? old[k] : new[k]
    }
  }
}
