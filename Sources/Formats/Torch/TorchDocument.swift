import Compression
import ModelGraph

/// What a file of PyTorch's can do: say its program, and be written anew with edits made.
protocol TorchFile: Sendable {
  /// "torch.fx", "torch.export".
  var format: String { get }
  var framework: String? { get }
  var program: TorchProgram { get }
  var file: MappedFile { get }
  /// Private memory held, in bytes.
  var heldBytes: Int { get }

  /// The archive with `edits` made.
  /// - Parameters:
  ///   - lengths: new lengths by axis, by the name of what a call binds, for whatever the file declares of it.
  ///   - symbols: the open lengths under which those are given, by symbol.
  func archive(
    making edits: [TorchEdit], lengths: [String: [Int: Int]], symbols: [String: Int], work: Work
  ) throws(Failure) -> ZipWriter
  /// The same kind of file at `path`: one that was just written, and that nobody else knows.
  func reopened(_ path: String, work: Work) throws(Failure) -> any TorchFile
}

/// A model of PyTorch's: its file, and the one graph that the file's program became.
///
/// Invariant: what is written was read again, lowered again and found to have the shapes of its plan before it got its
/// name.
final class TorchDocument: ModelDocument {
  private let source: any TorchFile
  private let lowered: LoweredProgram
  private let inputShapes: [String: [Int]]
  let description: DocumentDescription
  let files: [FileIdentity]
  let heldBytes: Int
  let exampleShapes: [String: [Int]]

  var graph: Graph { lowered.graph }

  /// - Parameter inputShapes: by position or name; needed where the file declares no shapes.
  init(_ source: any TorchFile, inputShapes: [InputShape], work: Work) throws(Failure) {
    self.source = source
    let program = source.program
    var shapes = try inputShapes.lengths(of: program.inputs.map { ($0.name, $0.dtype) })
    exampleShapes = program.exampleShapes
    shapes.merge(exampleShapes) { given, _ in given }
    self.inputShapes = shapes
    lowered = try TorchLowering.lower(program, inputShapes: shapes, work: work)
    files = [source.file.identity]
    description = DocumentDescription(
      format: source.format, framework: source.framework, opset: nil, sizeBytes: source.file.span.count)
    heldBytes =
      source.heldBytes + lowered.graph.values.count * (MemoryLayout<Value>.stride + 96)
      + lowered.graph.nodes.count * (MemoryLayout<Node>.stride + 512)
    try source.file.verifyUnchanged()
  }

  func verifyUnchanged() throws(Failure) { try source.file.verifyUnchanged() }

  func readAhead(work: Work) { source.file.readAhead(work: work) }

  func write(
    applying plan: CompressionPlan, to path: String, overwrite: Bool, checking check: FileCheck?, work: Work
  ) throws(Failure) -> [WrittenFile] {
    try verifyUnchanged()
    let changes = try ProgramEdits(source.program, lowered, plan)
    let archive = try source.archive(
      making: changes.edits, lengths: changes.lengths,
      symbols: graph.inferShapes(given: inputShapes).analysisLengths.symbols, work: work)
    let output = try OutputFile(path: path, overwrite: overwrite)
    try archive.write(to: output, work: work)
    let original = WrittenModel.Original(graph: graph, results: lowered.results, inputShapes: inputShapes)
    return try publish(
      output, proving: plan, against: original, overwrite: overwrite, checking: check, work: work
    ) { path throws(Failure) in
      let file = try source.reopened(path, work: work)
      let written = try TorchLowering.lower(file.program, inputShapes: inputShapes, work: work)
      return (written.graph, written.results)
    }
  }
}

extension TorchProgram {
  /// The shapes of the inputs whose axes are open, where the file says which lengths these had.
  fileprivate var exampleShapes: [String: [Int]] {
    var shapes: [String: [Int]] = [:]
    for input in inputs {
      guard let shape = input.shape, shape.contains(where: { if case .fixed = $0 { false } else { true } }) else {
        continue
      }
      let lengths = shape.compactMap { dimension -> Int? in
        switch dimension {
        case .fixed(let length): length
        case .symbol(let name): self.lengths[name] ?? SymbolicLength(name)?.value(self.lengths)
        case .unknown: nil
        }
      }
      if lengths.count == shape.count { shapes[input.name] = lengths }
    }
    return shapes
  }
}
