/// Shapes of operators that make new values from lengths: Shape, Size, ConstantOfShape, Range, OneHot, random values.
enum CreationShapes {
  static let rules: [String: ShapeRule] = [
    "Shape": shape, "Size": { (_: OperatorCall) throws(Failure) in [[]] }, "ConstantOfShape": fromLengths,
    "Range": range, "OneHot": oneHot, "RandomNormal": random, "RandomUniform": random, "Multinomial": multinomial,
    "AffineGrid": affineGrid,
  ]

  /// The axes that a Shape node lists: `start ..< end`, clamped, of all `rank`.
  static func listedAxes(_ node: Node, rank: Int) -> Range<Int> {
    func clamped(_ bound: Int) -> Int { min(max(bound < 0 ? bound + rank : bound, 0), rank) }
    let start = clamped(node.int("start", default: 0))
    return start..<max(start, clamped(node.int("end", default: rank)))
  }

  @Sendable private static func shape(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    return [[listedAxes(call.node, rank: x.count).count]]
  }

  @Sendable private static func fromLengths(_ call: OperatorCall) throws(Failure) -> [[Int]?] { [call.integers(0)] }

  @Sendable private static func random(_ call: OperatorCall) throws(Failure) -> [[Int]?] { [call.node.ints("shape")] }

  @Sendable private static func multinomial(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    try call.requireRank(atLeast: 1, x, of: "the input")
    return [[x[0], call.node.int("sample_size", default: 1)]]
  }

  @Sendable private static func range(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let bounds = RangeBounds(call) else { return [nil] }
    guard let count = bounds.count else { throw call.malformed("cannot count from \(bounds)") }
    return [[try call.length(count, "the range")]]
  }

  @Sendable private static func oneHot(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard var result = call.shape(0), let depth = call.elements(1)?.firstAsInteger else { return [nil] }
    let axis = try call.axis(call.node.int("axis", default: -1), rank: result.count + 1)
    result.insert(depth, at: axis)
    return [result]
  }

  /// (N, H, W, 2) or (N, D, H, W, 3) from the size (N, C, spatial...).
  @Sendable private static func affineGrid(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let size = call.integers(1), size.count >= 2 else { return [nil] }
    return [[size[0]] + size[2...] + [size.count - 2]]
  }
}

/// The bounds of a Range node.
struct RangeBounds {
  let start: ElementArray.Elements
  let limit: ElementArray.Elements
  let delta: ElementArray.Elements

  /// nil if they depend on data.
  init?(_ call: OperatorCall) {
    guard let start = call.elements(0), let limit = call.elements(1), let delta = call.elements(2),
      start.count == 1, limit.count == 1, delta.count == 1
    else { return nil }
    (self.start, self.limit, self.delta) = (start.elements, limit.elements, delta.elements)
  }

  /// `ceil((limit - start) / delta)`, at least 0; nil if that is no number or the bounds differ in type.
  var count: Int128? {
    switch (start, limit, delta) {
    case (.integers(let start), .integers(let limit), .integers(let delta)):
      let (distance, step) = (Int128(limit[0]) - Int128(start[0]), Int128(delta[0]))
      guard step != 0 else { return nil }
      return max((step > 0 ? distance + step - 1 : distance + step + 1) / step, 0)
    case (.reals(let start), .reals(let limit), .reals(let delta)):
      return Int128(exactly: max(((limit[0] - start[0]) / delta[0]).rounded(.up), 0))
    default: return nil
    }
  }
}
