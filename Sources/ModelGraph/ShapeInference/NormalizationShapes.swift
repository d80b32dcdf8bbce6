/// Shapes of normalisations: the first output is shaped like the first input; statistics have one entry per channel
/// or per normalised slice.
enum NormalizationShapes {
  static let rules: [String: ShapeRule] = [
    "BatchNormalization": batch, "InstanceNormalization": perChannel, "GroupNormalization": group,
    "LayerNormalization": layer, "RMSNormalization": ElementwiseShapes.sameAsFirst,
    "LRN": ElementwiseShapes.sameAsFirst, "LpNormalization": ElementwiseShapes.sameAsFirst,
    "MeanVarianceNormalization": ElementwiseShapes.sameAsFirst,
    // ONNX Runtime's, the first of which it keeps among the standard operators.
    "SimplifiedLayerNormalization": layer,
    "com.microsoft.SkipLayerNormalization": skipLayer, "com.microsoft.SkipSimplifiedLayerNormalization": skipLayer,
    "com.microsoft.EmbedLayerNormalization": embedLayer,
  ]

  /// The number of channels (axis 1) of an input; the vectors in `positions`, where known, must have that length.
  private static func channels(_ call: OperatorCall, vectors positions: ClosedRange<Int>) throws(Failure) -> Int? {
    guard let input = call.shape(0) else { return nil }
    // One axis alone counts as (N) with a single channel, as ONNX Runtime has it.
    let channels = input.count > 1 ? input[1] : 1
    for position in positions {
      if let vector = call.shape(position), vector != [channels] {
        throw call.malformed("the input \(input) has \(channels) channels but input \(position) is \(vector)")
      }
    }
    return channels
  }

  @Sendable private static func batch(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let channels = try channels(call, vectors: 1...4) else { return [nil] }
    // Running mean and variance; operator sets before 14 add the saved ones of the batch.
    return [call.shape(0)] + [[Int]?](repeating: [channels], count: 4)
  }

  @Sendable private static func perChannel(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    _ = try channels(call, vectors: 1...2)
    return [call.shape(0)]
  }

  @Sendable private static func group(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let input = call.shape(0) else { return [nil] }
    try call.requireRank(atLeast: 2, input, of: "the input")
    if let groups = call.node.int("num_groups"), groups < 1 || !input[1].isMultiple(of: groups) {
      throw call.malformed("the \(input[1]) channels of \(input) do not split into \(groups) groups")
    }
    return [input]
  }

  @Sendable private static func layer(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let input = call.shape(0) else { return [nil] }
    let axis = try call.axis(call.node.int("axis", default: -1), rank: input.count)
    let normalized = Array(input[axis...])
    if let scale = call.shape(1), try call.broadcast([normalized, scale]) != normalized {
      throw call.malformed("the scale \(scale) does not fit the normalised axes \(normalized) of \(input)")
    }
    let statistics = input[..<axis] + normalized.map { _ in 1 }
    return [input, Array(statistics), Array(statistics)]
  }

  /// Output, mean, inverse deviation, the sum that was normalised.
  @Sendable private static func skipLayer(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let input = call.shape(0), !input.isEmpty else { return [nil] }
    let statistics = input.dropLast() + [1]
    return [input, Array(statistics), Array(statistics), input]
  }

  /// Embeddings of tokens, positions and segments, added and normalised; the mask's lengths; the sum.
  @Sendable private static func embedLayer(_ call: OperatorCall) throws(Failure) -> [[Int]?] {
    guard let tokens = call.shape(0), let table = call.shape(2), tokens.count == 2, table.count == 2 else {
      return [nil]
    }
    return [tokens + [table[1]], [tokens[0]], tokens + [table[1]]]
  }
}
