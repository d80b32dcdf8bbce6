/// Where shape arithmetic begins: the lengths of values, and arrays made from lengths.
enum CreatedElements {
  static let rules: [String: ElementRule] = [
    "Shape": shape, "Size": size, "ConstantOfShape": constant, "Range": range, "NonZero": nonZero,
  ]

  @Sendable private static func shape(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.shape(0) else { return [nil] }
    let listed = x[CreationShapes.listedAxes(call.node, rank: x.count)]
    return [ElementArray(listed.map(Int64.init), shape: [listed.count])]
  }

  @Sendable private static func size(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    [call.shape(0).map { ElementArray([Int64($0.reduce(1, *))], shape: []) }]
  }

  @Sendable private static func constant(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let shape = shapes.first ?? nil else { return [nil] }
    guard case .tensor(let tensor) = call.node.attributes["value"] else {
      return [ElementArray([0.0], shape: []).broadcast(to: shape)]
    }
    guard let value = ElementArray(reading: tensor), value.count == 1 else { return [nil] }
    return [value.reshaped([]).broadcast(to: shape)]
  }

  @Sendable private static func range(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let bounds = RangeBounds(call), let shape = shapes.first ?? nil, let count = shape.first else {
      return [nil]
    }
    switch (bounds.start, bounds.delta) {
    case (.integers(let start), .integers(let delta)):
      // Inside `start ..< limit`, so nothing overflows.
      return [ElementArray((0..<count).map { start[0] + Int64($0) * delta[0] }, shape: shape)]
    case (.reals(let start), .reals(let delta)):
      return [ElementArray((0..<count).map { start[0] + Double($0) * delta[0] }, shape: shape)]
    default: return [nil]
    }
  }

  /// The indices of the elements that are not 0, one row per axis.
  @Sendable private static func nonZero(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let shape = shapes.first ?? nil else { return [nil] }
    let positions = x.nonZeroPositions
    let rows = zip(ElementArray.strides(of: x.shape), x.shape).map { stride, length in
      positions.map { Int64($0 / stride % length) }
    }
    return [ElementArray(Array(rows.joined()), shape: shape)]
  }
}
