/// The equation of an Einsum, parsed: one list of labels per operand and one for the output.
///
/// Invariant: at most one ellipsis per term, every output label occurs in some operand, none twice.
package struct EinsumEquation: Equatable, Sendable {
  package enum Label: Hashable, Sendable {
    case letter(UInt8)
    /// "...": as many leading axes as the operand has besides its letters.
    case ellipsis
  }

  package let operands: [[Label]]
  package let output: [Label]

  /// nil if `text` is no equation.
  package init?(_ text: String) {
    let bytes = text.utf8.filter { $0 != UInt8(ascii: " ") }
    var sides: [[UInt8]] = [[]]
    var position = 0
    while position < bytes.count {
      if bytes[position] == UInt8(ascii: "-"), position + 1 < bytes.count, bytes[position + 1] == UInt8(ascii: ">") {
        sides.append([])
        position += 2
      } else {
        sides[sides.count - 1].append(bytes[position])
        position += 1
      }
    }
    guard sides.count <= 2 else { return nil }
    var operands: [[Label]] = []
    for term in sides[0].split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
      guard let labels = Self.labels(term) else { return nil }
      operands.append(labels)
    }
    let used = Set(operands.joined())
    if sides.count == 2 {
      guard let output = Self.labels(sides[1][...]), Set(output).count == output.count, used.isSuperset(of: output)
      else { return nil }
      self.output = output
    } else {
      // Implicit output: the ellipsis, then the letters that occur once, in the order of ASCII.
      var counts: [UInt8: Int] = [:]
      for case .letter(let letter) in operands.joined() { counts[letter, default: 0] += 1 }
      let once = counts.filter { $0.value == 1 }.keys.sorted()
      output = (used.contains(.ellipsis) ? [.ellipsis] : []) + once.map(Label.letter)
    }
    self.operands = operands
  }

  private static func labels(_ term: ArraySlice<UInt8>) -> [Label]? {
    var labels: [Label] = []
    var rest = term
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): labels.append(.letter(byte))
      case UInt8(ascii: "."):
        guard rest.popFirst() == byte, rest.popFirst() == byte, !labels.contains(.ellipsis) else { return nil }
        labels.append(.ellipsis)
      default: return nil
      }
    }
    return labels
  }

  /// The lengths that the labels have when operand i has the shape `shapes[i]`: one per letter, and those of the
  /// broadcast ellipsis. Lengths of 1 give way to longer ones.
  /// - Returns: nil if the shapes do not fit the equation.
  package func lengths(_ shapes: [[Int]]) -> (letters: [UInt8: Int], ellipsis: [Int])? {
    guard shapes.count == operands.count else { return nil }
    var letters: [UInt8: Int] = [:]
    var ellipsis: [Int] = []
    for (labels, shape) in zip(operands, shapes) {
      let hidden = shape.count - labels.count + (labels.contains(.ellipsis) ? 1 : 0)
      guard hidden >= 0, hidden == 0 || labels.contains(.ellipsis) else { return nil }
      var axis = 0
      for label in labels {
        switch label {
        case .letter(let letter):
          guard let length = Self.merge(letters[letter] ?? 1, shape[axis]) else { return nil }
          letters[letter] = length
          axis += 1
        case .ellipsis:
          let lengths = Array(shape[axis..<axis + hidden])
          if hidden > ellipsis.count {
            ellipsis = [Int](repeating: 1, count: hidden - ellipsis.count) + ellipsis
          }
          for (offset, length) in lengths.enumerated() {
            let target = ellipsis.count - hidden + offset
            guard let merged = Self.merge(ellipsis[target], length) else { return nil }
            ellipsis[target] = merged
          }
          axis += hidden
        }
      }
    }
    return (letters, ellipsis)
  }

  private static func merge(_ a: Int, _ b: Int) -> Int? { a == b || b == 1 ? a : a == 1 ? b : nil }
}
