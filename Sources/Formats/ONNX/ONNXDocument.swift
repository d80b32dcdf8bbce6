import Compression
import Glibc
import ModelGraph

/// An ONNX model file that has been read.
///
/// Invariant: `message`, `imported` and the graph's tensors point into bytes that `storage` and `external` keep mapped.
package final class ONNXDocument: ModelDocument {
  package let description: DocumentDescription
  package let files: [FileIdentity]
  package let heldBytes: Int
  let message: ModelMessage
  let imported: ImportedGraph
  let storage: DocumentStorage
  let external: ExternalFiles

  package var graph: Graph { imported.graph }
  package var isONNX: Bool { true }

  /// Reads the model in `file`.
  init(file: MappedFile, work: Work) throws(Failure) {
    let external = ExternalFiles(directory: splitPath(file.identity.path).directory, cancellation: work.cancellation)
    let storage: DocumentStorage
    let result: (ModelMessage, ImportedGraph)
    do throws(Failure) {
      var message = try ModelMessage(file.span)
      storage = DocumentStorage(file: file, inlined: try FunctionInliner.inline(&message, work: work))
      result = (message, try ONNXImporter.run(message, owner: storage, external: external, work: work))
    } catch {
      // A file that changed while it was read explains whatever was wrong with it.
      if error.kind == .modelMalformed { try file.verifyUnchanged() }
      throw error
    }
    (message, imported) = result
    (self.storage, self.external) = (storage, external)
    let all = [file] + external.files.map(\.file)
    for file in all { try file.verifyUnchanged() }
    files = all.map(\.identity)
    description = DocumentDescription(
      format: "onnx", framework: message.producer, opset: message.opsets[""],
      sizeBytes: all.reduce(0) { $0 + $1.span.count })
    heldBytes =
      Self.estimatedBytes(message, imported.graph, mapped: all) + storage.inlined.reduce(0) { $0 + $1.count }
  }

  /// - Throws: `Failure(.modelChanged)` if any file is not what it was when it was read.
  package func verifyUnchanged() throws(Failure) {
    try storage.file.verifyUnchanged()
    for (_, file) in external.files { try file.verifyUnchanged() }
  }

  package func readAhead(work: Work) {
    for file in [storage.file] + external.files.map(\.file) { file.readAhead(work: work) }
  }

  /// Encodes the new messages, which refer to the tensors' bytes, and counts.
  package func writtenBytes(applying plan: CompressionPlan, work: Work) throws(Failure) -> Int? {
    var surgeon = try ONNXSurgeon(self, plan)
    let (model, data) = try surgeon.operate(path: storage.file.identity.path, work: work)
    return data.reduce(model.count) { $0 + $1.message.count }
  }

  package func write(
    applying plan: CompressionPlan, to path: String, overwrite: Bool, checking check: FileCheck?, work: Work
  ) throws(Failure) -> [WrittenFile] {
    try verifyUnchanged()
    var surgeon = try ONNXSurgeon(self, plan)
    let modelFile = try OutputFile(path: path, overwrite: overwrite)
    guard !external.files.contains(where: { $0.file.identity.path == modelFile.path }) else {
      throw Failure(
        .outputUnwritable, "\(path) holds weights of the model that is being compressed; give another path",
        details: ["path": .string(path)])
    }
    let (model, data) = try surgeon.operate(path: modelFile.path, work: work)
    let total = max(1, data.reduce(model.count) { $0 + $1.message.count })
    var done = 0
    var outputs: [(file: OutputFile, sizeBytes: Int)] = []
    for (file, message) in try data.map({ file throws(Failure) in
      (try OutputFile(path: file.path, overwrite: overwrite), file.message)
    }) + [(modelFile, model)] {
      try file.reserve(message.count)
      try file.append(message, work: work) { work.progress(Double(done + $0) / Double(total), "writing \(file.path)") }
      done += message.count
      outputs.append((file, try file.complete(work: work)))
    }
    try StagedFiles.settle(outputs.map(\.file), work: work) { () throws(Failure) in
      if let check { try StagedFiles.check(outputs.map(\.file), check) }
    }
    // Nothing counts that was read from a file that is no longer what it was.
    try verifyUnchanged()
    try OutputFile.publish(outputs.map(\.file), overwrite: overwrite)
    let written = outputs.map { WrittenFile(path: $0.file.path, sizeBytes: $0.sizeBytes) }
    return [written[written.count - 1]] + written.dropLast()
  }

  /// Sizes of what was allocated, by the structs' own sizes; names and lists at typical lengths.
  private static func estimatedBytes(_ message: ModelMessage, _ graph: Graph, mapped: [MappedFile]) -> Int {
    var bytes = (message.fields.count + message.graphFields.count) * MemoryLayout<WireField>.stride
    bytes +=
      graph.values.count * (MemoryLayout<Value>.stride + 64) + graph.nodes.count * (MemoryLayout<Node>.stride + 512)
    for value in graph.values {
      guard let tensor = value.tensor else { continue }
      let isMapped = mapped.contains { $0.span.base <= tensor.bytes.base && tensor.bytes.base < $0.span.end }
      if !isMapped { bytes += tensor.bytes.count }
    }
    return bytes
  }
}

/// The bytes that a document's messages are parts of: the mapped file, and what inlining functions has made.
final class DocumentStorage: Sendable {
  let file: MappedFile
  let inlined: [TensorBytes]
  init(file: MappedFile, inlined: [TensorBytes]) { (self.file, self.inlined) = (file, inlined) }
}
