import JSON
import ModelGraph

/// The names of an exported program's graph: new ones, and arguments as the file writes them.
struct ExportedNames {
  /// Names of integers; all others are tensors.
  private var integers: Set<String>
  /// By state-dict name, the input of the graph.
  private var inputs: [String: String] = [:]
  private var unique: UniqueNames

  /// - Parameter graph: the program's graph.
  init(_ exported: ExportedProgram, graph: JSONElement) {
    var taken = Set(exported.tensorValues.keys)
    integers = []
    for table in ["sym_int_values", "sym_float_values", "sym_bool_values"] as [StaticString] {
      guard let members = graph[table] else { continue }
      for (name, _) in members.members { integers.insert(name.string ?? "") }
    }
    taken.formUnion(integers)
    for node in exported.nodes { if let name = node["name"]?.string { taken.insert(name) } }
    for call in exported.program.calls { taken.formUnion(call.results) }
    for (input, parameter) in exported.parameterNames {
      taken.insert(input)
      inputs[parameter] = input
    }
    taken.formUnion(exported.program.inputs.map(\.name))
    unique = UniqueNames(taken: taken)
  }

  mutating func make(_ wanted: String) -> String { unique.make(wanted) }

  mutating func makeInteger(_ wanted: String) -> String {
    let name = unique.make(wanted)
    integers.insert(name)
    return name
  }

  /// The name of the graph input for a new parameter: `p_` and its state-dict name, as PyTorch makes them.
  mutating func makeInput(for parameter: String) -> String {
    let name = unique.make("p_" + parameter.map { $0.isLetter || $0.isNumber ? String($0) : "_" }.joined())
    inputs[parameter] = name
    return name
  }

  func input(of parameter: String) -> String? { inputs[parameter] }

  // MARK: Arguments

  /// `value` as an argument.
  /// - Parameter old: what stands in its place, whose kind it keeps where it can.
  func json(_ value: TorchArgument, like old: JSONElement?) throws(Failure) -> String {
    let kind = old?.onlyMember?.name.string
    switch value {
    case .none: return "{\"as_none\": true}"
    case .bool(let value): return "{\"as_bool\": \(value)}"
    case .int(let value):
      // A real number's place takes a whole one, but is to stay real.
      return kind == "as_float" ? "{\"as_float\": \(value).0}" : "{\"as_int\": \(value)}"
    case .float(let value): return "{\"as_float\": \(Self.json(value))}"
    case .string(let value): return "{\"as_string\": \(JSONEscapes.encoded(value))}"
    case .reference(let name):
      return integers.contains(name)
        ? "{\"as_sym_int\": \(symbolic(name))}" : "{\"as_tensor\": {\"name\": \(JSONEscapes.encoded(name))}}"
    case .parameter(let name):
      return "{\"as_tensor\": {\"name\": \(JSONEscapes.encoded(try requireInput(name)))}}"
    case .symbol(let symbol):
      guard let type = ScalarType.allCases.first(where: { $0.symbol == symbol }) else { throw Self.unsayable(value) }
      return "{\"as_scalar_type\": \(type.rawValue)}"
    case .list(let elements), .tuple(let elements): return try list(elements, kind)
    case .dictionary, .slice, .ellipsis: throw Self.unsayable(value)
    }
  }

  private func list(_ elements: [TorchArgument], _ kind: String?) throws(Failure) -> String {
    func encoded(_ kind: String, _ body: (TorchArgument) throws(Failure) -> String) throws(Failure) -> String {
      var texts: [String] = []
      for element in elements { texts.append(try body(element)) }
      return "{\"\(kind)\": [\(texts.joined(separator: ", "))]}"
    }
    let isInteger = elements.allSatisfy { if case .int = $0 { true } else { false } }
    if isInteger, kind != "as_sym_ints", kind != "as_floats" {
      return try encoded("as_ints") { if case .int(let value) = $0 { "\(value)" } else { "" } }
    }
    let isSymbolic = elements.allSatisfy { element in
      switch element {
      case .int: true
      case .reference(let name): integers.contains(name)
      default: false
      }
    }
    if isSymbolic, kind != "as_floats" {
      return try encoded("as_sym_ints") { element in
        if case .reference(let name) = element { return symbolic(name) }
        if case .int(let value) = element { return "{\"as_int\": \(value)}" }
        return ""
      }
    }
    let isReal = elements.allSatisfy { element in
      switch element {
      case .int, .float: true
      default: false
      }
    }
    if isReal {
      return try encoded("as_floats") { element in
        if case .float(let value) = element { return Self.json(value) }
        if case .int(let value) = element { return "\(value).0" }
        return ""
      }
    }
    let hasNone = elements.contains(.none)
    return try encoded(hasNone ? "as_optional_tensors" : "as_tensors") { element throws(Failure) in
      let name: String
      switch element {
      case .reference(let reference): name = reference
      case .parameter(let parameter): name = try requireInput(parameter)
      case .none: return "{\"as_none\": true}"
      default: throw Self.unsayable(element)
      }
      let tensor = "{\"name\": \(JSONEscapes.encoded(name))}"
      return hasNone ? "{\"as_tensor\": \(tensor)}" : tensor
    }
  }

  private func symbolic(_ name: String) -> String { "{\"as_name\": \(JSONEscapes.encoded(name))}" }

  private func requireInput(_ parameter: String) throws(Failure) -> String {
    guard let input = inputs[parameter] else {
      throw Failure(
        .certificateFailed, "the program has no input for '\(parameter)'", details: ["parameter": .string(parameter)])
    }
    return input
  }

  /// With as many digits as it takes to read the same number back; infinities as PyTorch writes them.
  private static func json(_ value: Double) -> String {
    if value.isNaN { return "\"NaN\"" }
    if value.isInfinite { return value < 0 ? "\"-Infinity\"" : "\"Infinity\"" }
    return value.description
  }

  private static func unsayable(_ value: TorchArgument) -> Failure {
    Failure(
      .modelUnsupportedOperator,
      "an argument would become what an exported program cannot say (\(value)); exclude the layer, or compress the model "
        + "as ONNX")
  }
}
