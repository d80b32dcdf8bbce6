import ModelGraph

/// Groups that keep all their channels because no plan that cuts them could be proved: what one attempt to plan tells
/// the next.
///
/// Invariant: it depends on the model and on what was chosen alone, never on earlier requests.
struct WholeGroups {
  /// Per group, why, in one sentence.
  private(set) var reasons: [Int: String] = [:]
  private(set) var warnings: [String] = []
  private(set) var attempts = 0
  private(set) var firstFailure: Failure?

  /// - Returns: false if there is nothing that could be kept.
  mutating func add(
    _ groups: Set<Int>, of coupling: ChannelCoupling, _ node: NodeID, because failure: Failure
  ) -> Bool {
    attempts += 1
    if firstFailure == nil { firstFailure = failure }
    let name = "\(coupling.graph[node].op) '\(coupling.graph.displayName(node))'"
    let links = Set(groups.compactMap { coupling.groups[$0].link })
    let all = coupling.groups.indices.filter { g in
      groups.contains(g) || coupling.groups[g].link.map(links.contains) == true
    }
    for g in all { reasons[g] = "a plan that cut channels at \(name) could not be proved right, so they stay" }
    let names = all.map { "'\(coupling.groups[$0].name)'" }.joined(separator: ", ")
    warnings.append(
      "the channels of \(names) stay, because no plan that cuts them at \(name) could be proved: \(failure.message)")
    return !all.isEmpty
  }
}

extension ChannelCoupling {
  /// The groups that lose channels by `classes` and that meet at a node; where none does, at the nodes before it.
  func groups(cutBy classes: [Int32], at node: NodeID) -> Set<Int> {
    let cut = Set(classes.lazy.map { Int(groupOfClass[Int($0)]) }.filter { $0 >= 0 })
    var seen: Set<NodeID> = [node]
    var nodes = [node]
    while !nodes.isEmpty {
      var met: Set<Int> = []
      for value in nodes.flatMap({ graph[$0].inputs + graph[$0].outputs }) {
        for set in value.flatMap({ analysis.values[$0.index] })?.sets ?? [] {
          set.labels.forEach { label in
            if let g = group(of: label), cut.contains(g) { met.insert(g) }
          }
        }
      }
      if !met.isEmpty { return met }
      nodes = nodes.flatMap { graph[$0].inputs.compactMap { $0.flatMap { graph[$0].producer } } }
        .filter { seen.insert($0).inserted }
    }
    return []
  }
}
