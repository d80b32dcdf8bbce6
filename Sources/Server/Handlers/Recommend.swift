import Compression
import JSONRPC
import ModelGraph

/// `recommend`: what a compression would do, as settings that `compress` takes.
struct RecommendTask: ModelTask {
  private let model: ModelReference
  private let request: RecommendationRequest

  init(_ params: Params) throws(ResponseError) {
    try params.refuse("target", "dataset_path")
    model = try params.modelReference()
    let method = try params.compressionMethod()
    let (recommendation, ratio) = try params.recommendation()
    request = RecommendationRequest(
      method: method, recommendation: recommendation, ratio: ratio, options: try PruningOptions(params))
  }

  var title: String { "Recommending" }
  var weight: WorkScope.Weight { .light }
  var kinds: [WorkKind] { [.modelRead(model.file.path)] }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      let recommendation = try model.compressible.recommend(request, work: work)
      try model.document.verifyUnchanged()
      return recommendation.json
    }
  }
}
