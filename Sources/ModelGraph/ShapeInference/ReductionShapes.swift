/// Shapes of reductions along axes, ArgMax and ArgMin, TopK.
enum ReductionShapes {
  static let operators = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
  ]

  static let rules: [String: ShapeRule] = [String: ShapeRule](operators, all: reduce)
    .merging(["ArgMax": arg, "ArgMin": arg, "TopK": topK]) { first, _ in first }

  /// Which axes a Reduce* node reduces, as flags; nil if they depend on data. Axes are an attribute or, in newer
  /// operator sets, input 1; none at all means every axis, or with `noop_with_empty_axes` no axis.
  static func reducedAxes(_ call: OperatorCall, rank: Int) throws(Failure) -> [Bool]? {
    var axes: [Int] = []
    switch call.setting(attribute: "axes", input: 1) {
    case .unknown: return nil
    case .absent: break
    case .known(let list): axes = try call.axes(list, rank: rank)
    }
    guard !axes.isEmpty else {
      return [Bool](repeating: call.node.int("noop_with_empty_axes", default: 0) == 0, count: rank)
    }
    var flags = [Bool](repeating: false, count: rank)
    for axis in axes { flags[axis] = true }
    return flags
  }

  @Sendable private static func reduce(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let reduced = try reducedAxes(call, rank: x.count) else { return [nil] }
    return [result(x, reduced, keepsAxes: call.node.int("keepdims", default: 1) != 0)]
  }

  private static func result(_ x: [Int], _ reduced: [Bool], keepsAxes: Bool) -> [Int] {
    zip(x, reduced).compactMap { length, reduced in reduced ? (keepsAxes ? 1 : nil) : length }
  }

  @Sendable private static func arg(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    let axis = try call.axis(call.node.int("axis", default: 0), rank: x.count)
    let reduced = x.indices.map { $0 == axis }
    return [result(x, reduced, keepsAxes: call.node.int("keepdims", default: 1) != 0)]
  }

  /// Values and indices.
  @Sendable private static func topK(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard var shape = call.shape(0), let k = call.node.int("k") ?? call.integers(1)?.first else { return [nil, nil] }
    let axis = try call.axis(call.node.int("axis", default: -1), rank: shape.count)
    guard k >= 0, k <= shape[axis] else { throw call.malformed("k is \(k) but axis \(axis) of \(shape) is shorter") }
    shape[axis] = k
    return [shape, shape]
  }
}
