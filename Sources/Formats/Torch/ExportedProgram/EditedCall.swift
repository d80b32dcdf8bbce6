import JSON
import ModelGraph

/// A call of an exported program with the changes that edits make to it, and how they are written.
///
/// Invariant: arguments that no edit touches keep their text.
struct EditedCall {
  /// Without namespace and overload, as the program has it.
  private(set) var function: String
  private(set) var arguments: [Argument]
  let node: JSONElement
  private var hasNewFunction = false
  /// Whether the file's operator writes into its first argument and returns it.
  let isInPlace: Bool

  struct Argument {
    /// Empty for positional ones.
    var name: String
    var value: TorchArgument
    /// What stands in the file; nil for a new one.
    let element: JSONElement?
    var isChanged = false
  }

  /// - Parameter node: what the file has for `call`.
  init(_ call: TorchCall, _ node: JSONElement) {
    function = if case .function(let name) = call.target { name } else { "" }
    self.node = node
    let target = node["target"]?.string?.split(separator: ".") ?? []
    isInPlace = target.count >= 4 && target[3].hasSuffix("_") && !target[3].hasSuffix("__")
    // Positional arguments come first in a call; the file has them so, too, unless it was made by hand.
    let inputs = Array(node["inputs"]?.elements ?? node.elements)
    let isPositional = inputs.map { $0["name"]?.equals("") ?? false }
    let ordered =
      zip(inputs, isPositional).filter(\.1).map(\.0) + zip(inputs, isPositional).filter { !$0.1 }.map(\.0)
    let values = call.arguments.map { ("", $0) } + call.keywords.map { ($0.name, $0.value) }
    arguments = zip(values, ordered).map { Argument(name: $0.0, value: $0.1, element: $1) }
  }

  var isChanged: Bool { hasNewFunction || arguments.contains(where: \.isChanged) }

  /// By name, or by place for calls of functions without names for them.
  func argument(_ name: String, _ position: Int) -> TorchArgument? {
    if let named = arguments.first(where: { $0.name == name }) { return named.value }
    return position < arguments.count && arguments[position].name.isEmpty ? arguments[position].value : nil
  }

  // MARK: Edits

  /// - Throws: `Failure(.certificateFailed)` if there is no such place.
  mutating func set(_ path: ArraySlice<Int>, to value: TorchArgument) throws(Failure) {
    guard let index = path.first, arguments.indices.contains(index) else { throw misfit() }
    guard arguments[index].value.set(path.dropFirst(), to: value) else { throw misfit() }
    arguments[index].isChanged = true
  }

  func value(at path: [Int]) -> TorchArgument? {
    guard let index = path.first, arguments.indices.contains(index) else { return nil }
    return arguments[index].value.value(at: path.dropFirst())
  }

  mutating func setKeyword(_ name: String, to value: TorchArgument) {
    let name = function == Self.splitting && Self.splittingKeywords.contains(name) ? Self.splitSizes : name
    if let index = arguments.firstIndex(where: { $0.name == name }) {
      arguments[index].value = value
      arguments[index].isChanged = true
    } else {
      arguments.append(Argument(name: name, value: value, element: nil, isChanged: true))
    }
  }

  mutating func setFunction(_ name: String) {
    (function, hasNewFunction) = (name, true)
    guard name == Self.splitting else { return }
    for index in arguments.indices where Self.splittingKeywords.contains(arguments[index].name) {
      arguments[index].name = Self.splitSizes
      arguments[index].isChanged = true
    }
  }

  private static let (splitting, splitSizes) = ("split_with_sizes", "split_sizes")
  /// What `split` and `chunk` call the argument in the same place.
  private static let splittingKeywords: Set = ["split_size", "chunks", "split_size_or_sections"]

  func misfit() -> Failure {
    let name = node["name"]?.string ?? function
    return Failure(.certificateFailed, "an edit does not fit the call '\(name)'", details: ["node": .string(name)])
  }

  // MARK: Text

  /// The overload of an operator that edits may ask for.
  private var target: String {
    switch function {
    case "split": "torch.ops.aten.split.Tensor"
    case "index": "torch.ops.aten.index.Tensor"
    case "slice": "torch.ops.aten.slice.Tensor"
    case "transpose", "softmax", "unbind", "select": "torch.ops.aten.\(function).int"
    case "add", "sub", "mul", "div": "torch.ops.aten.\(function).Tensor"
    default: "torch.ops.aten.\(function).default"
    }
  }

  func write(to changes: inout JSONTextChanges, _ names: ExportedNames) throws(Failure) {
    guard isChanged else { return }
    if hasNewFunction, let place = node["target"] { changes.replace(place, with: JSONEscapes.encoded(target)) }
    guard let list = node["inputs"] else { throw misfit() }
    for argument in arguments where argument.isChanged {
      let text = try names.json(argument.value, like: argument.element?["arg"])
      if let element = argument.element, let old = element["arg"], let name = element["name"] {
        changes.replace(old, with: text)
        if !name.equals(argument.name) { changes.replace(name, with: JSONEscapes.encoded(argument.name)) }
      } else {
        changes.insert(
          element:
            "{\"name\": \(JSONEscapes.encoded(argument.name)), \"arg\": \(text), \"kind\": \(ArgumentKind.keyword)}",
          into: list)
      }
    }
  }
}

/// How a call is given an argument. Positional ones fill an operator's parameters from the first on, so that one that is
/// added where others have been left out has to be given by its name.
enum ArgumentKind {
  static let positional = 1
  static let keyword = 2
}

extension JSONElement {
  fileprivate func equals(_ text: String) -> Bool { string == text }
}

extension TorchArgument {
  func value(at path: ArraySlice<Int>) -> TorchArgument? {
    guard let index = path.first else { return self }
    switch self {
    case .list(let elements), .tuple(let elements):
      return elements.indices.contains(index) ? elements[index].value(at: path.dropFirst()) : nil
    default: return nil
    }
  }

  /// - Returns: false if there is no such place.
  fileprivate mutating func set(_ path: ArraySlice<Int>, to value: TorchArgument) -> Bool {
    guard let index = path.first else {
      self = value
      return true
    }
    guard case .list(var elements) = self, elements.indices.contains(index),
      elements[index].set(path.dropFirst(), to: value)
    else { return false }
    self = .list(elements)
    return true
  }
}
