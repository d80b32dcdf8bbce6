import ModelGraph
import Numerics

// Channels removed, and layers of what is left decomposed, as one plan for the original. Applying a removal keeps the
// ids of values, so that what is planned for the smaller model only has to be told of the original's nodes.
//
// Invariant: applying the joint plan gives what applying the two one after the other does.

extension CompressibleModel {
  /// The model that a removal leaves.
  func leaving(_ pruned: PlannedCompression, work: Work) throws(Failure) -> CompressibleModel {
    try CompressibleModel(
      graph.applying(pruned.plan, work: work), sizeBytes: pruned.compressed.sizeBytes, like: self)
  }

  /// The layers of what a removal leaves that a joint plan cannot decompose, by their names, and why: their nodes are
  /// edited already, or others read their weights as well.
  func layersHeld(by pruned: PlannedCompression, in smaller: CompressibleModel) -> [String: String] {
    let place = places(in: pruned)
    let edited = Set(pruned.plan.edits.map(\.node))
    var held: [String: String] = [:]
    for layer in smaller.decomposableLayers.layers {
      guard let node = place(layer.node) else { continue }
      var nodes: Set<NodeID> = [node]
      if case .movedToSum(let use, _) = layer.inputMean(in: smaller.graph), let sum = place(use.node) {
        nodes.insert(sum)
      }
      if !nodes.isDisjoint(with: edited) {
        held[layer.name] = "removed channels change its settings, and one layer takes one of the two"
      } else if !smaller.decomposableLayers.frees(layer.key) {
        held[layer.name] = "other nodes read its weight, too"
      }
    }
    return held
  }

  /// By node of what a removal leaves, the original's; nil for one that it puts between.
  private func places(in pruned: PlannedCompression) -> (NodeID) -> NodeID? {
    let origin = RewrittenGraph(graph, applying: pruned.plan).origin
    return { $0.index < origin.count ? origin[$0.index] : nil }
  }

  /// One plan for both.
  /// - Parameters:
  ///   - smaller: what `pruned` leaves of this model.
  ///   - decomposed: planned for `smaller`, or for what fitting its weights anew makes of it.
  /// - Throws: `certificateFailed` where the two do not fit together.
  func joining(
    _ pruned: PlannedCompression, _ smaller: CompressibleModel, _ decomposed: PlannedCompression
  ) throws(Failure) -> PlannedCompression {
    guard let removal = pruned.change.removal, pruned.plan.constants.isEmpty else { return decomposed }
    let places = places(in: pruned)
    func place(_ node: NodeID) throws(Failure) -> NodeID {
      guard let found = places(node) else {
        throw Certificate.fault("a layer that the original does not have would be decomposed")
      }
      return found
    }
    var joint = pruned
    joint.plan.constants = decomposed.plan.constants
    for replacement in decomposed.plan.replacements {
      joint.plan.replacements.append(
        NodeReplacement(node: try place(replacement.node), stages: replacement.stages))
    }
    for edit in decomposed.plan.edits {
      guard case .readConstant(let node, let input, let constant) = edit else { continue }
      joint.plan.edits.append(.readConstant(node: try place(node), input: input, constant: constant))
    }
    joint.plan.edits = joint.plan.edits.enumerated().sorted {
      ($0.element.node, $0.offset) < ($1.element.node, $1.offset)
    }.map(\.element)
    joint.replaced = decomposed.replaced
    var decompositions: [LayerDecomposition] = []
    let algebra = try LinearAlgebra.loaded()
    for (k, decomposition) in decomposed.change.decompositions.enumerated() {
      let node = try place(decomposition.layer.node)
      // Errors are told of the original's own weights.
      let layers = smaller.decomposableLayers.layers
      let layer = layers.first { $0.node == decomposition.layer.node } ?? decomposition.layer
      let factors = layer.factors(
        decomposition.method, ranks: decomposition.ranks,
        stored: decomposition.constants.map { decomposed.plan.constants[$0].tensor })
      joint.replaced[k].relativeError = try layer.relativeError(
        factors.product(kernel: layer.kernel, algebra), Work())
      decompositions.append(
        LayerDecomposition(
          layer: layer.placed(at: node), method: decomposition.method, ranks: decomposition.ranks,
          replacement: NodeReplacement(node: node, stages: decomposition.replacement.stages)))
    }
    for approximation in decomposed.approximations {
      var approximation = approximation
      approximation.node = try place(approximation.node)
      if !joint.approximations.contains(where: { $0.node == approximation.node }) {
        joint.approximations.append(approximation)
      }
    }
    joint.approximations.sort { $0.node < $1.node }
    joint.adjusted += decomposed.adjusted
    joint.layers += decomposed.layers
    joint.compressed = decomposed.compressed
    joint.warnings += decomposed.warnings
    joint.change = .both(removal, decompositions)
    let checked = try certify(joint.plan, shapes: smaller.shapes)
    joint.certificate = CertificateReport(
      valuesChecked: pruned.certificate.valuesChecked + checked,
      labelsCompared: pruned.certificate.labelsCompared)
    return joint
  }

  /// Every value that lives on must have the shape that the removal alone leaves it.
  /// - Returns: how many were compared.
  private func certify(_ plan: CompressionPlan, shapes after: GraphShapes) throws(Failure) -> Int {
    let rewritten = RewrittenGraph(graph, applying: plan).graph
    let found: GraphShapes
    do {
      found = try rewritten.inferShapes(like: shapes)
    } catch {
      throw Certificate.fault("the rewritten graph's shapes contradict each other: \(error.message)", error.details)
    }
    var checked = 0
    for (wanted, found) in [(after.nominal, found.nominal), (after.analysis, found.analysis)] {
      for id in graph.valueIDs {
        guard let expected = wanted[id], let shape = found[id], rewritten[id].tensor == nil else { continue }
        checked += 1
        guard expected == shape else {
          throw Certificate.fault(
            "'\(graph[id].name)' would have shape \(shape) instead of \(expected)",
            ["value": .string(graph[id].name)])
        }
      }
    }
    return checked
  }
}

extension DecomposableLayer {
  /// The layer as that of another node.
  fileprivate func placed(at node: NodeID) -> DecomposableLayer {
    DecomposableLayer(
      node: node, name: name, form: form, weight: weight, inputChannels: inputChannels, outputChannels: outputChannels,
      kernel: kernel, positions: positions)
  }
}

extension CompressibleModel {
  /// Works out again what listed removals and decompositions make of the model together.
  /// - Throws: as either alone.
  package func plan(
    _ removal: RemovalListing, _ decomposition: DecompositionListing, in compressed: Graph, work: Work
  ) throws(Failure) -> PlannedCompression {
    var removal = removal
    removal.refilled = []
    let pruned = try plan(removal, work: work.part(0...0.4))
    let smaller = try leaving(pruned, work: work)
    var decomposition = decomposition
    let refilled = decomposition.refilled
    decomposition.refilled = []
    let decomposed = try smaller.plan(decomposition, in: compressed, work: work.part(0.4...1))
    return try refilling(joining(pruned, smaller, decomposed), refilled, from: compressed)
  }
}
