/// One node with what is known of its inputs: all that a shape rule or an element rule may look at.
///
/// Invariant: every shape in `shapes` passed `ShapeLimits`, so plain arithmetic on the lengths of *one* shape cannot
/// overflow. Numbers from attributes and contents are whatever the file says; what mixes them with lengths is computed
/// in `Int128` and brought back through `length(_:_:)`.
package struct OperatorCall {
  let node: Node
  /// Per input; nil where the input is absent or its shape unknown.
  let shapes: [[Int]?]
  /// Per input; nil where the input is absent or its elements are not known before the network runs.
  let contents: [ElementArray?]

  package init(node: Node, shapes: [[Int]?], contents: [ElementArray?]) {
    (self.node, self.shapes, self.contents) = (node, shapes, contents)
  }

  func shape(_ position: Int) -> [Int]? { position < shapes.count ? shapes[position] : nil }
  func elements(_ position: Int) -> ElementArray? { position < contents.count ? contents[position] : nil }
  func isPresent(_ position: Int) -> Bool { node.input(position) != nil }

  /// The elements of an integer input.
  func integers(_ position: Int) -> [Int]? { elements(position)?.integers?.map { Int($0) } }

  /// The shapes of all inputs that are present; nil if one of them is unknown.
  var allShapes: [[Int]]? {
    var known: [[Int]] = []
    known.reserveCapacity(shapes.count)
    for (position, shape) in shapes.enumerated() where isPresent(position) {
      guard let shape else { return nil }
      known.append(shape)
    }
    return known
  }
}

// MARK: Settings that are attributes in some operator sets and inputs in others

/// A list of integers that steers an operator.
package enum Setting {
  case absent
  /// An input whose elements depend on data.
  case unknown
  case known([Int])
}

extension OperatorCall {
  /// The attribute if the node has it, else the input.
  package func setting(attribute: String, input position: Int) -> Setting {
    if let list = node.ints(attribute) { return .known(list) }
    return setting(input: position)
  }

  func setting(input position: Int) -> Setting {
    guard isPresent(position) else { return .absent }
    return integers(position).map(Setting.known) ?? .unknown
  }
}

// MARK: Checks

extension OperatorCall {
  func malformed(_ problem: String) -> Failure {
    // A hostile list of a million axes shall not become a message of ten megabytes.
    let shown = problem.utf8.count <= 1000 ? problem : problem.prefix(1000) + " ..."
    return Failure(
      .modelMalformed, "node '\(node.name)' (\(node.op)): \(shown)",
      details: ["node": .string(node.name), "op": .string(node.op)])
  }

  /// `axis` counted from the front.
  func axis(_ axis: Int, rank: Int) throws(Failure) -> Int {
    guard axis >= -rank, axis < rank else {
      throw malformed("axis \(axis) is outside of a value with \(rank) axes")
    }
    return axis < 0 ? axis + rank : axis
  }

  /// `axes` counted from the front, each named once.
  func axes(_ axes: [Int], rank: Int) throws(Failure) -> [Int] {
    var seen = [Bool](repeating: false, count: rank)
    var result: [Int] = []
    result.reserveCapacity(axes.count)
    for entry in axes {
      let axis = try axis(entry, rank: rank)
      guard !seen[axis] else { throw malformed("axis \(axis) is named twice in \(axes)") }
      seen[axis] = true
      result.append(axis)
    }
    return result
  }

  /// A computed length as a length.
  func length(_ value: Int128, _ meaning: @autoclosure () -> String) throws(Failure) -> Int {
    guard value >= 0, value <= Int128(ShapeLimits.elements) else {
      throw malformed("\(meaning()) would have the length \(value)")
    }
    return Int(value)
  }

  /// The shape that NumPy's broadcasting gives: right-aligned, lengths equal or 1.
  func broadcast(_ shapes: [[Int]]) throws(Failure) -> [Int] {
    guard var result = shapes.first else { return [] }
    for shape in shapes.dropFirst() where shape != result {
      let longer = shape.count > result.count ? shape : result
      let shorter = shape.count > result.count ? result : shape
      var merged = longer
      let offset = longer.count - shorter.count
      for (position, length) in shorter.enumerated() {
        let other = longer[offset + position]
        guard length == other || length == 1 || other == 1 else {
          throw malformed("the shapes \(shapes.map(\.description).joined(separator: " and ")) do not broadcast")
        }
        merged[offset + position] = other == 1 ? length : other
      }
      result = merged
    }
    return result
  }

  /// Throws unless input `position`, where its shape is known, has `rank` axes or more.
  func requireRank(atLeast rank: Int, _ shape: [Int], of input: String) throws(Failure) {
    guard shape.count >= rank else {
      throw malformed("\(input) has the shape \(shape) but needs at least \(rank) axes")
    }
  }
}
