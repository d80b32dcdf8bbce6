import Compression
import Formats
import ModelGraph
import Runtime

/// The feature maps of a model on a user's samples, computed by ONNX Runtime from the graph with the wanted values
/// among its outputs. The model is in the runtime for as long as a pass takes; one batch of maps is in memory at a
/// time.
struct DatasetFeatureMaps: FeatureMapSource {
  let identity: String
  var sampleCount: Int { dataset.sampleCount }
  private let document: any ModelDocument
  private let dataset: Dataset
  private let runtime: ONNXRuntime
  private let threads: Int

  /// - Throws: `runtimeUnavailable`, or what is wrong with the dataset.
  init(_ dataset: WirePath, for document: any ModelDocument, in server: Server, work: Work) throws(Failure) {
    let graph = document.graph
    self.document = document
    self.dataset = try Dataset(path: dataset.path, for: graph.inputs.map { ModelValue(graph[$0]) }, work: work)
    identity = self.dataset.identity
    runtime = try server.runtime.runtime(work: work)
    threads = server.configuration.threads
  }

  func run(
    _ values: [ValueID], work: Work, _ body: ([FeatureMap]) throws(Failure) -> Void
  ) throws(Failure) {
    let graph = document.graph
    let fed = Set(graph.inputs)
    let writer = try ONNXWriter(graph, additionalOutputs: values.filter { !fed.contains($0) })
    let names = values.map(writer.name)
    let computed = zip(values, names).filter { !fed.contains($0.0) }.map(\.1)
    // What the dataset itself holds takes no run.
    guard !computed.isEmpty else {
      return try dataset.forEachBatch(work: work) { batch throws(Failure) in
        try body(try maps(values, names) { batch.inputs[$0] })
      }
    }
    let session = try writer.session(
      .init(threads: threads, externalDataFolder: document.folder), runtime: runtime, work: work.part(0...0.1))
    try session.forEachBatch(of: dataset, outputs: computed, work: work.part(0.1...1)) {
      batch, outputs throws(Failure) in
      try body(try maps(values, names) { outputs[$0] ?? batch.inputs[$0] })
    }
  }

  private func maps(
    _ values: [ValueID], _ names: [String], _ tensor: (String) -> Tensor?
  ) throws(Failure) -> [FeatureMap] {
    var maps: [FeatureMap] = []
    for (value, name) in zip(values, names) {
      guard let map = tensor(name).flatMap({ FeatureMap(value: value, tensor: $0) }) else {
        throw Failure(
          .runtimeFailed, "the runtime gives no real numbers for '\(name)'", details: ["value": .string(name)])
      }
      maps.append(map)
    }
    return maps
  }
}

extension Server {
  /// What a method measures on a dataset; nil where it measures nothing or there is no dataset.
  func featureMaps(
    for method: CompressionMethod, of document: any ModelDocument, dataset: WirePath?, work: Work
  ) throws(Failure) -> (any FeatureMapSource)? {
    guard method.measuresFeatureMaps else { return nil }
    return try featureMaps(of: document, dataset: dataset, work: work)
  }

  /// What a dataset makes of a model; nil where there is no dataset.
  func featureMaps(
    of document: any ModelDocument, dataset: WirePath?, work: Work
  ) throws(Failure) -> (any FeatureMapSource)? {
    guard let dataset else { return nil }
    return try DatasetFeatureMaps(dataset, for: document, in: self, work: work)
  }
}
