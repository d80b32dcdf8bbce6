import Compression
import JSON
import JSONRPC
import ModelGraph
import Runtime

/// `sensitivity`: what each group of channels costs at each share, measured on samples; told group by group to whoever
/// wants it so.
struct SensitivityTask: ModelTask {
  private let model: ModelReference
  private let dataset: WirePath
  private let options: PruningOptions
  private let ratios: [Double]
  private let parts: PartialResults?

  private static let usualRatios = (1...9).map { Double($0) / 10 }

  init(_ params: Params, parts: PartialResults?) throws(ResponseError) {
    self.parts = parts
    model = try params.modelReference()
    guard let dataset = try params.datasetPath() else {
      throw ResponseError(
        Failure(
          .datasetRequired,
          "what layers lose is measured on inputs: give a few hundred, without labels, as dataset_path"))
    }
    self.dataset = dataset
    options = try PruningOptions(params, of: .damage)
    ratios = try Self.ratios(params) ?? Self.usualRatios
  }

  private static func ratios(_ params: Params) throws(ResponseError) -> [Double]? {
    guard let value = params.value("ratios") else { return nil }
    let numbers = value.arrayValue?.compactMap(\.numberValue)
    guard let numbers, numbers.count == value.arrayValue?.count, !numbers.isEmpty,
      numbers.allSatisfy({ 0 < $0 && $0 < 1 })
    else { throw .invalidParams(params.pointer("ratios"), "expected an array of numbers above 0 and below 1") }
    return numbers
  }

  var title: String { "Measuring" }
  var weight: WorkScope.Weight { .heavy }
  var kinds: [WorkKind] { [.modelRead(model.file.path)] }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      let maps = try DatasetFeatureMaps(dataset, for: model.document, in: server, work: work)
      let (compressible, options, ratios, parts) = (model.compressible, options, ratios, parts)
      // What is left behind when the request is cancelled tells no more.
      defer { parts?.close() }
      var found: (@Sendable ([SensitivityReport.Group]) -> Void)?
      if let parts { found = { groups in parts.send(["groups": .array(groups.map(\.json))]) } }
      let listener = found
      var report = try detached(work: work) { () throws(Failure) in
        try compressible.sensitivity(ratios: ratios, options, maps: maps, work: work, found: listener)
      }
      try model.document.verifyUnchanged()
      if parts != nil { report.groups = [] }
      return report.json
    }
  }
}

extension SensitivityReport {
  fileprivate var json: JSONValue {
    [
      "ratios": .array(ratios.map(JSONValue.double)), "groups": .array(groups.map(\.json)),
      "skipped": .array(skipped.map(\.json)),
    ]
  }
}

extension SensitivityReport.Group {
  fileprivate var json: JSONValue {
    [
      "name": .string(name), "channels": .int(channels), "predicted_errors": .array(errors.map(JSONValue.double)),
    ]
  }
}
