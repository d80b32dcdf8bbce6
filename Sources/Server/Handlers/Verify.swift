import Compression
import JSONRPC
import ModelGraph

/// `verify`: proves a file that an earlier `compress` wrote against its original, from what the reply said.
struct VerifyTask: ModelTask {
  private let model: ModelReference
  private let compressed: WirePath
  private let listing: RemovalListing
  private let dataset: WirePath?

  init(_ params: Params) throws(ResponseError) {
    model = try params.modelReference()
    compressed = try params.require("compressed", params.path("compressed"))
    listing = try params.removalListing()
    dataset = try params.datasetPath()
  }

  var title: String { "Verifying" }
  var weight: WorkScope.Weight { .heavy }
  var kinds: [WorkKind] { [.modelRead(model.file.path), .modelRead(compressed.path)] }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    let runtime = try server.runtime.runtime(work: work)
    return try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      let planned = try model.compressible.plan(listing, work: work.part(0...0.2))
      let verifier = Verifier(
        runtime: runtime, document: model.document, planned: planned,
        samples: try .make(for: model.compressible, dataset: dataset, work: work),
        threads: server.configuration.threads)
      let report = try verifier.verify(compressed.path, work: work.part(0.2...1))
      try model.document.verifyUnchanged()
      return planned.verificationJSON(report, reasonIfSkipped: "")
    }
  }
}
