import ModelGraph

/// One weight that a method can decompose, with everything that ranks are chosen by. Layers that apply the same weight
/// in the same way are its members: they take the same ranks.
struct WeightCandidate: Sendable {
  let members: [DecomposableLayer]
  let method: DecompositionMethod
  let spectra: WeightSpectra
  /// Whether the stored weight leaves the model when its members are decomposed.
  let isFreed: Bool
  /// How much what it loses is worth beside what others lose.
  var harm = 1.0

  var layer: DecomposableLayer { members[0] }
  var fullRanks: [Int] { layer.fullRanks(method) }

  /// Of the weight as it is.
  var cost: WeightCost {
    WeightCost(parameters: layer.cost.parameters, macs: members.reduce(0) { $0 + $1.cost.macs })
  }

  /// What truncation to `ranks` costs, by which weights are compared.
  func loss(at ranks: [Int]) -> Double { harm * spectra.attenuation(at: ranks) }

  /// At ranks, with the weight itself where others go on reading it.
  func cost(at ranks: [Int]) -> WeightCost {
    WeightCost(
      parameters: layer.cost(method, ranks: ranks).parameters + (isFreed ? 0 : layer.cost.parameters),
      macs: members.reduce(0) { $0 + $1.cost(method, ranks: ranks).macs })
  }

  func lowersCost(at ranks: [Int]) -> Bool {
    let (before, after) = (cost, cost(at: ranks))
    return after.parameters < before.parameters && after.macs < before.macs
  }

  /// Ranks that a kernel of few taps can fill: `Ri <= Ro * taps`, `Ro <= Ri * taps`.
  func fillable(_ ranks: [Int]) -> [Int] {
    guard method == .tucker else { return ranks }
    return [min(ranks[0], ranks[1] * layer.taps), min(ranks[1], ranks[0] * layer.taps)]
  }
}

/// What is decided for one weight.
struct RankChoice: Sendable, Equatable {
  enum Verdict: Sendable, Equatable {
    case ranks([Int])
    /// The layer stays; the code and sentence say why.
    case skipped(String)
  }
  var verdict: Verdict
  /// VBMF's ranks after calibration and alignment, where these were asked for.
  var calibrated: [Int]?

  var ranks: [Int]? { if case .ranks(let ranks) = verdict { ranks } else { nil } }
}

extension WeightCandidate {
  /// VBMF's ranks, moved by `ratio` toward full (1) or nothing (-1).
  func choice(calibration ratio: Double, _ rule: RankRule, zeroRank: DecompositionOptions.ZeroRank) -> RankChoice {
    if zeroRank == .skip, spectra.estimated.contains(0) {
      return RankChoice(
        verdict: .skipped("no_low_rank_structure: VBMF finds nothing in its singular values that stands out of noise"))
    }
    let ranks = fillable(
      zip(spectra.estimated, fullRanks).map { estimate, full in
        rule.admitted(RankCalibration(ratio: ratio).rank(estimate: min(estimate, full), full: full), full: full)
      })
    return RankChoice(verdict: verdict(ranks), calibrated: ranks)
  }

  /// The cheapest ranks that keep at least a share of the squared norm.
  func choice(energy share: Double, _ rule: RankRule) -> RankChoice {
    let budget = 1 - share
    var best: (ranks: [Int], cost: WeightCost)?
    func offer(_ ranks: [Int]) {
      let cost = cost(at: ranks)
      if best.map({ (cost.macs, cost.parameters) < ($0.cost.macs, $0.cost.parameters) }) ?? true {
        best = (ranks, cost)
      }
    }
    let full = fullRanks
    if method == .tucker {
      for ro in rule.all(full: full[1]) {
        let left = budget - spectra.modes[1].lostShare(rank: ro)
        guard left >= 0 || ro == full[1] else { continue }
        let ri = spectra.modes[0].rank(forEnergy: 1 - max(0, left))
        offer(fillable([rule.roundedUp(ri, full: full[0]), ro]))
      }
    } else {
      offer([rule.roundedUp(spectra.modes[0].rank(forEnergy: share), full: full[0])])
    }
    return RankChoice(verdict: verdict(best?.ranks ?? full))
  }

  /// Never worse: where ranks would not lower multiply-adds and parameters, the layer stays.
  func verdict(_ ranks: [Int]) -> RankChoice.Verdict {
    guard !lowersCost(at: ranks) else { return .ranks(ranks) }
    let (before, after) = (cost, cost(at: ranks))
    let held = isFreed ? "" : "; the weight itself stays, because other nodes read it"
    return .skipped(
      "no_cost_reduction: at \(ranks.count == 1 ? "rank \(ranks[0])" : "ranks \(ranks)") it would have \(after.parameters) parameters and \(after.macs) multiply-adds instead of \(before.parameters) and \(before.macs)\(held)"
    )
  }
}

extension RankRule {
  /// The smallest rank that may be given and is at least `rank`.
  func roundedUp(_ rank: Int, full: Int) -> Int {
    let smallest = smallest(full: full)
    if rank <= smallest { return smallest }
    return next(after: rank - 1, full: full) ?? full
  }
}
