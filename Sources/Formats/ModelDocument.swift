import Compression
import ModelGraph

/// A model file that has been read: its graph, and the document that a plan's edits are applied to. A format is an
/// importer that makes one and a surgeon, its `write`.
package protocol ModelDocument: Sendable {
  var graph: Graph { get }
  var description: DocumentDescription { get }
  /// Every file the model spans, as it was when read. Bytes are mapped, so a file that changes invalidates the
  /// document.
  var files: [FileIdentity] { get }
  /// - Throws: `Failure(.modelChanged)` if a file of the model is not what it was when it was read. What was computed
  ///   from a model counts only if this passes afterwards.
  func verifyUnchanged() throws(Failure)
  /// Lengths of inputs whose axes the file leaves open, as they were when it was made; empty where it does not say.
  var exampleShapes: [String: [Int]] { get }
  /// Whether ONNX Runtime reads the file itself; what it does not read is run as the graph, written anew.
  var isONNX: Bool { get }
  /// Private memory held, in bytes (mapped file pages are not counted).
  var heldBytes: Int { get }

  /// Tells that all weights are about to be read, and that there is work to be done before.
  func readAhead(work: Work)

  /// What writing the model anew takes beside its tensors; nil where that is not known before.
  /// - Parameter ofRows: whether what rows of layers in the place of one take is wanted, too.
  func rewritingCost(ofRows: Bool, work: Work) throws(Failure) -> RewritingCost?

  /// The bytes of the files that `write` would make of `plan`; nil where only writing them tells.
  func writtenBytes(applying plan: CompressionPlan, work: Work) throws(Failure) -> Int?

  /// Writes the model with `plan` applied to `path`, whole or not at all: a temporary file beside the target, checked,
  /// synced, then renamed. Everything the plan does not touch keeps its bytes.
  /// - Parameter check: gets the path of the complete model, under another name than it is to have, before it is
  ///   published; what it throws undoes everything.
  /// - Returns: the files written, the model file first.
  /// - Throws: `Failure` of kind outputExists, outputUnwritable, modelChanged or cancelled, or what `check` throws;
  ///   nothing is left behind.
  func write(
    applying plan: CompressionPlan, to path: String, overwrite: Bool, checking check: FileCheck?, work: Work
  ) throws(Failure) -> [WrittenFile]
}

package typealias FileCheck = (_ path: String) throws(Failure) -> Void

extension ModelDocument {
  package var exampleShapes: [String: [Int]] { [:] }
  package var isONNX: Bool { false }
  package func readAhead(work: Work) {}
  package func rewritingCost(ofRows: Bool, work: Work) throws(Failure) -> RewritingCost? { nil }
  package func writtenBytes(applying plan: CompressionPlan, work: Work) throws(Failure) -> Int? { nil }

  package func write(
    applying plan: CompressionPlan, to path: String, overwrite: Bool, work: Work
  ) throws(Failure) -> [WrittenFile] {
    try write(applying: plan, to: path, overwrite: overwrite, checking: nil, work: work)
  }

  package func verifyUnchanged() throws(Failure) {
    guard let changed = files.first(where: { FileIdentity(at: $0.path) != $0 }) else { return }
    throw Failure(
      .modelChanged, "\(changed.path) changed while it was in use; ask again to have it read anew",
      details: ["path": .string(changed.path)])
  }
}

package struct DocumentDescription: Sendable {
  /// "onnx", ...
  package var format: String
  /// Who made the file ("pytorch 2.13.0"), where it says so.
  package var framework: String?
  package var opset: Int?
  package var sizeBytes: Int

  package init(format: String, framework: String?, opset: Int?, sizeBytes: Int) {
    (self.format, self.framework, self.opset, self.sizeBytes) = (format, framework, opset, sizeBytes)
  }
}

package struct WrittenFile: Sendable {
  package var path: String
  package var sizeBytes: Int
  /// What is to be told of it, one sentence each: what the original had and it has not.
  package var notes: [String]

  package init(path: String, sizeBytes: Int, notes: [String] = []) {
    (self.path, self.sizeBytes, self.notes) = (path, sizeBytes, notes)
  }
}

/// What tells one version of a file from another without reading it.
package struct FileIdentity: Sendable, Hashable {
  package var path: String
  package var device: UInt64
  package var inode: UInt64
  package var sizeBytes: Int64
  package var modifiedNanoseconds: Int64
  package var changedNanoseconds: Int64
}
