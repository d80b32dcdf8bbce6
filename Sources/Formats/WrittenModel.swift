import Compression
import ModelGraph

/// The check that formats other than ONNX, whose graph is not what the file says but what became of it, make of what
/// they wrote: it is read and lowered again, and has every shape that the plan promises.
enum WrittenModel {
  struct Original {
    let graph: Graph
    /// What the file gives names to.
    let results: [String: ValueID]
    /// By input name.
    let inputShapes: [String: [Int]]
  }

  /// - Parameter reread: the written file's graph and named values.
  /// - Throws: `certificateFailed`, or `cancelled`.
  static func check(
    against original: Original, _ plan: CompressionPlan,
    _ reread: () throws(Failure) -> (graph: Graph, results: [String: ValueID])
  ) throws(Failure) {
    let written: (graph: Graph, results: [String: ValueID])
    do throws(Failure) {
      written = try reread()
    } catch {
      if error.kind == .cancelled { throw error }
      throw broken("it cannot be read back (\(error.message))", error.details)
    }
    let graph = original.graph
    let shapes = try graph.inferShapes(given: original.inputShapes)
    let before = shapes.analysis
    // Under the same lengths: numbers that the analysis chooses depend on the graph it is for.
    var lengths: [ValueID: [Int]] = [:]
    for (old, new) in zip(graph.inputs, written.graph.inputs) { lengths[new] = shapes.analysisLengths.shapes[old] }
    let after: ShapeTable
    do throws(Failure) {
      after = try written.graph.inferShapes(inputShapes: lengths, symbols: shapes.analysisLengths.symbols)
    } catch {
      throw broken("its shapes contradict each other (\(error.message))", error.details)
    }
    var expected: [ValueID: [Int: Int]] = [:]
    for (value, axis, length) in plan.lengths { expected[value, default: [:]][axis] = length }
    for (name, id) in original.results.sorted(by: { $0.key < $1.key }) {
      guard let other = written.results[name], var shape = before[id], let found = after[other] else { continue }
      for (axis, length) in expected[id] ?? [:] where axis < shape.count { shape[axis] = length }
      guard shape == found else {
        throw broken("'\(name)' has the shape \(found), not \(shape)", ["value": .string(name)])
      }
    }
    guard graph.outputs.map({ before[$0] }) == written.graph.outputs.map({ after[$0] }) else {
      throw broken("its outputs have other shapes", [:])
    }
  }

  private static func broken(_ what: String, _ details: [String: Failure.Detail]) -> Failure {
    Failure(
      .certificateFailed,
      "the compressed file did not pass its own check, and nothing was written: \(what); please report this with the model",
      details: details)
  }
}

extension ModelDocument {
  /// The last steps of writing a model that is one file: what is there is read again and checked while nobody can see
  /// it, then named.
  /// - Parameters:
  ///   - notes: to be told of the file.
  ///   - reread: the graph and the named values of a complete file.
  func publish(
    _ output: OutputFile, notes: [String] = [], proving plan: CompressionPlan, against original: WrittenModel.Original,
    overwrite: Bool, checking check: FileCheck?, work: Work,
    _ reread: (_ path: String) throws(Failure) -> (graph: Graph, results: [String: ValueID])
  ) throws(Failure) -> [WrittenFile] {
    let size = try output.complete(work: work)
    try StagedFiles.settle([output], work: work) { () throws(Failure) in
      try WrittenModel.check(against: original, plan) { () throws(Failure) in try reread(output.temporaryPath) }
      if let check { try check(output.temporaryPath) }
    }
    // Nothing counts that was read from a file that is no longer what it was.
    try verifyUnchanged()
    try OutputFile.publish([output], overwrite: overwrite)
    return [WrittenFile(path: output.path, sizeBytes: size, notes: notes)]
  }
}
