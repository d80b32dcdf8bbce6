import ModelGraph
import Numerics

/// What an earlier decomposition said it replaced and adjusted: its reply's `replaced[]` and `adjusted[]`.
package struct DecompositionListing: Sendable {
  package struct Entry: Sendable {
    package var layer: String
    package var method: DecompositionMethod
    package var ranks: [Int]
    /// Names of new nodes and parameters, in execution order.
    package var by: [(name: String, parameter: String)]
    package var relativeError: Double
    package init(
      layer: String, method: DecompositionMethod, ranks: [Int], by: [(name: String, parameter: String)],
      relativeError: Double
    ) {
      (self.layer, self.method, self.ranks) = (layer, method, ranks)
      (self.by, self.relativeError) = (by, relativeError)
    }
  }
  package var replaced: [Entry]
  /// New biases, by layer.
  package var adjusted: [String: String]
  package var refilled: [RefilledParameter]
  package init(replaced: [Entry], adjusted: [String: String], refilled: [RefilledParameter] = []) {
    (self.replaced, self.adjusted, self.refilled) = (replaced, adjusted, refilled)
  }
}

extension CompressibleModel {
  /// Works out again what the listed decompositions make of the model, with the factors that `compressed` holds. How
  /// near these come to the weights is measured anew.
  /// - Throws: `invalidParams` where the listing names what the models do not have, or is not what any request makes.
  package func plan(
    _ listing: DecompositionListing, in compressed: Graph, work: Work
  ) throws(Failure) -> PlannedCompression {
    let algebra = try LinearAlgebra.loaded()
    let stored = Dictionary(
      compressed.values.compactMap { value in value.tensor.map { (value.name, $0) } },
      uniquingKeysWith: { first, _ in first })
    var entries: [(layer: DecomposableLayer, entry: DecompositionListing.Entry)] = []
    for entry in listing.replaced {
      guard let layer = decomposableLayers.layer(named: entry.layer),
        DecomposableLayers.reason(layer, against: entry.method) == nil
      else { throw misfit("'\(entry.layer)' is no layer that \(entry.method) takes") }
      entries.append((layer, entry))
    }
    entries.sort { $0.layer.node < $1.layer.node }
    var building = DecompositionBuilding(graph)
    for first in entries.map(\.layer).distinctWeights {
      try work.checkCancellation()
      let members = entries.filter { $0.layer.key == first.key }
      guard let entry = members.first?.entry, members.allSatisfy({ $0.entry.ranks == entry.ranks }) else { continue }
      let tensors = entry.by.compactMap { stored[$0.parameter] }
      let factors = try factors(of: first, entry, tensors, compressed.constraints)
      let error = try first.relativeError(factors.product(kernel: first.kernel, algebra), work)
      guard abs(error - entry.relativeError) <= 1e-6 + 1e-3 * entry.relativeError else {
        throw Failure(
          .verifyFailed,
          "the factors of '\(entry.layer)' in the file miss its weight by \(error), where the reply says \(entry.relativeError)",
          details: ["layer": .string(entry.layer)])
      }
      var biases: [NodeID: Tensor] = [:]
      for (layer, entry) in members {
        guard let name = listing.adjusted[entry.layer] else { continue }
        guard let bias = stored[name] else { throw misfit("the compressed model has no '\(name)'") }
        biases[layer.node] = bias
      }
      building.add(
        members.map(\.layer), ComputedFactors(factors: factors, relativeError: error), biases: biases)
    }
    let planned = try planned(building, layers: [], skipped: [], warnings: [])
    let names = Dictionary(planned.replaced.map { ($0.layer, $0.by) }) { first, _ in first }
    for entry in listing.replaced {
      let expected = names[entry.layer]?.map { [$0.name, $0.parameter] }
      guard expected == entry.by.map({ [$0.name, $0.parameter] }) else {
        throw misfit("'\(entry.layer)' is replaced by other nodes than it lists")
      }
    }
    return try refilling(planned, listing.refilled, from: compressed)
  }

  private func factors(
    of layer: DecomposableLayer, _ entry: DecompositionListing.Entry, _ tensors: [Tensor],
    _ constraints: FormatConstraints
  ) throws(Failure) -> LayerFactors {
    let count = entry.method == .tucker ? 2 : 1
    let largest = entry.method == .tucker ? [layer.inputChannels, layer.outputChannels] : [Int.max]
    guard entry.ranks.count == count, zip(entry.ranks, largest).allSatisfy({ 1 <= $0 && $0 <= $1 }) else {
      throw misfit("'\(entry.layer)' cannot have the ranks \(entry.ranks)")
    }
    let parts = LayerFactors.shapes(entry.method, ranks: entry.ranks, of: layer)
    guard parts.count == tensors.count, parts.count == entry.by.count else {
      throw misfit("the compressed model does not have the factors of '\(entry.layer)'")
    }
    for (part, tensor) in zip(parts, tensors) {
      guard tensor.dtype == layer.weight.dtype, tensor.elementCount == layer.elementCount(of: part) else {
        throw misfit("a factor of '\(entry.layer)' has the shape \(tensor.shape)")
      }
    }
    return layer.factors(entry.method, ranks: entry.ranks, stored: tensors, areLinear: constraints.hasLinearFactors)
  }

  private func misfit(_ what: String) -> Failure {
    Failure(
      .invalidParams, "'replaced' is not what a decomposition of this model makes: \(what)",
      details: ["path": .string("/replaced")])
  }
}

extension DecomposableLayer {
  fileprivate func elementCount(of part: LayerFactors.Part) -> Int {
    switch part.kind {
    case .matrix: part.outputs * part.inputs
    case .kernel: part.outputs * part.inputs * taps
    case .axis(let axis): part.outputs * kernel[axis]
    }
  }
}
