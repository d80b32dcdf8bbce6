/// Edited copies of what a pickle describes: new nodes where something changes and around it, the old ones elsewhere.
///
/// Invariant: what was one object for several others is one object in the copy, so ties outlive edits.
extension PickleNode {
  package typealias Edit = (PickleNode) -> PickleNode

  /// A copy with some nodes changed.
  /// - Parameter edits: by the node's `id`. Each is given its node with the edits of everything inside already made, so
  ///   that edits at different depths go together, and may put it inside something new.
  /// - Returns: the node itself if nothing in it is edited.
  package func edited(_ edits: [ObjectIdentifier: Edit]) -> PickleNode {
    guard !edits.isEmpty else { return self }
    var copies = PickleNodeTable<PickleNode>()
    // A node is taken up twice: once to do its children first, once to copy it around their copies.
    // What nothing changes in is not copied.
    var seen = PickleNodeSet()
    var stack: [(node: PickleNode, isOpen: Bool)] = [(self, false)]
    while let (node, isOpen) = stack.popLast() {
      if isOpen {
        var isChanged = false
        node.forEachChild { if copies[$0] != nil { isChanged = true } }
        let copy = isChanged ? node.rebuilt { copies[$0] ?? $0 } : node
        let edited = edits[node.id]?(copy) ?? copy
        if edited !== node { copies[node] = edited }
      } else if seen.insert(node) {
        stack.append((node, true))
        node.forEachChild { if !$0.isLeaf || edits[$0.id] != nil { stack.append(($0, false)) } }
      }
    }
    return copies[self] ?? self
  }

  /// A copy with other nodes in the place of some. What is put in is taken as it is: nodes inside it are not replaced.
  /// - Parameter replacements: by the `id` of the node they replace.
  package func replacing(_ replacements: [ObjectIdentifier: PickleNode]) -> PickleNode {
    edited(replacements.mapValues { new in { _ in new } })
  }

  /// The same dict or OrderedDict with another value under a key; a new key goes to the end.
  /// - Precondition: it is one of the two.
  package func setting(_ key: String, to value: PickleNode) -> PickleNode {
    changingEntries { entries in
      if let index = entries.firstIndex(where: { $0.key.string == key }) {
        entries[index].value = value
      } else {
        entries.append((.string(key), value))
      }
    }
  }

  /// The same dict or OrderedDict without a key.
  /// - Precondition: it is one of the two.
  package func removing(_ key: String) -> PickleNode {
    changingEntries { $0.removeAll { $0.key.string == key } }
  }

  /// The same call's result with another state.
  /// - Precondition: it is the result of a call.
  package func settingState(_ state: PickleNode) -> PickleNode {
    guard case .call(var call) = kind else { preconditionFailure("only what was called has a state") }
    call.state = state
    return PickleNode(.call(call))
  }

  private func changingEntries(_ change: (inout [Entry]) -> Void) -> PickleNode {
    switch kind {
    case .dict(var entries):
      change(&entries)
      return PickleNode(.dict(entries))
    case .call(var call) where dictionaryEntries != nil:
      change(&call.items)
      return PickleNode(.call(call))
    default: preconditionFailure("only dictionaries have entries")
    }
  }

  /// The node with other children.
  private func rebuilt(_ copy: (PickleNode) -> PickleNode) -> PickleNode {
    func copies(_ nodes: [PickleNode]) -> [PickleNode] { nodes.map(copy) }
    func copies(_ entries: [Entry]) -> [Entry] { entries.map { (copy($0.key), copy($0.value)) } }
    switch kind {
    case .none, .bool, .int, .bigInteger, .float, .string, .bytes, .global: return self
    case .list(let nodes): return PickleNode(.list(copies(nodes)))
    case .tuple(let nodes): return PickleNode(.tuple(copies(nodes)))
    case .set(let nodes): return PickleNode(.set(copies(nodes)))
    case .dict(let entries): return PickleNode(.dict(copies(entries)))
    case .persistent(let node): return PickleNode(.persistent(copy(node)))
    case .call(let call):
      return PickleNode(
        .call(
          Call(
            kind: call.kind, callee: copy(call.callee), arguments: copy(call.arguments), items: copies(call.items),
            state: call.state.map(copy))))
    }
  }
}
