/// Shapes of Concat and Split.
enum JoiningShapes {
  static let rules: [String: ShapeRule] = ["Concat": concat, "Split": split]

  @Sendable private static func concat(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let parts = call.allShapes else { return [nil] }
    // Some exporters join an empty list `[0]` with parts of any rank; it adds nothing.
    guard var shape = parts.first(where: { $0 != [0] }) ?? parts.first else {
      throw call.malformed("has no inputs")
    }
    guard let stated = call.node.int("axis") else { throw call.malformed("has no axis") }
    let axis = try call.axis(stated, rank: shape.count)
    var length: Int128 = 0
    for part in parts where part.count == shape.count || part != [0] {
      guard part.count == shape.count, part.indices.allSatisfy({ $0 == axis || part[$0] == shape[$0] }) else {
        throw call.malformed("cannot join \(shape) and \(part) along axis \(axis)")
      }
      length += Int128(part[axis])
    }
    shape[axis] = try call.length(length, "axis \(axis)")
    return [shape]
  }

  @Sendable private static func split(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let (axis, sizes) = try splitSizes(call, x) else { return [] }
    return sizes.map { size in
      var part = x
      part[axis] = size
      return part
    }
  }

  /// Axis and the length of every part; nil if the lengths depend on data.
  static func splitSizes(_ call: OperatorCall, _ x: [Int]) throws(Failure) -> (axis: Int, sizes: [Int])? {
    let axis = try call.axis(call.node.int("axis", default: 0), rank: x.count)
    let parts = call.node.outputs.count
    switch call.setting(attribute: "split", input: 1) {
    case .unknown: return nil
    case .known(let sizes):
      guard sizes.count == parts, sizes.allSatisfy({ $0 >= 0 }),
        sizes.reduce(Int128(0), { $0 + Int128($1) }) == Int128(x[axis])
      else { throw call.malformed("cannot split axis \(axis) of \(x) into \(parts) parts of \(sizes)") }
      return (axis, sizes)
    case .absent:
      // Equal parts; with `num_outputs` the last one may be shorter.
      guard parts > 0 else { throw call.malformed("has no outputs") }
      let size = (x[axis] + parts - 1) / parts
      let last = x[axis] - size * (parts - 1)
      guard last == size || (call.node.int("num_outputs") == parts && last >= 0) else {
        throw call.malformed("cannot split axis \(axis) of \(x) into \(parts) equal parts")
      }
      return (axis, [Int](repeating: size, count: parts - 1) + [last])
    }
  }
}
