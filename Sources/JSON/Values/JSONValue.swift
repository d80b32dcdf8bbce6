/// A JSON value as a plain Swift tree: safe to send between threads, free of the library that parsed it.
///
/// Integers and reals are different things (`3` and `3.0`), as they are to the C library and as request ids require.
package enum JSONValue: Sendable, Equatable {
  case null
  case bool(Bool)
  case int(Int)
  /// Not-a-number and the infinities are written as `null`: JSON has no word for them.
  case double(Double)
  case string(String)
  case array([JSONValue])
  /// An array of integers, kept flat: lists of channel indices are by far the largest thing ever sent. Written like
  /// `array`; decoding never makes it.
  case ints([Int])
  case object(JSONObject)
  /// A value that was written before those around it were known. Decoding never makes it.
  case written(WrittenJSON)
}

/// The text of a value, as the encoder wrote it.
package struct WrittenJSON: Sendable, Equatable {
  let bytes: [UInt8]

  /// - Returns: nil only if memory runs out.
  package init?(_ value: JSONValue) {
    guard let bytes = value.encoded() else { return nil }
    self.bytes = bytes
  }
}

/// The members of a JSON object in the order in which they were written.
///
/// Look-up is linear: the objects whose members are looked up have a dozen, and a hostile object of a million members
/// costs one walk per name asked for.
package struct JSONObject: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  package private(set) var members: [(name: String, value: JSONValue)]

  package init(_ members: [(name: String, value: JSONValue)] = []) { self.members = members }

  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    members = elements.map { (name: $0.0, value: $0.1) }
  }

  package subscript(name: String) -> JSONValue? { members.first { $0.name == name }?.value }

  /// Adds a member at the end; a nil value adds none. The caller sees to it that names differ.
  package mutating func append(_ name: String, _ value: JSONValue?) {
    if let value { members.append((name, value)) }
  }

  package static func == (a: JSONObject, b: JSONObject) -> Bool {
    a.members.elementsEqual(b.members) { $0.name == $1.name && $0.value == $1.value }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByFloatLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  package init(stringLiteral value: String) { self = .string(value) }
  package init(integerLiteral value: Int) { self = .int(value) }
  package init(booleanLiteral value: Bool) { self = .bool(value) }
  package init(floatLiteral value: Double) { self = .double(value) }
  package init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  package init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(JSONObject(elements.map { (name: $0.0, value: $0.1) }))
  }
}

extension JSONValue {
  /// What the value is, for sentences: "expected a string, found an array".
  package var typeName: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .int: "an integer"
    case .double: "a real number"
    case .string: "a string"
    case .array, .ints: "an array"
    case .object: "an object"
    case .written: "a value that is written already"
    }
  }

  package var stringValue: String? { if case .string(let value) = self { value } else { nil } }
  package var intValue: Int? { if case .int(let value) = self { value } else { nil } }
  package var objectValue: JSONObject? { if case .object(let value) = self { value } else { nil } }
  package var arrayValue: [JSONValue]? {
    switch self {
    case .array(let elements): elements
    case .ints(let elements): elements.map(JSONValue.int)
    default: nil
    }
  }

  /// Member `name`, if this is an object that has it.
  package subscript(name: String) -> JSONValue? { objectValue?[name] }
}
