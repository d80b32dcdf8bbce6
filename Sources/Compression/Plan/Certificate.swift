import ModelGraph

/// The proof that runs with every plan, in milliseconds and without numbers: labels are run again through the
/// rewritten graph, starting from what every stored tensor keeps. Every equality that an operator demands must already
/// hold between the original classes, and every value must have the length that the removal requires.
///
/// It catches slices, lists and settings that disagree with the rules. It shares the rules with the analysis, so it is
/// no proof of the rules themselves: those are tested against numbers.
package struct Certificate {
  let removal: Removal

  package init(removal: Removal) { self.removal = removal }

  /// - Throws: `certificateFailed` naming the node or value at fault.
  package func check(
    _ plan: CompressionPlan, shapes required: [[Int]?], inputShapes: [ValueID: [Int]], symbols: [String: Int],
    work: Work
  ) throws(Failure) -> CertificateReport {
    let analysis = removal.coupling.analysis
    let original = analysis.graph
    let rewritten = RewrittenGraph(original, applying: plan)
    let shapes: ShapeTable
    do {
      shapes = try rewritten.graph.inferShapes(inputShapes: inputShapes, symbols: symbols)
    } catch {
      throw Self.fault("the rewritten graph's shapes contradict each other: \(error.message)", error.details)
    }
    var valuesChecked = 0
    for id in original.valueIDs {
      guard let wanted = required[id.index], let found = shapes[id] else { continue }
      valuesChecked += 1
      guard wanted == found else {
        throw Self.fault(
          "'\(original[id].name)' would have shape \(found) where its labels require \(wanted)",
          ["value": .string(original[id].name)])
      }
    }
    let barriers = analysis.barriers
    var pass = Propagation(
      graph: rewritten.graph, shapes: shapes,
      originalShapes: ShapeTable(
        shapes: analysis.shapes.shapes + shapes.shapes[original.values.count...], contents: []),
      originalNode: { id in rewritten.origin[id.index].map { original[$0] } })
    pass.facts.beginCertificate(isFrozen: removal.coupling.flags.frozen.map { $0 >= 0 })
    let slices = Dictionary(plan.slices.map { ($0.value, $0) }) { first, _ in first }
    var misfit: ValueID?
    try pass.run(work: work) { id, tensor, facts in
      guard let initial = analysis.initial[id] else { return StoredLabels.unlabelled(tensor, &facts) }
      if let kept = removal.restricted(initial, to: slices[id], &facts) { return kept }
      misfit = misfit ?? id
      return StoredLabels.unlabelled(tensor, &facts)
    } labellingUse: { use, value, facts in
      guard let node = rewritten.origin[use.node.index],
        let initial = analysis.initialOfUse[Use(node: node, input: use.input)]
      else { return nil }
      // What the plan introduced is a copy; what was there before is the vector that all others read.
      let slice =
        value.index >= original.values.count
        ? removal.copies.first { $0.use == Use(node: node, input: use.input) }.map { copy in
          TensorSlice(value: copy.source, axes: [AxisSlice(axis: copy.axis, kept: .indices(copy.kept))])
        } : analysis.shared.source(of: value).flatMap { slices[$0] }
      if let kept = removal.restricted(initial, to: slice, &facts) { return kept }
      misfit = misfit ?? analysis.shared.source(of: value) ?? value
      return nil
    }
    if let misfit {
      let name = rewritten.graph[misfit].name
      throw Self.fault(
        "what is listed to stay of '\(name)' is no part that its labels allow", ["value": .string(name)])
    }
    for id in pass.barriers {
      // A rule that worked on the original must work on the result.
      guard let origin = rewritten.origin[id.index], barriers.contains(origin) else {
        throw Self.fault(
          "\(rewritten.graph[id].op) '\(rewritten.graph.displayName(id))' no longer follows its channel rule",
          ["node": .string(rewritten.graph.displayName(id))])
      }
    }
    pass.facts.certify { removal.coupling.flags.frozen[Int($0)] >= 0 }
    if let fault = pass.facts.faults.first {
      let node = rewritten.graph[fault.node]
      throw Self.fault(
        "channels that are not coupled would meet at \(node.op) '\(rewritten.graph.displayName(fault.node))'",
        ["node": .string(rewritten.graph.displayName(fault.node)), "op": .string(node.op)])
    }
    return CertificateReport(valuesChecked: valuesChecked, labelsCompared: pass.facts.comparisons)
  }

  static func fault(_ what: String, _ details: [String: Failure.Detail] = [:]) -> Failure {
    Failure(
      .certificateFailed,
      "the plan did not pass its own proof: \(what). This is a defect of Espalier; please report it",
      details: details)
  }
}

extension Removal {
  /// The labelled form of a stored tensor after removal: the labels that `slice` keeps (all of them if nil), read
  /// through their classes. Factors that shrink to 1 stay, so that the rules see the same axes as before.
  /// - Returns: nil if the lists keep what the label sets could not become.
  func restricted(_ initial: LabelledValue, to slice: TensorSlice?, _ facts: inout Facts) -> LabelledValue? {
    var result = initial
    // A handful of factors: looking through them is quicker than hashing.
    var sizes: [(factor: Factor, size: Int)] = []
    for set in initial.sets {
      if case .sizes(let kept) = keep(set) { sizes += zip(set.factors, kept).map { ($0, $1) } }
    }
    var renamed: [(old: Factor, new: Factor)] = []
    for a in result.axes.indices {
      for k in result.axes[a].indices {
        let old = result.axes[a][k]
        let size = sizes.last { $0.factor == old }?.size ?? old.size
        let new = facts.factor(size: size, reason: old.reason, isShrunk: size < old.size)
        renamed.append((old, new))
        result.axes[a][k] = new
      }
    }
    result.sets = []
    for set in initial.sets {
      let factors = set.factors.map { factor in renamed.last { $0.old == factor }?.new ?? factor }
      guard let kept = Self.labels(of: set, in: initial, keptBy: slice),
        kept.count == factors.reduce(1, { $0 * $1.size })
      else { return nil }
      result.sets.append(
        LabelSet(
          factors: factors,
          labels: LabelArray(kept.map { coupling.classOf[Int($0)] }, shape: factors.map(\.size))))
    }
    return result
  }

  /// The labels of one set at the listed indices, in the lists' order; nil if the tensor has no such indices.
  private static func labels(of set: LabelSet, in initial: LabelledValue, keptBy slice: TensorSlice?) -> [Int32]? {
    let lengths = initial.shape
    func kept(_ axis: Int, block: Int? = nil) -> [Int]? {
      var indices = Array(0..<lengths[axis])
      switch slice?.axes.first(where: { $0.axis == axis })?.kept {
      case .indices(let listed): indices = listed
      case .perBlock(_, let lists):
        guard let block, block < lists.count else { return nil }
        indices = lists[block]
      case nil: break
      }
      return indices.allSatisfy { $0 >= 0 && $0 < lengths[axis] } ? indices : nil
    }
    let labels = set.labels.flattened()
    guard let inner = set.factors.last, let axis = initial.axes.firstIndex(where: { $0.contains(inner) })
    else { return nil }
    if set.factors.allSatisfy(initial.axes[axis].contains) {
      if slice?.axes.contains(where: { $0.axis == axis }) != true { return labels }
      guard let indices = kept(axis) else { return nil }
      if labels.count == lengths[axis] { return indices.map { labels[$0] } }
      // Several indices share a label where only whole groups can go: then whole groups must be listed.
      let width = lengths[axis] / labels.count
      let starts = stride(from: 0, to: indices.count, by: width).map { indices[$0] }
      guard indices == starts.flatMap({ Array($0..<$0 + width) }), starts.allSatisfy({ $0 % width == 0 })
      else { return nil }
      return starts.map { labels[$0 / width] }
    }
    // Blocks of axis 0, and a list along `axis` for each of them that survives.
    guard let rows = kept(0) else { return nil }
    let blocks = set.factors[0].size
    let surviving = Set(rows.map { $0 / (lengths[0] / blocks) })
    var result: [Int32] = []
    for block in surviving.sorted() {
      guard let indices = kept(axis, block: block) else { return nil }
      result += indices.map { labels[block * lengths[axis] + $0] }
    }
    return result
  }
}
