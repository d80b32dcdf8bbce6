import ModelGraph

/// What can be said of a pickle only when all of it is read: that nothing contains itself, how deep it is nested, that
/// keys are unique, and that unknown classes stand nowhere but in the place of a tracer.
///
/// Each node is looked at once, however many refer to it, so that objects that double at each level cost no more than
/// their instructions.
struct PickleCheck {
  private let root: PickleNode
  private let nodes: [PickleNode]
  private let tracers: [ObjectIdentifier: Int]
  private let offset: Int

  /// - Parameters:
  ///   - root: the object that all others are for.
  ///   - nodes: all that were read.
  ///   - tracers: nodes that may only be a tracer, and where they are in the pickle.
  ///   - offset: of the pickle in the file.
  init(_ root: PickleNode, nodes: [PickleNode], tracers: [ObjectIdentifier: Int], offset: Int) {
    (self.root, self.nodes, self.tracers, self.offset) = (root, nodes, tracers, offset)
  }

  func run(work: Work) throws(Failure) {
    try checkDepth(work: work)
    try refuseTracer(root)
    var keys = KeyTable()
    for (index, node) in nodes.enumerated() {
      if index & 0xfff == 0 { try work.checkCancellation() }
      try checkKeys(of: node, &keys)
      if !tracers.isEmpty { try checkTracers(in: node) }
    }
  }

  /// Depth first: a node that is met while its own contents are looked at contains itself.
  private func checkDepth(work: Work) throws(Failure) {
    // Levels of nodes from each one down, by its number: -1 until it is met, 0 while they are being counted.
    var heights = [Int32](repeating: -1, count: nodes.count)
    var stack: [PickleNode] = []
    for (index, root) in nodes.enumerated() where heights[index] < 0 {
      if index & 0xfff == 0 { try work.checkCancellation() }
      if root.isLeaf {
        heights[index] = 1
        continue
      }
      stack.append(root)
      while let node = stack.last {
        let number = Int(node.number)
        if heights[number] < 0 {
          heights[number] = 0
          try node.forEachChild { child throws(Failure) in
            guard heights[Int(child.number)] != 0 else { throw .recursivePickle(offset) }
            guard heights[Int(child.number)] < 0 else { return }
            if child.isLeaf { heights[Int(child.number)] = 1 } else { stack.append(child) }
          }
        } else {
          stack.removeLast()
          guard heights[number] == 0 else { continue }
          var deepest: Int32 = 0
          node.forEachChild { deepest = max(deepest, heights[Int($0.number)]) }
          guard deepest < PickleReader.depthLimit else { throw .deepPickle(offset) }
          heights[number] = deepest + 1
        }
      }
    }
  }

  /// Python keeps the last of equal keys, other readers the first.
  private func checkKeys(of node: PickleNode, _ keys: inout KeyTable) throws(Failure) {
    let entries: [PickleNode.Entry]
    switch node.kind {
    case .dict(let dict): entries = dict
    case .call(let call): entries = call.items
    default: return
    }
    guard entries.count > 1 else { return }
    for entry in entries where !keys.insert(entry.key, of: node) {
      throw .malformed(
        "not a valid pickle: a dictionary has the key '\(entry.key.string?.prefix(200) ?? "")' twice", at: offset)
    }
  }

  private func checkTracers(in node: PickleNode) throws(Failure) {
    if case .dict(let entries) = node.kind {
      for entry in entries where entry.key.string != AllowedGlobals.tracerKey { try refuseTracer(entry.value) }
      for entry in entries { try refuseTracer(entry.key) }
    } else {
      try node.forEachChild { child throws(Failure) in try refuseTracer(child) }
    }
  }

  private func refuseTracer(_ node: PickleNode) throws(Failure) {
    guard let position = tracers[node.id], case .global(let module, let name) = node.kind else { return }
    throw .forbiddenGlobal(module: module, name: name, "names", at: offset + position)
  }
}

/// The texts that are keys, and where each was one last. Files say "weight" once and mean it in every dictionary, so that
/// few nodes have to be looked up.
private struct KeyTable {
  private var keys: [String: Int] = [:]
  private var keysOfNodes = PickleNodeTable<Int>()
  /// By key: the number of the dictionary that had it last.
  private var last: [Int32] = []

  /// - Returns: false if the dictionary has the key already.
  mutating func insert(_ node: PickleNode, of dictionary: PickleNode) -> Bool {
    guard case .string(let text) = node.kind else { return true }
    let key: Int
    if let known = keysOfNodes[node] {
      key = known
    } else {
      key = keys[text] ?? last.count
      keysOfNodes[node] = key
      if key == last.count {
        keys[text] = key
        last.append(-1)
      }
    }
    defer { last[key] = dictionary.number }
    return last[key] != dictionary.number
  }
}

extension Failure {
  fileprivate static func recursivePickle(_ offset: Int) -> Failure {
    .malformed("not a valid pickle: an object contains itself", at: offset)
  }

  static func deepPickle(_ offset: Int) -> Failure {
    Failure(
      .resourceLimit, "the pickle's objects are nested more than \(PickleReader.depthLimit) deep (at byte \(offset))",
      details: ["limit": .int(PickleReader.depthLimit)])
  }
}
