/// Places of a `JSONText` that are to be written otherwise. What no change covers keeps its bytes.
///
/// Invariant: changes do not overlap; insertions at one place come out in the order in which they were made.
package struct JSONTextChanges {
  private var changes: [(range: Range<Int>, text: String)] = []

  package init() {}

  package var isEmpty: Bool { changes.isEmpty }

  /// - Precondition: no other change covers part of `element`.
  package mutating func replace(_ element: JSONElement, with text: String) { changes.append((element.range, text)) }

  package mutating func replace(_ range: Range<Int>, with text: String) { changes.append((range, text)) }

  /// Takes elements or members of a container away, with their commas.
  /// - Parameter places: of all of them, in order. Nothing is inserted beside those that are taken away.
  package mutating func remove(_ indices: Set<Int>, of places: [Range<Int>]) {
    var index = 0
    while index < places.count {
      guard indices.contains(index) else {
        index += 1
        continue
      }
      let first = index
      while index < places.count, indices.contains(index) { index += 1 }
      // The comma before the run goes with it, or the one behind where the run comes first.
      let start = first > 0 ? places[first - 1].upperBound : places[0].lowerBound
      let end = first > 0 || index == places.count ? places[index - 1].upperBound : places[index].lowerBound
      changes.append((start..<end, ""))
    }
  }

  package mutating func insert(_ text: String, at position: Int) { changes.append((position..<position, text)) }

  /// Adds `element` at the end of an array, or before `next`, one of its elements.
  package mutating func insert(element text: String, into array: JSONElement, before next: JSONElement? = nil) {
    if let next { return insert(text + ", ", at: next.range.lowerBound) }
    let last = array.elements.reduce(nil) { $1 } as JSONElement?
    insert(last == nil ? text : ", " + text, at: last?.range.upperBound ?? array.range.lowerBound + 1)
  }

  /// Adds a member at the end of an object.
  package mutating func insert(member name: String, _ text: String, into object: JSONElement) {
    let last = object.members.reduce(nil) { $1.value } as JSONElement?
    let member = JSONEscapes.encoded(name) + ": " + text
    insert(last == nil ? member : ", " + member, at: last?.range.upperBound ?? object.range.lowerBound + 1)
  }

  /// The text with all changes, or what becomes of a part of it that all changes lie in.
  /// - Parameter bytes: of the text that the elements are of.
  package func applied(to bytes: UnsafeRawBufferPointer, within part: Range<Int>? = nil) -> [UInt8] {
    // Stable: insertions at one place keep their order, and come before what is replaced there.
    let ordered = changes.enumerated().sorted {
      ($0.element.range.lowerBound, $0.element.range.upperBound, $0.offset)
        < ($1.element.range.lowerBound, $1.element.range.upperBound, $1.offset)
    }.map(\.element)
    let part = part ?? 0..<bytes.count
    var result: [UInt8] = []
    result.reserveCapacity(part.count + ordered.reduce(0) { $0 + $1.text.utf8.count })
    var position = part.lowerBound
    for change in ordered {
      precondition(change.range.lowerBound >= position, "changes overlap")
      result += bytes[position..<change.range.lowerBound]
      result += change.text.utf8
      position = change.range.upperBound
    }
    result += bytes[position..<part.upperBound]
    return result
  }
}
