import Compression
import JSON
import JSONRPC
import ModelGraph

/// `inspect`: what a model is made of, and what of it can be pruned.
struct InspectTask: ModelTask {
  private let model: ModelReference

  init(_ params: Params) throws(ResponseError) { model = try params.modelReference() }

  var title: String { "Inspecting" }
  var weight: WorkScope.Weight { .light }
  var kinds: [WorkKind] { [.modelRead(model.file.path)] }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      let inspection = try model.compressible.inspect(work: work)
      try model.document.verifyUnchanged()
      return inspection.json(self.model, model.document.description, cached: model.wasCached)
    }
  }
}
