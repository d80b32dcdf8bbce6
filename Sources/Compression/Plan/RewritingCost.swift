import ModelGraph

/// What writing a model's file anew takes beside its tensors, so that the size of a compressed file is known, or at
/// least never more, before there is one.
package struct RewritingCost: Sendable {
  /// Bytes by which the file, written anew with all its tensors, is larger than it is; less than nothing where it is
  /// smaller.
  package let rewriting: Int
  /// The most bytes that the description of a row of layers in the place of one has beyond that of the one, besides
  /// what each layer of the row has. 0 where nobody asked for it.
  package let perRow: Int
  package let perRowLayer: Int

  package init(rewriting: Int, perRow: Int, perRowLayer: Int) {
    (self.rewriting, self.perRow, self.perRowLayer) = (rewriting, perRow, perRowLayer)
  }

  /// Of a row of so many layers.
  func row(of count: Int) -> Int { perRow + count * perRowLayer }
}
