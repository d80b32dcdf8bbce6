import Glibc
import ModelGraph

/// How many channels every group gives up and which ranks every weight gets, under one budget: one price for what is
/// saved, and everything takes what it gains most by at that price. What a channel saves depends on the ranks of the
/// weights that it runs through, and what a rank saves on the channels, so the two take turns until neither moves.
///
/// Losses are in one measure: squared error of the network's outputs, or, without data, shares of squared weights.
struct CompressionMix {
  /// Groups that lose equally many channels.
  struct Channels {
    /// Counts that may be removed, ascending from 0, and what the removal of so many costs.
    var counts: [Int]
    var losses: [Double]
    /// What one of them saves in nodes without a weight that could be decomposed.
    var otherSaving: Double
    /// Weights that they run through: which share of their inputs or outputs one of them is.
    var touched: [(weight: Int, isInput: Bool, share: Double)]
  }

  var channels: [Channels]
  var weights: [WeightCandidate]
  var mayDecompose: Bool
  var rule: RankRule
  /// Of the model as it is.
  var original: Int
  var measure: ModelSize.Measure
  var work: Work

  struct Choice {
    var counts: [Int]
    var ranks: [[Int]?]
    var size: Double
    var loss: Double
  }

  private static let sweeps = 8
  private static let halvings = 60

  /// What costs at most `most` and loses least.
  func choice(atMost most: Double) throws(Failure) -> Choice {
    // Prices on a logarithmic scale, of the whole model.
    var (low, high) = (-40.0, 40.0)
    var best = try choice(exponent: high)
    guard best.size <= most else { return best }
    for _ in 0..<Self.halvings where high - low > 1e-3 {
      let middle = (low + high) / 2
      let tried = try choice(exponent: middle)
      if tried.size <= most { (high, best) = (middle, tried) } else { low = middle }
    }
    return best
  }

  /// With these counts of channels, the ranks that lose least and bring the size between the bounds; nil where none do.
  /// - Parameter leaving: what is left once the channels are gone, nothing being decomposed.
  func choice(
    with counts: [Int], leaving: Double, atLeast least: Double, atMost most: Double
  ) throws(Failure) -> Choice? {
    let left = weights.indices.map { reduced($0, counts) }
    let whole = left.reduce(0) { $0 + $1.cost.size(measure, of: $1) }
    let others = Int(leaving) - whole
    let (most, least) = (Int(most.rounded(.down)) - others, Int(least.rounded(.up)) - others)
    var ranks: [[Int]?] = weights.map { _ in nil }
    var size = whole
    if mayDecompose, whole > most {
      let places = left.indices.filter { left[$0].layer.inputChannels > 1 && left[$0].layer.outputChannels > 1 }
      let fixed = whole - places.reduce(0) { $0 + left[$1].cost.size(measure, of: left[$1]) }
      let budget = RankBudget(places.map { left[$0] }, rule, work: work) { [measure] candidate, cost, _ in
        cost.size(measure, of: candidate)
      }
      let found = try budget.ranks(costingAtLeast: least - fixed, atMost: most - fixed)
      size = fixed + budget.total(found)
      for (place, found) in zip(places, found) { ranks[place] = found }
    }
    guard least <= size, size <= most else { return nil }
    return Choice(counts: counts, ranks: ranks, size: Double(others + size), loss: loss(counts, ranks))
  }

  private func choice(exponent: Double) throws(Failure) -> Choice {
    let price = exp2(exponent) / Double(max(1, original))
    // Whoever goes first takes some of what the other could have saved.
    let (a, b) = (try settled(price, weightsFirst: true), try settled(price, weightsFirst: false))
    return a.loss + price * a.size <= b.loss + price * b.size ? a : b
  }

  private func settled(_ price: Double, weightsFirst: Bool) throws(Failure) -> Choice {
    var counts = channels.map { _ in 0 }
    var ranks: [[Int]?] = weights.map { _ in nil }
    for sweep in 0..<Self.sweeps {
      try work.checkCancellation()
      let before = (counts, ranks)
      if sweep > 0 || weightsFirst { ranks = weights.indices.map { self.ranks($0, counts, price) } }
      for c in channels.indices { counts[c] = count(c, counts, ranks, price) }
      if sweep == 0, !weightsFirst { ranks = weights.indices.map { self.ranks($0, counts, price) } }
      if sweep > 0, before.0 == counts, before.1 == ranks { break }
    }
    return Choice(counts: counts, ranks: ranks, size: size(counts, ranks), loss: loss(counts, ranks))
  }

  private func loss(_ counts: [Int], _ ranks: [[Int]?]) -> Double {
    var loss = 0.0
    for (c, item) in channels.enumerated() {
      loss += item.losses[item.counts.firstIndex(of: counts[c]) ?? 0]
    }
    for (w, item) in weights.enumerated() { loss += ranks[w].map(item.loss) ?? 0 }
    return loss
  }

  // MARK: One at a time

  private func ranks(_ w: Int, _ counts: [Int], _ price: Double) -> [Int]? {
    let left = reduced(w, counts)
    guard mayDecompose, left.layer.inputChannels > 1, left.layer.outputChannels > 1 else { return nil }
    return RankBudget([left], rule, work: work) { [measure] candidate, cost, _ in
      cost.size(measure, of: candidate)
    }.best(left, price: price)
  }

  private func count(_ c: Int, _ counts: [Int], _ ranks: [[Int]?], _ price: Double) -> Int {
    let item = channels[c]
    guard let most = item.counts.last, most > 0 else { return 0 }
    // What is saved grows evenly with the count.
    let saving = saving(c, of: most, counts, ranks) / Double(most)
    var best = (count: 0, value: 0.0)
    for (count, loss) in zip(item.counts, item.losses) {
      let value = loss - price * saving * Double(count)
      if value < best.value { best = (count, value) }
    }
    return best.count
  }

  private func saving(_ c: Int, of count: Int, _ counts: [Int], _ ranks: [[Int]?]) -> Double {
    var (none, all) = (counts, counts)
    (none[c], all[c]) = (0, count)
    var saving = channels[c].otherSaving * Double(count)
    for w in Set(channels[c].touched.map(\.weight)).sorted() {
      saving += size(w, none, ranks[w]) - size(w, all, ranks[w])
    }
    return saving
  }

  // MARK: Sizes

  func size(_ counts: [Int], _ ranks: [[Int]?]) -> Double {
    var size = Double(original)
    for (c, item) in channels.enumerated() { size -= item.otherSaving * Double(counts[c]) }
    for (w, item) in weights.enumerated() {
      size += self.size(w, counts, ranks[w]) - Double(item.cost.size(measure, of: item))
    }
    return size
  }

  /// What is left of one weight.
  private func size(_ w: Int, _ counts: [Int], _ ranks: [Int]?) -> Double {
    let left = reduced(w, counts)
    return Double((ranks.map(left.cost(at:)) ?? left.cost).size(measure, of: left))
  }

  /// The weight with the channels that are left to it.
  private func reduced(_ w: Int, _ counts: [Int]) -> WeightCandidate {
    var (input, output) = (1.0, 1.0)
    for (c, item) in channels.enumerated() where counts[c] > 0 {
      for touched in item.touched where touched.weight == w {
        let gone = touched.share * Double(counts[c])
        if touched.isInput { input -= gone } else { output -= gone }
      }
    }
    return weights[w].with(inputShare: max(0, input), outputShare: max(0, output))
  }
}

extension WeightCandidate {
  fileprivate func with(inputShare: Double, outputShare: Double) -> WeightCandidate {
    guard inputShare < 1 || outputShare < 1 else { return self }
    func left(_ channels: Int, _ share: Double) -> Int { max(1, Int((Double(channels) * share).rounded())) }
    let members = members.map { layer in
      DecomposableLayer(
        node: layer.node, name: layer.name, form: layer.form, weight: layer.weight,
        inputChannels: left(layer.inputChannels, inputShare),
        outputChannels: left(layer.outputChannels, outputShare), kernel: layer.kernel, positions: layer.positions)
    }
    return WeightCandidate(members: members, method: method, spectra: spectra, isFreed: isFreed, harm: harm)
  }
}
