import ModelGraph
import Numerics

/// Has biases take up what a layer no longer computes of its mean input: of channels that are gone, or of ranks. The
/// means are those that batch normalizations tell (`ChannelStatistics`), so that no data are needed. Away from the
/// borders of padded maps the mean of what the layer computes is then the original's.
struct BiasCompensation {
  let original: Graph
  let shapes: ShapeTable
  let planned: PlannedCompression
  /// Of the compressed graph.
  let layers: [RefitLayer]
  /// What is left of a value of the original along an axis; nil if all.
  let kept: (ValueID, Int) -> [Int]?

  struct Compensated {
    let layer: RefitLayer
    let tensors: [ValueID: Tensor]
  }

  /// - Parameter compressed: the graph of `layers`.
  func run(on compressed: Graph, work: Work) throws(Failure) -> [Compensated] {
    let statistics = ChannelStatistics.of(original, shapes: shapes)
    var result: [Compensated] = []
    for (k, layer) in layers.enumerated() {
      try work.checkCancellation()
      work.progress(Double(k) / Double(layers.count), "compensating '\(layer.name)'")
      guard let missing = try missing(layer, statistics), missing.contains(where: { $0 != 0 }) else { continue }
      let tensors = layer.adding(missing, in: compressed)
      if !tensors.isEmpty { result.append(Compensated(layer: layer, tensors: tensors)) }
    }
    return result
  }

  /// By output that is left, what it lost on average; nil where that cannot be told.
  private func missing(_ layer: RefitLayer, _ statistics: [ChannelStatistics?]) throws(Failure) -> [Double]? {
    guard let id = original[layer.output].producer, layer.groups == 1 else { return nil }
    switch layer.form {
    case .convolution(let geometry, _) where geometry.isTransposed: return nil
    case .mixing: return nil
    default: break
    }
    if case .none = layer.intercept { return nil }
    guard let decomposition = planned.change.decompositions.first(where: { $0.layer.node == id }) else {
      return planned.change.removal == nil ? nil : missing(ofRemoved: layer, original[id], statistics)
    }
    // Factors that were weighed on data reckon with the inputs as they are, the mean among them: what they leave of it
    // is not what the weights alone tell.
    guard !planned.replaced.contains(where: { $0.layer == decomposition.layer.name && $0.outputError != nil })
    else { return nil }
    return try missing(ofDecomposed: decomposition, statistics)
  }

  private func missing(
    ofRemoved layer: RefitLayer, _ node: Node, _ statistics: [ChannelStatistics?]
  ) -> [Double]? {
    let data = node.input(0)
    guard let data, let means = statistics[data.index]?.means, let kept = kept(data, 1), let operand = node.input(1),
      let weight = StoredWeight(behind: operand, in: original, shapes: shapes),
      weight.shape.count == layer.weight.shape.count, weight.shape[layer.weightOrder[1]] == means.count
    else { return nil }
    let rows = weight.elements(order: layer.weightOrder)
    let width = rows.count / max(1, weight.shape[layer.weightOrder[0]])
    let taps = width / means.count
    var isKept = [Bool](repeating: false, count: means.count)
    for channel in kept { isKept[channel] = true }
    return layer.keptOutputs.map { output in
      var sum = 0.0
      for channel in means.indices where !isKept[channel] {
        for tap in 0..<taps { sum += rows[output * width + channel * taps + tap] * means[channel] }
      }
      return sum * layer.weightScale
    }
  }

  private func missing(
    ofDecomposed decomposition: LayerDecomposition, _ statistics: [ChannelStatistics?]
  ) throws(Failure) -> [Double]? {
    let layer = decomposition.layer
    guard layer.dataInput == 0, let data = original[layer.node].input(0), let means = statistics[data.index]?.means,
      means.count == layer.inputChannels
    else { return nil }
    let factors = layer.factors(
      decomposition.method, ranks: decomposition.ranks,
      stored: decomposition.constants.map { planned.plan.constants[$0].tensor })
    let product = factors.product(kernel: layer.kernel, try LinearAlgebra.loaded())
    let rows = layer.kernelElements
    let width = layer.inputChannels * layer.taps
    return (0..<layer.outputChannels).map { output in
      (0..<width).reduce(0.0) { sum, k in
        sum + (rows[output * width + k] - product[output * width + k]) * means[k / layer.taps]
      }
    }
  }
}

extension RefitLayer {
  /// What is stored where `constants` are added to the outputs.
  fileprivate func adding(_ constants: [Double], in graph: Graph) -> [ValueID: Tensor] {
    func changed(_ id: ValueID, _ factor: Double) -> [ValueID: Tensor] {
      guard let tensor = graph[id].tensor, let old = tensor.realNumbers, old.count == constants.count else {
        return [:]
      }
      return [
        id: .rounding(zip(old, constants).map { $0 + factor * $1 }, shape: tensor.shape, to: tensor.dtype)
      ]
    }
    return switch intercept {
    case .none: [:]
    case .bias(let id, let scale): changed(id, 1 / scale)
    case .sum(let id): changed(id, 1)
    case .mean(let id): changed(id, -1)
    }
  }
}
