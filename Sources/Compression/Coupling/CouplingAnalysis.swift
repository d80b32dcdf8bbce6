import ModelGraph

/// The pass over one graph and what it learned, independent of all options.
package struct CouplingAnalysis: Sendable {
  let graph: Graph
  let shapes: ShapeTable
  package let stored: StoredLabels
  let facts: Facts
  /// Per value; nil where its shape is unknown.
  package let values: [LabelledValue?]
  /// The labelled forms with which stored tensors entered, by value.
  let initial: [ValueID: LabelledValue]
  /// Vectors whose uses have labels of their own, and with which forms these entered.
  let shared: SharedVectors
  let initialOfUse: [Use: LabelledValue]
  /// Nodes that no rule spoke for.
  package let barriers: Set<NodeID>

  package init(graph: Graph, shapes: ShapeTable, work: Work) throws(Failure) {
    var stored = StoredLabels(graph: graph)
    let shared = SharedVectors(graph: graph)
    var initial: [ValueID: LabelledValue] = [:]
    var initialOfUse: [Use: LabelledValue] = [:]
    var pass = Propagation(graph: graph, shapes: shapes)
    try pass.run(work: work) { id, tensor, facts in
      if shared.source(of: id) != nil { return StoredLabels.unlabelled(tensor, &facts) }
      let value = stored.label(id, tensor, &facts)
      initial[id] = value
      return value
    } labellingUse: { use, value, facts in
      guard let source = shared.source(of: value), let tensor = graph[source].tensor,
        shared.uses[source]?.contains(use) == true
      else { return nil }
      let value = stored.label(source, tensor, use: use, &facts)
      initialOfUse[use] = value
      return value
    }
    (self.shared, self.initialOfUse) = (shared, initialOfUse)
    (self.graph, self.shapes, self.stored, self.initial) = (graph, shapes, stored, initial)
    (facts, values, barriers) = (pass.facts, pass.values, Set(pass.barriers))
  }

  /// Solves the facts under a reading of split axes and forms units, groups and balances.
  package func solved(_ options: CouplingOptions = CouplingOptions()) -> ChannelCoupling {
    var facts = facts
    if options.exactOnly { facts.forbidApproximations() }
    facts.solve(joiningInner: options.prunesBlocks ? separableBlocks(facts) : [])
    let isLive = graph.reachingOutputs
    while true {
      let classOf = facts.representatives()
      let flags = ClassFlags(facts: facts, classOf: classOf)
      let signatures = Self.signatures(stored: stored, classOf: classOf, isLive: isLive)
      let balance = Balance(
        blocks: facts.blocks, classOf: classOf, isFrozen: { flags.frozen[Int($0)] >= 0 },
        signature: { signatures[Int($0)] })
      if balance.joins.isEmpty && balance.frozen.isEmpty {
        return ChannelCoupling(
          analysis: self, facts: facts, classOf: classOf, flags: flags, signatures: signatures, balance: balance)
      }
      for (a, b) in balance.joins { facts.joinClasses(a, b) }
      for (label, node) in balance.frozen { facts.freeze(label, facts.reason(.balancedWithFrozen, node)) }
      facts.solve(joiningInner: [])
    }
  }

  /// The joint sets whose whole blocks can be pruned: heads, that a product of activations runs through one by one.
  /// Where these turn out to be all one, indices within them are pruned after all.
  private func separableBlocks(_ facts: Facts) -> [LabelArray] {
    var blocks = facts.batched
    while true {
      var trial = facts
      trial.solve(joiningInner: blocks)
      let separable = blocks.filter { !trial.effectiveFactors($0).isEmpty }
      if separable.count == blocks.count { return blocks }
      blocks = separable
    }
  }

  /// Per class, a fingerprint of the sorted multiset of (parameter, axis) it cuts; 0 if it cuts nothing stored that an
  /// output depends on.
  private static func signatures(stored: StoredLabels, classOf: [Int32], isLive: [Bool]) -> [UInt64] {
    var signatures = [UInt64](repeating: 0, count: classOf.count)
    for (k, origin) in stored.origins.enumerated() where isLive[origin.value.index] {
      for label in origin.range {
        let c = Int(classOf[Int(label)])
        // Origins come in order, so equal multisets give equal sequences. (Knuth's multiplicative constant.)
        signatures[c] = (signatures[c] &+ UInt64(k + 1)) &* 0x9E37_79B9_7F4A_7C15 ^ (signatures[c] >> 29)
      }
    }
    return signatures
  }
}

/// What options say about how the facts are read; everything else about a coupling is the model's.
package struct CouplingOptions: Hashable, Sendable {
  /// Whole blocks of a split axis are removed instead of indices within them (`reshape_channel_axis` -2 or 0).
  package var prunesBlocks: Bool
  /// What could be removed only approximately stays (`exact_only`).
  package var exactOnly: Bool

  package init(prunesBlocks: Bool = false, exactOnly: Bool = false) {
    (self.prunesBlocks, self.exactOnly) = (prunesBlocks, exactOnly)
  }
}

/// Per class the reason of its first frozen label, -1 if none is.
struct ClassFlags: Sendable {
  var frozen: [ReasonID]

  init(facts: Facts, classOf: [Int32]) {
    frozen = Array(repeating: -1, count: classOf.count)
    for label in classOf.indices {
      let c = Int(classOf[label])
      if frozen[c] < 0 { frozen[c] = facts.frozen[label] }
    }
  }
}
