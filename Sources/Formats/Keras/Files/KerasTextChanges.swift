import JSON

/// Changes to a configuration, gathered in any order: what lies inside something that is replaced or taken away does
/// not matter any more, and what is asked for twice is done once.
struct KerasTextChanges {
  private var replaced: [Range<Int>: String] = [:]
  /// By container.
  private var removed: [Range<Int>: (container: JSONElement, names: Set<String>)] = [:]
  private var inserted: [Range<Int>: (container: JSONElement, members: [String: String])] = [:]

  var isEmpty: Bool { replaced.isEmpty && removed.isEmpty && inserted.isEmpty }

  mutating func replace(_ element: JSONElement, with text: String) { replaced[element.range] = text }

  mutating func replace(_ element: JSONElement, with integer: Int) {
    if element.int != integer { replaced[element.range] = "\(integer)" }
  }

  /// Replaces the member's value, or adds the member.
  mutating func set(_ name: String, of object: JSONElement, to text: String) {
    if let element = object.member(name) {
      replace(element, with: text)
    } else {
      inserted[object.range, default: (object, [:])].members[name] = text
    }
  }

  /// Takes the member away, if it is there.
  mutating func remove(_ name: String, of object: JSONElement) {
    guard object.member(name) != nil else { return }
    removed[object.range, default: (object, [])].names.insert(name)
  }

  /// The text with all changes.
  func applied(to bytes: UnsafeRawBufferPointer) -> [UInt8] {
    var changes = JSONTextChanges()
    var covered = replaced.keys.map { $0 }
    var removals: [(places: [Range<Int>], indices: Set<Int>)] = []
    for (container, names) in removed.values {
      var (places, indices): ([Range<Int>], Set<Int>) = ([], [])
      for (key, value) in container.members {
        if names.contains(key.string ?? "") { indices.insert(places.count) }
        places.append(key.range.lowerBound..<value.range.upperBound)
      }
      covered += indices.map { places[$0] }
      removals.append((places, indices))
    }
    let outermost = Outermost(covered)
    for (range, text) in replaced where !outermost.covers(range) { changes.replace(range, with: text) }
    for (places, indices) in removals {
      let own = indices.filter { !outermost.covers(places[$0]) }
      if !own.isEmpty { changes.remove(own, of: places) }
    }
    for (container, members) in inserted.values where !outermost.covers(container.range, orIs: true) {
      for (name, text) in members.sorted(by: { $0.key < $1.key }) {
        changes.insert(member: name, text, into: container)
      }
    }
    return changes.applied(to: bytes)
  }

  /// Ranges that lie in none of the others.
  private struct Outermost {
    private var ranges: [Range<Int>] = []

    init(_ all: [Range<Int>]) {
      for range in all.sorted(by: { ($0.lowerBound, $1.upperBound) < ($1.lowerBound, $0.upperBound) }) {
        if let last = ranges.last, range.upperBound <= last.upperBound { continue }
        ranges.append(range)
      }
    }

    /// Whether `range` lies in one of them that is larger, or, if so asked, equal.
    func covers(_ range: Range<Int>, orIs: Bool = false) -> Bool {
      var (low, high) = (0, ranges.count)
      while low < high {
        let middle = (low + high) / 2
        if ranges[middle].lowerBound <= range.lowerBound { low = middle + 1 } else { high = middle }
      }
      guard low > 0 else { return false }
      let outer = ranges[low - 1]
      return outer.upperBound >= range.upperBound && (orIs || outer != range)
    }
  }
}
