/// Shapes of operators that make a value longer: Expand, Tile, Pad; and CenterCropPad, which also crops.
enum ExtensionShapes {
  static let rules: [String: ShapeRule] = [
    "Expand": expand, "Tile": tile, "Pad": pad, "CenterCropPad": centerCropPad,
  ]

  @Sendable private static func expand(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), let target = call.integers(1) else { return [nil] }
    guard ShapeLimits.allow(target) else { throw call.malformed("cannot expand \(x) to \(target)") }
    return [try call.broadcast([x, target])]
  }

  @Sendable private static func tile(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard var shape = call.shape(0), let repeats = call.integers(1) else { return [nil] }
    guard repeats.count == shape.count else { throw call.malformed("repeats \(repeats) do not fit \(shape)") }
    for axis in shape.indices {
      shape[axis] = try call.length(Int128(shape[axis]) * Int128(repeats[axis]), "axis \(axis)")
    }
    return [shape]
  }

  @Sendable private static func pad(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard var shape = call.shape(0), case .known(let pads) = call.setting(attribute: "pads", input: 1) else {
      return [nil]
    }
    var axes = Array(shape.indices)
    switch call.setting(input: 3) {
    case .absent: break
    case .unknown: return [nil]
    case .known(let list): axes = try call.axes(list, rank: shape.count)
    }
    guard pads.count == 2 * axes.count else {
      throw call.malformed("pads \(pads) do not fit the axes \(axes) of \(shape)")
    }
    for (position, axis) in axes.enumerated() {
      let length = Int128(shape[axis]) + Int128(pads[position]) + Int128(pads[position + axes.count])
      shape[axis] = try call.length(length, "axis \(axis)")
    }
    return [shape]
  }

  @Sendable private static func centerCropPad(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard var shape = call.shape(0), let target = call.integers(1) else { return [nil] }
    let axes = try call.axes(call.node.ints("axes") ?? Array(shape.indices), rank: shape.count)
    guard target.count == axes.count else { throw call.malformed("the target \(target) does not fit the axes \(axes)") }
    for (axis, length) in zip(axes, target) { shape[axis] = length }
    return [shape]
  }
}
