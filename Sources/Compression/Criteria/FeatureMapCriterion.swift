import ModelGraph
import Numerics

/// PR_NN on a coupling: every layer of a group votes by the maps behind its activation; under policy `backward` the
/// maps behind the last node that joins the layers vote for all of them.
struct FeatureMapCriterion {
  let coupling: ChannelCoupling
  let isJoined: Bool

  init(_ coupling: ChannelCoupling, isJoined: Bool) { (self.coupling, self.isJoined) = (coupling, isJoined) }

  /// Per group.
  func votes(from source: any FeatureMapSource, work: Work) throws(Failure) -> [Criterion.Votes] {
    let algebra = try LinearAlgebra.loaded()
    let joins = lastJoins
    let probes = coupling.groups.indices.map { g in
      coupling.groups[g].cells.count > 1
        ? taps(of: g, lastJoin: joins[g]).map { NuclearNormProbe(tap: $0, group: g, coupling, algebra) } : []
    }
    try FeatureMapPass.run(probes.flatMap { $0 }, source: source, shapes: coupling.analysis.shapes, work: work)
    return coupling.groups.indices.map { g in
      var members: [MemberScores] = []
      for var scores in probes[g].compactMap(\.scores) {
        if isJoined, let joined = members.first {
          // Beside the joined map the others speak for what it does not hold.
          guard let held = joined.covers else { break }
          scores.covers = held.indices.map { !held[$0] && scores.covers?[$0] ?? true }
          guard scores.covers?.contains(true) == true else { continue }
        }
        members.append(scores)
      }
      if coupling.groups[g].producers.isEmpty { return .unavailable(WeightCriterion.noProducers) }
      return members.isEmpty ? .unavailable("no feature map holds its channels") : .members(members)
    }
  }

  /// The values to look at, each once: the joined one first, if that is asked for.
  private func taps(of g: Int, lastJoin: NodeID?) -> [ValueID] {
    let group = coupling.groups[g]
    var nodes: [ValueID?] = group.producers.map { TapPoints.afterActivation(of: $0.node, in: coupling.graph) }
    if isJoined, let lastJoin { nodes.insert(coupling.graph[lastJoin].output(0), at: 0) }
    var result: [ValueID] = []
    for case let tap? in nodes where !result.contains(tap) {
      guard let value = coupling.analysis.values[tap.index], value.channels(of: g, coupling) != nil else { continue }
      result.append(tap)
    }
    return result
  }

  /// Per group the last node that joins several of its layers' outputs.
  private var lastJoins: [Int: NodeID] {
    var result: [Int: NodeID] = [:]
    for (node, label) in coupling.facts.activationJoins {
      if let g = coupling.group(of: label) { result[g] = max(result[g] ?? node, node) }
    }
    return result
  }
}
