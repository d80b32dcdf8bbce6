import JSON
import ModelGraph

/// What a rule is to lower: a layer or operation, with what it is called with by the names of its parameters. Settings
/// are found under their names like arguments, since operations have the same thing now as one and now as the other.
struct KerasArguments: Sendable {
  let layer: KerasLayer
  let context: KerasContext
  private var values: [String: LoweredOperand] = [:]

  /// - Parameter parameters: names in order; "*name" takes all positional arguments from there on, or one list.
  /// - Throws: `modelUnsupportedOperator` for more positional arguments than there are names.
  init(
    _ layer: KerasLayer, parameters: [Substring], _ given: GivenArguments, context: KerasContext
  ) throws(Failure) {
    (self.layer, self.context) = (layer, context)
    for (k, value) in given.positional.enumerated() {
      guard k < parameters.count else {
        throw context.unsupported("it is given \(given.positional.count) arguments, more than are known of it")
      }
      if parameters[k].hasPrefix("*") {
        let isOneList = if case .list = value { k + 1 == given.positional.count } else { false }
        values[String(parameters[k].dropFirst())] = isOneList ? value : .list(Array(given.positional[k...]))
        break
      }
      values[String(parameters[k])] = value
    }
    for (name, value) in given.keywords { values[name] = value }
  }

  /// An argument, or the setting of that name.
  subscript(name: StaticString) -> LoweredOperand {
    if let value = values[name.description], !value.isNone { return value }
    // What tf.keras 2 keeps a function as has settings of its own.
    if layer.className.hasSuffix("OpLambda") { return .none }
    return layer.settings[name].map { LoweredOperand($0) } ?? .none
  }

  /// The same under other names.
  func renamed(_ names: [String: String]) -> KerasArguments {
    var result = self
    for (old, new) in names {
      if let value = result.values.removeValue(forKey: old) { result.values[new] = value }
    }
    return result
  }

  func has(_ name: StaticString) -> Bool { !self[name].isNone }

  /// The first of `names` that there is: the same thing is called otherwise elsewhere.
  func first(_ names: StaticString...) -> LoweredOperand {
    for name in names where has(name) { return self[name] }
    return .none
  }

  func place(_ name: StaticString) -> JSONElement? { self[name].integer?.place }

  // MARK: As the rules want them

  func tensor(_ name: StaticString) throws(Failure) -> KerasTensor {
    switch self[name] {
    case .tensor(let tensor): return tensor
    case .list(let elements) where elements.count == 1:
      if let tensor = elements[0].tensor { return tensor }
    default: break
    }
    throw wrong(name, "a tensor")
  }

  func optionalTensor(_ name: StaticString) throws(Failure) -> KerasTensor? { has(name) ? try tensor(name) : nil }

  func tensors(_ name: StaticString) throws(Failure) -> [KerasTensor] {
    switch self[name] {
    case .tensor(let tensor): return [tensor]
    case .list(let elements):
      return try elements.map { element throws(Failure) in
        guard let tensor = element.tensor else { throw wrong(name, "a list of tensors") }
        return tensor
      }
    default: throw wrong(name, "a list of tensors")
    }
  }

  func integer(_ name: StaticString) throws(Failure) -> KerasInteger {
    guard let integer = self[name].integer else { throw wrong(name, "a whole number") }
    return integer
  }

  func int(_ name: StaticString, _ fallback: Int? = nil) throws(Failure) -> Int {
    if !has(name), let fallback { return fallback }
    return try integer(name).value
  }

  func bool(_ name: StaticString, _ fallback: Bool) throws(Failure) -> Bool {
    if !has(name) { return fallback }
    guard let value = self[name].number else { throw wrong(name, "a truth value") }
    return value != 0
  }

  func float(_ name: StaticString, _ fallback: Double? = nil) throws(Failure) -> Double {
    if !has(name), let fallback { return fallback }
    guard let value = self[name].number else { throw wrong(name, "a number") }
    return value
  }

  func string(_ name: StaticString, _ fallback: String) throws(Failure) -> String {
    if !has(name) { return fallback }
    guard case .literal(let element) = self[name], let value = element.string else { throw wrong(name, "a string") }
    return value
  }

  /// A list of integers; one stands for a list of it alone.
  func integers(_ name: StaticString) throws(Failure) -> [KerasInteger] {
    if let single = self[name].integer { return [single] }
    guard case .list(let elements) = self[name] else { throw wrong(name, "whole numbers") }
    return try elements.map { element throws(Failure) in
      guard let integer = element.integer else { throw wrong(name, "whole numbers") }
      return integer
    }
  }

  /// The same without places; `count` of them, where one stands for all.
  func ints(_ name: StaticString, count: Int? = nil, _ fallback: [Int]? = nil) throws(Failure) -> [Int] {
    let list: [Int]
    if !has(name), let fallback { list = fallback } else { list = try integers(name).map(\.value) }
    guard let count else { return list }
    if list.count == 1 { return [Int](repeating: list[0], count: count) }
    guard list.count == count else { throw wrong(name, "\(count) whole numbers") }
    return list
  }

  func floats(_ name: StaticString) throws(Failure) -> [Double] {
    if let single = self[name].number { return [single] }
    guard case .list(let elements) = self[name] else { throw wrong(name, "numbers") }
    return try elements.map { element throws(Failure) in
      guard let number = element.number else { throw wrong(name, "numbers") }
      return number
    }
  }

  /// Whether channels come second instead of last.
  func isChannelsFirst() throws(Failure) -> Bool { try string("data_format", "channels_last") == "channels_first" }

  func wrong(_ name: StaticString, _ wanted: String) -> Failure {
    context.unsupported("its '\(name)' is \(self[name].kind), not \(wanted)")
  }
}

/// What a call hands over, in its own order.
struct GivenArguments: Sendable {
  var positional: [LoweredOperand] = []
  var keywords: [(name: String, value: LoweredOperand)] = []

  /// Every tensor in it.
  var tensors: [KerasTensor] { positional.flatMap(\.tensors) + keywords.flatMap(\.value.tensors) }
}

/// The layer that is lowered, for messages.
struct KerasContext: Sendable {
  let layer: KerasLayer?
  let base: String

  private var what: String {
    guard let layer else { return "what the model returns" }
    let kind = layer.kind == .operation ? "operation" : "layer"
    return "the \(kind) '\(base)' (\(layer.className))"
  }

  func unsupported(_ why: String) -> Failure {
    Failure(
      .modelUnsupportedOperator, "\(what) cannot be taken: \(why)",
      details: ["node": .string(base), "op": .string(layer?.className ?? "")])
  }

  func malformed(_ why: String) -> Failure {
    Failure(.modelMalformed, "\(what): \(why)", details: ["node": .string(base)])
  }
}
