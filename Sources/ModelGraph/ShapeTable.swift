/// What is known of every value once lengths have been given to the graph's inputs: its shape, and the contents of
/// what is computed from shapes and constants alone.
package struct ShapeTable: Sendable {
  /// Per value; nil where an operator we do not know hides it.
  package var shapes: [[Int]?]
  /// Per value; the elements of small stored integers and scalars and of everything computed from them and from
  /// `Shape` and `Size` (at most `ElementArray.limit` elements).
  package var contents: [ElementArray?]

  package init(shapes: [[Int]?], contents: [ElementArray?]) { (self.shapes, self.contents) = (shapes, contents) }

  package subscript(id: ValueID) -> [Int]? { shapes[id.index] }
  package func contents(of id: ValueID) -> ElementArray? { contents[id.index] }
}

/// The elements of a small tensor that takes part in shape arithmetic. Booleans are the integers 0 and 1.
package struct ElementArray: Sendable, Equatable {
  /// Larger tensors are data, not shape arithmetic.
  package static let limit = 4096

  package enum Elements: Sendable, Equatable {
    case integers([Int64])
    case reals([Double])
  }

  /// `[]` is a scalar and differs from `[1]`.
  package let shape: [Int]
  package let elements: Elements

  package init(_ elements: [Int64], shape: [Int]) { (self.elements, self.shape) = (.integers(elements), shape) }
  package init(_ elements: [Double], shape: [Int]) { (self.elements, self.shape) = (.reals(elements), shape) }

  package var count: Int {
    switch elements {
    case .integers(let e): e.count
    case .reals(let e): e.count
    }
  }

  /// The elements, if they are integers.
  package var integers: [Int64]? {
    if case .integers(let e) = elements { e } else { nil }
  }
}
