import ModelGraph

// How many channels a layer keeps once step and minimum have had their say (the options `step_size`, `step_op`,
// `min_num_of_value`, `max_layer_ratio`).
//
// Invariant: aligning an aligned count changes nothing, so a recommended ratio applied by hand gives the same count.
// The step and the minimum concern the channels kept, since what remains is what hardware runs; the minimum is itself
// raised to the step. Layers that lose nothing are left as they are.
//
// Channels that come in blocks are aligned per block. A block narrower than twice the minimum keeps half of its
// channels instead: its layer is as wide as all blocks together, and would otherwise keep everything.
package struct ChannelAlignment: Sendable, Equatable {
  package let stepSize: Int
  package let stepOp: PruningOptions.StepOp
  package let minimumKept: Int
  /// No layer loses more than this share of its channels.
  package let maximumRatio: Double

  /// - Throws: `invalidParams` for a step below 1, a negative minimum, or a largest ratio outside 0...1.
  package init(_ options: PruningOptions) throws(Failure) {
    if options.stepSize < 1 { throw Self.refusal("step_size", "an integer of at least 1", options.stepSize) }
    if options.minNumOfValue < 0 {
      throw Self.refusal("min_num_of_value", "an integer of at least 0", options.minNumOfValue)
    }
    guard (0...1).contains(options.maxLayerRatio) else {
      throw Self.refusal("max_layer_ratio", "a number from 0 to 1", options.maxLayerRatio)
    }
    // Beyond any layer's width all steps are alike.
    self.stepSize = options.stepOp == .none ? 1 : min(options.stepSize, 1 << 40)
    (stepOp, minimumKept, maximumRatio) = (options.stepOp, options.minNumOfValue, options.maxLayerRatio)
  }

  /// The channels to remove of `channels` when `requested` are called for.
  /// - Parameters:
  ///   - limit: the most that can be removed at all (some may be fixed); less than `channels`.
  ///   - isBlock: whether the layer has several blocks of so many channels.
  package func removed(of channels: Int, requested: Int, limit: Int, isBlock: Bool = false) -> Int {
    guard requested > 0 else { return 0 }
    var kept = max(0, channels - requested)
    if stepSize > 1 {
      let steps =
        switch stepOp {
        case .roundDown: kept / stepSize
        case .roundUp: (kept + stepSize - 1) / stepSize
        // Half a step keeps more.
        case .round: (2 * kept + stepSize) / (2 * stepSize)
        case .none: kept
        }
      kept = max(1, steps) * stepSize
    }
    let stated = isBlock ? min(minimumKept, (channels + 1) / 2) : minimumKept
    let minimum = max(stated, channels - min(limit, maximumRemoved(of: channels)), 1)
    // As large as needed and still a multiple of the step; a minimum beyond the layer keeps all of it.
    let aligned = minimum >= channels ? channels : (minimum + stepSize - 1) / stepSize * stepSize
    return channels - min(max(kept, aligned), channels)
  }

  /// The most that `max_layer_ratio` lets a layer of so many channels lose.
  package func maximumRemoved(of channels: Int) -> Int { channels.share(maximumRatio) }

  private static func refusal<Value>(_ option: String, _ expected: String, _ found: Value) -> Failure {
    Failure(
      .invalidParams, "\(option) is \(found), expected \(expected)", details: ["path": .string("/options/\(option)")])
  }
}

extension Int {
  /// The whole part of `ratio * self`. The epsilon absorbs the rounding of products such as 0.29 * 100 and of quotients
  /// k / n multiplied by n again; flooring never takes more than asked. 0 for ratios that are not above 0.
  func share(_ ratio: Double) -> Int {
    guard ratio > 0 else { return 0 }
    return Swift.min(self, Int((Swift.min(ratio, 1) * Double(self) + 1e-9).rounded(.down)))
  }
}
