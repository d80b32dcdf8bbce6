/// Shapes of operators that sample the spatial axes anew: Resize, Upsample, GridSample, RoiAlign.
enum ResamplingShapes {
  static let rules: [String: ShapeRule] = [
    "Resize": resize, "Upsample": upsample, "GridSample": gridSample, "RoiAlign": roiAlign,
  ]

  @Sendable private static func upsample(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let factors = scales(call, input: 1) else { return [nil] }
    return [try scaled(call, x, axes: Array(x.indices), by: factors)]
  }

  /// Inputs are (X, scales) in operator set 10 and (X, roi, scales, sizes) since. An empty list counts as absent.
  @Sendable private static func resize(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    let axes = try call.node.ints("axes").map { list throws(Failure) in try call.axes(list, rank: x.count) }
    let resized = axes ?? Array(x.indices)
    let first = call.node.opset < 11 ? 1 : 2
    if call.isPresent(first), call.shape(first) != [0] {
      guard let factors = scales(call, input: first) else { return [nil] }
      return [try scaled(call, x, axes: resized, by: factors)]
    }
    guard let sizes = call.integers(3) else { return [nil] }
    guard sizes.count == resized.count else {
      throw call.malformed("the sizes \(sizes) do not fit the axes \(resized) of \(x)")
    }
    return [try sized(call, x, axes: resized, to: sizes)]
  }

  private static func scales(_ call: OperatorCall, input: Int) -> [Double]? {
    if case .floats(let factors) = call.node.attributes["scales"] { return factors.map(Double.init) }
    guard case .reals(let factors) = call.elements(input)?.elements else { return nil }
    return factors
  }

  private static func scaled(_ call: OperatorCall, _ x: [Int], axes: [Int], by factors: [Double]) throws(Failure)
    -> [Int]
  {
    guard factors.count == axes.count else {
      throw call.malformed("the scales \(factors) do not fit the axes \(axes) of \(x)")
    }
    var shape = x
    for (axis, factor) in zip(axes, factors) {
      // In single precision, as runtimes compute it.
      guard let length = Int128(exactly: (Float(x[axis]) * Float(factor)).rounded(.down)) else {
        throw call.malformed("cannot scale \(x) by \(factors)")
      }
      shape[axis] = try call.length(length, "axis \(axis)")
    }
    return shape
  }

  private static func sized(_ call: OperatorCall, _ x: [Int], axes: [Int], to sizes: [Int]) throws(Failure) -> [Int] {
    var shape = x
    let policy = call.node.string("keep_aspect_ratio_policy") ?? "stretch"
    guard policy != "stretch" else {
      for (axis, size) in zip(axes, sizes) { shape[axis] = size }
      return shape
    }
    // One scale for all axes: the smallest ("not_larger") or the largest ("not_smaller") of those asked for.
    let factors = zip(axes, sizes).map { Float($1) / Float(x[$0]) }
    guard let factor = policy == "not_larger" ? factors.min() : factors.max() else { return shape }
    for axis in axes {
      guard let length = Int128(exactly: (factor * Float(x[axis])).rounded(.toNearestOrAwayFromZero)) else {
        throw call.malformed("cannot resize \(x) to \(sizes)")
      }
      shape[axis] = try call.length(length, "axis \(axis)")
    }
    return shape
  }

  /// (N, C, spatial...) sampled at (N, places..., spatial rank).
  @Sendable private static func gridSample(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let grid = call.shape(1) else { return [nil] }
    guard x.count >= 3, grid.count == x.count else { throw call.malformed("the grid \(grid) does not fit \(x)") }
    return [Array(x[..<2] + grid[1..<grid.count - 1])]
  }

  @Sendable private static func roiAlign(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let regions = call.shape(1) else { return [nil] }
    try call.requireRank(atLeast: 2, x, of: "the input")
    try call.requireRank(atLeast: 1, regions, of: "the list of regions")
    return [
      [regions[0], x[1], call.node.int("output_height", default: 1), call.node.int("output_width", default: 1)]
    ]
  }
}
