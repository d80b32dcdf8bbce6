import JSON
import ModelGraph

/// A tensor of Keras's while its program is lowered: whichever values of the graph hold it, in one order of axes each.
struct KerasTensor: Hashable, Sendable {
  /// In the order in which they came up.
  let index: Int
}

/// What a call is given or returns, as lowering has it.
indirect enum LoweredOperand: Sendable {
  case tensor(KerasTensor)
  case list([LoweredOperand])
  case dictionary([Entry])
  /// A number, string, truth value or object of the configuration; lists are `list`.
  case literal(JSONElement)
  /// Nothing, or null.
  case none

  struct Entry: Sendable {
    let name: String
    let value: LoweredOperand
  }

  /// As the file writes it, lists and tuples element by element.
  init(_ element: JSONElement) {
    switch element.kind {
    case .null: self = .none
    case .array: self = .list(element.elements.map { LoweredOperand($0) })
    case .object where element["class_name"]?.equals("__tuple__") == true:
      self = .list((element["items"] ?? element["config"])?.elements.map { LoweredOperand($0) } ?? [])
    // Arrays that a model was given stand in its file with all their numbers.
    case .object where ["__tensor__", "__numpy__"].contains(element["class_name"]?.string):
      self = element["config"]?["value"].map { LoweredOperand($0) } ?? .none
    default: self = .literal(element)
    }
  }

  var isNone: Bool { if case .none = self { true } else { false } }

  var tensor: KerasTensor? { if case .tensor(let tensor) = self { tensor } else { nil } }

  /// A whole number with the place where it is written.
  var integer: KerasInteger? {
    guard case .literal(let element) = self else { return nil }
    if let value = element.int { return KerasInteger(value: value, place: element) }
    // "3.0" is a whole number too; nothing is written in its place.
    if let value = element.double, let whole = Int(exactly: value) { return KerasInteger(value: whole, place: nil) }
    return nil
  }

  /// A number, truth values among them.
  var number: Double? {
    guard case .literal(let element) = self else { return nil }
    if let value = element.bool { return value ? 1 : 0 }
    if let value = element.double { return value }
    switch element.string {
    case "Infinity", "inf": return .infinity
    case "-Infinity", "-inf": return -.infinity
    default: return nil
    }
  }

  /// Whether it is a number that was not written as a whole one.
  var isReal: Bool {
    guard case .literal(let element) = self, element.kind == .number else { return false }
    return element.int == nil
  }

  /// Every tensor in it, in order.
  var tensors: [KerasTensor] {
    switch self {
    case .tensor(let tensor): [tensor]
    case .list(let elements): elements.flatMap(\.tensors)
    case .dictionary(let entries): entries.flatMap(\.value.tensors)
    case .literal, .none: []
    }
  }

  /// For messages.
  var kind: String {
    switch self {
    case .tensor: "a tensor"
    case .list: "a list"
    case .dictionary: "a dictionary"
    case .literal(let element):
      switch element.kind {
      case .bool: "a truth value"
      case .number: "the number \(element.source)"
      case .string: "the string \(element.source)"
      default: "an object"
      }
    case .none: "None"
    }
  }
}

/// An integer of the configuration; without a place, one that nobody wrote.
struct KerasInteger: Sendable {
  let value: Int
  let place: JSONElement?

  init(value: Int, place: JSONElement? = nil) { (self.value, self.place) = (value, place) }
}
