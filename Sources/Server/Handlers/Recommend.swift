import Compression
import JSONRPC
import ModelGraph

/// `recommend`: what a compression would do, as settings that `compress` takes.
struct RecommendTask: ModelTask {
  private let model: ModelReference
  private let request: RecommendationRequest
  private let dataset: WirePath?

  init(_ params: Params) throws(ResponseError) {
    model = try params.modelReference()
    let method = try params.compressionMethod()
    let (recommendation, goal) = try params.recommendation()
    request = RecommendationRequest(
      method: method, recommendation: recommendation, goal: goal, options: try PruningOptions(params))
    dataset = try params.datasetPath()
    if dataset != nil, !method.measuresFeatureMaps {
      throw .invalidParams(
        params.pointer("dataset_path"), "'dataset_path' is only read by PR_NN and PR_SNP: leave it out")
    }
  }

  var title: String { "Recommending" }
  var weight: WorkScope.Weight { dataset == nil ? .light : .heavy }
  var kinds: [WorkKind] { [.modelRead(model.file.path)] }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      var request = request
      request.maps = try server.featureMaps(for: request.method, of: model.document, dataset: dataset, work: work)
      let recommendation = try model.compressible.recommend(request, work: work)
      try model.document.verifyUnchanged()
      return recommendation.json
    }
  }
}
