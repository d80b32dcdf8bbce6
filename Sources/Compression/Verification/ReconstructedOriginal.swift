import ModelGraph
import Numerics

/// What a decomposed model must equal: the original in which every decomposed weight is the product of its factors.
///
/// The product is worked out in double precision from the factors as they are stored, so that it holds what the file
/// holds; strides, padding, dilation, bias and everything else are the original's own.
package struct ReconstructedOriginal {
  private let original: Graph
  private let plan: CompressionPlan
  private let decompositions: [LayerDecomposition]

  init(_ decompositions: [LayerDecomposition], _ plan: CompressionPlan, of original: Graph) {
    (self.decompositions, self.plan, self.original) = (decompositions, plan, original.withContents(of: plan))
  }

  /// - Parameter isRounded: whether products are moved by half a unit in the last place of single precision, one up,
  ///   the next down.
  package func graph(isRounded: Bool, work: Work) throws(Failure) -> Graph {
    let algebra = try LinearAlgebra.loaded()
    let byNode = Dictionary(uniqueKeysWithValues: decompositions.map { ($0.layer.node, $0) })
    var splicing = GraphSplicing(original)
    var known: [[Int]: ValueID] = [:]
    for id in original.nodeIDs {
      try work.checkCancellation()
      var inputs = original[id].inputs
      for case .readConstant(let node, let input, let index) in plan.edits where node == id {
        inputs[input] = splicing.constant(plan.constants[index].tensor)
      }
      guard let decomposition = byNode[id] else {
        splicing.append(original[id].with(inputs: inputs))
        continue
      }
      let constants = decomposition.constants
      let weight =
        known[constants]
        ?? splicing.constant(
          decomposition.product(plan.constants.map(\.tensor), algebra, isRounded: isRounded))
      known[constants] = weight
      inputs[decomposition.layer.weightInput] = weight
      if let bias = decomposition.newBias {
        while inputs.count < 3 { inputs.append(nil) }
        inputs[2] = splicing.constant(plan.constants[bias].tensor)
      }
      splicing.append(original[id].with(inputs: inputs))
    }
    return splicing.finished()
  }
}
