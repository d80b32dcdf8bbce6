import JSON

/// What the setting `dtype` of layers says: the name of a type, or the description of a policy.
enum KerasTypes {
  /// Whether a policy, or one for some part of the layer, has weights stored as small numbers with scales. Those of
  /// such policies are told by how they quantize; all others by the name of a type.
  static func isQuantized(_ dtype: JSONElement) -> Bool {
    switch dtype.kind {
    case .object: dtype["mode"] != nil || dtype.members.contains { isQuantized($0.value) }
    case .array: dtype.elements.contains(where: isQuantized)
    case .null, .bool, .number, .string: false
    }
  }
}
