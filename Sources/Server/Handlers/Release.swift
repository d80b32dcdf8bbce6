import JSON
import JSONRPC
import ModelGraph

/// `release`: drops one model from the cache, or all. What a request is using is freed when it ends.
struct ReleaseTask: ModelTask {
  private let file: WirePath?

  init(_ params: Params) throws(ResponseError) {
    file = params.value("model") == nil ? nil : try params.modelReference().file
  }

  var title: String { "Releasing" }
  var weight: WorkScope.Weight { .light }
  var kinds: [WorkKind] { file.map { [.modelWrite($0.path)] } ?? [.configuration] }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    let released = server.cache.release(path: file?.path)
    return ["released": .array(released.map(JSONValue.string))]
  }
}
