import Compression
import Formats
import JSON
import JSONRPC
import ModelGraph

/// `verify`: proves a file that an earlier `compress` wrote against its original, from what the reply said.
struct VerifyTask: ModelTask {
  private let model: ModelReference
  private let compressed: WirePath
  private let listing: Listing
  private let dataset: WirePath?

  private enum Listing {
    case removal(RemovalListing)
    case decomposition(DecompositionListing)
    case both(RemovalListing, DecompositionListing)
  }

  init(_ params: Params) throws(ResponseError) {
    model = try params.modelReference()
    compressed = try params.require("compressed", params.path("compressed"))
    if let decomposition = try params.decompositionListing() {
      let isPruned = params.value("removed")?.arrayValue?.isEmpty == false
      listing = isPruned ? .both(try params.removalListing(), decomposition) : .decomposition(decomposition)
    } else {
      listing = .removal(try params.removalListing())
    }
    dataset = try params.datasetPath()
  }

  var title: String { "Verifying" }
  var weight: WorkScope.Weight { .heavy }
  var kinds: [WorkKind] { [.modelRead(model.file.path), .modelRead(compressed.path)] }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    let runtime = try server.runtime.runtime(work: work)
    return try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      let planned: PlannedCompression
      switch listing {
      case .removal(let listing):
        let graph = listing.refilled.isEmpty ? nil : try open(model, work).graph
        planned = try model.compressible.plan(listing, in: graph, work: work.part(0...0.2))
      case .both(let removal, let decomposition):
        planned = try model.compressible.plan(
          removal, decomposition, in: open(model, work).graph, work: work.part(0...0.2))
      case .decomposition(let listing):
        let contents = try open(model, work)
        planned = try model.compressible.plan(listing, in: contents.graph, work: work.part(0...0.2))
      }
      let verifier = Verifier(
        runtime: runtime, document: model.document, planned: planned,
        samples: try .make(for: model.compressible, dataset: dataset, work: work),
        threads: server.configuration.threads)
      let report = try verifier.verify(compressed.path, work: work.part(0.2...1))
      try model.document.verifyUnchanged()
      return planned.verificationJSON(report, reasonIfSkipped: "")
    }
  }

  /// The compressed file, with the lengths that the original has.
  private func open(_ model: ModelCache.Use, _ work: Work) throws(Failure) -> any ModelDocument {
    let (graph, shapes) = (model.document.graph, model.compressible.shapes)
    let inputShapes = graph.inputs.compactMap { id in
      shapes.nominal[id].map { InputShape(name: graph[id].name, shape: $0) }
    }
    return try ModelFormats.open(path: compressed.path, inputShapes: inputShapes, work: work)
  }
}
