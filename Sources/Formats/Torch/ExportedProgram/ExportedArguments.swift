import JSON
import ModelGraph

/// Arguments of an exported program's calls as a `TorchProgram` has them (`Argument` of torch/_export/serde/schema.py: a
/// union whose one member says what it is).
struct ExportedArguments {
  let text: ExportedText
  /// What a name of the graph stands for.
  let reference: (String) throws(Failure) -> TorchArgument

  /// - Parameter element: `{"as_int": 3}`, ...
  func argument(_ element: JSONElement) throws(Failure) -> TorchArgument {
    let (name, value) = try text.union(element)
    switch name.string ?? "" {
    case "as_none": return .none
    case "as_tensor": return try tensor(value)
    case "as_tensors": return try list(value, tensor)
    case "as_nested_tensors": return try lists(value, tensor)
    case "as_optional_tensor": return try argument(value)
    case "as_optional_tensors": return try list(value, argument)
    case "as_int": return try int(value)
    case "as_ints": return try list(value, int)
    case "as_int_lists": return try lists(value, int)
    case "as_float": return try float(value)
    case "as_floats": return try list(value, float)
    case "as_float_lists": return try lists(value, float)
    case "as_bool": return try bool(value)
    case "as_bools": return try list(value, bool)
    case "as_string": return .string(try string(value))
    case "as_strings": return try list(value) { element throws(Failure) in .string(try string(element)) }
    case "as_sym_int", "as_sym_float", "as_sym_bool": return try symbolic(value)
    case "as_sym_ints", "as_sym_floats", "as_sym_bools": return try list(value, symbolic)
    case "as_scalar_type":
      guard let type = ScalarType(rawValue: try text.int(value)) else {
        throw text.malformed("there is no such element type", value)
      }
      return .symbol(type.symbol)
    case "as_memory_format": return .symbol("torch." + (try named(value, Self.memoryFormats)))
    case "as_layout": return .symbol("torch." + (try named(value, Self.layouts)))
    case "as_device":
      let index = value["index"]?.int.map { ":\($0)" } ?? ""
      return .symbol("device(type='\(try text.string("type", of: value))\(index)')")
    case "as_operator": return .symbol(try string(value))
    case "as_complex":
      return .symbol("complex(\(value["real"]?.source ?? ""), \(value["imag"]?.source ?? ""))")
    case "as_graph": return .symbol("graph(\(try text.string("name", of: value)))")
    case "as_string_to_argument":
      guard value.kind == .object else { throw text.malformed("there is no dictionary", value) }
      var entries: [TorchArgument.Entry] = []
      for (key, value) in value.members {
        entries.append(TorchArgument.Entry(key: key.string ?? "", value: try argument(value)))
      }
      return .dictionary(entries)
    case "as_custom_obj":
      throw Failure(
        .modelUnsafe,
        "the program uses objects of custom classes, which only their own code can read; export a model "
          + "without them")
    case let other: throw text.malformed("'\(other.prefix(40))' is no kind of argument that is known", name)
    }
  }

  /// Appends the names of the graph's values that `element` refers to.
  static func collectNames(
    _ element: JSONElement, into names: inout [String]
  ) {
    for (key, value) in element.members where !key.equals("as_graph") {
      if value.kind == .string {
        guard key.equals("name") || key.equals("as_name"), let name = value.string else { continue }
        names.append(name)
      } else {
        collectNames(value, into: &names)
      }
    }
    for value in element.elements { collectNames(value, into: &names) }
  }

  /// In the order of their codes.
  private static let memoryFormats = [
    "unknown", "contiguous_format", "channels_last", "channels_last_3d", "preserve_format",
  ]
  private static let layouts = [
    "unknown", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "_mkldnn", "strided",
  ]

  private func named(_ element: JSONElement, _ names: [String]) throws(Failure) -> String {
    let code = try text.int(element)
    guard names.indices.contains(code) else { throw text.malformed("\(code) means nothing here", element) }
    return names[code]
  }

  private func list(
    _ element: JSONElement, _ body: (JSONElement) throws(Failure) -> TorchArgument
  ) throws(Failure) -> TorchArgument {
    guard element.kind == .array else { throw text.malformed("there is no list", element) }
    var result: [TorchArgument] = []
    for element in element.elements { result.append(try body(element)) }
    return .list(result)
  }

  private func lists(
    _ element: JSONElement, _ body: (JSONElement) throws(Failure) -> TorchArgument
  ) throws(Failure) -> TorchArgument {
    try list(element) { inner throws(Failure) in try list(inner, body) }
  }

  /// `{"name": "conv2d"}`.
  private func tensor(_ element: JSONElement) throws(Failure) -> TorchArgument {
    try reference(try text.string("name", of: element))
  }

  /// `{"as_name": "sym_size_int"}` or a number.
  private func symbolic(_ element: JSONElement) throws(Failure) -> TorchArgument {
    let (name, value) = try text.union(element)
    if name.equals("as_name") { return try reference(try string(value)) }
    if name.equals("as_int") { return try int(value) }
    if name.equals("as_float") { return try float(value) }
    if name.equals("as_bool") { return try bool(value) }
    throw text.malformed("there is neither a name nor a number", name)
  }

  private func int(_ element: JSONElement) throws(Failure) -> TorchArgument { .int(try text.int(element)) }

  /// JSON has no infinities, so that these are strings.
  private func float(_ element: JSONElement) throws(Failure) -> TorchArgument {
    if let value = element.double { return .float(value) }
    if element.equals("Infinity") { return .float(.infinity) }
    if element.equals("-Infinity") { return .float(-.infinity) }
    if element.equals("NaN") { return .float(.nan) }
    throw text.malformed("there is no number", element)
  }

  private func bool(_ element: JSONElement) throws(Failure) -> TorchArgument {
    guard let value = element.bool else { throw text.malformed("there is neither true nor false", element) }
    return .bool(value)
  }

  private func string(_ element: JSONElement) throws(Failure) -> String {
    guard let value = element.string else { throw text.malformed("there is no string", element) }
    return value
  }
}
