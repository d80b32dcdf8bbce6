import ModelGraph

/// Which layers go together and which operators make them, in words: what inspect tells of every layer.
struct GroupExplanations {
  private let coupling: ChannelCoupling
  /// Per group its layers, in node order, and the operators that tie them to each other, in the order they do.
  private let layers: [[Layer]]
  private let ties: [[NodeID]]
  /// Per group whether its layers' names differ, and how many different ties it has: residual streams hold most layers
  /// of a model, and each of them asks.
  private let namesDiffer: [Bool]
  private let tieCounts: [Int]

  init(_ coupling: ChannelCoupling) {
    self.coupling = coupling
    var layers = [[Layer]](repeating: [], count: coupling.groups.count)
    for layer in coupling.layers {
      for g in layer.outputs.map(coupling.groups(along:)) ?? [] { layers[g].append(layer) }
    }
    self.layers = layers
    namesDiffer = layers.map { members in Set(members.map(\.name)).count == members.count }
    ties = Self.ties(coupling)
    tieCounts = ties.map { Set($0).count }
  }

  /// Joins what meets, in the order of the nodes; where two parts meet that both hold a layer, that operator decided.
  private static func ties(_ coupling: ChannelCoupling) -> [[NodeID]] {
    var ties = [[NodeID]](repeating: [], count: coupling.groups.count)
    var parent: [Int32: Int32] = [:]
    var holdsLayer: Set<Int32> = []
    let made = Set(coupling.layers.compactMap { $0.outputs?.first })
    /// The slice a label belongs to: labels of one stored axis move together.
    func part(_ label: Int32) -> Int32 { coupling.analysis.stored.origin(of: label)?.first ?? label }
    func root(_ x: Int32) -> Int32 {
      var x = x
      while let next = parent[x] { x = next }
      return x
    }
    for origin in made { holdsLayer.insert(origin) }
    for meeting in coupling.facts.meetings {
      let (a, b) = (root(part(meeting.a)), root(part(meeting.b)))
      guard a != b else { continue }
      let (first, second) = (min(a, b), max(a, b))
      parent[second] = first
      guard holdsLayer.contains(first) || holdsLayer.contains(second) else { continue }
      if holdsLayer.contains(first), holdsLayer.contains(second), let g = coupling.group(of: meeting.a),
        ties[g].last != meeting.node
      {
        ties[g].append(meeting.node)
      }
      holdsLayer.insert(first)
    }
    return ties
  }

  /// The other layers whose output channels go with those of `layer`, in node order.
  func partners(of layer: Layer) -> [String] {
    let groups = layer.outputs.map(coupling.groups(along:)) ?? []
    if groups.count == 1, namesDiffer[groups[0]] {
      return layers[groups[0]].lazy.filter { $0.node != layer.node }.map(\.name)
    }
    var names: [String] = []
    var seen: Set<String> = []
    for g in groups {
      for other in layers[g] where other.node != layer.node && seen.insert(other.name).inserted {
        names.append(other.name)
      }
    }
    return names
  }

  /// What of the layer's output channels can be removed, what goes with them and which operator says so; or why nothing
  /// can.
  /// - Parameter others: its `partners`.
  func sentence(for layer: Layer, with others: [String]) -> String {
    if let reason = coupling.reasonNotPrunable(layer) { return "cannot be pruned: \(reason)" }
    guard let outputs = layer.outputs else { return "cannot be pruned: it has a single output channel" }
    let groups = coupling.groups(along: outputs)
    let total = outputs.count * outputs.width
    let free = outputs.range.count { label in
      coupling.group(of: label) != nil && coupling.frozenReason(of: label) == nil
    }
    var sentence =
      free == outputs.count
      ? "its \(total) output channels can be removed"
      : "\(free * outputs.width) of its \(total) output channels can be removed"
    if others.isEmpty {
      sentence += " on their own"
    } else {
      sentence += ", always together with those of \(Self.list(others))"
      let deciding = groups.flatMap { ties[$0] }
      if let tie = deciding.first {
        let more = (groups.count == 1 ? tieCounts[groups[0]] : Set(deciding).count) - 1
        sentence += ", which \(describe(tie))\(more > 0 ? " and \(more) more" : "") ties to them"
      }
    }
    let cells = Set(
      outputs.range.compactMap { coupling.classOf[Int($0)] }.filter { coupling.groupOfClass[Int($0)] >= 0 })
    if cells.count * outputs.width < free * outputs.width { sentence += ", in \(cells.count) units of several" }
    for g in groups where coupling.groups[g].blocks > 1 {
      let group = coupling.groups[g]
      sentence +=
        ", equally many from each of \(group.blocks) blocks of \(group.width)"
        + (groups.count > 1 ? " of group '\(group.name)'" : "")
    }
    if groups.contains(where: { coupling.groups[$0].link != nil }) {
      sentence += "; what is read side by side must lose as many"
    }
    if free < outputs.count, let label = outputs.range.first(where: { coupling.frozenReason(of: $0) != nil }),
      let reason = coupling.frozenReason(of: label)
    {
      sentence += "; the others stay: \(reason.sentence(in: coupling.graph))"
    }
    return sentence
  }

  private func describe(_ node: NodeID) -> String {
    "\(coupling.graph[node].op) '\(coupling.graph.displayName(node))'"
  }

  private static func list(_ names: [String]) -> String {
    let shown = names.prefix(3).map { "'\($0)'" }
    if names.count > 3 { return shown.joined(separator: ", ") + " and \(names.count - 3) more" }
    return shown.count > 1 ? shown.dropLast().joined(separator: ", ") + " and " + shown[shown.count - 1] : shown[0]
  }
}
