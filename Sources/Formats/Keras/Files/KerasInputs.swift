import JSON
import ModelGraph

/// Inputs of models: what an InputLayer says of shape and type, under the names that both generations use.
enum KerasInputs {
  static func input(of entry: KerasEntry, _ text: KerasText) throws(Failure) -> KerasProgram.Input {
    for (flag, kind) in [("sparse", "sparse"), ("ragged", "ragged")] {
      guard entry.settings.member(flag)?.bool ?? false else { continue }
      throw Failure(
        .modelUnsupportedOperator, "the input '\(entry.path.prefix(100))' is \(kind); taken are dense tensors",
        details: ["layer": .string(entry.path)])
    }
    guard let shape = shape(entry.settings) else {
      throw text.malformed("it has no shape ('batch_shape' or 'batch_input_shape')", entry.settings, layer: entry.path)
    }
    return KerasProgram.Input(
      name: entry.name, dtype: try dtype(entry.settings, text, entry.path),
      shape: try dimensions(shape, text, entry.path))
  }

  /// The input of a Sequential, which may be said by an InputLayer, by its first layer, or by what it was built with.
  static func input(
    ofSequential model: KerasEntry, _ network: KerasNetwork, _ text: KerasText
  ) throws(Failure) -> KerasProgram.Input {
    if let first = network.entries.first, first.isInput { return try input(of: first, text) }
    var (first, isNested) = (network.entries.first, false)
    while let inner = first?.network {
      // The first layer may be a model in turn, which knows its input.
      guard inner.isSequential || inner.inputs.references.count == 1 else { break }
      first = inner.isSequential ? inner.entries.first : inner.entries[inner.inputs.references[0].entry]
      isNested = true
    }
    guard let first else { throw text.malformed("the model has no layers", model.description) }
    let shapes = [
      shape(first.settings), isNested ? nil : model.settings["build_input_shape"],
      model.description["build_config"]?["input_shape"],
    ]
    guard let shape = shapes.compactMap({ $0 }).first(where: { $0.kind == .array }) else {
      throw Failure(
        .modelUnsupportedFormat,
        "the Sequential was saved before it was built, so the file has no input shape and no weights; call "
          + "model.build((None, ...)) and save it again")
    }
    // An Embedding is given numbers of words; layers else compute in the type of their input.
    let isIndex = first.className == "Embedding"
    let name = first.isInput ? first.name : first.name + "_input"
    return KerasProgram.Input(
      name: name, dtype: isIndex ? .float32 : try dtype(first.settings, text, first.path),
      shape: try dimensions(shape, text, first.path))
  }

  private static func shape(_ settings: JSONElement) -> JSONElement? {
    for name in ["batch_shape", "batch_input_shape"] {
      if let shape = settings.member(name), shape.kind == .array { return shape }
    }
    return nil
  }

  private static func dimensions(
    _ shape: JSONElement, _ text: KerasText, _ layer: String
  ) throws(Failure) -> [Dimension] {
    var dimensions: [Dimension] = []
    for element in shape.elements {
      if element.isNull {
        dimensions.append(dimensions.isEmpty ? .symbol("batch") : .unknown)
      } else if let length = element.int, length > 0, length < 1 << 31 {
        dimensions.append(.fixed(length))
      } else {
        throw text.malformed("a length of its shape is neither null nor a whole number", element, layer: layer)
      }
    }
    guard dimensions.count <= 16 else { throw text.malformed("its shape has too many axes", shape, layer: layer) }
    return dimensions
  }

  /// A name, or a policy with a name in its settings; the inputs of layers that compute in fewer bits than they store
  /// ("mixed_float16") come in the former.
  private static func dtype(_ settings: JSONElement, _ text: KerasText, _ layer: String) throws(Failure) -> DType {
    guard let element = settings["dtype"], !element.isNull else { return .float32 }
    let name = element.string ?? element["config"]?["name"]?.string ?? ""
    guard let dtype = dtypes[name] else {
      throw text.malformed("the type '\(name.prefix(40))' is not known", element, layer: layer)
    }
    return dtype
  }

  /// Whether Keras has a type or a policy of that name.
  static func isType(_ name: String) -> Bool { dtypes[name] != nil || otherTypes.contains(name) }

  private static let otherTypes: Set<String> = [
    "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "int4", "uint4", "resource", "variant",
  ]

  private static let dtypes: [String: DType] = [
    "float16": .float16, "float32": .float32, "float64": .float64, "bfloat16": .bfloat16, "int8": .int8,
    "int16": .int16,
    "int32": .int32, "int64": .int64, "uint8": .uint8, "uint16": .uint16, "uint32": .uint32, "uint64": .uint64,
    "bool": .bool, "string": .string, "mixed_float16": .float32, "mixed_bfloat16": .float32,
  ]
}
