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
      throw Self.fault("the rewritten graph's shapes contradict each other: \(error.message)")
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
        shapes: analysis.shapes.shapes + shapes.shapes[original.values.count...], contents: []))
    pass.facts.beginCertificate(labels: removal.coupling.classOf.count)
    try pass.run(work: work) { id, tensor, facts in
      guard let initial = analysis.initial[id] else { return StoredLabels.unlabelled(tensor, &facts) }
      return removal.restricted(initial, &facts)
    } labellingUse: { use, value, facts in
      guard let node = rewritten.origin[use.node.index],
        let initial = analysis.initialOfUse[Use(node: node, input: use.input)]
      else { return nil }
      return removal.restricted(initial, &facts)
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

  private static func fault(_ what: String, _ details: [String: Failure.Detail] = [:]) -> Failure {
    Failure(
      .certificateFailed,
      "the plan did not pass its own proof and nothing was written: \(what). This is a defect of Espalier; please report it",
      details: details)
  }
}

extension Removal {
  /// The labelled form of a stored tensor after removal: kept labels, read through their classes. Factors that shrink
  /// to 1 stay, so that the rules see the same axes as before.
  func restricted(_ initial: LabelledValue, _ facts: inout Facts) -> LabelledValue {
    var result = initial
    var sizes: [Factor: Int] = [:]
    for set in initial.sets {
      if case .sizes(let kept) = keep(set) {
        for (factor, size) in zip(set.factors, kept) { sizes[factor] = size }
      }
    }
    var renamed: [Factor: Factor] = [:]
    for factor in initial.axes.flatMap({ $0 }) {
      let size = sizes[factor] ?? factor.size
      renamed[factor] = facts.factor(size: size, reason: factor.reason, isShrunk: size < factor.size)
    }
    result.axes = initial.axes.map { $0.map { renamed[$0] ?? $0 } }
    result.sets = initial.sets.map { set in
      let factors = set.factors.map { renamed[$0] ?? $0 }
      let kept = set.labels.flattened().filter { !isRemoved($0) }.map { coupling.classOf[Int($0)] }
      return LabelSet(factors: factors, labels: LabelArray(kept, shape: factors.map(\.size)))
    }
    return result
  }
}
