import ModelGraph
import Numerics

// Automatic compression: what every layer loses by either method is brought to one measure, the squared error of the
// network's outputs, and one budget is spent on both. Channels go first; ranks are chosen on what they leave.

extension CompressibleModel {
  /// How often other channels are chosen, where a plan could not be proved or left a wrong size.
  private static let mostAttempts = 8

  /// Decides which channels go and which layers are decomposed, and works out one plan for both. With data the mix is
  /// held against either kind alone, by running what comes of each, and the best of them is taken.
  package func plan(_ request: AutomaticRequest, work: Work) throws(Failure) -> PlannedCompression {
    let choosing = try AutomaticChoosing(self, request, work: work.part(0...0.4))
    var mixed: PlannedCompression?
    var refusal: Failure?
    do throws(Failure) {
      mixed = try plan(choosing, .both, work: work.part(0.4...0.5))
    } catch {
      guard error.mayNotHoldOfOneKind else { throw error }
      refusal = error
    }
    guard let data = request.data else {
      if let mixed { return mixed }
      // Sizes that steps of both kinds jump over, those of one may hit.
      for kind in [AutomaticChoosing.Kinds.channels, .ranks] {
        do throws(Failure) {
          return try plan(choosing, kind, work: work.part(0.5...1))
        } catch {
          guard error.mayNotHoldOfOneKind else { throw error }
        }
      }
      throw refusal ?? Failure(.nothingToCompress, "no plan for this model could be proved")
    }
    var kinds: [AutomaticChoosing.Kinds] = mixed == nil ? [] : [.both]
    if mixed.map({ !$0.replaced.isEmpty }) ?? true { kinds.append(.channels) }
    if mixed.map({ !$0.removed.isEmpty }) ?? true { kinds.append(.ranks) }
    if let mixed, kinds.count == 1 || mixed.removed.isEmpty && mixed.replaced.isEmpty { return mixed }
    var best: (planned: PlannedCompression, error: Double)?
    var trials: [PlannedCompression.Trial] = []
    for (k, kind) in kinds.enumerated() {
      let part = work.part(
        0.5 + 0.5 * Double(k) / Double(kinds.count)...0.5 + 0.5 * Double(k + 1) / Double(kinds.count))
      let planned: PlannedCompression
      do throws(Failure) {
        if kind == .both, let mixed {
          planned = mixed
        } else {
          planned = try plan(choosing, kind, work: part.part(0...0.3))
        }
      } catch {
        guard error.mayNotHoldOfOneKind else { throw error }
        refusal = refusal ?? error
        continue
      }
      let error = try measured(planned, request, data, work: part.part(0.3...1))
      trials.append(PlannedCompression.Trial(methods: planned.methods, error: error))
      if best.map({ error < $0.error }) ?? true { best = (planned, error) }
    }
    guard var planned = best?.planned else {
      throw refusal ?? Failure(.nothingToCompress, "no plan for this model could be proved")
    }
    planned.trials = trials
    return planned
  }

  /// The error of the outputs on samples that nothing was fitted to, with weights fitted anew if they will be.
  private func measured(
    _ planned: PlannedCompression, _ request: AutomaticRequest, _ data: AutomaticRequest.Data, work: Work
  ) throws(Failure) -> Double {
    let runner = SomeSamples(data.runner, count: SomeSamples.enough)
    if request.refits, let error = try reconstruct(planned, on: runner, work: work).reconstruction?.errorAfter {
      return error
    }
    return try OutputDeviation.of(
      [graph.applying(planned.plan, work: work)], from: graph, runner: runner, uses: { _ in true }, work: work)[0]
  }

  private func plan(
    _ choosing: AutomaticChoosing, _ kinds: AutomaticChoosing.Kinds, work: Work
  ) throws(Failure) -> PlannedCompression {
    let request = choosing.request
    var whole = WholeGroups()
    // Of the size that is wanted: moved where ranks cannot make up for what channels leave.
    var aim = 1.0
    for attempt in 0..<Self.mostAttempts {
      try work.checkCancellation()
      let (mix, choice) = try choosing.choice(kinds, aim: aim, whole)
      let selection = try choosing.selection(mix, choice, whole, work: work)
      let classes = choosing.ranked.classes(selection)
      do throws(Failure) {
        var planned = try carryOut(choosing, kinds, selection, classes, choice, work: work)
        planned.goal = .size(request.measure, share: request.share)
        planned.achievedRatio = selection.achievedRatio
        planned.warnings = choosing.warnings + whole.warnings + planned.warnings
        return planned
      } catch {
        if error.kind == .cancelled || attempt == Self.mostAttempts - 1 { throw whole.firstFailure ?? error }
        if error.kind == .targetUnreachable {
          guard kinds == .both, !classes.isEmpty || !choosing.ranked.admitted.isEmpty else { throw error }
          aim *= error.isBelowTarget ? 1.02 : 0.96
          continue
        }
        guard let node = place(of: error),
          whole.add(
            choosing.ranked.scored.coupling.groups(cutBy: classes, at: node), of: choosing.ranked.scored.coupling, node,
            because: error)
        else { throw whole.firstFailure ?? error }
      }
    }
    throw whole.firstFailure ?? Failure(.nothingToCompress, "no plan for this model could be proved")
  }

  private func carryOut(
    _ choosing: AutomaticChoosing, _ kinds: AutomaticChoosing.Kinds, _ selection: Selection, _ classes: [Int32],
    _ choice: CompressionMix.Choice,
    work: Work
  ) throws(Failure) -> PlannedCompression {
    let request = choosing.request
    guard !classes.isEmpty else {
      guard choice.ranks.contains(where: { $0 != nil }) else {
        throw Failure(.nothingToCompress, "no layer of this model can be pruned or decomposed under these options")
      }
      let model = choosing.ranks
      let goal = RecommendationGoal.size(request.measure, share: request.share)
      let choices = try model.choices(
        goal, request.decomposition, original: cost.original, rewriting: rewritingCost(for: goal, work), work: work)
      var planned = try decompose(
        model, choices, request.request(.svd, maps: request.data.map { NetworkFeatureMaps(graph: graph, data: $0) }),
        work: work)
      planned.layers = choosing.settings(model, choices)
      return planned
    }
    let removal = Removal(choosing.ranked.scored.coupling, classes: classes)
    var (pruned, proof) = try plan(
      removal, layers: choosing.settings(selection), skipped: choosing.skipped, warnings: [], work)
    pruned.certificate = try proof.report()
    let most = request.share * Double(cost.original[request.measure])
    if Double(pruned.compressed[request.measure]) <= most {
      guard Double(pruned.compressed[request.measure]) >= (1 - SizeSearch.tolerance) * most * 0.999 else {
        throw Failure(
          .targetUnreachable, "fewer channels would have to go",
          details: [
            "requested": .double(request.share),
            "closest": .double(Double(pruned.compressed[request.measure]) / Double(cost.original[request.measure])),
          ])
      }
      return pruned
    }
    return try decompose(pruned, choosing, most: most, work: work)
  }

  /// Decomposes layers of what is left of channels, down to the size that is wanted.
  private func decompose(
    _ pruned: PlannedCompression, _ choosing: AutomaticChoosing, most: Double, work: Work
  ) throws(Failure) -> PlannedCompression {
    let request = choosing.request
    let plain = try leaving(pruned, work: work)
    var smaller = plain
    var maps: NetworkFeatureMaps?
    if let data = request.data {
      if request.refits,
        let fitted = try fitted(
          pruned, plain, SomeSamples(data.runner, count: SomeSamples.enough), work: work.part(0...0.5))
      {
        smaller = try CompressibleModel(fitted, sizeBytes: plain.sizeBytes, like: plain)
      }
      maps = NetworkFeatureMaps(graph: smaller.graph, data: data)
    }
    let held = layersHeld(by: pruned, in: smaller)
    let model = try choosing.ranks(of: smaller, maps: maps, work: work.part(0.5...0.7)).weighed { candidate in
      candidate.members.contains { held[$0.name] != nil } ? nil : choosing.harm(of: candidate.layer.name)
    }
    let left = smaller.cost.original
    let share = most / Double(max(1, left[request.measure]))
    let goal = RecommendationGoal.size(request.measure, share: share)
    let choices = try model.choices(
      goal, request.decomposition, original: left, rewriting: rewritingCost(for: goal, work), work: work)
    guard choices.contains(where: { $0?.ranks != nil }) else { return pruned }
    var decomposed = try smaller.decompose(
      model, choices, request.request(.svd, maps: maps), work: work.part(0.7...1))
    decomposed.layers = choosing.settings(model, choices)
    return try joining(pruned, plain, decomposed)
  }

  /// The smaller network with weights fitted anew; nil where there are too few samples to tell.
  private func fitted(
    _ pruned: PlannedCompression, _ smaller: CompressibleModel, _ runner: any NetworkRunner, work: Work
  ) throws(Failure) -> Graph? {
    let (compressed, found) = try refitLayers(pruned, work: work)
    let split = try SampleSplit(runner, work: work)
    guard split.different >= SampleSplit.least else { return nil }
    return try LeastSquaresReconstruction(
      original: graph, shapes: shapes.nominal, layers: found.layers, runner: runner, split: split
    ).run(on: compressed, work: work).graph
  }
}

extension Failure {
  /// Whether channels alone, or ranks alone, may do what could not be done.
  fileprivate var mayNotHoldOfOneKind: Bool {
    [.targetUnreachable, .nothingToCompress, .certificateFailed, .layerUnavailable].contains(kind)
  }

  /// Of a size that could not be met: whether what was found is less.
  fileprivate var isBelowTarget: Bool {
    if case .double(let closest)? = details["closest"], case .double(let requested)? = details["requested"] {
      closest < requested
    } else {
      false
    }
  }
}

extension PlannedCompression {
  fileprivate var methods: [CompressionMethod] {
    let used = Set(layers.compactMap { $0.choice?.method })
    return CompressionMethod.allCases.filter(used.contains)
  }
}
