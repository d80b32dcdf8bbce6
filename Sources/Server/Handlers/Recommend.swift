import Compression
import JSON
import JSONRPC
import ModelGraph
import Runtime

/// `recommend`: what a compression would do, as settings that `compress` takes.
struct RecommendTask: ModelTask {
  private let model: ModelReference
  private let request: Request
  private let dataset: WirePath?

  private enum Request {
    case pruning(RecommendationRequest)
    case decomposition(DecompositionRequest)
    case automatic(AutomaticRequest)
  }

  init(_ params: Params) throws(ResponseError) {
    model = try params.modelReference()
    dataset = try params.datasetPath()
    guard let method = try params.compressionMethod() else {
      request = .automatic(try params.automaticRequest())
      return
    }
    if let decomposition = method.decomposition {
      request = .decomposition(
        DecompositionRequest(
          method: decomposition, choice: .recommended(try params.rankGoal()), options: try DecompositionOptions(params))
      )
    } else {
      let (recommendation, goal) = try params.recommendation()
      request = .pruning(
        RecommendationRequest(
          method: method, recommendation: recommendation, goal: goal, options: try PruningOptions(params, of: method)))
    }
  }

  var title: String { "Recommending" }
  var weight: WorkScope.Weight {
    if case .pruning = request, dataset == nil { .light } else { .heavy }
  }
  var kinds: [WorkKind] { [.modelRead(model.file.path)] }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      let recommendation: Recommendation
      switch request {
      case .pruning(var request):
        request.data = try server.featureMaps(of: model.document, dataset: dataset, work: work)
        request.maps = request.method.measuresFeatureMaps ? request.data : nil
        let (compressible, final) = (model.compressible, request)
        recommendation =
          dataset == nil
          ? try compressible.recommend(final, work: work)
          : try detached(work: work) { () throws(Failure) in try compressible.recommend(final, work: work) }
      case .decomposition(var request):
        request.maps = try server.featureMaps(of: model.document, dataset: dataset, work: work)
        let (compressible, final) = (model.compressible, request)
        // Once the linear algebra has been done, what is left is arithmetic on ranks.
        recommendation =
          compressible.knowsSpectra(for: final)
          ? try compressible.recommend(final, work: work)
          : try detached(work: work) { () throws(Failure) in try compressible.recommend(final, work: work) }
      case .automatic(let request):
        recommendation = Recommendation(try request.plan(model, dataset: dataset, in: server, work: work))
      }
      try model.document.verifyUnchanged()
      return recommendation.json
    }
  }
}
