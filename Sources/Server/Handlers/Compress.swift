import Compression
import JSONRPC
import ModelGraph

/// `compress`: decides, proves, writes.
struct CompressTask: ModelTask {
  private let model: ModelReference
  private let request: CompressionRequest
  /// nil for a dry run.
  private let output: WirePath?
  private let overwrite: Bool
  private let verify: Bool

  init(_ params: Params) throws(ResponseError) {
    try params.refuse("target", "dataset_path", "onnx_output_path", "reconstruct")
    model = try params.modelReference()
    let method = try params.compressionMethod()
    let choice: CompressionRequest.Choice
    if let layers = try params.layerSettings(method) {
      for name in ["recommendation_method", "recommendation_ratio"] where params.value(name) != nil {
        throw .invalidParams(params.pointer(name), "give either 'layers' or '\(name)', not both")
      }
      choice = .layers(layers)
    } else {
      let (recommendation, ratio) = try params.recommendation()
      choice = .recommended(recommendation, ratio: ratio)
    }
    request = CompressionRequest(method: method, choice: choice, options: try PruningOptions(params))
    let isDryRun = try params.bool("dry_run") ?? false
    let path = try params.path("output_path")
    output = isDryRun ? nil : try params.require("output_path", path)
    overwrite = try params.bool("overwrite") ?? false
    verify = try params.bool("verify") ?? false
  }

  var title: String { "Compressing" }
  var weight: WorkScope.Weight { .heavy }
  var kinds: [WorkKind] {
    // Writing over the model it reads is one piece of work, which cannot wait for itself.
    [.modelRead(model.file.path)] + (output.map { [.outputWrite($0.path)] } ?? [])
  }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      let planned = try model.compressible.plan(request, work: work.part(0...0.6))
      try model.document.verifyUnchanged()
      var compressed = planned.compressed
      if let output {
        let files = try model.document.write(
          applying: planned.plan, to: output.path, overwrite: overwrite, work: work.part(0.6...1))
        compressed.sizeBytes = files.reduce(0) { $0 + $1.sizeBytes }
      }
      return planned.json(output: output, compressed: compressed, verify: verify)
    }
  }
}
