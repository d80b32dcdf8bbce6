/// Operators that only move elements: every one is a list of the input's flat positions, one per output element.
enum MovedElements {
  static let rules: [String: ElementRule] = [
    "Identity": reshape, "Dropout": { call, _ in [call.elements(0)] },
    "Reshape": reshape, "Flatten": reshape, "Squeeze": reshape, "Unsqueeze": reshape,
    "Transpose": transpose, "Expand": expand, "Tile": tile, "Slice": slice, "Gather": gather,
    "Concat": concat, "Split": split, "Pad": pad,
  ]

  @Sendable private static func reshape(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let shape = shapes.first ?? nil else { return [nil] }
    return [x.reshaped(shape)]
  }

  @Sendable private static func transpose(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let shape = shapes.first ?? nil,
      let permutation = try? ReshapingShapes.permutation(call, rank: x.shape.count)
    else { return [nil] }
    let strides = ElementArray.strides(of: x.shape)
    return [x.taking(ElementArray.positions(shape: shape, strides: permutation.map { strides[$0] }), shape: shape)]
  }

  @Sendable private static func expand(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let shape = shapes.first ?? nil else { return [nil] }
    return [x.broadcast(to: shape)]
  }

  @Sendable private static func tile(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let shape = shapes.first ?? nil else { return [nil] }
    guard !shape.contains(0) else { return [x.taking([], shape: shape)] }
    var positions = [0]
    for (axis, stride) in ElementArray.strides(of: x.shape).enumerated() {
      positions = positions.flatMap { base in (0..<shape[axis]).map { base + $0 % x.shape[axis] * stride } }
    }
    return [x.taking(positions, shape: shape)]
  }

  @Sendable private static func slice(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let shape = shapes.first ?? nil, let selections = try? call.sliceSelections(x.shape)
    else { return [nil] }
    // A selection of nothing may start beyond the end.
    guard !shape.contains(0) else { return [x.taking([], shape: shape)] }
    var (strides, start) = (ElementArray.strides(of: x.shape), 0)
    for selection in selections where selection.count > 0 {
      start += selection.start * strides[selection.axis]
      // A single position needs no step, and a step may be as large as the file likes.
      strides[selection.axis] = selection.count > 1 ? strides[selection.axis] * selection.step : 0
    }
    return [x.taking(ElementArray.positions(shape: shape, strides: strides, start: start), shape: shape)]
  }

  @Sendable private static func gather(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let indices = call.integers(1), let shape = shapes.first ?? nil,
      let axis = try? call.axis(call.node.int("axis", default: 0), rank: x.shape.count),
      indices.allSatisfy({ $0 >= -x.shape[axis] && $0 < x.shape[axis] })
    else { return [nil] }
    guard !shape.contains(0) else { return [x.taking([], shape: shape)] }
    let length = x.shape[axis]
    let inner = x.shape[(axis + 1)...].reduce(1, *)
    var positions: [Int] = []
    for outer in 0..<x.shape[..<axis].reduce(1, *) {
      for index in indices {
        let base = (outer * length + (index < 0 ? index + length : index)) * inner
        positions += base..<base + inner
      }
    }
    return [x.taking(positions, shape: shape)]
  }

  @Sendable private static func concat(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let shape = shapes.first ?? nil, let stated = call.node.int("axis"),
      let axis = try? call.axis(stated, rank: shape.count)
    else { return [nil] }
    let outer = shape[..<axis].reduce(1, *)
    var (integers, reals): ([[Int64]], [[Double]]) = ([], [])
    for position in call.node.inputs.indices where call.isPresent(position) {
      guard let part = call.elements(position) else { return [nil] }
      switch part.elements {
      case .integers(let elements): integers.append(elements)
      case .reals(let elements): reals.append(elements)
      }
    }
    func interleaved<Element>(_ parts: [[Element]]) -> [Element] {
      guard !shape.contains(0) else { return [] }
      return (0..<outer).flatMap { row in
        parts.flatMap { $0[row * ($0.count / outer)..<(row + 1) * ($0.count / outer)] }
      }
    }
    if reals.isEmpty { return [ElementArray(interleaved(integers), shape: shape)] }
    return [integers.isEmpty ? ElementArray(interleaved(reals), shape: shape) : nil]
  }

  @Sendable private static func split(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let (axis, sizes) = try? JoiningShapes.splitSizes(call, x.shape) else {
      return []
    }
    let strides = ElementArray.strides(of: x.shape)
    var first = 0
    return zip(sizes, shapes).map { size, shape in
      defer { first += size }
      return shape.map {
        x.taking(ElementArray.positions(shape: $0, strides: strides, start: first * strides[axis]), shape: $0)
      }
    }
  }

  /// Constant padding of one axis, as exporters build pads themselves.
  @Sendable private static func pad(_ call: OperatorCall, _ shapes: [[Int]?]) -> [ElementArray?] {
    guard let x = call.elements(0), let shape = shapes.first ?? nil, shape.count == 1, !call.isPresent(3),
      call.node.string("mode") ?? "constant" == "constant",
      case .known(let pads) = call.setting(attribute: "pads", input: 1), pads.count == 2,
      pads.allSatisfy({ (0...ElementArray.limit).contains($0) })
    else { return [nil] }
    switch x.elements {
    case .integers(let elements):
      guard let value = call.isPresent(2) ? call.elements(2)?.integers?.first : 0 else { return [nil] }
      let (before, after) = ([Int64](repeating: value, count: pads[0]), [Int64](repeating: value, count: pads[1]))
      return [ElementArray(before + elements + after, shape: shape)]
    case .reals: return [nil]
    }
  }
}
