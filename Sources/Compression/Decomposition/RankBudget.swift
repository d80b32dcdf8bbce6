import Glibc
import ModelGraph

/// Ranks for a whole model under a budget: one price for what a layer costs, the same for all, and each layer takes the
/// ranks at which what it loses and what it pays come to least (water filling). The budget sets the price.
///
/// A layer's loss is how much weaker its signal gets, the negative logarithm of the share of the squared norm that stays
/// (of its output's, where inputs are known): in a chain of layers these add up, so that no layer is given up for the
/// others' sake. Losses fall convexly with the rank, so at every price the best ranks are where one more would lose less
/// than it costs.
struct RankBudget {
  /// How far below the wanted size the result may stay, as a share of it.
  static let tolerance = 0.01
  private static let halvings = 200

  let candidates: [WeightCandidate]
  private let rule: RankRule
  private let measured: (WeightCandidate, WeightCost, _ isReplaced: Bool) -> Int
  private let work: Work

  /// - Parameter measured: what of a candidate's cost the budget is about.
  init(
    _ candidates: [WeightCandidate], _ rule: RankRule, work: Work,
    measured: @escaping (WeightCandidate, WeightCost, _ isReplaced: Bool) -> Int
  ) {
    (self.candidates, self.rule, self.work, self.measured) = (candidates, rule, work, measured)
  }

  /// Ranks per candidate, nil where it stays, that together cost at most `most`, and no less than `least` if any do.
  func ranks(costingAtLeast least: Int, atMost most: Int) throws(Failure) -> [[Int]?] {
    // Prices are per unit of what all layers cost together.
    let total = max(1, total(candidates.map { _ in nil }))
    func ranks(price: Double) -> [[Int]?] { candidates.map { best($0, price: price / Double(total)) } }
    var (low, high) = (0.0, 1.0)
    while self.total(ranks(price: high)) > most, high < 1e30 {
      try work.checkCancellation()
      (low, high) = (high, high * 16)
    }
    for _ in 0..<Self.halvings where high - low > 1e-9 * high {
      try work.checkCancellation()
      let middle = low == 0 ? high / 16 : (low + high) / 2
      if low == 0, middle < 1e-30 { break }
      if self.total(ranks(price: middle)) > most { low = middle } else { high = middle }
    }
    var result = try filled(ranks(price: high), most)
    if self.total(result) < least { spend(&result, least, most) }
    return result
  }

  func total(_ ranks: [[Int]?]) -> Int {
    zip(candidates, ranks).reduce(0) { sum, pair in
      sum + size(pair.0, pair.1)
    }
  }

  /// Of a candidate at ranks; nil where it stays.
  private func size(_ candidate: WeightCandidate, _ ranks: [Int]?) -> Int {
    measured(candidate, ranks.map(candidate.cost(at:)) ?? candidate.cost, ranks != nil)
  }

  // MARK: At a price

  func best(_ candidate: WeightCandidate, price: Double) -> [Int]? {
    var best: (ranks: [Int]?, value: Double) = (nil, price * Double(size(candidate, nil)))
    func offer(_ ranks: [Int]) {
      guard candidate.lowersCost(at: ranks) else { return }
      let value = candidate.loss(at: ranks) + price * Double(size(candidate, ranks))
      if value < best.value { best = (ranks, value) }
    }
    let full = candidate.fullRanks
    if candidate.method == .tucker {
      for ro in rule.all(full: full[1]) {
        // What one more input rank costs at this output rank.
        let step = size(candidate, [2, ro]) - size(candidate, [1, ro])
        let outputLoss = candidate.spectra.modes[1].lostShare(rank: ro)
        offer(candidate.fillable([rank(candidate, full[0], outputLoss, price * Double(step)), ro]))
      }
    } else {
      let step = size(candidate, [2]) - size(candidate, [1])
      offer([rank(candidate, full[0], 0, price * Double(step))])
    }
    return best.ranks
  }

  /// The first rank that may be given from which on one more keeps less than it costs.
  /// - Parameter loss: the share of the squared norm that is lost already.
  private func rank(_ candidate: WeightCandidate, _ full: Int, _ loss: Double, _ price: Double) -> Int {
    let spectrum = candidate.spectra.modes[0]
    var (low, high) = (0, full)
    while low < high {
      let middle = (low + high) / 2
      let (kept, more) = (
        1 - loss - spectrum.lostShare(rank: middle), 1 - loss - spectrum.lostShare(rank: middle + 1)
      )
      if kept <= 0 || candidate.harm * log(more / kept) > price { low = middle + 1 } else { high = middle }
    }
    return rule.roundedUp(low, full: full)
  }

  // MARK: Filling

  /// Gives what is left of the budget to the ranks that gain most by it.
  private func filled(_ start: [[Int]?], _ most: Int) throws(Failure) -> [[Int]?] {
    var (ranks, left) = (start, most - total(start))
    struct Step {
      var ranks: [Int]?
      var cost: Int
      var gain: Double
    }
    func steps(_ k: Int) -> [Step] {
      let candidate = candidates[k]
      guard let now = ranks[k] else { return [] }
      let (before, lost) = (size(candidate, now), candidate.loss(at: now))
      var next: [[Int]?] = [nil]
      for mode in now.indices {
        guard let more = rule.next(after: now[mode], full: candidate.fullRanks[mode]) else { continue }
        var larger = now
        larger[mode] = more
        if candidate.fillable(larger) == larger, candidate.lowersCost(at: larger) { next.append(larger) }
      }
      return next.compactMap { ranks in
        let cost = size(candidate, ranks) - before
        guard cost > 0 else { return nil }
        return Step(ranks: ranks, cost: cost, gain: lost - (ranks.map(candidate.loss) ?? 0))
      }
    }
    var open = candidates.indices.map(steps)
    while left > 0 {
      try work.checkCancellation()
      var best: (k: Int, step: Step)?
      for k in open.indices {
        for step in open[k] where step.cost <= left {
          if best.map({ step.gain / Double(step.cost) > $0.step.gain / Double($0.step.cost) }) ?? true {
            best = (k, step)
          }
        }
      }
      guard let (k, step) = best else { break }
      ranks[k] = step.ranks
      left -= step.cost
      open[k] = steps(k)
    }
    for k in candidates.indices where left > 0 {
      try work.checkCancellation()
      guard let now = ranks[k], let better = better(candidates[k], than: now, spending: left) else { continue }
      left -= size(candidates[k], better) - size(candidates[k], now)
      ranks[k] = better
    }
    return ranks
  }

  /// Where the least loss costs less than is wanted: the one change of a candidate that costs enough and loses least.
  private func spend(_ ranks: inout [[Int]?], _ least: Int, _ most: Int) {
    let now = total(ranks)
    var best: (k: Int, ranks: [Int], loss: Double)?
    for (k, candidate) in candidates.enumerated() {
      guard let held = ranks[k] else { continue }
      let others = now - size(candidate, held)
      let full = candidate.fullRanks
      let first = rule.all(full: full[0])
      for last in candidate.method == .tucker ? rule.all(full: full[1]) : [0] {
        func pair(_ rank: Int) -> [Int] { candidate.method == .tucker ? [rank, last] : [rank] }
        // Costs rise with the rank: the largest that is not too much.
        var (low, high) = (-1, first.count)
        while high - low > 1 {
          let middle = (low + high) / 2
          if others + size(candidate, pair(first[middle])) <= most { low = middle } else { high = middle }
        }
        guard low >= 0 else { continue }
        let offered = pair(first[low])
        guard others + size(candidate, offered) >= least, candidate.fillable(offered) == offered,
          candidate.lowersCost(at: offered)
        else { continue }
        let loss = candidate.loss(at: offered) - candidate.loss(at: held)
        if best.map({ loss < $0.loss }) ?? true { best = (k, offered, loss) }
      }
    }
    if let best { ranks[best.k] = best.ranks }
  }

  /// Ranks of two modes that lose less and cost no more than `left` above `now`: one rank may pay for the other.
  private func better(_ candidate: WeightCandidate, than now: [Int], spending left: Int) -> [Int]? {
    guard candidate.method == .tucker else { return nil }
    let most = size(candidate, now) + left
    var best: (ranks: [Int]?, loss: Double) = (nil, candidate.loss(at: now))
    let full = candidate.fullRanks
    for ro in rule.all(full: full[1]) {
      // The largest input rank that can be paid for; losses fall with it.
      let affordable = rule.all(full: full[0])
      var (low, high) = (-1, affordable.count)
      while high - low > 1 {
        let middle = (low + high) / 2
        if size(candidate, [affordable[middle], ro]) <= most { low = middle } else { high = middle }
      }
      guard low >= 0 else { continue }
      let ranks = [affordable[low], ro]
      let loss = candidate.loss(at: ranks)
      if candidate.fillable(ranks) == ranks, candidate.lowersCost(at: ranks), loss < best.loss { best = (ranks, loss) }
    }
    return best.ranks
  }
}
