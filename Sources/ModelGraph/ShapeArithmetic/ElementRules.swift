/// The operators that take part in shape arithmetic: one table, put together from one table per family. An operator
/// here also has a shape rule, which gives the shapes of the results.
///
/// A rule gets the elements of the inputs and the shapes of the outputs (at most `ElementArray.limit` elements each),
/// and returns the elements of each output, nil where they are not known.
typealias ElementRule = @Sendable (OperatorCall, _ outputShapes: [[Int]?]) -> [ElementArray?]

enum ElementRules {
  /// The rule for `call`; nil where there is none or nothing is known that it could compute with.
  static func rule(for call: OperatorCall) -> ElementRule? {
    guard call.node.domain.isEmpty, readsLengths(call.node) || call.contents.contains(where: { $0 != nil }) else {
      return nil
    }
    return standard[call.node.op]
  }

  /// Whether the node computes with the lengths of its input instead of the elements.
  static func readsLengths(_ node: Node) -> Bool { node.domain.isEmpty && (node.op == "Shape" || node.op == "Size") }

  static let families: [[String: ElementRule]] = [
    ElementwiseElements.rules, MovedElements.rules, ReducedElements.rules, CreatedElements.rules,
  ]

  private static let standard: [String: ElementRule] = families.reduce(into: [:]) { table, family in
    table.merge(family) { first, _ in first }
  }
}

// MARK: Positions under broadcasting

extension ElementArray {
  /// For each element of an array of shape `target`, in row-major order, the flat position of the element of an array
  /// of shape `source` that broadcasts to it.
  static func positions(broadcasting source: [Int], to target: [Int]) -> [Int] {
    let offset = target.count - source.count
    var strides = [Int](repeating: 0, count: target.count)
    var stride = 1
    for axis in source.indices.reversed() {
      if source[axis] != 1 { strides[offset + axis] = stride }
      stride *= source[axis]
    }
    return positions(shape: target, strides: strides)
  }

  /// `start + sum of index[axis] * strides[axis]` for each index into `shape`, in row-major order.
  static func positions(shape: [Int], strides: [Int], start: Int = 0) -> [Int] {
    // Without elements the other lengths may be anything.
    guard !shape.contains(0) else { return [] }
    var result = [start]
    for (length, stride) in zip(shape, strides) {
      guard length != 1 else { continue }
      var next: [Int] = []
      next.reserveCapacity(result.count * length)
      for base in result {
        for index in 0..<length { next.append(base + index * stride) }
      }
      result = next
    }
    return result
  }

  /// The distance in elements between neighbours along each axis of a row-major array.
  static func strides(of shape: [Int]) -> [Int] {
    var strides = shape
    var stride = 1
    for axis in shape.indices.reversed() {
      strides[axis] = stride
      stride *= shape[axis]
    }
    return strides
  }

  /// The elements at `positions`, as an array of `shape`.
  func taking(_ positions: [Int], shape: [Int]) -> ElementArray {
    switch elements {
    case .integers(let integers): ElementArray(positions.map { integers[$0] }, shape: shape)
    case .reals(let reals): ElementArray(positions.map { reals[$0] }, shape: shape)
    }
  }

  func broadcast(to shape: [Int]) -> ElementArray {
    self.shape == shape ? self : taking(Self.positions(broadcasting: self.shape, to: shape), shape: shape)
  }

  /// The same elements under another shape.
  func reshaped(_ shape: [Int]) -> ElementArray { ElementArray(elements, shape: shape) }
}

// MARK: Rounding to the element type

extension ElementArray {
  /// The elements as a value of type `dtype` holds them; nil if an integer does not fit.
  func rounded(to dtype: DType?) -> ElementArray? {
    switch elements {
    case .integers(let integers):
      let range: ClosedRange<Int64>
      switch dtype {
      case .int32: range = Int64(Int32.min)...Int64(Int32.max)
      case .int16: range = Int64(Int16.min)...Int64(Int16.max)
      case .int8: range = Int64(Int8.min)...Int64(Int8.max)
      case .uint64: range = 0...Int64.max
      case .uint32: range = 0...Int64(UInt32.max)
      case .uint16: range = 0...Int64(UInt16.max)
      case .uint8: range = 0...Int64(UInt8.max)
      default: return self
      }
      return integers.allSatisfy(range.contains) ? self : nil
    case .reals(let reals):
      // Half precision in shape arithmetic would need its own rounding; no exporter writes it.
      switch dtype {
      case .float64: return self
      case .float16, .bfloat16: return reals.allSatisfy { $0.rounded() == $0 && $0.magnitude <= 256 } ? self : nil
      default: return ElementArray(reals.map { Double(Float($0)) }, shape: shape)
      }
    }
  }
}
