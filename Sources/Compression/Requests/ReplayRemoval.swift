import ModelGraph

/// What an earlier compression said it removed and adjusted: its reply's `removed[]`, `copied[]` and `adjusted[]`.
package struct RemovalListing: Sendable {
  package var removed: [RemovedSlices]
  package var copied: [CopiedVector]
  package var refilled: [RefilledParameter]
  package init(removed: [RemovedSlices], copied: [CopiedVector], refilled: [RefilledParameter] = []) {
    (self.removed, self.copied, self.refilled) = (removed, copied, refilled)
  }
}

/// A stored tensor that holds other numbers than the original's, as a reply's `adjusted[]` lists it.
package struct RefilledParameter: Sendable {
  package var layer: String
  package var parameter: String
  package init(layer: String, parameter: String) { (self.layer, self.parameter) = (layer, parameter) }
}

extension CompressibleModel {
  /// Works out again what removing the listed slices makes of the model.
  /// - Throws: `invalidParams` where the listing names what the model does not have, or is not what any removal takes.
  /// - Parameter compressed: what the compression wrote, from which adjusted numbers are taken; not needed if none are
  ///   listed.
  package func plan(
    _ listing: RemovalListing, in compressed: Graph? = nil, work: Work
  ) throws(Failure) -> PlannedCompression {
    // Whole blocks are units of their own under the second reading; nothing in a listing says which one made it.
    var first: Failure?
    let listed = listing.inGraphTerms(graph)
    for options in [CouplingOptions(), CouplingOptions(prunesBlocks: true)] {
      let coupling = try coupling(options, work)
      let classes = try coupling.classes(of: listed)
      do throws(Failure) {
        var (planned, proof) = try plan(
          Removal(coupling, classes: classes), layers: [], skipped: [], warnings: [], work)
        planned.certificate = try proof.report()
        if let odd = planned.firstDeviation(from: listing) { throw .misfit(listing: odd) }
        return try refilling(planned, listing.refilled, from: compressed ?? graph)
      } catch {
        if error.kind == .cancelled { throw error }
        if first == nil { first = error }
      }
    }
    throw first ?? .misfit(listing: "it is empty")
  }
}

extension CompressibleModel {
  /// The plan with the listed parameters as `compressed` holds them.
  func refilling(
    _ planned: PlannedCompression, _ listed: [RefilledParameter], from compressed: Graph
  ) throws(Failure) -> PlannedCompression {
    guard !listed.isEmpty else { return planned }
    func misfit(_ what: String) -> Failure {
      Failure(
        .invalidParams, "'adjusted' is not what a compression of this model changes: \(what)",
        details: ["path": .string("/adjusted")])
    }
    let ours = Dictionary(graph.valueIDs.filter { graph[$0].isStored }.map { (graph[$0].name, $0) }) { first, _ in first
    }
    let theirs = Dictionary(compressed.values.compactMap { value in value.tensor.map { (value.name, $0) } }) {
      first, _ in first
    }
    let nodes = Dictionary(graph.nodeIDs.map { (graph.displayName($0), $0) }) { first, _ in first }
    let rewritten = RewrittenGraph(graph, applying: planned.plan).graph
    let factors = planned.plan.carriedFactors(of: graph, in: compressed)
    var planned = planned
    var contents: [ValueID: Tensor] = [:]
    for entry in listed {
      guard let id = ours[entry.parameter] else { throw misfit("it stores no '\(entry.parameter)'") }
      guard let tensor = theirs[entry.parameter], let expected = rewritten[id].tensor, tensor.dtype == expected.dtype,
        tensor.shape == expected.shape, tensor.dtype.isFloat
      else { throw misfit("'\(entry.parameter)' is not in the compressed model, or not with the shape it has left") }
      contents[id] = factors[id].map { tensor.multiplied(by: 1 / $0) } ?? tensor
      guard let node = nodes[entry.layer] else { continue }
      if !planned.approximations.contains(where: { $0.node == node }) {
        planned.approximations.append(
          Approximation(
            node: node, name: entry.layer, op: graph[node].op, reason: "its stored numbers were changed on purpose"))
      }
    }
    planned.plan.contents = contents.sorted { $0.key < $1.key }.map { TensorContents(value: $0.key, tensor: $0.value) }
    planned.approximations.sort { $0.node < $1.node }
    return planned
  }
}

extension Failure {
  fileprivate static func misfit(listing what: String) -> Failure {
    Failure(
      .invalidParams, "'removed' is not what a compression of this model takes away: \(what)",
      details: ["path": .string("/removed")])
  }
}

extension ChannelCoupling {
  /// The classes of all labels whose slices are listed.
  fileprivate func classes(of listing: RemovalListing) throws(Failure) -> [Int32] {
    var isListed = [Bool](repeating: false, count: classOf.count)
    for entry in listing.removed {
      let origins = try origins(entry.parameter, axis: entry.axis)
      for origin in origins {
        switch entry.indices {
        case .all(let indices):
          for block in 0..<origin.blocks { try note(indices, of: origin, block: block, &isListed) }
        case .perGroup(let lists):
          guard lists.count == origin.blocks else {
            throw .misfit(listing: "'\(entry.parameter)' has \(origin.blocks) groups, not \(lists.count)")
          }
          for (block, indices) in lists.enumerated() { try note(indices, of: origin, block: block, &isListed) }
        }
      }
    }
    let nodes = Dictionary(graph.nodeIDs.map { (graph.displayName($0), $0) }) { first, _ in first }
    for entry in listing.copied {
      let use = nodes[entry.node].map { Use(node: $0, input: entry.input) }
      guard
        let origin = try origins(entry.parameter, axis: entry.axis).first(where: { $0.use != nil && $0.use == use })
      else { throw .misfit(listing: "'\(entry.node)' reads no shared vector '\(entry.parameter)'") }
      try note(entry.indices, of: origin, block: 0, &isListed)
    }
    return isListed.indices.filter { isListed[$0] }.map(Int32.init)
  }

  private func origins(_ parameter: String, axis: Int) throws(Failure) -> [LabelOrigin] {
    let found = analysis.stored.origins.filter { $0.axis == axis && graph[$0.value].name == parameter }
    guard !found.isEmpty else {
      throw .misfit(listing: "the model stores no tensor '\(parameter)' with an axis \(axis) that can be cut")
    }
    return found
  }

  private func note(
    _ indices: [Int], of origin: LabelOrigin, block: Int, _ isListed: inout [Bool]
  ) throws(Failure) {
    let perBlock = origin.count / origin.blocks
    for index in indices {
      guard index >= 0, index / origin.width < perBlock else {
        throw .misfit(listing: "'\(graph[origin.value].name)' has no index \(index) along axis \(origin.axis)")
      }
      isListed[Int(classOf[Int(origin.first) + block * perBlock + index / origin.width])] = true
    }
  }
}

extension PlannedCompression {
  /// Where the listing says something else, in words; nil if it says just this.
  fileprivate func firstDeviation(from listing: RemovalListing) -> String? {
    struct Place: Hashable { var (parameter, axis): (String, Int) }
    func table(_ entries: [RemovedSlices]) -> [Place: [[Int]]] {
      Dictionary(
        entries.map { entry in
          let lists: [[Int]] =
            switch entry.indices {
            case .all(let indices): [indices.sorted()]
            case .perGroup(let lists): Set(lists).count == 1 ? [lists[0].sorted()] : lists.map { $0.sorted() }
            }
          return (Place(parameter: entry.parameter, axis: entry.axis), lists)
        }
      ) { first, _ in first }
    }
    let (wanted, said) = (table(removed), table(listing.removed))
    for entry in removed {
      let place = Place(parameter: entry.parameter, axis: entry.axis)
      if wanted[place] != said[place] {
        return "what it lists takes other slices of '\(entry.parameter)' with it along axis \(entry.axis)"
      }
    }
    if let odd = listing.removed.first(where: { wanted[Place(parameter: $0.parameter, axis: $0.axis)] == nil }) {
      return "'\(odd.parameter)' loses nothing along axis \(odd.axis) by what it lists"
    }
    return nil
  }
}
