/// The positions that a Slice takes along one axis: `start`, `start + step`, ... (`count` of them), all inside the
/// axis.
package struct SliceSelection: Equatable, Sendable {
  package let axis: Int
  package let start: Int
  package let step: Int
  package let count: Int

  /// - Parameters:
  ///   - start, end, step: as a Slice node states them: negative bounds count from the end, bounds outside the axis
  ///     (INT_MAX and the like) are clamped. `step` is not 0.
  ///   - length: of the axis.
  package init(axis: Int, start: Int, end: Int, step: Int, length: Int) {
    func clamped(_ bound: Int) -> Int {
      let fromFront = bound < 0 ? bound + length : bound
      return step > 0 ? min(max(fromFront, 0), length) : min(max(fromFront, -1), length - 1)
    }
    let (first, last) = (step > 0 ? clamped(start) : max(clamped(start), 0), clamped(end))
    let distance = step > 0 ? last - first : first - last
    self.axis = axis
    self.start = first
    self.step = step
    count = distance <= 0 || length == 0 ? 0 : Int((distance - 1).magnitude / step.magnitude) + 1
  }

  package var positions: [Int] { (0..<count).map { start + $0 * step } }
}

extension OperatorCall {
  /// What a Slice node takes of an input of shape `x`, one selection per sliced axis; nil if that depends on data.
  package func sliceSelections(_ x: [Int]) throws(Failure) -> [SliceSelection]? {
    guard case .known(let starts) = setting(attribute: "starts", input: 1),
      case .known(let ends) = setting(attribute: "ends", input: 2)
    else { return nil }
    func list(_ name: String, input: Int, default fallback: [Int]) -> [Int]? {
      switch setting(attribute: name, input: input) {
      case .absent: fallback
      case .unknown: nil
      case .known(let list): list
      }
    }
    guard let stated = list("axes", input: 3, default: Array(starts.indices)),
      let steps = list("steps", input: 4, default: starts.map { _ in 1 })
    else { return nil }
    guard ends.count == starts.count, stated.count == starts.count, steps.count == starts.count,
      !steps.contains(0)
    else { throw malformed("starts \(starts), ends \(ends), axes \(stated), steps \(steps) do not go together") }
    let axes = try axes(stated, rank: x.count)
    return starts.indices.map {
      SliceSelection(axis: axes[$0], start: starts[$0], end: ends[$0], step: steps[$0], length: x[axes[$0]])
    }
  }
}
