import ModelGraph

/// The options `include` and `exclude`: layer names or globs (`*` any run of characters, `?` any one).
package struct LayerFilter {
  private let include: [String]?
  private let exclude: [String]
  /// Per item the names it answers to.
  private let names: [[String]]

  /// - Parameters:
  ///   - names: per item the names it answers to.
  ///   - others: names that exist besides.
  /// - Throws: `layerUnknown` for a name or pattern that fits no layer, which would otherwise be a silent mistake.
  init(include: [String]?, exclude: [String], names: [[String]], others: [String]) throws(Failure) {
    (self.include, self.exclude, self.names) = (include, exclude, names)
    let patterns = (include ?? []) + exclude
    guard !patterns.isEmpty else { return }
    let known = Set(names.flatMap { $0 } + others)
    for pattern in patterns where !known.contains(where: { Self.matches($0, pattern) }) {
      throw Failure(
        .layerUnknown, "no layer fits '\(pattern)'; inspect lists the layers' names",
        details: ["layer": .string(pattern)])
    }
  }

  /// Of groups, which answer to their own name and to their producers'.
  init(include: [String]?, exclude: [String], coupling: ChannelCoupling) throws(Failure) {
    try self.init(
      include: include, exclude: exclude,
      names: coupling.groups.map { group in
        [group.name] + group.producers.map { coupling.graph.displayName($0.node) }
      }, others: coupling.layers.map(\.name))
  }

  /// Why the item does not take part, nil if it does.
  func reason(against item: Int) -> String? {
    if let include, !include.contains(where: { p in names[item].contains { Self.matches($0, p) } }) {
      return "it is not among the included layers"
    }
    if exclude.contains(where: { p in names[item].contains { Self.matches($0, p) } }) { return "it is excluded" }
    return nil
  }

  /// Whether `pattern` fits all of `name`. Linear in both but for the last star, which is retried.
  package static func matches(_ name: String, _ pattern: String) -> Bool {
    let (name, pattern) = (Array(name.unicodeScalars), Array(pattern.unicodeScalars))
    var (n, p) = (0, 0)
    var star: (pattern: Int, name: Int)?
    while n < name.count {
      if p < pattern.count, pattern[p] == "*" {
        star = (p, n)
        p += 1
      } else if p < pattern.count, pattern[p] == "?" || pattern[p] == name[n] {
        (n, p) = (n + 1, p + 1)
      } else if let back = star {
        star = (back.pattern, back.name + 1)
        (p, n) = (back.pattern + 1, back.name + 1)
      } else {
        return false
      }
    }
    return pattern[p...].allSatisfy { $0 == "*" }
  }
}
