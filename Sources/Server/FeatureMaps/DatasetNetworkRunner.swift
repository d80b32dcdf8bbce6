import Compression
import Formats
import ModelGraph
import Runtime

/// Runs networks that are made of a model on a user's samples for it, by ONNX Runtime.
struct DatasetNetworkRunner: NetworkRunner {
  var sampleCount: Int { dataset.sampleCount }
  private let dataset: Dataset
  private let runtime: ONNXRuntime
  private let settings: InferenceSession.Settings
  /// Whether networks are run in float32, whatever they are stored in: the runtime lacks operators for other types, and
  /// sums of rounded numbers say less.
  private let widens: Bool

  /// - Throws: `runtimeUnavailable`, or what is wrong with the dataset.
  init(_ dataset: WirePath, for document: any ModelDocument, in server: Server, work: Work) throws(Failure) {
    let graph = document.graph
    self.dataset = try Dataset(path: dataset.path, for: graph.inputs.map { ModelValue(graph[$0]) }, work: work)
    runtime = try server.runtime.runtime(work: work)
    settings = InferenceSession.Settings(
      optimization: graph.leastOptimization, threads: server.configuration.threads,
      externalDataFolder: document.folder)
    widens = graph.hasOtherFloats
  }

  func forEachBatch(work: Work, _ body: (NetworkBatch) throws(Failure) -> Void) throws(Failure) {
    try dataset.forEachBatch(work: work) { batch throws(Failure) in
      try body(
        NetworkBatch(samples: batch.samples, inputs: widens ? batch.inputs.mapValues(\.widened) : batch.inputs))
    }
  }

  func load(_ graph: Graph, work: Work) throws(Failure) -> any LoadedNetwork {
    let graph = widens ? try graph.widened(work: work) : graph
    let writer = try ONNXWriter(graph)
    return try Loaded(
      session: writer.session(settings, runtime: runtime, work: work), inputs: graph.inputs.map(writer.name),
      outputs: graph.outputs.map(writer.name))
  }

  private struct Loaded: LoadedNetwork {
    let session: InferenceSession
    let inputs: [String]
    let outputs: [String]

    func run(_ inputs: [Tensor], work: Work) throws(Failure) -> [Tensor] {
      let named = Dictionary(zip(self.inputs, inputs)) { first, _ in first }
      return try session.run(named, outputs: outputs, work: work)
    }
  }
}
