import ModelGraph

extension CompressibleModel {
  /// Where a recommendation meets a place that cannot be rewritten or proved, the channels there stay, and the budget is
  /// spent elsewhere; where that is not enough, those of the nodes before it too. So often a plan starts over.
  private static let mostAttempts = 8

  /// Decides what to remove, works out every edit, and proves the result.
  package func plan(_ request: CompressionRequest, work: Work) throws(Failure) -> PlannedCompression {
    var request = request
    var failures: [Failure] = []
    var warnings: [String] = []
    while true {
      do throws(Failure) {
        var planned = try provedPlan(request, work)
        planned.warnings += warnings
        return planned
      } catch {
        failures.append(error)
        // What a user named is refused, not changed.
        guard case .recommended = request.choice, failures.count < Self.mostAttempts, let node = place(of: error) else {
          throw failures[0]
        }
        if request.options.withheld.insert(node).inserted {
          let name = "\(graph[node].op) '\(graph.displayName(node))'"
          warnings.append("channels at \(name) stay, because no plan that cuts them could be proved: \(error.message)")
        } else {
          request.options.withheld.formUnion(producers(of: request.options.withheld))
        }
      }
    }
  }

  /// The node at which removed channels could not be dealt with; nil for other failures.
  private func place(of failure: Failure) -> NodeID? {
    guard [.certificateFailed, .modelUnsupportedOperator, .layerUnavailable].contains(failure.kind) else { return nil }
    if case .string(let name)? = failure.details["node"] {
      return graph.nodeIDs.first { graph.displayName($0) == name }
    }
    guard case .string(let name)? = failure.details["value"],
      let value = graph.valueIDs.first(where: { graph[$0].name == name })
    else { return nil }
    return graph[value].producer ?? graph.uses(of: value).first?.node
  }

  private func producers(of nodes: Set<NodeID>) -> [NodeID] {
    nodes.flatMap { graph[$0].inputs.compactMap { $0.flatMap { graph[$0].producer } } }
  }

  private func provedPlan(_ request: CompressionRequest, _ work: Work) throws(Failure) -> PlannedCompression {
    let chosen = try choose(request, work)
    let coupling = try coupling(request.options.couplingOptions, work)
    guard !chosen.classes.isEmpty else {
      throw Failure(
        .nothingToCompress,
        "the request removes no channel: ratios are too small for step_size and min_num_of_value, or every entry is empty or unused"
      )
    }
    var planned = try plan(
      Removal(coupling, classes: chosen.classes), layers: chosen.layers, skipped: chosen.skipped,
      warnings: chosen.warnings, work)
    (planned.goal, planned.achievedRatio) = (chosen.goal, chosen.achievedRatio)
    return planned
  }

  /// Works out every edit of a removal, and proves the result.
  func plan(
    _ removal: Removal, layers: [LayerSetting], skipped: [SkippedLayer], warnings: [String], _ work: Work
  ) throws(Failure) -> PlannedCompression {
    let lengths = try removal.lengths()
    var reconciliation = Reconciliation(removal: removal, shapes: shapes, newShapes: lengths)
    try reconciliation.run()
    for copy in removal.copies {
      guard let tensor = removal.tensor(of: copy) else { continue }
      reconciliation.add(.setInput(node: copy.use.node, input: copy.use.input, tensor: tensor))
    }
    let plan = CompressionPlan(
      slices: removal.slices, edits: reconciliation.edits, lengths: changedLengths(to: lengths))
    work.progress(0.9, "certifying")
    let certificate = try Certificate(removal: removal).check(
      plan, shapes: lengths, inputShapes: shapes.analysisLengths.shapes, symbols: shapes.analysisLengths.symbols,
      work: work)
    var compressed = try cost.after(removal) { id in lengths[id.index] }
    for tensor in reconciliation.bakedNumbers { compressed.parameters += CostModel.parameters(of: tensor) }
    return PlannedCompression(
      plan: plan, original: cost.original, compressed: compressed, layers: layers,
      removed: removal.slices.flatMap(removed), copied: removal.copies.map(copied),
      skipped: skipped, warnings: warnings, approximations: removal.approximations(),
      certificate: certificate, removal: removal)
  }

  private struct Chosen {
    var classes: [Int32]
    var layers: [LayerSetting]
    var skipped: [SkippedLayer]
    var warnings: [String] = []
    var goal: RecommendationGoal?
    var achievedRatio: Double?
  }

  private func choose(_ request: CompressionRequest, _ work: Work) throws(Failure) -> Chosen {
    switch request.choice {
    case .recommended(_, let goal):
      let model = try ranking(recommending: request.method, request.options, maps: request.maps, work)
      let selection = try selection(of: model, for: goal, options: request.options, work: work)
      return Chosen(
        classes: model.classes(selection), layers: model.settings(selection),
        skipped: model.held(selection, options: request.options) + model.skipped, goal: goal,
        achievedRatio: selection.achievedRatio)
    case .layers(let settings) where request.method == .indices:
      let coupling = try coupling(request.options.couplingOptions, work)
      let indices = try ChannelIndices(settings, coupling: coupling, indexBase: request.options.indexBase)
      return Chosen(classes: indices.classes, layers: indices.layers, skipped: [])
    case .layers(let settings):
      let model = try ranking(request.method, request.options, maps: request.maps, work)
      let manual = try ManualRatios(settings, model: model)
      let selection = try model.ranked.selecting(ratios: manual.ratios, options: request.options)
      return Chosen(
        classes: model.classes(selection), layers: model.settings(selection).filter(\.use).map(\.asStated), skipped: [],
        warnings: manual.warnings)
    }
  }

  private func changedLengths(to lengths: [[Int]?]) -> [(value: ValueID, axis: Int, length: Int)] {
    graph.valueIDs.flatMap { id -> [(value: ValueID, axis: Int, length: Int)] in
      guard let before = shapes.analysis[id], let after = lengths[id.index],
        let nominal = Reconciliation.scaled(shapes.nominal[id], from: before, to: after)
      else { return [] }
      return before.indices.filter { before[$0] != after[$0] }.map { (id, $0, nominal[$0]) }
    }
  }

  private func copied(_ copy: Removal.VectorCopy) -> CopiedVector {
    let kept = Set(copy.kept)
    let length = graph[copy.source].tensor?.shape[copy.axis] ?? 0
    return CopiedVector(
      parameter: graph[copy.source].name, node: graph.displayName(copy.use.node), input: copy.use.input,
      axis: copy.axis, indices: (0..<length).filter { !kept.contains($0) })
  }

  /// What a slice takes away, as the reply tells it.
  private func removed(_ slice: TensorSlice) -> [RemovedSlices] {
    guard let shape = graph[slice.value].tensor?.shape else { return [] }
    return slice.axes.map { axis in
      func complement(_ kept: [Int]) -> [Int] {
        var (removed, next) = ([Int](), 0)
        for index in kept + [shape[axis.axis]] {
          removed += next..<index
          next = index + 1
        }
        return removed
      }
      let indices: RemovedSlices.Indices =
        switch axis.kept {
        case .indices(let kept): .all(complement(kept))
        case .perBlock(_, let blocks): .perGroup(blocks.map(complement))
        }
      return RemovedSlices(parameter: graph[slice.value].name, axis: axis.axis, indices: indices)
    }
  }
}
