import ModelGraph

/// A loaded model as the methods see it: the graph and, computed once and shared by all requests, everything derived
/// from it (shapes, cost, coupling, scores).
///
/// The facade of this module: plain values in, plain values out. Safe to call from any number of threads.
package final class CompressibleModel: Sendable {
  package let graph: Graph
  /// Bytes of the file or files the graph was read from.
  package let sizeBytes: Int

  /// - Parameter inputShapes: per graph input name, lengths that override what the file declares.
  /// - Throws: `Failure` if shapes contradict each other or an input's shape is neither declared nor given.
  package init(graph: Graph, sizeBytes: Int, inputShapes: [String: [Int]] = [:], work: Work = Work()) throws(Failure) {
    (self.graph, self.sizeBytes) = (graph, sizeBytes)
  }

  /// Bytes held beyond the graph's own tensors.
  package var derivedBytes: Int { 0 }

  package func inspect(work: Work) throws(Failure) -> Inspection {
    throw Failure(.modelUnsupportedOperator, "")
  }

  package func recommend(_ request: RecommendationRequest, work: Work) throws(Failure) -> Recommendation {
    throw Failure(.modelUnsupportedOperator, "")
  }

  package func plan(_ request: CompressionRequest, work: Work) throws(Failure) -> PlannedCompression {
    throw Failure(.modelUnsupportedOperator, "")
  }
}
