/// Shapes of poolings over the spatial axes of (N, C, spatial...).
enum PoolingShapes {
  static let rules: [String: ShapeRule] = [
    "MaxPool": pool, "AveragePool": pool, "LpPool": pool, "MaxUnpool": unpool,
    "GlobalAveragePool": global, "GlobalMaxPool": global, "GlobalLpPool": global,
    "MaxRoiPool": regionPool,
  ]

  private static func window(_ call: OperatorCall, _ x: [Int]) throws(Failure) -> SlidingWindow {
    guard let kernel = call.node.ints("kernel_shape"), x.count == kernel.count + 2 else {
      throw call.malformed(
        "the input \(x) needs a kernel_shape of \(max(x.count - 2, 0)) numbers, found \(call.node.ints("kernel_shape") ?? [])"
      )
    }
    return try SlidingWindow(call, kernel: kernel)
  }

  /// Output, and for MaxPool the indices.
  @Sendable static func pool(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    let window = try window(call, x)
    let roundsUp = call.node.int("ceil_mode", default: 0) != 0
    var shape = Array(x[..<2])
    for axis in window.kernel.indices {
      shape.append(try window.places(along: axis, of: x[axis + 2], roundsUp: roundsUp, call))
    }
    return [shape, shape]
  }

  @Sendable private static func unpool(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    switch call.setting(input: 2) {
    case .known(let shape): return [shape]
    case .unknown: return [nil]
    case .absent: return [x[..<min(2, x.count)] + (try window(call, x).transposed(Array(x.dropFirst(2)), call))]
    }
  }

  @Sendable private static func global(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    try call.requireRank(atLeast: 2, x, of: "the input")
    return [x[..<2] + x[2...].map { _ in 1 }]
  }

  @Sendable private static func regionPool(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let regions = call.shape(1), let pooled = call.node.ints("pooled_shape") else {
      return [nil]
    }
    try call.requireRank(atLeast: 2, x, of: "the input")
    try call.requireRank(atLeast: 1, regions, of: "the list of regions")
    return [[regions[0], x[1]] + pooled]
  }
}
