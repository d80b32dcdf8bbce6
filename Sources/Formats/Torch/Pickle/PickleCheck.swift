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
    for (index, node) in nodes.enumerated() {
      if index & 0xfff == 0 { try work.checkCancellation() }
      try checkKeys(of: node)
      if !tracers.isEmpty { try checkTracers(in: node) }
    }
  }

  /// Depth first: a node that is met while its own contents are looked at contains itself.
  private func checkDepth(work: Work) throws(Failure) {
    var stack: [PickleNode] = []
    for (index, root) in nodes.enumerated() where root.height < 0 {
      if index & 0xfff == 0 { try work.checkCancellation() }
      if root.isLeaf {
        root.height = 1
        continue
      }
      stack.append(root)
      while let node = stack.last {
        if node.height < 0 {
          node.height = 0
          try node.forEachChild { child throws(Failure) in
            guard child.height != 0 else { throw .recursivePickle(offset) }
            guard child.height < 0 else { return }
            if child.isLeaf { child.height = 1 } else { stack.append(child) }
          }
        } else {
          stack.removeLast()
          if node.height == 0 { node.height = try height(of: node) }
        }
      }
    }
  }

  private func height(of node: PickleNode) throws(Failure) -> Int32 {
    var deepest: Int32 = 0
    node.forEachChild { deepest = max(deepest, $0.height) }
    guard deepest < PickleReader.depthLimit else {
      throw Failure(
        .resourceLimit, "the pickle's objects are nested more than \(PickleReader.depthLimit) deep (at byte \(offset))",
        details: ["limit": .int(PickleReader.depthLimit)])
    }
    return deepest + 1
  }

  /// Python keeps the last of equal keys, other readers the first.
  private func checkKeys(of node: PickleNode) throws(Failure) {
    let entries: [PickleNode.Entry]
    switch node.kind {
    case .dict(let dict): entries = dict
    case .call(let call): entries = call.items
    default: return
    }
    guard entries.count > 1 else { return }
    var keys: Set<String> = []
    for case .string(let key) in entries.lazy.map(\.key.kind) where !keys.insert(key).inserted {
      throw .malformed("not a valid pickle: a dictionary has the key '\(key.prefix(200))' twice", at: offset)
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

extension Failure {
  fileprivate static func recursivePickle(_ offset: Int) -> Failure {
    .malformed("not a valid pickle: an object contains itself", at: offset)
  }
}
