import ModelGraph

/// The selection that leaves a model just below a wanted size: parameters, multiply-adds or bytes.
///
/// What a budget of channels leaves falls, all but evenly, as the budget grows, so halving finds the budget at which
/// the size is crossed. From there single groups give back a step, then pairs of groups trade one, until the size is
/// met within one percent from below. Everything is tried in a fixed order, so that equal requests give equal answers.
struct SizeSearch {
  /// How far below the wanted size the result may stay, as a share of it.
  static let tolerance = 0.01
  /// Where of sizes on file only tensors are foreseen, not what writing them takes, this share is left to that.
  private static let fileSlack = 0.002
  /// Sizes that are worked out to come nearer, after halving.
  private static let evaluations = 400

  private let ranked: RankedGroups
  private let options: PruningOptions
  private let alignment: ChannelAlignment
  private let original: Int
  private let isExact: Bool
  private let size: (Selection) throws(Failure) -> Int
  private let work: Work

  /// - Parameters:
  ///   - isExact: whether sizes on file are all that what is written will have.
  ///   - size: what a selection leaves of `original`.
  init(
    _ ranked: RankedGroups, options: PruningOptions, original: Int, isExact: Bool, work: Work,
    size: @escaping (Selection) throws(Failure) -> Int
  ) throws(Failure) {
    alignment = try ChannelAlignment(options)
    (self.ranked, self.options, self.original, self.isExact) = (ranked, options, original, isExact)
    (self.work, self.size) = (work, size)
  }

  /// - Throws: `targetUnreachable`, with the closest share that can be reached; `invalidParams` unless 0 < share < 1.
  func selection(share: Double, of measure: ModelSize.Measure) throws(Failure) -> Selection {
    let path = Failure.Detail.string("/target/\(measure.rawValue)")
    guard share > 0, share < 1 else {
      throw Failure(
        .invalidParams, "target \(measure.rawValue) is \(share), expected the share to be left: above 0 and below 1",
        details: ["path": path])
    }
    let room = measure == .sizeBytes && !isExact ? 1 - Self.fileSlack : 1
    // A share that is a size divided by the original means that size, whatever the quotient was rounded to.
    let most = Int((share * room * Double(original) * (1 + 1e-12)).rounded(.down))
    let least = Int((share * (1 - Self.tolerance) * Double(original)).rounded(.up))
    var best = try crossing(below: most)
    if best.size < least, best.size <= most { best = try approached(from: best, least: least, most: most) }
    guard least <= best.size, best.size <= most else {
      let closest = Double(best.size) / room / Double(max(original, 1))
      let bound = best.size > most ? "the least that can be reached is" : "the closest below it is"
      throw Failure(
        .targetUnreachable,
        "\(measure.rawValue) cannot be brought to \(share) of \(original) within one percent from below: \(bound) \(closest) under these options; ask for that, or loosen step_size, min_num_of_value, max_layer_ratio, include or exclude",
        details: ["requested": .double(share), "closest": .double(closest)])
    }
    return ranked.selection(counts: best.counts, requested: best.counts)
  }

  /// The selection nearest to one that is known already.
  /// - Parameters:
  ///   - counts: by set.
  ///   - admissible: by set, the counts that may be taken, ascending.
  func selection(
    near counts: [Int], admissible: [[Int]], share: Double, of measure: ModelSize.Measure
  ) throws(Failure) -> Selection {
    let room = measure == .sizeBytes ? 1 - Self.fileSlack : 1
    let most = Int((share * room * Double(original) * (1 + 1e-12)).rounded(.down))
    let least = Int((share * (1 - Self.tolerance) * Double(original)).rounded(.up))
    var best = try candidate(counts)
    // Too much is left: the set with the most channels that may still go loses one step more.
    while best.size > most {
      let next = counts.indices.compactMap { s -> (set: Int, count: Int, left: Double)? in
        guard let place = admissible[s].firstIndex(of: best.counts[s]), place + 1 < admissible[s].count else {
          return nil
        }
        return (s, admissible[s][place + 1], 1 - Double(best.counts[s]) / Double(ranked.width(ofSet: s)))
      }.max { ($0.left, -$0.set) < ($1.left, -$1.set) }
      guard let next else { break }
      var more = best.counts
      more[next.set] = next.count
      best = try candidate(more)
    }
    if best.size < least { best = try approached(from: best, least: least, most: most) }
    guard least <= best.size, best.size <= most else {
      let closest = Double(best.size) / room / Double(max(original, 1))
      throw Failure(
        .targetUnreachable,
        "\(measure.rawValue) cannot be brought to \(share) of \(original) within one percent from below: the closest is \(closest) under these options; ask for that, or loosen step_size, min_num_of_value, max_layer_ratio, include or exclude",
        details: ["requested": .double(share), "closest": .double(closest)])
    }
    return ranked.selection(counts: best.counts, requested: best.counts)
  }

  private struct Candidate {
    var counts: [Int]
    var size: Int
  }

  private func candidate(_ counts: [Int]) throws(Failure) -> Candidate {
    try work.checkCancellation()
    return Candidate(counts: counts, size: try size(ranked.selection(counts: counts, requested: counts)))
  }

  // MARK: Halving

  /// The smallest budget that leaves no more than `most`, or the largest there is.
  private func crossing(below most: Int) throws(Failure) -> Candidate {
    var (low, high) = (0, ranked.totalChannels)
    var best = try candidate(counts(budget: high))
    guard best.size <= most else { return best }
    while high - low > 1 {
      let middle = low + (high - low) / 2
      let tried = try candidate(counts(budget: middle))
      if tried.size <= most { (high, best) = (middle, tried) } else { low = middle }
    }
    return best
  }

  /// Per set, what a recommendation of this share of all channels removes.
  private func counts(budget: Int) -> [Int] {
    let requested: [Int]
    if options.scope == .layer {
      let ratio = Double(budget) / Double(max(ranked.totalChannels, 1))
      requested = ranked.sets.map { set in set.map { ranked.groups[$0].count(ratio: ratio) }.min() ?? 0 }
    } else {
      requested = ranked.counts(channels: budget, alignment)
    }
    return requested.indices.map { ranked.aligned(requested[$0], ofSet: $0, alignment) }
  }

  // MARK: Coming nearer

  /// Per set, the counts that alignment admits, ascending.
  private var admissible: [[Int]] {
    ranked.sets.indices.map { set in
      let counts = (0...ranked.limit(ofSet: set)).map { ranked.aligned($0, ofSet: set, alignment) }
      return counts.reduce(into: [0]) { list, count in if count > list[list.count - 1] { list.append(count) } }
    }
  }

  private func approached(from start: Candidate, least: Int, most: Int) throws(Failure) -> Candidate {
    var best = start
    var left = Self.evaluations
    let admissible = admissible
    func stepped(_ counts: [Int], _ set: Int, by direction: Int) -> [Int]? {
      guard let place = admissible[set].firstIndex(of: counts[set]),
        admissible[set].indices.contains(place + direction)
      else { return nil }
      var result = counts
      result[set] = admissible[set][place + direction]
      return result
    }
    // Give back steps, the largest that fits first. What did not fit once never will: the room only shrinks.
    var fits = ranked.sets.indices.map { _ in true }
    while best.size < least, left > 0 {
      var next: Candidate?
      for set in fits.indices where fits[set] && left > 0 {
        guard let counts = stepped(best.counts, set, by: -1) else {
          fits[set] = false
          continue
        }
        let tried = try candidate(counts)
        left -= 1
        if tried.size > most {
          fits[set] = false
        } else if tried.size > next?.size ?? best.size {
          next = tried
        }
      }
      guard let next else { break }
      best = next
    }
    // Trade: one set gives back a step, another loses one more.
    var improved = true
    while best.size < least, improved, left > 0 {
      improved = false
      search: for given in ranked.sets.indices {
        guard let back = stepped(best.counts, given, by: -1) else { continue }
        for taken in ranked.sets.indices where taken != given {
          guard let counts = stepped(back, taken, by: 1) else { continue }
          let tried = try candidate(counts)
          left -= 1
          if tried.size <= most, tried.size > best.size {
            (best, improved) = (tried, true)
            break search
          }
          if left <= 0 { break search }
        }
      }
    }
    return best
  }
}
