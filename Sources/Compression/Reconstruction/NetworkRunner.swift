import ModelGraph

// Where data enters the refitting of layers: somebody who can run any graph, and hands out samples for it.

/// Runs graphs on samples of a model's inputs.
package protocol NetworkRunner: Sendable {
  /// Samples in all.
  var sampleCount: Int { get }

  /// Calls `body` with one batch after the other, the same ones each time.
  /// - Throws: what is wrong with the data, or what `body` throws.
  func forEachBatch(work: Work, _ body: (NetworkBatch) throws(Failure) -> Void) throws(Failure)

  /// Makes a graph ready to run. Its inputs need types, not shapes.
  func load(_ graph: Graph, work: Work) throws(Failure) -> any LoadedNetwork
}

package struct NetworkBatch: Sendable {
  /// Which of the samples these are; of stacked ones the first, and how many.
  package let samples: Range<Int>
  /// By the name of the model's input.
  package let inputs: [String: Tensor]

  package init(samples: Range<Int>, inputs: [String: Tensor]) { (self.samples, self.inputs) = (samples, inputs) }
}

package protocol LoadedNetwork: Sendable {
  /// - Parameter inputs: one per input of the graph, in its order.
  /// - Returns: one per output of the graph, in its order.
  func run(_ inputs: [Tensor], work: Work) throws(Failure) -> [Tensor]
}
