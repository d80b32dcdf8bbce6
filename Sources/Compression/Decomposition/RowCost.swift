import ModelGraph

/// What a file takes beside its tensors where layers are decomposed: how large it will be is known before there is one.
struct RowCost: Sendable {
  /// By which the file written anew with all its layers is larger than it is.
  let rewriting: Int
  /// By layer's name, of the row of layers in the place of one.
  private let rows: [String: Int]

  /// As the file's format foretells it, or of what it would write; nil where nobody knows.
  /// - Parameter movesMeans: whether biases make up for what factors lose of the mean input, where they can.
  init?(
    _ candidates: [WeightCandidate], of model: CompressibleModel, movesMeans: Bool, work: Work
  ) throws(Failure) {
    var rows: [String: Int] = [:]
    if let cost = try model.rewritingCost(ofRows: true, work) {
      for candidate in candidates { rows[candidate.layer.name] = cost.row(of: candidate.largestRow) }
      (rewriting, self.rows) = (cost.rewriting, rows)
      return
    }
    guard let whole = try model.writtenBytes(CompressionPlan(), work) else { return nil }
    for candidate in candidates {
      try work.checkCancellation()
      let ranks = candidate.fillable(candidate.layer.breakEvenRanks(candidate.method) ?? candidate.fullRanks)
      let plan = model.blankPlan(candidate, ranks: ranks, movesMeans: movesMeans)
      guard let bytes = try model.writtenBytes(plan, work) else { return nil }
      func tensorBytes(_ cost: WeightCost) -> Int { cost.size(.sizeBytes, of: candidate) }
      rows[candidate.layer.name] =
        bytes - whole - tensorBytes(candidate.cost(at: ranks)) + tensorBytes(candidate.cost)
    }
    (rewriting, self.rows) = (whole - model.sizeBytes, rows)
  }

  func bytes(of candidate: WeightCandidate) -> Int { rows[candidate.layer.name] ?? 0 }
}

extension CompressibleModel {
  /// The plan that decomposes one weight, with zeros for numbers.
  fileprivate func blankPlan(_ candidate: WeightCandidate, ranks: [Int], movesMeans: Bool) -> CompressionPlan {
    let layer = candidate.layer
    let parts = LayerFactors.shapes(candidate.method, ranks: ranks, of: layer).map { part in
      let taps =
        switch part.kind {
        case .matrix: 1
        case .kernel: layer.taps
        case .axis(let axis): layer.kernel[axis]
        }
      return part.with([Double](repeating: 0, count: part.outputs * part.inputs * taps))
    }
    let movesMean = movesMeans && candidate.members.count == 1 && layer.inputMean(in: graph).isMoved
    var building = DecompositionBuilding(graph)
    building.add(
      candidate.members,
      ComputedFactors(
        factors: LayerFactors(method: candidate.method, ranks: ranks, parts: parts), relativeError: 0,
        lostMean: movesMean ? [Double](repeating: 0, count: layer.outputChannels) : nil))
    return building.finished().plan
  }
}
