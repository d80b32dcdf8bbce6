import JSON
import JSONRPC

/// The params of a request, or an object inside them, read member by member. Every complaint carries the JSON pointer
/// of the member it is about. Members that nobody asks for are ignored; explicit nulls count as absent.
package struct Params: Sendable {
  private let object: JSONObject
  /// The JSON pointer of this object.
  let path: String

  /// - Throws: if there are params that are no object; absent ones are an empty one.
  package init(_ value: JSONValue?) throws(ResponseError) {
    switch value {
    case .object(let object)?: self.init(object, path: "")
    case nil: self.init([:], path: "")
    case let other?: throw .invalidParams("", "params must be an object with named members, found \(other.typeName)")
    }
  }

  private init(_ object: JSONObject, path: String) { (self.object, self.path) = (object, path) }

  func pointer(_ name: String) -> String {
    // RFC 6901: these two characters have a meaning in pointers.
    var escaped = ""
    for character in name {
      switch character {
      case "~": escaped += "~0"
      case "/": escaped += "~1"
      default: escaped.append(character)
      }
    }
    return "\(path)/\(escaped)"
  }

  /// The names of all members, for objects that take no unknown ones.
  var names: [String] { object.members.map(\.name) }

  func value(_ name: String) -> JSONValue? {
    guard let value = object[name], value != .null else { return nil }
    return value
  }

  func wrong(_ name: String, _ expected: String, _ found: JSONValue) -> ResponseError {
    .invalidParams(pointer(name), "'\(name)' must be \(expected), found \(found.typeName)")
  }

  func require<T>(_ name: String, _ value: T?) throws(ResponseError) -> T {
    guard let value else { throw .invalidParams(pointer(name), "'\(name)' is required") }
    return value
  }

  // MARK: Members by type

  func string(_ name: String) throws(ResponseError) -> String? {
    guard let value = value(name) else { return nil }
    guard let text = value.stringValue else { throw wrong(name, "a string", value) }
    return text
  }

  func bool(_ name: String) throws(ResponseError) -> Bool? {
    guard let value = value(name) else { return nil }
    guard case .bool(let flag) = value else { throw wrong(name, "true or false", value) }
    return flag
  }

  func int(_ name: String, in range: ClosedRange<Int>) throws(ResponseError) -> Int? {
    guard let value = value(name) else { return nil }
    guard let number = value.intValue else { throw wrong(name, "an integer", value) }
    guard range.contains(number) else {
      let bound =
        range.upperBound == .max ? "at least \(range.lowerBound)" : "from \(range.lowerBound) to \(range.upperBound)"
      throw .invalidParams(pointer(name), "'\(name)' must be \(bound), found \(number)")
    }
    return number
  }

  /// A number, integer or real.
  func number(_ name: String, _ expected: String, where isValid: (Double) -> Bool) throws(ResponseError) -> Double? {
    guard let value = value(name) else { return nil }
    guard let number = value.numberValue else { throw wrong(name, "a number", value) }
    guard isValid(number) else { throw .invalidParams(pointer(name), "'\(name)' must be \(expected), found \(number)") }
    return number
  }

  func object(_ name: String) throws(ResponseError) -> Params? {
    guard let value = value(name) else { return nil }
    guard case .object(let object) = value else { throw wrong(name, "an object", value) }
    return Params(object, path: pointer(name))
  }

  func strings(_ name: String) throws(ResponseError) -> [String]? {
    guard let value = value(name) else { return nil }
    guard let elements = value.arrayValue else { throw wrong(name, "an array of strings", value) }
    return try elements.enumerated().map { index, element throws(ResponseError) in
      guard let text = element.stringValue else {
        throw .invalidParams("\(pointer(name))/\(index)", "expected a string, found \(element.typeName)")
      }
      return text
    }
  }

  func ints(_ name: String, atLeast least: Int) throws(ResponseError) -> [Int]? {
    guard let value = value(name) else { return nil }
    guard let elements = value.arrayValue else { throw wrong(name, "an array of integers", value) }
    return try elements.enumerated().map { index, element throws(ResponseError) in
      guard let number = element.intValue, number >= least else {
        throw .invalidParams("\(pointer(name))/\(index)", "expected an integer, at least \(least)")
      }
      return number
    }
  }

  func objects(_ name: String) throws(ResponseError) -> [Params]? {
    guard let value = value(name) else { return nil }
    guard let elements = value.arrayValue else { throw wrong(name, "an array of objects", value) }
    return try elements.enumerated().map { index, element throws(ResponseError) in
      let path = "\(pointer(name))/\(index)"
      guard case .object(let object) = element else {
        throw .invalidParams(path, "expected an object, found \(element.typeName)")
      }
      return Params(object, path: path)
    }
  }

  /// One of the strings that stand for the cases of `Choice`, in any letter case.
  func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ name: String, of type: Choice.Type
  ) throws(ResponseError) -> Choice? {
    guard let text = try string(name) else { return nil }
    let wanted = text.lowercased()
    guard let choice = Choice.allCases.first(where: { $0.rawValue.lowercased() == wanted }) else {
      let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw .invalidParams(pointer(name), "'\(name)' must be one of \(names); found '\(text)'")
    }
    return choice
  }

  /// A progress token: an integer or a string.
  func token(_ name: String) throws(ResponseError) -> RequestID? {
    guard let value = value(name) else { return nil }
    guard let token = RequestID(value) else { throw wrong(name, "an integer or a string", value) }
    return token
  }
}

extension JSONValue {
  var numberValue: Double? {
    switch self {
    case .int(let number): Double(number)
    case .double(let number): number
    default: nil
    }
  }
}
