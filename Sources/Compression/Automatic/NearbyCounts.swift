import ModelGraph

// What is tried next where a choice of channels leaves a size that ranks cannot fill up: prices reach only some counts,
// and on small networks their steps are coarse.

/// The counts of channels that are tried, one after the other.
struct CountsTried {
  private var counts: Set<[Int]> = []
  /// Of the wanted size.
  private var aim = 1.0
  /// Where to look: the first choice, and what comes next in its place.
  private var next: (mix: CompressionMix, choice: CompressionMix.Choice)?

  /// The choice to try.
  /// - Parameter choice: at some share of the wanted size.
  mutating func next(
    _ choice: (_ aim: Double) throws(Failure) -> (CompressionMix, CompressionMix.Choice)
  ) throws(Failure) -> (mix: CompressionMix, choice: CompressionMix.Choice) {
    let found: (mix: CompressionMix, choice: CompressionMix.Choice)
    if let next { found = next } else { found = try choice(aim) }
    next = nil
    counts.insert(found.choice.counts)
    return found
  }

  /// Ranks cannot make the network small enough: more channels have to go.
  mutating func isTooLarge() { aim *= 0.96 }

  /// - Returns: whether there is something left to try.
  mutating func isTooSmall(
    _ last: (mix: CompressionMix, choice: CompressionMix.Choice), _ choosing: AutomaticChoosing, work: Work
  ) throws(Failure) -> Bool {
    next = try choosing.nearby(last.choice.counts, not: counts, last.mix, work: work).map { (last.mix, $0) }
    return next != nil
  }

  /// Anew, with other groups to choose from.
  mutating func begin() { self = CountsTried() }
}

extension AutomaticChoosing {
  /// How many neighbours are looked at.
  private static let mostNeighbours = 400

  /// Of the counts next to some, those at which ranks are predicted to fill the size up and least is lost.
  func nearby(
    _ counts: [Int], not tried: Set<[Int]>, _ mix: CompressionMix, work: Work
  ) throws(Failure) -> CompressionMix.Choice? {
    let cost = model.removalCost(of: ranked.scored.coupling, request.means.pruning.couplingOptions)
    let most = request.share * Double(model.cost.original[request.measure]) * (1 + 1e-12)
    let least = (1 - SizeSearch.tolerance) * most
    var best: CompressionMix.Choice?
    var looked = 0
    func look(_ other: [Int]) throws(Failure) {
      guard !tried.contains(other), looked < Self.mostNeighbours else { return }
      looked += 1
      try work.checkCancellation()
      let left = try cost.after(ranked.classes(ranked.ranked.selection(counts: other, requested: other)))
      let found = try mix.choice(with: other, leaving: Double(left[request.measure]), atLeast: least, atMost: most)
      if let found, best.map({ found.loss < $0.loss }) ?? true { best = found }
    }
    for reach in 1...3 {
      for s in counts.indices {
        for step in [-reach, reach] {
          if let other = moved(counts, s, by: step, mix) { try look(other) }
        }
      }
      if best != nil { return best }
    }
    for (s, t) in counts.indices.flatMap({ s in counts.indices.dropFirst(s + 1).map { (s, $0) } }) {
      for (one, two) in [(1, -1), (-1, 1), (1, 1), (-1, -1), (1, -2), (-2, 1), (2, -1), (-1, 2)] {
        if let first = moved(counts, s, by: one, mix), let other = moved(first, t, by: two, mix) { try look(other) }
      }
    }
    return best
  }

  private func moved(_ counts: [Int], _ s: Int, by steps: Int, _ mix: CompressionMix) -> [Int]? {
    let admissible = mix.channels[s].counts
    guard let place = admissible.firstIndex(of: counts[s]), admissible.indices.contains(place + steps) else {
      return nil
    }
    var other = counts
    other[s] = admissible[place + steps]
    return other
  }
}
