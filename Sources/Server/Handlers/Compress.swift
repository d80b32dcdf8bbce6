import Compression
import Formats
import JSON
import JSONRPC
import ModelGraph
import Runtime

/// `compress`: decides, proves, writes.
struct CompressTask: ModelTask {
  private let model: ModelReference
  private let request: AnyCompressionRequest
  /// nil for a dry run.
  private let output: WirePath?
  /// Where the same model goes as ONNX besides.
  private let onnxOutput: WirePath?
  private let overwrite: Bool
  private let verify: Bool
  private let dataset: WirePath?
  private let reconstruction: ReconstructionMode

  init(_ params: Params) throws(ResponseError) {
    model = try params.modelReference()
    let method = try params.compressionMethod()
    request = try AnyCompressionRequest(method, params)
    let isDryRun = try params.bool("dry_run") ?? false
    let path = try params.path("output_path")
    output = isDryRun ? nil : try params.require("output_path", path)
    let onnxPath = try params.path("onnx_output_path")
    onnxOutput = isDryRun ? nil : onnxPath
    overwrite = try params.bool("overwrite") ?? false
    if let onnxPath, onnxPath.path == path?.path {
      throw .invalidParams(
        params.pointer("onnx_output_path"), "it is the path of the compressed model itself; give another")
    }
    verify = try params.bool("verify") ?? false
    dataset = try params.datasetPath()
    reconstruction = try params.choice("reconstruct", of: ReconstructionMode.self) ?? .none
    if dataset != nil, !verify, reconstruction != .leastSquares, let method {
      try params.requireDatasetReader(method)
    }
    if dataset == nil, reconstruction == .leastSquares {
      throw ResponseError(
        Failure(
          .datasetRequired,
          "least_squares fits weights to what the model computes on inputs: give a few hundred, without labels, as dataset_path; reconstruct 'bias' needs none"
        ))
    }
  }

  var title: String { "Compressing" }
  var weight: WorkScope.Weight { .heavy }
  var kinds: [WorkKind] {
    // Writing over the model it reads is one piece of work, which cannot wait for itself.
    [.modelRead(model.file.path)] + [output, onnxOutput].compactMap { $0.map { .outputWrite($0.path) } }
  }

  func run(in server: Server, work: Work) throws(Failure) -> JSONValue {
    // Without a runtime nothing is begun that could not be ended.
    let runtime = verify && output != nil ? try server.runtime.runtime(work: work) : nil
    return try server.cache.withModel(model, work: work) { model, work throws(Failure) in
      if output != nil, onnxOutput != nil, model.document.isONNX {
        throw Failure(
          .invalidCombination,
          "the model is an ONNX model already, and output_path gets it as ONNX; leave onnx_output_path out")
      }
      // Shares of the time that deciding, fitting and writing take.
      let isLong =
        switch request {
        case .automatic, .listed: dataset != nil
        case .pruning, .decomposition: false
        }
      let (decided, fitted) =
        reconstruction == .none ? (verify ? 0.2 : 0.6, verify ? 0.2 : 0.6) : (isLong ? 0.6 : 0.1, 0.9)
      let (decision, (reconstructed, written)) = try request.plan(
        model, dataset: dataset, writesFile: output != nil, in: server, work: work.part(0...decided)
      ) { planned, proved throws(Failure) -> (PlannedCompression?, Written?) in
        let reconstructed = try reconstruct(
          planned, of: model, proved: proved, in: server, work: work.part(decided...fitted))
        let written = try output.map { output throws(Failure) in
          try write(
            reconstructed ?? planned, of: model, to: output, proved: proved, runtime: runtime, in: server,
            work: work.part(fitted...1))
        }
        return (reconstructed, written)
      }
      var planned = reconstructed ?? decision
      planned.certificate = decision.certificate
      if let written {
        planned.compressed.sizeBytes = written.files.reduce(0) { $0 + $1.sizeBytes }
        planned.warnings += written.files.flatMap(\.notes)
      } else {
        let rows = Dictionary(planned.replaced.map { ($0.parameter, $0.by.count) }) { first, _ in first }
        planned.compressed = try model.compressible.onFile(planned.compressed, rows: Array(rows.values), work)
        try model.document.verifyUnchanged()
      }
      return planned.json(
        output: output, compressed: planned.compressed, lists: written?.lists.object ?? planned.lists,
        verification: planned.verificationJSON(written?.report, reasonIfSkipped: reasonIfSkipped))
    }
  }

  /// The plan with other weights; nil where none are asked for.
  private func reconstruct(
    _ planned: PlannedCompression, of model: ModelCache.Use, proved: @escaping AnyCompressionRequest.Proved,
    in server: Server, work: Work
  ) throws(Failure) -> PlannedCompression? {
    switch reconstruction {
    case .none: return nil
    case .bias:
      try proved()
      return try model.compressible.compensate(planned, work: work)
    case .leastSquares:
      guard let dataset else { return nil }
      // Nothing is fitted for a plan that could not be proved.
      try proved()
      let runner = try DatasetNetworkRunner(dataset, for: model.document, in: server, work: work)
      let compressible = model.compressible
      return try detached(work: work) { () throws(Failure) in
        try compressible.reconstruct(planned, on: runner, work: work)
      }
    }
  }

  private typealias Written = (files: [WrittenFile], report: VerificationReport?, lists: WrittenLists)

  /// Writes the file, and publishes it once it is proved and, given a runtime, verified.
  private func write(
    _ planned: PlannedCompression, of model: ModelCache.Use, to output: WirePath,
    proved: @escaping AnyCompressionRequest.Proved,
    runtime: ONNXRuntime?, in server: Server, work: Work
  ) throws(Failure) -> Written {
    let verifier = try runtime.map { runtime throws(Failure) in
      Verifier(
        runtime: runtime, document: model.document, planned: planned,
        samples: try .make(for: model.compressible, dataset: dataset, work: work),
        threads: server.configuration.threads)
    }
    // Proving reads the plan alone, as writing does.
    nonisolated(unsafe) let prove = proved
    let lists = WrittenLists(planned)
    let proof =
      work.threads > 1
      ? Aside { () throws(Failure) in
        try prove()
        _ = lists.object
      } : nil
    defer { try? proof?.wait() }
    var report: VerificationReport?
    var onnx: [(file: OutputFile, sizeBytes: Int)] = []
    let files = try model.document.write(
      applying: planned.plan, to: output.path, overwrite: overwrite,
      checking: { path throws(Failure) in
        _ = lists.object
        if let proof { try proof.wait() } else { try prove() }
        report = try verifier?.verify(path, work: work.part(0.25...1))
        if let report, report.status == .failed { throw report.failure }
        if let onnxOutput {
          let graph = try model.document.graph.applying(planned.plan, work: work)
          onnx = try ONNXWriter(graph).stage(onnxOutput.path, overwrite: overwrite, work: work)
        }
      }, work: work.part(0...(verifier == nil ? 1 : 0.25)))
    try OutputFile.publish(onnx.map(\.file), overwrite: overwrite)
    return (files, report, lists)
  }

  private var reasonIfSkipped: String {
    verify
      ? "a dry run writes no file that could run; only the certificate was checked"
      : "not asked for (verify); only the certificate was checked"
  }
}
