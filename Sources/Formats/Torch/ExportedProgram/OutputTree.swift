import JSON

/// How the tuples, lists and dictionaries that a program returns are nested, as PyTorch's pytree writes it:
/// `[1, {"type": "builtins.tuple", "context": "null", "children_spec": […]}]`, with a leaf where `type` is null.
enum OutputTree {
  /// `leaves` nested as `spec` says; as a flat tuple where it says nothing that fits.
  static func nest(_ leaves: [TorchArgument], as spec: String?) -> TorchArgument {
    var rest = leaves[...]
    if let spec, let nested = nest(&rest, spec), rest.isEmpty { return nested }
    return .tuple(leaves)
  }

  private static func nest(_ leaves: inout ArraySlice<TorchArgument>, _ spec: String) -> TorchArgument? {
    var spec = spec
    return spec.withUTF8 { bytes -> TorchArgument? in
      let owner = Nothing()
      guard let text = try? JSONText(UnsafeRawBufferPointer(bytes), owner: owner) else { return nil }
      return withExtendedLifetime(text) {
        var elements = text.root.elements
        // The version of the notation.
        guard elements.next()?.int == 1, let root = elements.next() else { return nil }
        return nest(&leaves, root)
      }
    }
  }

  /// - Parameter node: no deeper than `JSONText` reads.
  private static func nest(_ leaves: inout ArraySlice<TorchArgument>, _ node: JSONElement) -> TorchArgument? {
    guard let type = node["type"] else { return nil }
    if type.isNull { return leaves.popFirst() }
    var children: [TorchArgument] = []
    for child in node["children_spec"]?.elements ?? node.elements {
      guard let child = nest(&leaves, child) else { return nil }
      children.append(child)
    }
    switch type.string {
    case "builtins.list", "collections.deque": return .list(children)
    case "builtins.dict", "collections.OrderedDict":
      guard let keys = keys(node["context"]?.string), keys.count == children.count else { return .tuple(children) }
      return .dictionary(zip(keys, children).map { TorchArgument.Entry(key: $0, value: $1) })
    default: return .tuple(children)
    }
  }

  /// The keys of a dictionary: a list of strings, written as JSON within JSON.
  private static func keys(_ context: String?) -> [String]? {
    guard var context else { return nil }
    return context.withUTF8 { bytes in
      let owner = Nothing()
      guard let text = try? JSONText(UnsafeRawBufferPointer(bytes), owner: owner) else { return nil }
      return withExtendedLifetime(text) {
        let keys = text.root.elements.map { $0.string }
        return keys.contains(nil) ? nil : keys.compactMap { $0 }
      }
    }
  }

  /// Stands for the owner of bytes that the caller keeps.
  private final class Nothing {}
}
