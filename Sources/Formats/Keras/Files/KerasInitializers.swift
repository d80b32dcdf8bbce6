import JSON

/// Starting values that settings hold as arrays, as of embeddings that were trained elsewhere: they fit one shape of a
/// variable only, and Keras makes them before it loads the weights.
enum KerasInitializers {
  /// The value of an initializer, where it is an array.
  static func array(of initializer: JSONElement) -> JSONElement? {
    guard initializer["class_name"]?.equals("Constant") ?? false, let value = initializer["config"]?["value"],
      value.kind == .array || value.kind == .object
    else { return nil }
    return value
  }

  /// Those among the settings of a layer.
  static func arrays(in settings: JSONElement) -> [JSONElement] {
    settings.members.compactMap { name, value in
      name.string?.hasSuffix("_initializer") ?? false ? array(of: value) : nil
    }
  }
}
