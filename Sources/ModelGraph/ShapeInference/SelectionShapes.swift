/// Shapes of operators that pick elements by position: Slice and the Gather family. (What scatters into a value keeps
/// its shape and stands with the element-wise operators.)
enum SelectionShapes {
  static let rules: [String: ShapeRule] = [
    "Slice": slice, "Gather": gather, "GatherElements": gatherElements, "GatherND": gatherND, "NonZero": nonZero,
  ]

  @Sendable private static func slice(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let selections = try call.sliceSelections(x) else { return [nil] }
    var shape = x
    for selection in selections { shape[selection.axis] = selection.count }
    return [shape]
  }

  @Sendable private static func gather(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let indices = call.shape(1) else { return [nil] }
    let axis = try call.axis(call.node.int("axis", default: 0), rank: x.count)
    return [x[..<axis] + indices + x[(axis + 1)...]]
  }

  @Sendable private static func gatherElements(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    if let x = call.shape(0), let indices = call.shape(1), x.count != indices.count {
      throw call.malformed("the data \(x) and the indices \(indices) need the same number of axes")
    }
    return [call.shape(1)]
  }

  @Sendable private static func gatherND(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let indices = call.shape(1) else { return [nil] }
    let batch = call.node.int("batch_dims", default: 0)
    guard let depth = indices.last, batch >= 0, batch < indices.count, depth <= x.count, batch + depth <= x.count else {
      throw call.malformed("indices of shape \(indices) do not select from \(x) after \(batch) batch axes")
    }
    return [indices.dropLast() + x[(batch + depth)...]]
  }

  /// (rank, number of nonzero elements), where the elements are known.
  @Sendable private static func nonZero(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let array = call.elements(0) else { return [nil] }
    return [[array.shape.count, array.nonZeroPositions.count]]
  }
}
