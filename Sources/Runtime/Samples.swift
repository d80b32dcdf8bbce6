import ModelGraph

/// Inputs for a model, batch by batch: a dataset, or numbers made up.
///
/// A source can be gone through any number of times, from several threads at once, and gives the same batches each
/// time. Only the batch at hand is in memory.
package protocol SampleSource: Sendable {
  /// Samples in all.
  var sampleCount: Int { get }

  /// Calls `body` with one batch after the other.
  /// - Throws: `Failure` of kind datasetChanged, datasetUnreadable, datasetMalformed, cancelled, or what `body` throws.
  func forEachBatch(work: Work, _ body: (Batch) throws(Failure) -> Void) throws(Failure)
}

package struct Batch: Sendable {
  /// Which of the source's samples these are.
  package let samples: Range<Int>
  /// Samples in all.
  package let sampleCount: Int
  /// One tensor for every input of the model.
  package let inputs: [String: Tensor]

  package init(samples: Range<Int>, sampleCount: Int, inputs: [String: Tensor]) {
    (self.samples, self.sampleCount, self.inputs) = (samples, sampleCount, inputs)
  }
}

extension InferenceSession {
  /// Runs the model on one batch after the other and hands over what the wanted outputs are: for feature maps, values
  /// that the caller listed among the graph's outputs. Reports progress by samples and stops when cancelled. One
  /// batch's outputs are in memory, unless `body` keeps more.
  /// - Throws: `Failure` as `run` and the source throw, or what `body` throws.
  package func forEachBatch(
    of source: some SampleSource, outputs: [String], work: Work,
    _ body: (Batch, _ outputs: [String: Tensor]) throws(Failure) -> Void
  ) throws(Failure) {
    try source.forEachBatch(work: work) { batch throws(Failure) in
      let tensors = try run(batch.inputs, outputs: outputs, work: work)
      try body(batch, Dictionary(zip(outputs, tensors)) { first, _ in first })
      try work.checkCancellation()
      work.progress(
        Double(batch.samples.upperBound) / Double(batch.sampleCount),
        "ran \(batch.samples.upperBound) of \(batch.sampleCount) samples")
    }
  }
}
