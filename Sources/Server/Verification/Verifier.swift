import Compression
import Formats
import ModelGraph
import Runtime

/// Proves a compressed file by running it: first that it holds the original's numbers, then that it computes what the
/// original computes when nobody listens to what was removed.
///
/// One model is in the runtime at a time and none when it is done. Outputs of a few samples are kept meanwhile.
struct Verifier {
  let runtime: ONNXRuntime
  let document: any ModelDocument
  let planned: PlannedCompression
  private var samples: VerificationSamples
  let threads: Int
  /// Whether all is run in float32, whatever the model is stored in.
  private var widens: Bool

  init(
    runtime: ONNXRuntime, document: any ModelDocument, planned: PlannedCompression, samples: VerificationSamples,
    threads: Int
  ) {
    (self.runtime, self.document, self.planned) = (runtime, document, planned)
    (self.samples, self.threads, widens) = (samples, threads, planned.comparesWidened)
  }

  /// - Parameter path: of the compressed model, complete.
  func verify(_ path: String, work: Work) throws(Failure) -> VerificationReport {
    let contents = try read(path, work: work.part(0...0.05))
    if let difference = try CompressedContents(
      planned, of: document.graph, in: contents.graph, isLowered: !document.isONNX
    ).firstDifference(
      work: work.part(0.05...0.1))
    {
      return VerificationReport(
        status: .failed, distance: OutputDistance(), twin: nil, tolerance: 0, noise: 0, sampleCount: 0,
        reason: "the compressed file is not what its plan makes of the original: \(difference)")
    }
    let report = try verifyOutputs(path, work: work.part(0.1...1))
    if report.status == .failed, let parameter = document.graph.firstNonFinite(of: planned.plan) {
      throw Failure(
        .verifyImpossible,
        "'\(parameter)', of which a part is removed, holds NaN or infinity: times zero these are not zero, so "
          + "that the original without that part cannot be computed; mend the weights, or exclude the layer",
        details: ["parameter": .string(parameter)])
    }
    if report.status == .failed, report.isChaotic {
      throw Failure(
        .verifyImpossible,
        "rounding alone changes the outputs of this model by \(report.noise) of their largest magnitude, so that "
          + "comparing them tells nothing; give samples of what it was trained for with dataset_path, or do without "
          + "verify, which leaves the certificate",
        details: ["noise": .double(report.noise)])
    }
    return report
  }

  private func verifyOutputs(_ path: String, work: Work) throws(Failure) -> VerificationReport {
    let found: [[Tensor]]
    do {
      found = try outputs(of: .file(path), work: work.part(0...0.2))
    } catch {
      guard error.kind == .runtimeFailed else { throw error }
      return try explain(error, path, work: work.part(0.2...1))
    }
    let tolerance = RoundingTolerance(noise: try distance(from: found, .file(path), .all, work: work.part(0.2...0.4)))
    let hasApproximations = !planned.approximations.isEmpty
    let distance = try distance(
      from: found, .counterpart(.original), work: work.part(0.4...(hasApproximations ? 0.7 : 1)))
    if distance.mismatch == nil, distance.count > 0, distance.finiteCount == 0 {
      let culprit = document.graph.firstNotNumber
      throw Failure(
        .verifyImpossible,
        "no output of the model is finite on these samples, so there is nothing to compare; "
          + (culprit.map { "'\($0)' holds what is no number: mend the weights" } ?? "give others with dataset_path"),
        details: culprit.map { ["parameter": .string($0)] } ?? [:])
    }
    var report = VerificationReport(
      status: .exact, distance: distance, twin: nil, tolerance: tolerance.relative, noise: tolerance.noise,
      sampleCount: samples.source.sampleCount, reason: nil)
    report.givenCount = samples.givenCount
    guard hasApproximations else {
      if !tolerance.allows(distance) {
        report.status = .failed
        report.reason =
          "its outputs are not those of the original with the removed channels silenced: \(words(distance))"
      }
      return report
    }
    // Outputs that hardly feel a normalization may agree all the same: that says little about the next input.
    let twin = try self.distance(from: found, .counterpart(.twin), work: work.part(0.7...0.9))
    report.twin = twin
    var limit = tolerance
    if !tolerance.allows(twin), !planned.change.decompositions.isEmpty {
      // Products are not rounded as factors are; some networks make much of that.
      let exact = try outputs(of: .counterpart(.twin), work: work.part(0.9...0.95))
      let noise = try self.distance(from: exact, .counterpart(.roundedTwin), work: work.part(0.95...1))
      let wider = RoundingTolerance(noise: noise)
      if wider.relative > limit.relative { limit = wider }
      (report.tolerance, report.noise) = (limit.relative, limit.noise)
    }
    if limit.allows(twin) {
      report.status = .approximate
      report.reason = planned.approximationSummary
    } else {
      report.status = .failed
      report.reason =
        "its outputs are not those of \(planned.twinDescription): \(words(twin))"
    }
    return report
  }

  /// The compressed model does not run. Either the original does not run either: on these inputs, in its own element
  /// types, or at all; or this is the verdict.
  private func explain(_ failure: Failure, _ path: String, work: Work) throws(Failure) -> VerificationReport {
    do {
      _ = try outputs(of: .counterpart(.original), work: work.part(0...0.3))
    } catch {
      guard error.kind == .runtimeFailed else { throw error }
      var other = self
      if !widens, document.graph.hasOtherFloats {
        other.widens = true
      } else if let shorter = try samples.shortened(for: document.graph) {
        other.samples = shorter
      } else {
        throw error
      }
      return try other.verifyOutputs(path, work: work.part(0.3...1))
    }
    return VerificationReport(
      status: .failed, distance: OutputDistance(), twin: nil, tolerance: 0, noise: 0, sampleCount: 0,
      reason: "it does not run where the original does: \(failure.message)")
  }

  private func words(_ distance: OutputDistance) -> String {
    distance.mismatch
      ?? "output '\(distance.worstOutput ?? "")' differs by \(distance.maxRelative) of its largest magnitude"
  }

  // MARK: Running

  private enum Subject {
    /// The compressed file.
    case file(String)
    case counterpart(Counterpart)
  }

  private func outputs(of subject: Subject, work: Work) throws(Failure) -> [[Tensor]] {
    var all: [[Tensor]] = []
    try run(subject, .none, work) { tensors in all.append(tensors) }
    return all
  }

  private func distance(
    from found: [[Tensor]], _ subject: Subject, _ level: InferenceSession.OptimizationLevel = .none, work: Work
  ) throws(Failure) -> OutputDistance {
    var distance = OutputDistance()
    var index = 0
    try run(subject, level, work) { tensors in
      for ((name, expected), found) in zip(zip(names, tensors), found[index]) {
        distance.add(name, expected: expected, found: found)
      }
      index += 1
    }
    return distance
  }

  private var names: [String] { document.graph.outputs.map { document.graph[$0].name } }

  private func run(
    _ subject: Subject, _ level: InferenceSession.OptimizationLevel, _ work: Work, _ body: ([Tensor]) -> Void
  ) throws(Failure) {
    let session = try load(subject, level, work: work.part(0...0.3))
    try samples.source.forEachBatch(work: work.part(0.3...1)) { batch throws(Failure) in
      let inputs = widens ? batch.inputs.mapValues(\.widened) : batch.inputs
      body(try session.run(inputs, outputs: names, work: work))
      work.progress(
        0.3 + 0.7 * Double(batch.samples.upperBound) / Double(batch.sampleCount),
        "ran \(batch.samples.upperBound) of \(batch.sampleCount) samples")
    }
  }

  private func load(
    _ subject: Subject, _ level: InferenceSession.OptimizationLevel, work: Work
  ) throws(Failure) -> InferenceSession {
    let graph: Graph
    switch subject {
    case .file(let path):
      // As it was written; unless the runtime has nothing for its types.
      guard widens || !document.isONNX else {
        // A file's other files lie beside it.
        return try InferenceSession(.file(path), settings: settings(level, folder: nil), runtime: runtime, work: work)
      }
      graph = try read(path, work: work).graph
    case .counterpart(let counterpart):
      graph = try planned.graph(of: counterpart, original: document.graph, shapes: samples.shapes, work: work)
    }
    return try ONNXWriter(widens ? graph.widened(work: work) : graph).session(
      settings(level, folder: document.folder), runtime: runtime, work: work)
  }

  /// The compressed file, with the lengths that the original has.
  private func read(_ path: String, work: Work) throws(Failure) -> any ModelDocument {
    let inputShapes = document.graph.inputs.compactMap { id in
      samples.shapes[id].map { InputShape(name: document.graph[id].name, shape: $0) }
    }
    return try ModelFormats.open(path: path, inputShapes: inputShapes, work: work)
  }

  private func settings(
    _ level: InferenceSession.OptimizationLevel, folder: String?
  ) -> InferenceSession.Settings {
    InferenceSession.Settings(
      optimization: level == .none ? document.graph.leastOptimization : level, threads: threads,
      externalDataFolder: folder)
  }
}
