import JSON
import ModelGraph

/// The configuration of a Keras file: the JSON that says which layers there are and how they are called. It is read,
/// and nothing in it is ever run.
///
/// Invariant: what is asked for by name is there with its kind, or the error names the place.
struct KerasText: Sendable {
  let text: JSONText
  let bytes: TensorBytes
  /// "config.json" or "model_config".
  let name: String

  /// Far beyond the configuration of any network; those of keras.applications have at most 1 MB.
  static let byteLimit = 64 << 20

  init(_ bytes: TensorBytes, name: String) throws(Failure) {
    (self.bytes, self.name) = (bytes, name)
    guard bytes.count <= Self.byteLimit else {
      throw Failure(
        .resourceLimit, "'\(name)' has \(bytes.count) bytes; at most \(Self.byteLimit) are read",
        details: ["entry": .string(name), "limit": .int(Self.byteLimit)])
    }
    do throws(JSONDecodingError) {
      text = try JSONText(bytes.buffer, owner: Owner(bytes))
    } catch {
      throw Failure(
        .modelMalformed, "'\(name)' is not the JSON it has to be: \(error.message)", details: ["entry": .string(name)])
    }
    guard text.root.kind == .object else { throw malformed("it is no object", text.root) }
  }

  var root: JSONElement { text.root }

  /// An error about what stands at `element`.
  func malformed(_ reason: String, _ element: JSONElement, layer: String? = nil) -> Failure {
    var details: [String: Failure.Detail] = ["entry": .string(name), "offset": .int(element.range.lowerBound)]
    if let layer { details["layer"] = .string(layer) }
    let place = layer.map { "layer '\($0.prefix(100))': " } ?? ""
    return Failure(
      .modelMalformed, "'\(name)' is damaged: \(place)\(reason) (at byte \(element.range.lowerBound))",
      details: details)
  }

  // MARK: Members that have to be there

  func object(_ name: StaticString, of element: JSONElement) throws(Failure) -> JSONElement {
    guard let member = element[name], member.kind == .object else {
      throw malformed("'\(name)' is missing or no object", element)
    }
    return member
  }

  func string(_ name: StaticString, of element: JSONElement) throws(Failure) -> String {
    guard let text = element[name]?.string else { throw malformed("'\(name)' is missing or no string", element) }
    return text
  }

  func array(_ name: StaticString, of element: JSONElement) throws(Failure) -> JSONElement {
    guard let member = element[name], member.kind == .array else {
      throw malformed("'\(name)' is missing or no array", element)
    }
    return member
  }

  private final class Owner: Sendable {
    let bytes: TensorBytes
    init(_ bytes: TensorBytes) { self.bytes = bytes }
  }
}

extension JSONElement {
  /// The value of a member whose name is known only when the program runs.
  func member(_ name: String) -> JSONElement? {
    for (key, value) in members where key.string == name { return value }
    return nil
  }

  /// A whole number, or an array of them: how Keras writes sizes.
  var integers: [Int]? {
    if let int { return [int] }
    guard kind == .array else { return nil }
    var result: [Int] = []
    for element in elements {
      guard let int = element.int else { return nil }
      result.append(int)
    }
    return result
  }
}
