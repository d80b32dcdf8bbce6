/// Shapes of operators that only see the same elements under other axes.
enum ReshapingShapes {
  static let rules: [String: ShapeRule] = [
    "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose,
    "DepthToSpace": depthToSpace, "SpaceToDepth": spaceToDepth,
  ]

  /// 0 copies the input's length (unless `allowzero`), -1 is what is left.
  @Sendable private static func reshape(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard case .known(let target) = call.setting(attribute: "shape", input: 1) else { return [nil] }
    let zeroCopies = call.node.int("allowzero", default: 0) == 0
    guard let x = call.shape(0) else {
      return [target.allSatisfy { $0 > 0 || ($0 == 0 && !zeroCopies) } ? target : nil]
    }
    func mismatch() -> Failure { call.malformed("cannot reshape \(x) to \(target)") }
    var shape = target
    var open: Int?
    for (axis, length) in target.enumerated() {
      if length == -1 {
        guard open == nil else { throw mismatch() }
        (open, shape[axis]) = (axis, 1)
      } else if length == 0, zeroCopies {
        guard axis < x.count else { throw mismatch() }
        shape[axis] = x[axis]
      }
    }
    guard ShapeLimits.allow(shape) else { throw mismatch() }
    let (count, known) = (x.reduce(1, *), shape.reduce(1, *))
    if let open {
      guard known > 0, count.isMultiple(of: known) else { throw mismatch() }
      shape[open] = count / known
    } else {
      guard count == known else { throw mismatch() }
    }
    return [shape]
  }

  @Sendable private static func flatten(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    let axis = call.node.int("axis", default: 1)
    // Unlike elsewhere the axis may equal the rank: (everything, 1).
    guard axis >= -x.count, axis <= x.count else { throw call.malformed("axis \(axis) is outside of \(x)") }
    let split = axis < 0 ? axis + x.count : axis
    return [[x[..<split].reduce(1, *), x[split...].reduce(1, *)]]
  }

  @Sendable private static func squeeze(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    switch call.setting(attribute: "axes", input: 1) {
    case .unknown: return [nil]
    case .absent: return [x.filter { $0 != 1 }]
    case .known(let list):
      let axes = try call.axes(list, rank: x.count)
      guard axes.allSatisfy({ x[$0] == 1 }) else { throw call.malformed("cannot squeeze the axes \(axes) of \(x)") }
      return [x.indices.filter { !axes.contains($0) }.map { x[$0] }]
    }
  }

  @Sendable private static func unsqueeze(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0), case .known(let list) = call.setting(attribute: "axes", input: 1) else {
      return [nil]
    }
    guard x.count + list.count <= ShapeLimits.rank else { throw call.malformed("would have \(list.count) more axes") }
    let axes = try call.axes(list, rank: x.count + list.count)
    var rest = x.makeIterator()
    return [(0..<x.count + list.count).map { axes.contains($0) ? 1 : rest.next() ?? 1 }]
  }

  /// Which input axis each output axis is; reversed where the node does not say.
  static func permutation(_ call: OperatorCall, rank: Int) throws(Failure) -> [Int] {
    guard let permutation = call.node.ints("perm") else { return (0..<rank).reversed() }
    guard permutation.count == rank else {
      throw call.malformed("perm is \(permutation) but the input has \(rank) axes")
    }
    return try call.axes(permutation, rank: rank)
  }

  @Sendable private static func transpose(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    return [try permutation(call, rank: x.count).map { x[$0] }]
  }

  private static func blockSize(_ call: OperatorCall, _ x: [Int]) throws(Failure) -> Int {
    let block = call.node.int("blocksize", default: 0)
    guard x.count == 4, block > 0, block <= Int(Int32.max) else {
      throw call.malformed("needs 4 axes and a positive blocksize, found \(x) and \(block)")
    }
    return block
  }

  @Sendable private static func depthToSpace(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    let block = try blockSize(call, x)
    guard x[1].isMultiple(of: block * block) else {
      throw call.malformed("the \(x[1]) channels of \(x) do not split into blocks of \(block)x\(block)")
    }
    return [
      [
        x[0], x[1] / (block * block), try call.length(Int128(x[2]) * Int128(block), "axis 2"),
        try call.length(Int128(x[3]) * Int128(block), "axis 3"),
      ]
    ]
  }

  @Sendable private static func spaceToDepth(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let x = call.shape(0) else { return [nil] }
    let block = try blockSize(call, x)
    guard x[2].isMultiple(of: block), x[3].isMultiple(of: block) else {
      throw call.malformed("the spatial axes of \(x) do not split into blocks of \(block)x\(block)")
    }
    let channels = try call.length(Int128(x[1]) * Int128(block) * Int128(block), "axis 1")
    return [[x[0], channels, x[2] / block, x[3] / block]]
  }
}
