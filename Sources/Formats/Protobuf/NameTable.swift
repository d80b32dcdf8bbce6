/// What is known by name of a document. The names are copied: a mapped file may be written to while it is read, and a
/// table whose names change under it comes apart.
///
/// Invariant: names that went in stay as they were. A name that is looked up is read where it is, once.
package struct NameTable<Value> {
  private var values: [ByteSpan: Value] = [:]
  private let copies = NameCopies()

  /// Names are those of the table, and go with it.
  package func forEach(_ body: (_ name: ByteSpan, _ value: Value) -> Void) {
    withExtendedLifetime(copies) { for (name, value) in values { body(name, value) } }
  }

  package init() {}

  package mutating func reserveCapacity(_ count: Int) { values.reserveCapacity(count) }

  package subscript(name: ByteSpan) -> Value? {
    get { values[name] }
    set {
      if let newValue { updateValue(newValue, forKey: name) } else { values[name] = nil }
    }
  }

  /// - Returns: what was known before.
  @discardableResult
  package mutating func updateValue(_ value: Value, forKey name: ByteSpan) -> Value? {
    if let index = values.index(forKey: name) {
      let old = values.values[index]
      values.values[index] = value
      return old
    }
    return values.updateValue(value, forKey: copies.copy(name))
  }

  package func mapValues<Other>(_ transform: (Value) -> Other) -> NameTable<Other> {
    var result = NameTable<Other>()
    forEach { result.updateValue(transform($1), forKey: $0) }
    return result
  }
}

/// Names of a document, copied as those of a `NameTable`.
struct NameSet {
  private var table = NameTable<Void>()

  init(_ names: some Sequence<ByteSpan> = []) { formUnion(names) }

  func contains(_ name: ByteSpan) -> Bool { table[name] != nil }

  /// - Returns: whether it is new.
  @discardableResult
  mutating func insert(_ name: ByteSpan) -> Bool { table.updateValue((), forKey: name) == nil }

  mutating func formUnion(_ names: some Sequence<ByteSpan>) { for name in names { insert(name) } }
  mutating func formUnion(_ other: NameSet) { other.forEach { insert($0) } }

  /// Names are those of the set, and go with it.
  func forEach(_ body: (_ name: ByteSpan) -> Void) { table.forEach { name, _ in body(name) } }

  var displayNames: [String] {
    var names: [String] = []
    forEach { names.append($0.displayName) }
    return names
  }
}

/// Holds copied names as long as somebody has one of their tables.
private final class NameCopies {
  private var chunks: [UnsafeMutableRawBufferPointer] = []
  private var used = 0

  private static let chunk = 16 << 10

  deinit { for chunk in chunks { chunk.deallocate() } }

  func copy(_ name: ByteSpan) -> ByteSpan {
    if chunks.last.map({ used + name.count > $0.count }) ?? true {
      chunks.append(.allocate(byteCount: Swift.max(Self.chunk, name.count), alignment: 1))
      used = 0
    }
    guard let base = chunks[chunks.count - 1].baseAddress else { return name }
    base.advanced(by: used).copyMemory(from: name.base, byteCount: name.count)
    defer { used += name.count }
    return ByteSpan(base: base + used, count: name.count, offset: name.offset)
  }
}
