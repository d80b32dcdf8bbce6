import ModelGraph

/// Steps that do not count, for a recurrence that runs over those that do: these are packed to the front, and what
/// comes out is spread over all steps again, every step that does not count having what came last.
struct MaskedSteps {
  /// (batch, steps, steps): which step comes to which place in front.
  let packing: ValueID
  /// (batch, steps, steps): which place each step has its output from; none before the first that counts.
  let spreading: ValueID
  /// (batch): how many count.
  let counts: ValueID
}

extension KerasLowering {
  /// - Parameters:
  ///   - mask: (batch, steps), true where a step counts.
  ///   - givesZeros: whether a step that does not count has zeros instead of what came last.
  mutating func maskedSteps(
    _ mask: KerasTensor, isReverse: Bool, givesZeros: Bool
  ) throws(Failure) -> MaskedSteps {
    let counts = try cast(asWritten(mask), to: .int32)
    let axis = try scalar(1, .int64, as: "axis")
    // How many count up to each step, this one included.
    let sums = try node("CumSum", [counts, axis], as: "sums")
    let total = try node("ReduceSum", [counts, integers([1], as: "axes")], ["keepdims": .int(0)], as: "count")
    let end = try node(
      "Squeeze",
      [node("Shape", [counts], ["start": .int(1), "end": .int(2)], as: "steps"), integers([0], as: "axes")], as: "end")
    let range = try node(
      "Range", [scalar(0, .int64, as: "zero"), end, scalar(1, .int64, as: "one")], as: "places", dtype: .int64)
    let places = try cast(range, to: .int32)
    let one = try scalar(1, .int32, as: "one")
    // The place of a step that counts; of others, of the last before it.
    let last = try node("Unsqueeze", [node("Sub", [sums, one], as: "place"), integers([2], as: "axes")], as: "rows")
    let isLast = try node("Equal", [last, places], as: "is_last", dtype: .bool)
    let isThere = try node("Unsqueeze", [cast(counts, to: .bool), integers([2], as: "axes")], as: "is_there")
    let own = try node("And", [isLast, isThere], as: "own", dtype: .bool)
    let packing = try node("Transpose", [cast(own, to: .float32)], ["perm": .ints([0, 2, 1])], as: "packing")
    if givesZeros { return MaskedSteps(packing: packing, spreading: try cast(own, to: .float32), counts: total) }
    guard isReverse else {
      return MaskedSteps(packing: packing, spreading: try cast(isLast, to: .float32), counts: total)
    }
    // From its end, what came last is the next that counts.
    let next = try node(
      "Unsqueeze", [node("Sub", [sums, counts], as: "next"), integers([2], as: "axes")], as: "next_rows")
    let isNext = try node("Equal", [next, places], as: "is_next", dtype: .bool)
    return MaskedSteps(packing: packing, spreading: try cast(isNext, to: .float32), counts: total)
  }

  /// Gives what a layer returns the masks that Keras gives it.
  mutating func passMasks(
    _ layer: KerasLayer, _ a: KerasArguments, _ given: GivenArguments, to result: LoweredOperand
  ) throws(Failure) {
    let inputs = given.tensors
    guard inputs.contains(where: { masks[$0] != nil }), layer.kind == .layer, let output = result.tensors.first,
      masks[output] == nil
    else { return }
    switch layer.className {
    case _ where KerasMasks.passing.contains(layer.className): masks[output] = inputs.first.flatMap { masks[$0] }
    case "LSTM", "GRU", "SimpleRNN", "Bidirectional":
      let sequences = layer.className == "Bidirectional" ? layer.part("forward_layer")?.settings : layer.settings
      if sequences?["return_sequences"]?.bool == true { masks[output] = inputs.first.flatMap { masks[$0] } }
    case "MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention", "Attention", "AdditiveAttention":
      masks[output] = inputs.first.flatMap { masks[$0] }
    case _ where KerasMasks.merging.contains(layer.className):
      // A step counts that counts in one of them, where all say so.
      let all = inputs.compactMap { masks[$0] }
      guard all.count == inputs.count, let first = all.first else { return }
      var mask = first
      for other in all.dropFirst() where other != mask {
        mask = try binary("Or", mask, other, as: "mask", dtype: .bool)
      }
      masks[output] = mask
    case "Concatenate":
      let all = inputs.compactMap { masks[$0] }
      let axis = try self.axis(a.int("axis", -1), of: inputs[0])
      guard all.count == inputs.count, let first = all.first, all.allSatisfy({ $0 == first }),
        axis == rank(inputs[0]) - 1
      else { throw unsupported("it joins tensors of which some have steps that do not count") }
      masks[output] = first
    default: break
    }
  }
}

/// Which layers hand on that steps do not count.
enum KerasMasks {
  static let passing: Set = [
    "Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "ThresholdedReLU", "Dense", "Dropout",
    "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "ActivityRegularization", "Identity", "LayerNormalization", "GroupNormalization", "BatchNormalization",
    "UnitNormalization", "Rescaling", "Normalization", "TimeDistributed",
  ]
  static let merging: Set = ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"]
}
