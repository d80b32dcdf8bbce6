import ModelGraph
import Numerics

/// PR_SNP's query and key scores of one group, measured at the node that multiplies the two activations: per sample and
/// head the importance of each pair of neurons, summed over the heads that share a cell, averaged over the samples.
///
/// Whether these are queries and keys nobody asks: any product of two activations over an axis of coupled channels is
/// such a sum of rank-1 terms.
final class AttentionPairProbe: FeatureMapProbe {
  let values: [ValueID]
  private let product: Facts.Product
  private let group: Int
  private let components: AttentionPairs.Components
  private let coupling: ChannelCoupling
  private let algebra: LinearAlgebra
  /// Per operand, what the operator adds to it along its last axis before it multiplies.
  private let biases: [[Float]?]
  private var sums: [Double]
  private var covers: [Bool]
  private var samples = 0.0
  private var layout: (shapes: [[Int]], layout: ProductLayout)?

  /// - Returns: nil if the product does not run over channels of the group.
  init?(
    _ product: Facts.Product, group: Int, components: AttentionPairs.Components, _ coupling: ChannelCoupling,
    _ algebra: LinearAlgebra
  ) {
    let node = coupling.graph[product.node]
    guard Self.runsOver(product, group, coupling), let a = node.input(0), let b = node.input(1) else { return nil }
    biases = Self.biases(of: node, a, b, coupling)
    (values, self.product, self.group) = ([a, b], product, group)
    (self.components, self.coupling, self.algebra) = (components, coupling, algebra)
    let cells = coupling.groups[group].cells.count
    (sums, covers) = ([Double](repeating: 0, count: cells), [Bool](repeating: false, count: cells))
  }

  /// Whether the product is summed over channels of the group, and both of its operands can be seen.
  static func runsOver(_ product: Facts.Product, _ group: Int, _ coupling: ChannelCoupling) -> Bool {
    let node = coupling.graph[product.node]
    return showsOperands(node, coupling.graph)
      && (0..<2).allSatisfy { k in
        guard let input = coupling.graph[product.node].input(k), !coupling.graph[input].isStored,
          let value = coupling.analysis.values[input.index],
          let operand = ProductOperand(value, shape: value.shape, operand: k, of: product, group: group, coupling)
        else { return false }
        return operand.value.axes.indices.contains { axis in
          !product.output.contains(operand.letters[axis])
            && operand.value.axes[axis].contains(where: operand.set.contains)
        }
      }
  }

  /// Whether what a fused operator multiplies is what it is given, but for a stored bias: not what it has rotated, nor
  /// keys that it has kept from earlier.
  private static func showsOperands(_ node: Node, _ graph: Graph) -> Bool {
    switch node.qualifiedOperator {
    case "Attention": node.input(4) == nil
    case "com.microsoft.MultiHeadAttention":
      node.input(6) == nil && node.input(3).map { graph[$0].tensor?.dtype == .float32 } ?? true
    case "com.microsoft.GroupQueryAttention": node.input(3) == nil && node.int("do_rotary", default: 0) == 0
    default: true
    }
  }

  /// MultiHeadAttention has one bias for queries, keys and values, in this order.
  private static func biases(of node: Node, _ a: ValueID, _ b: ValueID, _ coupling: ChannelCoupling) -> [[Float]?] {
    guard node.qualifiedOperator == "com.microsoft.MultiHeadAttention",
      let bias = node.input(3).flatMap({ coupling.graph[$0].tensor }), bias.dtype == .float32,
      let queries = coupling.analysis.shapes[a]?.last, let keys = coupling.analysis.shapes[b],
      keys.count == 3, let width = keys.last, queries + width <= bias.elementCount
    else { return [nil, nil] }
    let elements = (0..<queries + width).map {
      bias.bytes.buffer.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self)
    }
    return [Array(elements[..<queries]), Array(elements[queries...])]
  }

  func add(_ maps: [FeatureMap], work: Work) throws(Failure) {
    guard maps.count == 2 else { return }
    let shapes = maps.map(\.shape)
    if layout?.shapes != shapes {
      let operands = maps.enumerated().compactMap { k, map in
        coupling.analysis.values[map.value.index].flatMap {
          ProductOperand($0, shape: map.shape, operand: k, of: product, group: group, coupling)
        }
      }
      guard operands.count == 2,
        let layout = ProductLayout(operands, output: product.output, group: group, coupling)
      else { throw coupling.misfit(maps[0]) }
      self.layout = (shapes, layout)
    }
    guard let layout = layout?.layout else { return }
    let biased = zip(maps, biases).map { map, bias in
      bias.map { bias in map.elements.enumerated().map { $1 + bias[$0 % bias.count] } }
    }
    let size = layout.inner
    for entry in layout.entries {
      try work.checkCancellation()
      var grams: [[Double]] = []
      for (k, matrix) in layout.matrices.enumerated() {
        func gram(_ elements: UnsafeBufferPointer<Float>) -> [Double] {
          matrix.gram(of: elements, from: matrix.offset(ofEntry: entry.index), inner: size, algebra)
        }
        grams.append(biased[k]?.withUnsafeBufferPointer(gram) ?? gram(maps[k].elements))
        for i in 0..<size where !grams[k][i * size + i].isFinite { throw coupling.graph.notFinite(maps[k].value) }
      }
      guard
        let scores = AttentionPairs.scores(
          queries: grams[0], keys: grams[1], size: size, components: components, algebra)
      else { throw coupling.graph.notFinite(maps[0].value) }
      for (i, cell) in entry.cells.enumerated() where cell >= 0 {
        sums[cell] += scores[i]
        covers[cell] = true
      }
    }
    samples += layout.samples
  }

  /// nil before any sample.
  var scores: MemberScores? {
    guard samples > 0 else { return nil }
    return MemberScores(sums.map { $0 / samples }, covers: covers.contains(false) ? covers : nil)
  }
}
