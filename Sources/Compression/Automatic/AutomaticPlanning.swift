import ModelGraph

// Automatic compression: what every layer loses by either method is brought to one measure, the squared error of the
// network's outputs, and one budget is spent on both. Channels go first; ranks are chosen on what they leave.

/// What is taken into account, the simplest first.
enum AutomaticKinds: CaseIterable {
  case channels, both, ranks
  /// Ranks as a decomposition chooses them by itself, whatever the outputs feel.
  case ownRanks

  var removesChannels: Bool { self == .channels || self == .both }
  var decomposes: Bool { self != .channels }

  /// What of the layers' losses is held against one another. After a fit little is left of them, and what was
  /// measured of one layer by itself holds. Without, errors go through one another, of which the measurement says
  /// nothing: halfway between it and what layers themselves lose was found to say most.
  func weighing(refits: Bool) -> LossWeighing {
    if self == .ownRanks { return .evenly }
    return refits ? .measured : .rooted
  }
}

/// Which of them one size on one model was best met by: kept, for a recommendation and the compression that follows it.
struct AutomaticDecision: Sendable {
  struct Key: Hashable, Sendable {
    let measurement: AutomaticMeasurement.Key
    let measure: ModelSize.Measure
    let share: Double
    let refits: Bool
  }
  let kinds: AutomaticKinds
  let trials: [PlannedCompression.Trial]
}

extension CompressibleModel {
  /// How often other channels are chosen, where a plan could not be proved or left a wrong size.
  private static let mostAttempts = 8
  /// What is predicted to err by more than twice as much as the best is not tried: squares.
  private static let worthTrying = 4.0
  /// What is less simple has to err by so much less than what is simpler: less is chance.
  private static let margin = 0.05

  /// Decides which channels go and which layers are decomposed, and works out one plan for both. With data, where
  /// neither kind alone is predicted to lose much more than the mix of both, each is carried out and run, and the best
  /// is taken. Then nothing has to be judged any more, and its factors are made on all data.
  package func plan(_ request: AutomaticRequest, work: Work) throws(Failure) -> PlannedCompression {
    let choosing = try AutomaticChoosing(self, request, work: work.part(0...0.4))
    let work = work.part(0.4...1)
    guard let data = request.means.data else {
      return try chosen(of: [.both, .channels, .ranks], choosing, nil, work).planned
    }
    let key = AutomaticDecision.Key(
      measurement: choosing.key, measure: request.measure, share: request.share, refits: request.means.refits)
    let factors = try factorMaps(for: request.means, choosing.maps, work: work)
    if let known = decision(key) {
      var planned = try plan(choosing, known.kinds, factors, work: work)
      planned.trials = known.trials
      return planned
    }
    // What is predicted of channels holds where the layers behind them are fitted anew.
    let kinds = try choosing.kindsWorthTrying(
      within: request.means.refits ? Self.worthTrying : .infinity, work: work)
    var decision: (kinds: AutomaticKinds, planned: PlannedCompression)
    var trials: [PlannedCompression.Trial] = []
    if kinds.count == 1 {
      // Sizes that steps of both kinds jump over, those of one may hit.
      decision = try chosen(of: kinds + AutomaticKinds.allCases.filter { !kinds.contains($0) }, choosing, factors, work)
    } else {
      (decision, trials) = try tried(kinds, choosing, data, work.part(0...0.8))
      if !request.means.refits, !decision.planned.replaced.isEmpty {
        decision.planned = try plan(choosing, decision.kinds, factors, work: work.part(0.8...1))
      }
    }
    keep(AutomaticDecision(kinds: decision.kinds, trials: trials), key)
    var planned = decision.planned
    planned.trials = trials
    return planned
  }

  /// The first that there is a plan for.
  private func chosen(
    of kinds: [AutomaticKinds], _ choosing: AutomaticChoosing, _ factors: NetworkFeatureMaps?, _ work: Work
  ) throws(Failure) -> (kinds: AutomaticKinds, planned: PlannedCompression) {
    var refusal: Failure?
    for kinds in kinds {
      do throws(Failure) {
        return (kinds, try plan(choosing, kinds, factors, work: work))
      } catch {
        guard error.mayNotHoldOfOneKind else { throw error }
        refusal = error.nearer(than: refusal)
      }
    }
    throw refusal ?? Failure(.nothingToCompress, "no plan for this model could be proved")
  }

  /// Carries out each and measures what comes of it.
  private func tried(
    _ kinds: [AutomaticKinds], _ choosing: AutomaticChoosing, _ data: JointMeans.Data, _ work: Work
  ) throws(Failure) -> (best: (kinds: AutomaticKinds, planned: PlannedCompression), [PlannedCompression.Trial]) {
    var best: (kinds: AutomaticKinds, planned: PlannedCompression, error: Double)?
    var trials: [PlannedCompression.Trial] = []
    var refusal: Failure?
    let count = Double(kinds.count)
    for (k, kinds) in kinds.enumerated() {
      let part = work.part(Double(k) / count...Double(k + 1) / count)
      do throws(Failure) {
        let planned = try plan(choosing, kinds, choosing.maps, work: part.part(0...0.3))
        let error = try measured(planned, choosing.request.means, data, work: part.part(0.3...1))
        trials.append(PlannedCompression.Trial(methods: planned.methods, error: error))
        if best.map({ error < (1 - Self.margin) * $0.error }) ?? true { best = (kinds, planned, error) }
      } catch {
        guard error.mayNotHoldOfOneKind else { throw error }
        refusal = error.nearer(than: refusal)
      }
    }
    guard let best else { throw refusal ?? Failure(.nothingToCompress, "no plan for this model could be proved") }
    return ((best.kinds, best.planned), trials)
  }

  /// The error of the outputs on samples that nothing was fitted to, with weights fitted anew if they will be.
  private func measured(
    _ planned: PlannedCompression, _ means: JointMeans, _ data: JointMeans.Data, work: Work
  ) throws(Failure) -> Double {
    let split = try SampleSplit(data.runner, work: work)
    if means.refits {
      let some = RoleSamples(
        data.runner, split, [.fitting, .choosing, .judging], most: RoleSamples.enoughToCompare)
      let fitted = try reconstruct(planned, on: some, work: work).reconstruction
      // What does harm is not kept.
      if let fitted, let error = fitted.isKept ? fitted.errorAfter : fitted.errorBefore { return error }
    }
    let stacked = try StackedSamples.of(
      RoleSamples(data.runner, split, [.judging], most: RoleSamples.enoughToCompare), for: graph,
      shapes: shapes.nominal, work: work)
    return try OutputDeviation.of(
      [graph.applying(planned.plan, work: work)], from: graph, runner: stacked, uses: { _ in true }, work: work)[0]
  }

  private func plan(
    _ choosing: AutomaticChoosing, _ kinds: AutomaticKinds, _ factors: NetworkFeatureMaps?, work: Work
  ) throws(Failure) -> PlannedCompression {
    let request = choosing.request
    var whole = WholeGroups()
    var tried = CountsTried()
    var missed: Failure?
    for attempt in 0..<Self.mostAttempts {
      try work.checkCancellation()
      let next = try tried.next { aim throws(Failure) in try choosing.choice(kinds, aim: aim, whole, work) }
      var classes: [Int32] = []
      do throws(Failure) {
        let selection = try choosing.selection(next.mix, next.choice, whole, work: work)
        classes = choosing.ranked.classes(selection)
        var planned = try plan(
          choosing.carryingOut(selection, kinds, work: work), request.means, choosing.maps, factors,
          ranks: choosing.ranks, work: work)
        // Files are weighed when they are written.
        if request.measure != .sizeBytes, try !choosing.isEnough(planned.compressed) {
          throw choosing.unreachable(closest: planned.compressed)
        }
        planned.goal = .size(request.measure, share: request.share)
        planned.achievedRatio = selection.achievedRatio
        planned.warnings = choosing.warnings + whole.warnings + planned.warnings
        return planned
      } catch {
        if error.kind == .cancelled { throw error }
        if error.kind == .targetUnreachable {
          let nearest = error.nearer(than: missed)
          missed = nearest
          guard kinds.removesChannels, attempt < Self.mostAttempts - 1 else { throw nearest }
          if error.isBelowTarget {
            guard try tried.isTooSmall(next, choosing, work: work) else { throw nearest }
          } else {
            tried.isTooLarge()
          }
          continue
        }
        guard attempt < Self.mostAttempts - 1, let node = place(of: error),
          whole.add(
            choosing.ranked.scored.coupling.groups(cutBy: classes, at: node), of: choosing.ranked.scored.coupling, node,
            because: error)
        else { throw whole.firstFailure ?? error }
        tried.begin()
      }
    }
    throw whole.firstFailure ?? Failure(.nothingToCompress, "no plan for this model could be proved")
  }
}

extension AutomaticChoosing {
  private var original: Int { model.cost.original[request.measure] }

  /// Whether a model is as small as is wanted; one that is smaller still is refused.
  fileprivate func isEnough(_ left: ModelSize) throws(Failure) -> Bool {
    // Sizes are whole numbers.
    let (size, wanted) = (Double(left[request.measure]), request.share * Double(original))
    guard size <= wanted * (1 + 1e-12) else { return false }
    guard size >= (1 - SizeSearch.tolerance) * wanted - 1 else { throw unreachable(closest: left) }
    return true
  }

  fileprivate func unreachable(closest left: ModelSize) -> Failure {
    unreachable(closest: Double(left[request.measure]) / Double(max(1, original)))
  }

  private func unreachable(closest: Double) -> Failure {
    Failure(
      .targetUnreachable,
      "\(request.measure.rawValue) cannot be brought to \(request.share) of \(original) within one percent from below: the closest found is \(closest); ask for that, or loosen step_size, min_num_of_value, include or exclude",
      details: ["requested": .double(request.share), "closest": .double(closest)])
  }

  /// Kinds that are predicted to lose no more than some times what the best does, simplest first.
  func kindsWorthTrying(within factor: Double, work: Work) throws(Failure) -> [AutomaticKinds] {
    let most = request.share * Double(original)
    var predicted: [(kinds: AutomaticKinds, loss: Double)] = []
    for kinds in AutomaticKinds.allCases where kinds != .ownRanks || !request.means.refits {
      let choice = try choice(kinds, aim: 1, WholeGroups(), work).1
      guard choice.size <= most else { continue }
      // A mix of one kind is that kind.
      let isMixed = choice.counts.contains { $0 > 0 } && choice.ranks.contains { $0 != nil }
      if kinds != .both || isMixed { predicted.append((kinds, choice.loss)) }
    }
    let least = predicted.map(\.loss).min() ?? 0
    let worth = predicted.filter { !($0.loss > factor * least) }.map(\.kinds)
    return worth.isEmpty ? [.both] : worth
  }

  /// Of the channels that go, and as many ranks as they leave to be saved.
  func carryingOut(_ selection: Selection, _ kinds: AutomaticKinds, work: Work) -> JointChoice {
    let (measure, options) = (request.measure, request.means.decomposition)
    let weighing = kinds.weighing(refits: request.means.refits)
    let most = request.share * Double(original)
    return JointChoice(
      ranked: ranked, selection: selection, layers: settings(selection),
      isEnough: isEnough,
      ranks: { [self] found, size, held throws(Failure) in
        let model = found.weighed { candidate in
          candidate.members.contains { held[$0.name] != nil } ? nil : harm(of: candidate.layer.name, weighing)
        }
        let goal = RecommendationGoal.size(measure, share: most / Double(max(1, size[measure])))
        do throws(Failure) {
          let choices = try model.choices(
            goal, options, original: size,
            rows: self.model.rowCost(of: self.ranks.candidates, for: goal, hasData: request.means.data != nil, work),
            work: work)
          return (model, choices, [])
        } catch {
          // What was asked for is a share of the whole model, not of what channels leave.
          guard let closest = error.closest else { throw error }
          throw unreachable(closest: closest * Double(size[measure]) / Double(max(1, original)))
        }
      },
      telling: { [self] model, choices in settings(model, choices) })
  }
}

extension Failure {
  /// Whether channels alone, or ranks alone, may do what could not be done.
  fileprivate var mayNotHoldOfOneKind: Bool {
    [.targetUnreachable, .nothingToCompress, .certificateFailed, .layerUnavailable].contains(kind)
  }

  /// Of a size that could not be met: the share that could be, and the one that was asked for.
  fileprivate var closest: Double? { kind == .targetUnreachable ? share("closest") : nil }

  private func share(_ name: String) -> Double? {
    if case .double(let share)? = details[name] { share } else { nil }
  }

  fileprivate var isBelowTarget: Bool {
    guard let closest, let requested = share("requested") else { return false }
    return closest < requested
  }

  /// Of two sizes that could be met the one nearer to what was asked for, from below if there is such a one.
  fileprivate func nearer(than other: Failure?) -> Failure {
    guard let other, let theirs = other.closest else { return other == nil || closest != nil ? self : other ?? self }
    guard let closest else { return other }
    if isBelowTarget != other.isBelowTarget { return isBelowTarget ? self : other }
    return (closest > theirs) == isBelowTarget ? self : other
  }
}

extension PlannedCompression {
  fileprivate var methods: [CompressionMethod] {
    let used = Set(layers.compactMap { $0.choice?.method })
    return CompressionMethod.allCases.filter(used.contains)
  }
}
