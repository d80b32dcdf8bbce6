import ModelGraph

/// Units, groups and balances of one graph: what may be removed, and what goes with it.
///
/// A unit is a free class that cuts a stored tensor. Units that cut the same (parameter, axis) form a group. Where rows
/// must keep equally many (`Balance`), a group is laid out in blocks.
package struct ChannelCoupling: Sendable {
  package let analysis: CouplingAnalysis
  let facts: Facts
  /// The class of every label: its smallest label.
  package let classOf: [Int32]
  let flags: ClassFlags
  package private(set) var groups: [ChannelGroup]
  /// Per label: the group its class belongs to and the cell there, -1 if none.
  let groupOfClass: [Int32]
  let cellOfClass: [Int32]
  /// Layers in node order.
  package private(set) var layers: [Layer]
  /// Per group, sets of cells of which one must stay, or some value would vanish although its groups do not (a Split
  /// sends a part of a group elsewhere).
  private(set) var guarded: [[[Int]]] = []

  var graph: Graph { analysis.graph }

  package func group(of label: Int32) -> Int? {
    let g = groupOfClass[Int(classOf[Int(label)])]
    return g < 0 ? nil : Int(g)
  }

  /// The groups of an axis's labels, ascending.
  func groups(along origin: LabelOrigin) -> [Int] {
    var found: [Int] = []
    for label in origin.range {
      if let g = group(of: label), found.last != g, !found.contains(g) { found.append(g) }
    }
    return found.sorted()
  }

  func cell(of label: Int32) -> Int? {
    let c = cellOfClass[Int(classOf[Int(label)])]
    return c < 0 ? nil : Int(c)
  }

  /// Why the label's class cannot be removed, nil if it can.
  package func frozenReason(of label: Int32) -> Reason? {
    let id = flags.frozen[Int(classOf[Int(label)])]
    return id < 0 ? nil : facts.reasons[Int(id)]
  }
}

/// Units that cut the same parameters, as `blocks` rows of `width` cells.
package struct ChannelGroup: Sendable {
  /// Blocks that must lose equally many; 1 for an ordinary group.
  package var blocks: Int
  package var width: Int
  /// Class of every cell, block-major.
  package var cells: [Int32]
  /// Per cell; frozen cells inside a balanced row stay.
  package var removable: [Bool]
  /// Groups with the same link lose equally many per block.
  package var link: Int?
  /// The stored axes whose slices are the group's channels, in topological order.
  var producers: [Producer] = []
  /// The name that lists it.
  package var name = ""

  struct Producer: Sendable {
    var origin: LabelOrigin
    var node: NodeID
  }

  /// Channels per cell: how often it occurs along its first producer's axis.
  var weights: [Int] = []
}

extension ChannelCoupling {
  init(
    analysis: CouplingAnalysis, facts: Facts, classOf: [Int32], flags: ClassFlags, signatures: [UInt64],
    balance: Balance
  ) {
    (self.analysis, self.facts, self.classOf, self.flags) = (analysis, facts, classOf, flags)
    var groups: [ChannelGroup] = []
    var groupOf = [Int32](repeating: -1, count: classOf.count)
    var cellOf = groupOf
    for (link, component) in balance.components.enumerated() {
      for family in component.families {
        let cells = family.rows.flatMap { $0 }
        for (k, cell) in cells.enumerated() {
          (groupOf[Int(cell)], cellOf[Int(cell)]) = (Int32(groups.count), Int32(k))
        }
        groups.append(
          ChannelGroup(
            blocks: family.rows.count, width: family.rows[0].count, cells: cells,
            removable: cells.map { flags.frozen[Int($0)] < 0 && signatures[Int($0)] != 0 },
            link: component.families.count > 1 ? link : nil))
      }
    }
    var groupOfSignature: [UInt64: Int] = [:]
    // Neighbours are mostly of one group.
    var last: (signature: UInt64, group: Int) = (0, 0)
    for label in classOf.indices
    where classOf[label] == Int32(label) && signatures[label] != 0 && flags.frozen[label] < 0 && groupOf[label] < 0 {
      if signatures[label] != last.signature {
        last = (signatures[label], groupOfSignature[signatures[label]] ?? groups.count)
      }
      let g = last.group
      if g == groups.count {
        groupOfSignature[signatures[label]] = g
        groups.append(ChannelGroup(blocks: 1, width: 0, cells: [], removable: []))
      }
      (groupOf[label], cellOf[label]) = (Int32(g), Int32(groups[g].width))
      groups[g].cells.append(Int32(label))
      groups[g].removable.append(true)
      groups[g].width += 1
    }
    // In order of the smallest label, whatever kind of group.
    let smallest = groups.map { $0.cells.min() ?? 0 }
    let order = groups.indices.sorted { smallest[$0] < smallest[$1] }
    var rank = [Int32](repeating: 0, count: groups.count)
    for (new, old) in order.enumerated() { rank[old] = Int32(new) }
    groupOfClass = groupOf.map { $0 < 0 ? $0 : rank[Int($0)] }
    cellOfClass = cellOf
    self.groups = order.map { groups[$0] }
    layers = analysis.layers()
    addProducers()
    let made = self.groups.indices.flatMap { g in self.groups[g].producers }
    layers = analysis.layers(layers, and: made, labelCount: classOf.count) { [self] label in
      group(of: label) == nil ? nil : classOf[Int(label)]
    }
    addNames()
    addGuards()
  }

  /// Finds the label sets that consist of a part of one group alone. (A set with a frozen label or with a whole group
  /// never vanishes; one that has parts of several groups is guarded in the first of them.)
  private mutating func addGuards() {
    guarded = Array(repeating: [], count: groups.count)
    // Values that only pass a label array on share its storage: look at each once.
    var seen: Set<LabelArray.Identity> = []
    var stampOfClass = [Int32](repeating: -1, count: classOf.count)
    var stamp: Int32 = 0
    for value in analysis.values {
      for set in value?.sets ?? [] where seen.insert(set.labels.identity).inserted {
        stamp += 1
        if let (g, part) = vanishingPart(set, &stampOfClass, &stamp), !guarded[g].contains(part) {
          guarded[g].append(part)
        }
      }
    }
  }

  /// The cells of the set's first group, if the set can vanish while all its groups keep something.
  private func vanishingPart(_ set: LabelSet, _ stampOfClass: inout [Int32], _ stamp: inout Int32) -> (Int, [Int])? {
    guard set.labels.count > 0 else { return nil }
    // Nearly all sets are all of one group, and need no list.
    let only = groupOfClass[Int(classOf[Int(set.labels.first)])]
    var (isAlone, count) = (only >= 0, 0)
    set.labels.forEachDistinct { label in
      let c = Int(classOf[Int(label)])
      if groupOfClass[c] != only { isAlone = false }
      if stampOfClass[c] != stamp { count += 1 }
      stampOfClass[c] = stamp
    }
    if only < 0 || (isAlone && count == groups[Int(only)].cells.count) { return nil }
    stamp += 1

    var cells: [(group: Int32, cell: Int32)] = []
    var canVanish = true
    set.labels.forEachDistinct { label in
      guard canVanish else { return }
      let c = Int(classOf[Int(label)])
      let g = groupOfClass[c]
      guard g >= 0, groups[Int(g)].removable[Int(cellOfClass[c])] else {
        canVanish = false
        return
      }
      if stampOfClass[c] != stamp {
        stampOfClass[c] = stamp
        cells.append((g, cellOfClass[c]))
      }
    }
    guard canVanish, let first = cells.lazy.map(\.group).min() else { return nil }
    var counts: [Int32: Int] = [:]
    var last: (group: Int32, count: Int) = (first, 0)
    for (g, _) in cells {
      if g != last.group {
        counts[last.group, default: 0] += last.count
        last = (g, 0)
      }
      last.count += 1
    }
    counts[last.group, default: 0] += last.count
    if counts.contains(where: { $1 == groups[Int($0)].cells.count }) { return nil }
    return (Int(first), cells.filter { $0.group == first }.map { Int($0.cell) }.sorted())
  }

  /// Finds the axes that make each group's channels, from the roles that operators gave them.
  private mutating func addProducers() {
    for kind in [Facts.Role.Kind.producer, .table] {
      var producerNode: [Int32: NodeID] = [:]
      for (label, role) in facts.roles where role.kind == kind {
        guard let origin = analysis.stored.origin(of: label) else { continue }
        producerNode[origin.first] = min(producerNode[origin.first] ?? role.node, role.node)
      }
      // Layers speak for a stream; an embedding does where there are none.
      let hasLayers = groups.map { !$0.producers.isEmpty }
      for origin in analysis.stored.origins {
        guard let node = producerNode[origin.first] else { continue }
        for g in groups(along: origin) where !hasLayers[g] {
          groups[g].producers.append(ChannelGroup.Producer(origin: origin, node: node))
        }
      }
    }
    for g in groups.indices {
      var weights = [Int](repeating: 0, count: groups[g].cells.count)
      if let first = groups[g].producers.first {
        for label in first.origin.range where group(of: label) == g {
          if let cell = cell(of: label) { weights[cell] += first.origin.width }
        }
      }
      groups[g].weights = weights
    }
  }

  /// A group bears the name of its only producer, or of the last node that joins several.
  private mutating func addNames() {
    var lastJoin: [Int: NodeID] = [:]
    for (node, label) in facts.activationJoins {
      if let g = group(of: label) { lastJoin[g] = max(lastJoin[g] ?? node, node) }
    }
    var taken: [String: Int] = [:]
    for g in groups.indices {
      let nodes = Set(groups[g].producers.map(\.node)).sorted()
      let named = nodes.count > 1 ? lastJoin[g] ?? nodes.first : nodes.first
      let parameter = groups[g].cells.first.flatMap(analysis.stored.origin).map { graph[$0.value].name } ?? ""
      let base = named.map(graph.displayName) ?? parameter
      taken[base, default: 0] += 1
      groups[g].name = taken[base] == 1 ? base : "\(base)#\(taken[base] ?? 0)"
    }
  }
}

extension Graph {
  /// The node's name, or its first output's if it has none.
  func displayName(_ id: NodeID) -> String {
    let node = self[id]
    if !node.name.isEmpty { return node.name }
    return node.outputs.lazy.compactMap { $0 }.first.map { self[$0].name } ?? "\(node.op)_\(id.index)"
  }
}
