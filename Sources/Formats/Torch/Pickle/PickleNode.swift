/// An object that a pickle describes, as data: nothing was imported, called or created but this description.
///
/// Identity means what it means in Python: an object that several others refer to is one node, which is how a file says
/// that parameters are tied. Invariant: nodes are not changed once they were handed out (edits make new nodes around old
/// ones, `PickleEditing`), and none contains itself.
package final class PickleNode: @unchecked Sendable {
  package typealias Entry = (key: PickleNode, value: PickleNode)

  package enum Kind {
    case none
    case bool(Bool)
    case int(Int)
    /// An integer beyond 64 bits: two's complement, little-endian.
    case bigInteger([UInt8])
    case float(Double)
    case string(String)
    case bytes([UInt8])
    case list([PickleNode])
    case tuple([PickleNode])
    /// In order of insertion.
    case dict([Entry])
    case set([PickleNode])
    /// A class or function by the name it is imported under.
    indirect case global(module: String, name: String)
    indirect case call(Call)
    /// What stands outside the pickle: in PyTorch's files, a storage.
    case persistent(PickleNode)
  }

  /// What Python would make by calling something.
  package struct Call {
    package enum Kind: Sendable {
      /// `callee(*arguments)`
      case reduce
      /// `callee.__new__(callee, *arguments)`
      case newObject
    }
    package var kind: Kind
    package var callee: PickleNode
    package var arguments: PickleNode
    /// Assigned by key afterwards.
    package var items: [Entry] = []
    /// Given to `__setstate__`, or put into `__dict__`.
    package var state: PickleNode?
  }

  // Whoever changes a node has it to himself, so that no access needs to be looked at.
  @exclusivity(unchecked) package internal(set) var kind: Kind
  /// Levels of nodes from this one down, as far as they are known while its pickle is read: what is put into a node
  /// that others contain already does not count for those. It takes the place that the allocation has to spare, as the
  /// number does.
  @exclusivity(unchecked) var levels: Int32 = 1
  /// Which of its pickle's nodes it is, in the order in which they were read; -1 for those that were not.
  @exclusivity(unchecked) var number: Int32 = -1

  package init(_ kind: Kind) { self.kind = kind }

  package var id: ObjectIdentifier { ObjectIdentifier(self) }

  /// Whether it refers to no nodes: most are numbers, names and flags.
  var isLeaf: Bool {
    switch kind {
    case .none, .bool, .int, .bigInteger, .float, .string, .bytes, .global: true
    case .list, .tuple, .set, .dict, .call, .persistent: false
    }
  }

  /// Calls `body` with the nodes it refers to, in the order in which they are written.
  @inline(__always)
  func forEachChild<E: Error>(_ body: (PickleNode) throws(E) -> Void) throws(E) {
    switch kind {
    case .none, .bool, .int, .bigInteger, .float, .string, .bytes, .global: break
    case .list(let nodes), .tuple(let nodes), .set(let nodes):
      for node in nodes { try body(node) }
    case .dict(let entries):
      for entry in entries {
        try body(entry.key)
        try body(entry.value)
      }
    case .call(let call):
      try body(call.callee)
      try body(call.arguments)
      for entry in call.items {
        try body(entry.key)
        try body(entry.value)
      }
      if let state = call.state { try body(state) }
    case .persistent(let node): try body(node)
    }
  }
}

// MARK: Making

extension PickleNode {
  package static var none: PickleNode { PickleNode(.none) }
  package static func bool(_ value: Bool) -> PickleNode { PickleNode(.bool(value)) }
  package static func int(_ value: Int) -> PickleNode { PickleNode(.int(value)) }
  package static func float(_ value: Double) -> PickleNode { PickleNode(.float(value)) }
  package static func string(_ text: String) -> PickleNode { PickleNode(.string(text)) }
  package static func list(_ elements: [PickleNode]) -> PickleNode { PickleNode(.list(elements)) }
  package static func tuple(_ elements: [PickleNode]) -> PickleNode { PickleNode(.tuple(elements)) }
  /// A tuple of integers, as shapes and kernel sizes are.
  package static func tuple(_ elements: [Int]) -> PickleNode { PickleNode(.tuple(elements.map { .int($0) })) }
  package static func persistent(_ node: PickleNode) -> PickleNode { PickleNode(.persistent(node)) }

  package static func dict(_ entries: [(String, PickleNode)]) -> PickleNode {
    PickleNode(.dict(entries.map { (.string($0.0), $0.1) }))
  }

  package static func global(_ module: String, _ name: String) -> PickleNode {
    PickleNode(.global(module: module, name: name))
  }

  package static func reduce(
    _ callee: PickleNode, _ arguments: [PickleNode], items: [Entry] = [], state: PickleNode? = nil
  ) -> PickleNode {
    PickleNode(
      .call(Call(kind: .reduce, callee: callee, arguments: .tuple(arguments), items: items, state: state)))
  }

  /// An instance of a class that sets itself up from `state`, as modules of torch.nn are.
  package static func newObject(_ callee: PickleNode, state: PickleNode) -> PickleNode {
    PickleNode(.call(Call(kind: .newObject, callee: callee, arguments: .tuple([PickleNode]()), state: state)))
  }

  package static func orderedDictionary(_ entries: [(String, PickleNode)] = []) -> PickleNode {
    .reduce(.global("collections", "OrderedDict"), [], items: entries.map { (.string($0.0), $0.1) })
  }
}

// MARK: Reading

extension PickleNode {
  package var isNone: Bool { if case .none = kind { true } else { false } }
  package var bool: Bool? { if case .bool(let value) = kind { value } else { nil } }
  package var int: Int? { if case .int(let value) = kind { value } else { nil } }
  package var float: Double? { if case .float(let value) = kind { value } else { nil } }
  package var string: String? { if case .string(let text) = kind { text } else { nil } }
  package var list: [PickleNode]? { if case .list(let nodes) = kind { nodes } else { nil } }
  package var tuple: [PickleNode]? { if case .tuple(let nodes) = kind { nodes } else { nil } }
  package var call: Call? { if case .call(let call) = kind { call } else { nil } }

  package var persistent: PickleNode? { if case .persistent(let node) = kind { node } else { nil } }

  /// The integers of a tuple or list of nothing else; a `torch.Size` counts as its tuple.
  package var ints: [Int]? {
    let elements: [PickleNode]
    switch kind {
    case .tuple(let nodes), .list(let nodes): elements = nodes
    case .call(let call) where call.callee.isGlobal("torch", "Size"):
      guard let tuple = call.arguments.tuple, tuple.count == 1 else { return nil }
      return tuple[0].ints
    default: return nil
    }
    let ints = elements.compactMap(\.int)
    return ints.count == elements.count ? ints : nil
  }

  /// "module.name" of a class or function.
  package var globalName: String? {
    if case .global(let module, let name) = kind { module + "." + name } else { nil }
  }

  package func isGlobal(_ module: String, _ name: String) -> Bool {
    if case .global(module, name) = kind { true } else { false }
  }

  /// What is called, as "module.name", if the object is the result of a call.
  package var calleeName: String? { call?.callee.globalName }

  /// The positional arguments of a call.
  package var callArguments: [PickleNode]? { call?.arguments.tuple }

  /// The attributes of an object that was made and then given its state.
  package var state: PickleNode? { call?.state }

  /// The entries of a dict or an OrderedDict.
  package var dictionaryEntries: [Entry]? {
    switch kind {
    case .dict(let entries): return entries
    case .call(let call) where call.callee.isGlobal("collections", "OrderedDict"):
      return call.arguments.tuple?.isEmpty == true ? call.items : nil
    default: return nil
    }
  }

  /// The value of a text key of a dict or an OrderedDict: `node["weight"]`.
  package subscript(key: String) -> PickleNode? {
    dictionaryEntries?.first { $0.key.string == key }?.value
  }
}
