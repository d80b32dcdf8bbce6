import Formats
import ModelGraph

/// Reads a pickle from bytes.
func readPickle(_ bytes: [UInt8]) throws -> PickleNode {
  let fenced = FencedBytes(bytes)
  return try withExtendedLifetime(fenced) { try PickleReader.read(fenced.span, work: Work()) }
}

/// The pickle of a fixture.
func pickleBytes(_ name: String) throws -> [UInt8] {
  let archive = try ZipArchive(bytes(fixture(name)))
  guard let entry = archive.entries.first(where: { $0.name.hasSuffix("/data.pkl") }) else { return [] }
  return try archive.array(of: entry)
}

/// Whether two pickles describe the same objects, one node here for one node there.
func describeTheSame(_ a: PickleNode, _ b: PickleNode) -> Bool {
  var partners: [ObjectIdentifier: ObjectIdentifier] = [:]
  var reverse: [ObjectIdentifier: ObjectIdentifier] = [:]
  var stack = [(a, b)]
  while let (a, b) = stack.popLast() {
    guard a.hasSameContents(as: b) else { return false }
    if a.isPlain { continue }
    if let partner = partners[a.id] {
      guard partner == b.id else { return false }
      continue
    }
    guard reverse[b.id] == nil else { return false }
    (partners[a.id], reverse[b.id]) = (b.id, a.id)
    let (mine, theirs) = (a.parts, b.parts)
    guard mine.count == theirs.count else { return false }
    stack += zip(mine, theirs)
  }
  return true
}

extension PickleNode {
  /// Identity means nothing for these.
  fileprivate var isPlain: Bool {
    switch kind {
    case .none, .bool, .int, .bigInteger, .float: true
    case .tuple(let elements): elements.isEmpty
    default: false
    }
  }

  var parts: [PickleNode] {
    switch kind {
    case .list(let nodes), .tuple(let nodes), .set(let nodes): nodes
    case .dict(let entries): entries.flatMap { [$0.key, $0.value] }
    case .persistent(let node): [node]
    case .call(let call):
      [call.callee, call.arguments] + call.items.flatMap { [$0.key, $0.value] } + (call.state.map { [$0] } ?? [])
    default: []
    }
  }

  fileprivate func hasSameContents(as other: PickleNode) -> Bool {
    switch (kind, other.kind) {
    case (.none, .none), (.persistent, .persistent): true
    case (.list, .list), (.tuple, .tuple), (.dict, .dict), (.set, .set): true
    case (.bool(let a), .bool(let b)): a == b
    case (.int(let a), .int(let b)): a == b
    case (.bigInteger(let a), .bigInteger(let b)): a == b
    case (.float(let a), .float(let b)): a.bitPattern == b.bitPattern
    case (.string(let a), .string(let b)): a == b
    case (.bytes(let a), .bytes(let b)): a == b
    case (.global(let m, let n), .global(let o, let p)): m == o && n == p
    case (.call(let a), .call(let b)):
      a.kind == b.kind && a.items.count == b.items.count && (a.state == nil) == (b.state == nil)
    default: false
    }
  }
}

/// Instructions for pickles made by hand.
enum Op {
  static let start: [UInt8] = [0x80, 2]
  static func text(_ text: String) -> [UInt8] {
    [0x58] + (0..<4).map { UInt8(truncatingIfNeeded: text.utf8.count >> (8 * $0)) } + text.utf8
  }
  static func global(_ module: String, _ name: String) -> [UInt8] { [0x63] + Array("\(module)\n\(name)\n".utf8) }
  static func put(_ slot: UInt8) -> [UInt8] { [0x71, slot] }
  static func get(_ slot: UInt8) -> [UInt8] { [0x68, slot] }
  static func int(_ value: UInt8) -> [UInt8] { [0x4b, value] }
  static let mark: [UInt8] = [0x28]
  static let emptyTuple: [UInt8] = [0x29]
  static let emptyList: [UInt8] = [0x5d]
  static let emptyDict: [UInt8] = [0x7d]
  static let none: [UInt8] = [0x4e]
  static let append: [UInt8] = [0x61]
  static let appends: [UInt8] = [0x65]
  static let tuple1: [UInt8] = [0x85]
  static let tuple2: [UInt8] = [0x86]
  static let reduce: [UInt8] = [0x52]
  static let newObject: [UInt8] = [0x81]
  static let build: [UInt8] = [0x62]
  static let setItem: [UInt8] = [0x73]
  static let setItems: [UInt8] = [0x75]
  static let stop: [UInt8] = [0x2e]
}
