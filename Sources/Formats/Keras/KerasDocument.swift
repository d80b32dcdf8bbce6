import Compression
import ModelGraph

/// A model of Keras's: its file, and the one graph that the file's layers became.
///
/// Invariant: what is written was read again, lowered again and found to have the shapes of its plan before it got its
/// name.
final class KerasDocument: ModelDocument {
  private let source: any KerasFile
  private let lowered: LoweredKeras
  private let inputShapes: [String: [Int]]
  let description: DocumentDescription
  let files: [FileIdentity]

  var graph: Graph { lowered.graph }

  /// - Parameter inputShapes: by position or name; for axes besides the batch that the file leaves open.
  init(_ source: any KerasFile, inputShapes: [InputShape], work: Work) throws(Failure) {
    self.source = source
    self.inputShapes = try inputShapes.lengths(of: source.program.inputs.map { ($0.name, $0.dtype) })
    lowered = try KerasLowering.lower(source.program, inputShapes: self.inputShapes, work: work)
    files = [source.file.identity]
    description = DocumentDescription(
      format: source.format, framework: source.framework, opset: nil, sizeBytes: source.file.span.count)
    try source.file.verifyUnchanged()
  }

  /// Kernels in the graph's order of axes count from the start, though they are made only when they are read.
  var heldBytes: Int {
    source.heldBytes + lowered.preparableBytes
      + graph.values.count * (MemoryLayout<Value>.stride + 96) + graph.nodes.count * (MemoryLayout<Node>.stride + 512)
  }

  func verifyUnchanged() throws(Failure) { try source.file.verifyUnchanged() }

  func rewritingCost(ofRows: Bool, work: Work) throws(Failure) -> RewritingCost? {
    guard ofRows else { return try source.rewritingCost(replacing: [], work: work) }
    let undivided = Set(graph.constraints.undivided.keys.compactMap { lowered.variables[$0]?.path })
    let layers = source.program.calls.map(\.layer).filter { layer in
      layer.variable("kernel").map { !undivided.contains($0.path) } ?? false
    }
    return try source.rewritingCost(replacing: layers, work: work)
  }

  func write(
    applying plan: CompressionPlan, to path: String, overwrite: Bool, checking check: FileCheck?, work: Work
  ) throws(Failure) -> [WrittenFile] {
    try verifyUnchanged()
    let changes = try KerasPlanEdits(source.program, lowered, plan)
    let output = try OutputFile(path: path, overwrite: overwrite)
    let notes = try source.write(making: changes.edits, lengths: changes.lengths, to: output, work: work)
    let original = WrittenModel.Original(
      graph: graph, results: results(lowered, source.program), inputShapes: inputShapes)
    return try publish(
      output, notes: notes, proving: plan, against: original, overwrite: overwrite, checking: check, work: work
    ) { path throws(Failure) in
      let file = try source.reopened(path, work: work)
      let written = try KerasLowering.lower(file.program, inputShapes: inputShapes, work: work)
      return (written.graph, results(written, file.program))
    }
  }

  /// What the calls return, by their names.
  private func results(_ lowered: LoweredKeras, _ program: KerasProgram) -> [String: ValueID] {
    var named: [String: ValueID] = [:]
    for (result, arranged) in lowered.results {
      named["\(program.calls[result.call].name):\(result.index)"] = arranged.value
    }
    return named
  }
}
