import ModelGraph
import Numerics

/// PR_SNP's query and key scores of one group, measured at the node that multiplies the two activations: per sample and
/// head the importance of each pair of neurons, summed over the heads that share a cell, averaged over the samples.
///
/// Whether these are queries and keys nobody asks: any product of two activations over an axis of coupled channels is
/// such a sum of rank-1 terms.
final class AttentionPairProbe: FeatureMapProbe {
  let operands: [MultipliedOperand]
  var values: [ValueID] { operands.map(\.value) }
  private let product: Facts.Product
  private let group: Int
  private let components: AttentionPairs.Components
  private let coupling: ChannelCoupling
  private let algebra: LinearAlgebra
  private var sums: [Double]
  private var covers: [Bool]
  private var samples = 0.0
  private var layout: (shapes: [[Int]], layout: ProductLayout)?

  /// - Returns: nil if the product does not run over channels of the group, or its operands cannot be seen.
  init?(
    _ product: Facts.Product, group: Int, components: AttentionPairs.Components, _ coupling: ChannelCoupling,
    _ algebra: LinearAlgebra
  ) {
    guard let operands = MultipliedOperand.both(of: product, coupling),
      Self.runs(product, of: operands, over: group, coupling)
    else { return nil }
    (self.operands, self.product, self.group) = (operands, product, group)
    (self.components, self.coupling, self.algebra) = (components, coupling, algebra)
    let cells = coupling.groups[group].cells.count
    (sums, covers) = ([Double](repeating: 0, count: cells), [Bool](repeating: false, count: cells))
  }

  /// Whether the product is summed over channels of the group.
  static func runs(
    _ product: Facts.Product, of operands: [MultipliedOperand], over group: Int, _ coupling: ChannelCoupling
  ) -> Bool {
    operands.indices.allSatisfy { k in
      let value = operands[k].labelled
      guard let operand = ProductOperand(value, shape: value.shape, operand: k, of: product, group: group, coupling)
      else { return false }
      return operand.value.axes.indices.contains { axis in
        !product.output.contains(operand.letters[axis])
          && operand.value.axes[axis].contains(where: operand.set.contains)
      }
    }
  }

  func add(_ maps: [FeatureMap], work: Work) throws(Failure) {
    guard maps.count == 2 else { return }
    let shapes = zip(operands, maps).map { $0.shape(from: $1) }
    if layout?.shapes != shapes {
      let operands = operands.enumerated().compactMap { k, operand in
        ProductOperand(operand.labelled, shape: shapes[k], operand: k, of: product, group: group, coupling)
      }
      guard operands.count == 2,
        let layout = ProductLayout(operands, output: product.output, group: group, coupling)
      else { throw coupling.misfit(maps[0]) }
      self.layout = (shapes, layout)
    }
    guard let layout = layout?.layout else { return }
    var made: [[Float]?] = []
    for (operand, map) in zip(operands, maps) { made.append(try operand.elements(from: map, coupling, algebra)) }
    let size = layout.inner
    for entry in layout.entries {
      try work.checkCancellation()
      var grams: [[Double]] = []
      for (k, matrix) in layout.matrices.enumerated() {
        func gram(_ elements: UnsafeBufferPointer<Float>) -> [Double] {
          matrix.gram(of: elements, from: matrix.offset(ofEntry: entry.index), inner: size, algebra)
        }
        grams.append(made[k]?.withUnsafeBufferPointer(gram) ?? gram(maps[k].elements))
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
