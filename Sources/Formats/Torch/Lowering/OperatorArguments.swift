import ModelGraph

/// What a call gives its operator, by the operator's parameter names.
final class OperatorArguments {
  private var values: [String: TorchValue] = [:]
  private var places: [String: ArgumentPlace] = [:]
  private let context: CallContext
  /// Lengths that were asked for as plain numbers, and so decide what is appended.
  private(set) var decisive: [LengthUse] = []

  /// Names by which exported programs and functions call the same parameter.
  private static let synonyms: [String: [Substring]] = [
    "self": ["input", "condition", "weight"], "x": ["input"], "a": ["input"], "b": ["other"], "s": ["value"],
    "axis": ["dim"], "axes": ["dim"], "keepdims": ["keepdim"], "tensor": ["input"], "stop": ["end"],
    "axis0": ["dim0"], "axis1": ["dim1"], "train": ["training"], "shape": ["size"], "size": ["sizes", "output_size"],
    "mat2": ["other"], "vec": ["other"], "scale_factor": ["scale_factors"], "scalar": ["value"],
    "split_size_or_sections": ["split_size"], "split_sizes": ["split_size"], "split_size": ["split_sizes"],
    "dims": ["dim", "repeats"], "dim": ["dims"], "repeats": ["dims"], "cond": ["condition"],
    "assert_msg": ["message"], "tensors": ["operands"], "other": ["dim"], "sections": ["indices_or_sections"],
  ]

  /// - Parameters:
  ///   - parameters: names in order; the first is the receiver of a method; "*name" takes all positional arguments
  ///     from there on, or one list.
  /// - Throws: `modelUnsupportedOperator` for arguments that the operator's rule does not know.
  init(parameters: [Substring], given: TorchLowering.Given, context: CallContext) throws(Failure) {
    self.context = context
    for (k, value) in given.positional.enumerated() {
      guard k < parameters.count else {
        throw context.unsupported("it is given \(given.positional.count) arguments, more than the rule knows")
      }
      let place = ArgumentPlace(call: context.call, path: [k])
      if parameters[k].hasPrefix("*") {
        let name = String(parameters[k].dropFirst())
        if k + 1 == given.positional.count, case .list = value {
          values[name] = value
        } else {
          values[name] = .list(Array(given.positional[k...]))
        }
        break
      }
      values[String(parameters[k])] = value
      places[String(parameters[k])] = place
    }
    for (k, keyword) in given.keywords.enumerated() {
      let names = [Substring(keyword.name)] + (Self.synonyms[keyword.name] ?? [])
      guard let known = names.first(where: { name in parameters.contains { $0 == name || $0 == "*" + name } }) else {
        if Self.ignored.contains(keyword.name) { continue }
        throw context.unsupported("the rule knows no argument '\(keyword.name)'")
      }
      let name = String(known)
      values[name] = keyword.value
      places[name] = ArgumentPlace(call: context.call, path: [given.positional.count + k])
    }
  }

  /// What changes where or how something is computed, not what.
  private static let ignored: Set = [
    "inplace", "_stacklevel", "memory_format", "device", "non_blocking", "copy", "layout", "pin_memory", "antialias",
    "requires_grad", "out", "sparse", "cudnn_enabled", "implicit",
  ]

  subscript(name: String) -> TorchValue { values[name] ?? .none }
  func has(_ name: String) -> Bool { !self[name].isNone }
  func place(_ name: String) -> ArgumentPlace? { places[name] }

  // MARK: As the rules want them

  func tensor(_ name: String) throws(Failure) -> ValueID {
    guard case .tensor(let id) = self[name] else { throw wrong(name, "a tensor") }
    return id
  }

  func optionalTensor(_ name: String) throws(Failure) -> ValueID? { has(name) ? try tensor(name) : nil }

  func tensors(_ name: String) throws(Failure) -> [ValueID] {
    guard case .list(let elements) = self[name] else { throw wrong(name, "a list of tensors") }
    return try elements.map { element throws(Failure) in
      guard case .tensor(let id) = element else { throw wrong(name, "a list of tensors") }
      return id
    }
  }

  func integer(_ name: String) throws(Failure) -> TorchInteger {
    guard let integer = Self.integer(self[name]) else { throw wrong(name, "an integer") }
    return integer
  }

  /// An integer that no length may decide.
  func int(_ name: String, _ fallback: Int? = nil) throws(Failure) -> Int {
    if !has(name), let fallback { return fallback }
    return deciding(try integer(name))
  }

  private func deciding(_ integer: TorchInteger) -> Int {
    decisive += integer.uses
    return integer.value
  }

  func bool(_ name: String, _ fallback: Bool) throws(Failure) -> Bool {
    switch self[name] {
    case .none: return fallback
    case .bool(let value): return value
    case .integer(let value): return value.value != 0
    default: throw wrong(name, "a truth value")
    }
  }

  func float(_ name: String, _ fallback: Double? = nil) throws(Failure) -> Double {
    switch self[name] {
    case .none:
      guard let fallback else { throw wrong(name, "a number") }
      return fallback
    case .float(let value), .computed(let value, _): return value
    case .integer(let value): return Double(value.value)
    case .bool(let value): return value ? 1 : 0
    default: throw wrong(name, "a number")
    }
  }

  func string(_ name: String, _ fallback: String) throws(Failure) -> String {
    switch self[name] {
    case .none: return fallback
    case .string(let value): return value
    default: throw wrong(name, "a string")
    }
  }

  /// A list of integers; one integer stands for a list of it alone.
  func integers(_ name: String) throws(Failure) -> [TorchInteger] {
    if let single = Self.integer(self[name]) { return [single] }
    guard case .list(let elements) = self[name] else { throw wrong(name, "integers") }
    return try elements.map { element throws(Failure) in
      guard let integer = Self.integer(element) else { throw wrong(name, "integers") }
      return integer
    }
  }

  /// The same as numbers; `count` of them, where one stands for all.
  func ints(_ name: String, count: Int? = nil, _ fallback: [Int]? = nil) throws(Failure) -> [Int] {
    let list: [Int]
    if !has(name), let fallback {
      list = fallback
    } else {
      list = try integers(name).map(deciding)
    }
    guard let count else { return list }
    if list.count == 1 { return [Int](repeating: list[0], count: count) }
    guard list.count == count else { throw wrong(name, "\(count) integers") }
    return list
  }

  private static func integer(_ value: TorchValue) -> TorchInteger? {
    switch value {
    case .integer(let integer): integer
    case .bool(let bool): TorchInteger(bool ? 1 : 0)
    default: nil
    }
  }

  private func wrong(_ name: String, _ wanted: String) -> Failure {
    context.unsupported("its argument '\(name)' is \(self[name].kind), where the rule wants \(wanted)")
  }
}
