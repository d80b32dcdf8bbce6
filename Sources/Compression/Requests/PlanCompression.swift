import ModelGraph

extension CompressibleModel {
  /// Where removed channels meet a place that cannot be rewritten or proved, the groups that are cut there keep all of
  /// theirs. So often a plan starts over.
  private static let mostAttempts = 8

  /// Decides what to remove, works out every edit, and proves the result.
  ///
  /// Ratios, recommended or stated, say of each group what it loses: what one keeps because a plan could not be proved
  /// is not taken from another, so that a recommendation handed back as `layers` goes the same way as the request for
  /// it. A wanted size is searched for again among the groups that are left.
  /// - Parameters:
  ///   - measuresFile: whether the size of a file that nobody writes is to be told. Who writes it learns that anyway.
  ///   - body: carries out what is planned, and asks for the proof when that suits it. What it did counts only
  ///     if the proof passes; if not, it is called again with the next plan.
  package func plan<Outcome>(
    _ request: CompressionRequest, measuresFile: Bool = true, work: Work,
    carryingOut body: (_ planned: PlannedCompression, _ proof: Proof) throws(Failure) -> Outcome
  ) throws(Failure) -> (planned: PlannedCompression, outcome: Outcome) {
    let coupling = try coupling(request.options.couplingOptions, work)
    var whole = WholeGroups()
    var overhead: Int?
    var searches = 0
    while true {
      let chosen = try choose(request, whole, overhead, work)
      guard !chosen.classes.isEmpty else { throw whole.firstFailure ?? Self.nothingChosen }
      var planned: PlannedCompression
      let outcome: Result<Outcome, Failure>
      do throws(Failure) {
        let proof: Proof
        let goalIsFile = if case .size(.sizeBytes, _) = chosen.goal { true } else { false }
        (planned, proof) = try plan(
          Removal(coupling, classes: chosen.classes), layers: chosen.layers, skipped: chosen.skipped,
          warnings: chosen.warnings + whole.warnings, measuresFile: measuresFile || goalIsFile, work)
        (planned.goal, planned.achievedRatio) = (chosen.goal, chosen.achievedRatio)
        if let missed = planned.missedSize(of: sizeBytes) {
          searches += 1
          guard searches < Self.mostSearches else { throw missed.failure }
          overhead = missed.isTooLarge ? max(overhead ?? .min, missed.overhead) : missed.overhead
          continue
        }
        outcome = Result { () throws(Failure) in try body(planned, proof) }
        planned.certificate = try proof.report()
      } catch {
        if error.kind == .cancelled { throw error }
        // Channels that a user names one by one are refused, not changed.
        guard request.method.isCriterion, whole.attempts < Self.mostAttempts, let node = place(of: error),
          whole.add(coupling.groups(cutBy: chosen.classes, at: node), of: coupling, node, because: error)
        else { throw whole.firstFailure ?? error }
        continue
      }
      return (planned, try outcome.get())
    }
  }

  /// How often a size is searched for with what the file of the last choice has beside its tensors, which another
  /// choice may have more or less of.
  private static let mostSearches = 6

  /// The same for a plan that is only to be told.
  package func plan(_ request: CompressionRequest, work: Work) throws(Failure) -> PlannedCompression {
    try plan(request, work: work) { _, _ in }.planned
  }

  private static var nothingChosen: Failure {
    Failure(
      .nothingToCompress,
      "the request removes no channel: ratios are too small for step_size and min_num_of_value, or every entry is empty or unused"
    )
  }

  /// The node at which removed channels could not be dealt with; nil for other failures.
  func place(of failure: Failure) -> NodeID? {
    guard [.certificateFailed, .modelUnsupportedOperator, .layerUnavailable].contains(failure.kind) else { return nil }
    if case .string(let name)? = failure.details["node"] {
      return graph.nodeIDs.first { graph.displayName($0) == name }
    }
    guard case .string(let name)? = failure.details["value"],
      let value = graph.valueIDs.first(where: { graph[$0].name == name })
    else { return nil }
    return graph[value].producer ?? graph.uses(of: value).first?.node
  }

  /// Works out every edit of a removal, and what will prove the result.
  func plan(
    _ removal: Removal, layers: [LayerSetting], skipped: [SkippedLayer], warnings: [String], measuresFile: Bool = true,
    _ work: Work
  ) throws(Failure) -> (PlannedCompression, Proof) {
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
    let open = shapes.analysisLengths
    let proof = Proof { () throws(Failure) in
      try Certificate(removal: removal).check(
        plan, shapes: lengths, inputShapes: open.shapes, symbols: open.symbols, work: work)
    }
    var compressed = try cost.after(removal) { id in lengths[id.index] }
    for tensor in reconciliation.bakedNumbers { compressed.parameters += CostModel.parameters(of: tensor) }
    var planned = PlannedCompression(
      plan: plan, original: cost.original, compressed: compressed, layers: layers,
      removed: removal.slices.flatMap(removed), copied: removal.copies.map(copied),
      skipped: skipped, warnings: warnings, approximations: removal.approximations(),
      change: .removal(removal))
    planned.adjusted = carried(plan)
    if measuresFile, let bytes = try writtenBytes(plan, work) {
      planned.fileOverhead = bytes - compressed.sizeBytes
      planned.compressed.sizeBytes = bytes
    }
    return (planned, proof)
  }

  private struct Chosen {
    var classes: [Int32] = []
    var layers: [LayerSetting] = []
    var skipped: [SkippedLayer] = []
    var warnings: [String] = []
    var goal: RecommendationGoal?
    var achievedRatio: Double?
  }

  private func choose(
    _ request: CompressionRequest, _ whole: WholeGroups, _ overhead: Int?, _ work: Work
  ) throws(Failure) -> Chosen {
    let options = request.options
    switch request.choice {
    case .recommended(_, let goal):
      var model = try ranking(recommending: request.method, options, maps: request.maps, work)
      if case .size = goal, !whole.reasons.isEmpty {
        model = try RankedModel(model.scored, options: options, leavingOut: whole.reasons, work: work)
        guard !model.admitted.isEmpty else { return Chosen() }
      }
      let selection = model.keepingAll(
        of: whole.reasons, in: try selection(of: model, for: goal, options: options, overhead: overhead, work: work))
      return Chosen(
        classes: model.classes(selection), layers: model.settings(selection),
        skipped: model.held(selection, options: options, whole.reasons) + model.skipped, goal: goal,
        achievedRatio: selection.achievedRatio)
    case .layers(let settings) where request.method == .indices:
      let coupling = try coupling(options.couplingOptions, work)
      let indices = try ChannelIndices(settings, coupling: coupling, indexBase: options.indexBase)
      return Chosen(classes: indices.classes, layers: indices.layers)
    case .layers(let settings):
      let model = try ranking(request.method, options, maps: request.maps, work)
      let manual = try ManualRatios(settings, model: model)
      let selection = model.keepingAll(
        of: whole.reasons, in: try model.ranked.selecting(ratios: manual.ratios, options: options))
      return Chosen(
        classes: model.classes(selection), layers: model.settings(selection).filter(\.use).map(\.asStated),
        skipped: whole.reasons.sorted { $0.key < $1.key }.map { g, reason in
          SkippedLayer(name: model.scored.coupling.groups[g].name, reason: reason)
        }, warnings: manual.warnings)
    }
  }

  private func changedLengths(to lengths: [[Int]?]) -> [(value: ValueID, axis: Int, length: Int)] {
    graph.valueIDs.flatMap { id -> [(value: ValueID, axis: Int, length: Int)] in
      guard let before = shapes.analysis[id], let after = lengths[id.index], before != after,
        let nominal = Reconciliation.scaled(shapes.nominal[id], from: before, to: after)
      else { return [] }
      return before.indices.filter { before[$0] != after[$0] }.map { (id, $0, nominal[$0]) }
    }
  }

  /// What the file multiplies so that a number stays which it cannot state.
  private func carried(_ plan: CompressionPlan) -> [AdjustedParameter] {
    plan.carriedFactors(in: graph).sorted { $0.key < $1.key }.map { id, factor in
      let name = graph[id].name
      return AdjustedParameter(
        layer: graph.uses(of: id).first.map { graph.displayName($0.node) } ?? name, parameter: name, original: name,
        reason: "scores stay divided by the root of the original width, for which the file has no place",
        factor: factor)
    }
  }

  private func copied(_ copy: Removal.VectorCopy) -> CopiedVector {
    let length = graph[copy.source].tensor?.shape[copy.axis] ?? 0
    return CopiedVector(
      parameter: graph[copy.source].name, node: graph.displayName(copy.use.node), input: copy.use.input,
      axis: copy.axis, indices: Self.complement(of: copy.kept, in: length))
  }

  /// What a slice takes away, as the reply tells it: in the file's terms.
  private func removed(_ slice: TensorSlice) -> [RemovedSlices] {
    let value = graph[slice.value]
    guard let shape = value.tensor?.shape else { return [] }
    return slice.axes.flatMap { axis -> [RemovedSlices] in
      func entry(_ axis: Int, _ indices: RemovedSlices.Indices) -> RemovedSlices {
        RemovedSlices(parameter: value.name, axis: axis, indices: indices)
      }
      switch axis.kept {
      case .indices(let kept):
        return FileAxes(value).lists(kept, along: axis.axis).map { list in
          entry(list.axis, .all(Self.complement(of: list.kept, in: list.length)))
        }
      case .perBlock(_, let blocks):
        let removed = blocks.map { Self.complement(of: $0, in: shape[axis.axis]) }
        return [entry(FileAxes(value).first(axis.axis), .perGroup(removed))]
      }
    }.sorted { $0.axis < $1.axis }
  }

  /// The indices below `length` that are not among the ascending `kept`.
  private static func complement(of kept: [Int], in length: Int) -> [Int] {
    var (removed, next) = ([Int](), 0)
    for index in kept + [length] {
      removed += next..<index
      next = index + 1
    }
    return removed
  }
}

extension PlannedCompression {
  /// A size on file that was to be reached, and how it was missed.
  fileprivate struct MissedSize {
    let share: Double
    let closest: Double
    /// Of the file, beside its tensors.
    let overhead: Int
    var isTooLarge: Bool { closest > share }

    var failure: Failure {
      Failure(
        .targetUnreachable,
        "size_bytes cannot be brought to \(share) within one percent from below: \(closest) is the closest that was found under these options; ask for that, or loosen step_size, min_num_of_value, max_layer_ratio, include or exclude",
        details: ["requested": .double(share), "closest": .double(closest)])
    }
  }

  /// nil where no size on file was asked for, where it is reached, or where nobody knows it before it is written.
  /// - Parameter original: bytes.
  fileprivate func missedSize(of original: Int) -> MissedSize? {
    guard let fileOverhead, case .size(.sizeBytes, let share)? = goal else { return nil }
    let most = share * Double(original) * (1 + 1e-12)
    let bytes = Double(compressed.sizeBytes)
    guard bytes > most || bytes < most * (1 - SizeSearch.tolerance) else { return nil }
    return MissedSize(share: share, closest: bytes / Double(max(1, original)), overhead: fileOverhead)
  }
}
