/// Shapes of what has no form in ONNX (`Node.opaqueDomain`): such a node says itself how long the axes of its results
/// are.
enum OpaqueShapes {
  static let rule: ShapeRule = { call throws(Failure) in
    var shapes: [[Int]?] = []
    for k in call.node.outputs.indices {
      guard let lengths = OpaqueLength.list(call.node.ints(OpaqueLength.attribute(k))) else { return shapes }
      var shape: [Int?] = []
      for length in lengths { shape.append(try length.value(call)) }
      shapes.append(shape.contains(nil) ? nil : shape.compactMap { $0 })
    }
    return shapes
  }
}

/// The length of an axis that an opaque node returns: a number, or so many times as often as a window that goes on by
/// `stride` fits into an axis that it reads.
package struct OpaqueLength: Sendable {
  private var input: Int
  private var axis: Int
  private var times: Int
  /// Of the window; 1 where the axis itself is meant.
  private var extent: Int
  private var stride: Int

  package static func fixed(_ length: Int) -> OpaqueLength {
    OpaqueLength(input: -1, axis: 0, times: length, extent: 1, stride: 1)
  }

  package static func axis(_ axis: Int, ofInput input: Int = 0) -> OpaqueLength {
    OpaqueLength(input: input, axis: axis, times: 1, extent: 1, stride: 1)
  }

  /// - Precondition: an axis itself.
  package func places(window extent: Int, stride: Int) -> OpaqueLength {
    var result = self
    (result.extent, result.stride) = (extent, stride)
    return result
  }

  package func multiplied(by factor: Int) -> OpaqueLength {
    var result = self
    result.times = times.multipliedReportingOverflow(by: factor).partialValue
    return result
  }

  /// The attribute with the lengths of output `k`.
  static func attribute(_ k: Int) -> String { "shape.\(k)" }

  /// What a node bears that returns these.
  package static func attributes(_ shapes: [[OpaqueLength]]) -> [String: Attribute] {
    Dictionary(
      uniqueKeysWithValues: shapes.enumerated().map { k, shape in
        (attribute(k), .ints(shape.flatMap { [$0.input, $0.axis, $0.times, $0.extent, $0.stride] }))
      })
  }

  fileprivate static func list(_ numbers: [Int]?) -> [OpaqueLength]? {
    guard let numbers, numbers.count % 5 == 0 else { return nil }
    return Swift.stride(from: 0, to: numbers.count, by: 5).map { k in
      OpaqueLength(
        input: numbers[k], axis: numbers[k + 1], times: numbers[k + 2], extent: numbers[k + 3], stride: numbers[k + 4])
    }
  }

  /// nil where the axis is not known.
  fileprivate func value(_ call: OperatorCall) throws(Failure) -> Int? {
    guard input >= 0 else { return try call.length(Int128(times), "an output") }
    guard let shape = call.shape(input), shape.indices.contains(axis), stride > 0 else { return nil }
    let places = (Int128(shape[axis]) - Int128(extent) + Int128(stride)) / Int128(stride)
    return try call.length(Int128(times) * max(places, 0), "an output")
  }
}
