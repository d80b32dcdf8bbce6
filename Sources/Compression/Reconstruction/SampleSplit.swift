import ModelGraph

/// What each sample of a dataset is for, by its number: the same for the same number of samples.
struct SampleSplit: Sendable {
  enum Role: Sendable {
    /// Weights are fitted to it.
    case fitting
    /// Ridges are chosen by it, and then weights fitted to it too.
    case choosing
    /// Nothing is fitted to it: it tells what the fitting is worth.
    case judging
  }

  /// With fewer different samples nothing is fitted, since nothing could tell what it is worth.
  static let least = 4
  /// With fewer, none choose ridges, and every fourth judges; otherwise one of eight does either.
  static let leastChoosing = 16

  let sampleCount: Int
  /// Which samples come together: they have one role, that of the first.
  let batches: [Range<Int>]
  /// How many differ, counted up to `leastChoosing`.
  let different: Int

  /// Looks through the data.
  init(_ runner: any NetworkRunner, work: Work) throws(Failure) {
    sampleCount = runner.sampleCount
    var (batches, seen, different) = ([Range<Int>](), Set<Int>(), 0)
    try runner.forEachBatch(work: Work(cancellation: work.cancellation)) { batch throws(Failure) in
      batches.append(batch.samples)
      guard different < Self.leastChoosing else { return }
      try work.checkCancellation()
      var hasher = Hasher()
      for (name, tensor) in batch.inputs.sorted(by: { $0.key < $1.key }) {
        hasher.combine(name)
        hasher.combine(bytes: tensor.bytes.buffer)
      }
      if seen.insert(hasher.finalize()).inserted { different += batch.samples.count }
    }
    self.different = min(different, Self.leastChoosing)
    self.batches = batches
  }

  /// Whether there are samples to hold out.
  var holdsOut: Bool { different >= Self.least }

  /// Roles repeat after so many batches.
  static let period = 8

  func role(_ sample: Int) -> Role {
    if different < Self.leastChoosing { return sample % 4 == 3 ? .judging : .fitting }
    switch sample % Self.period {
    case 3: return .choosing
    case 7: return .judging
    default: return .fitting
    }
  }

  var heldOut: Int { batches.reduce(0) { role($1.lowerBound) == .judging ? $0 + $1.count : $0 } }
}
