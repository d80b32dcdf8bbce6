/// The attributes of a group or dataset, in the order in which the file has them.
///
/// Invariant: names differ.
package struct HDF5Attributes: Sendable {
  package private(set) var all: [HDF5Attribute] = []
  /// Whether the file keeps the order in which attributes were made.
  package let keepsOrder: Bool

  package init(keepsOrder: Bool = false) { self.keepsOrder = keepsOrder }

  package subscript(name: String) -> HDF5Attribute? { all.first { $0.name == name } }

  /// Puts the attribute at the end, or in the place of the one of that name.
  package mutating func set(_ attribute: HDF5Attribute) {
    if let index = all.firstIndex(where: { $0.name == attribute.name }) {
      all[index] = attribute
    } else {
      all.append(attribute)
    }
  }

  package mutating func remove(_ name: String) { all.removeAll { $0.name == name } }

  /// For a reader that has checked that no attribute has that name.
  mutating func append(_ attribute: HDF5Attribute) { all.append(attribute) }
}

/// Lists of names, which Keras splits where HDF5's oldest format has no room for them: `layer_names` becomes
/// `layer_names0`, `layer_names1`, ...
extension HDF5Attributes {
  /// Keras's HDF5_OBJECT_HEADER_LIMIT.
  private static let splitSize = 64512

  /// The list `name`, whole or put together; nil if there is none, or it is no list of strings.
  package func strings(_ name: String) -> [String]? {
    if let whole = self[name] { return whole.strings }
    var joined: [String]?
    var part = 0
    while let attribute = self["\(name)\(part)"] {
      guard let strings = attribute.strings else { return nil }
      joined = (joined ?? []) + strings
      part += 1
    }
    return joined
  }

  /// Sets the list `name` as Keras writes it: in one attribute of the kind of strings that was there, or, above 64512
  /// bytes as an array of strings of one length, in as few such arrays of about equal length as keep below that.
  package mutating func setStrings(_ name: String, _ strings: [String]) {
    let kind = self[name].flatMap { $0.type.isString ? $0.type : nil } ?? .byteText
    var part = 0
    while self["\(name)\(part)"] != nil {
      remove("\(name)\(part)")
      part += 1
    }
    let longest = max(1, strings.map(\.utf8.count).max() ?? 0)
    guard strings.count * longest > Self.splitSize else {
      set(HDF5Attribute(name, strings: strings, type: kind))
      return
    }
    remove(name)
    var count = 2
    while (strings.count + count - 1) / count * longest > Self.splitSize, count < strings.count { count += 1 }
    // NumPy's array_split: the first parts have one more.
    let (length, larger) = strings.count.quotientAndRemainder(dividingBy: count)
    var start = 0
    for part in 0..<count {
      let end = start + length + (part < larger ? 1 : 0)
      append(HDF5Attribute("\(name)\(part)", strings: Array(strings[start..<end]), type: .bytes(longest)))
      start = end
    }
  }
}
