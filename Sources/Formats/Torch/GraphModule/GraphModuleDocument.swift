import ModelGraph

/// A torch.fx GraphModule as `torch.save` writes it: a zip archive with a pickle of modules, their tensors beside it,
/// and the network itself as Python text in the pickle.
///
/// Invariant: nothing of the file was run. Tensors are views of the mapped file wherever they are stored in order, and
/// the pickle and the text are kept as they were read, for the surgeon to change in their own terms.
package final class GraphModuleDocument: Sendable {
  package let program: TorchProgram
  package let file: MappedFile
  /// Private memory held, in bytes, at typical sizes.
  package let heldBytes: Int
  let archive: ZipArchive
  /// The archive's directory, with its slash.
  let prefix: String
  let root: PickleNode
  let object: GraphModuleObject
  let tree: ModuleTree
  let code: GraphModuleCode
  /// What `code` is read from.
  private let bytes: TensorBytes

  /// The Python text of the network.
  package var text: String? { object.code?.string }

  /// - Parameter archive: what `file` holds.
  /// - Throws: `Failure` of kind modelUnsupportedFormat (a file of PyTorch's that holds no network of this kind, with
  /// the
  ///   lines that make one), modelUnsafe, modelMalformed, modelUnsupportedOperator, modelChanged, resourceLimit or
  ///   cancelled.
  package init(file: MappedFile, archive: ZipArchive, work: Work) throws(Failure) {
    (self.file, self.archive) = (file, archive)
    let parts: Parts
    do throws(Failure) {
      parts = try Parts(file: file, archive: archive, work: work)
    } catch {
      // A file that changed while it was read explains whatever was wrong with it.
      if error.kind == .modelMalformed { try file.verifyUnchanged() }
      throw error
    }
    (prefix, root, object, tree) = (parts.prefix, parts.root, parts.object, parts.tree)
    (code, bytes, heldBytes) = (parts.code, parts.text, parts.heldBytes)
    program = TorchProgram(
      inputs: parts.code.inputs, calls: parts.code.calls, output: parts.code.output,
      parameters: parts.tree.tensors.mapValues(\.parameter), mutated: parts.code.mutated)
  }

  /// The archive with `edits` made. What no edit concerns keeps its bytes.
  /// - Throws: `Failure` of kind certificateFailed for edits that do not fit the model, modelUnsupportedOperator for
  ///   those that its language cannot say, modelMalformed, resourceLimit or cancelled.
  package func archive(making edits: [TorchEdit], work: Work) throws(Failure) -> ZipWriter {
    var surgeon = GraphModuleSurgeon(self)
    return try surgeon.operate(edits, work: work)
  }
}

extension GraphModuleDocument: TorchFile {
  var format: String { "torch.fx" }
  /// The file does not say which version.
  var framework: String? { "pytorch" }

  /// The code declares no shapes.
  func archive(
    making edits: [TorchEdit], lengths: [String: [Int: Int]], symbols: [String: Int], work: Work
  ) throws(Failure) -> ZipWriter {
    try archive(making: edits, work: work)
  }

  func reopened(_ path: String, work: Work) throws(Failure) -> any TorchFile {
    let file = try MappedFile(path: path, isOurs: true, work: work)
    return try GraphModuleDocument(file: file, archive: ZipArchive(file.span, owner: file), work: work)
  }
}

/// What reading makes of the file, step by step.
private struct Parts {
  let prefix: String
  let root: PickleNode
  let object: GraphModuleObject
  let tree: ModuleTree
  let code: GraphModuleCode
  let text: TensorBytes
  let heldBytes: Int

  /// The largest pickle that is read; those of networks with ten thousand layers are a tenth of that.
  private static let pickleLimit = 1 << 28

  init(file: MappedFile, archive: ZipArchive, work: Work) throws(Failure) {
    prefix = try TorchArchives.prefix(of: archive)
    guard let entry = archive.entry(named: prefix + "data.pkl") else { throw .noTorchModel }
    try TorchArchives.checkByteOrder(archive, prefix: prefix, work: work)
    let pickle = try archive.contents(of: entry, limit: Self.pickleLimit, work: work)
    let span = ByteSpan(base: pickle.base, count: pickle.count, offset: entry.range.lowerBound)
    do throws(Failure) {
      root = try PickleReader.read(span, work: work)
    } catch {
      throw TorchArchives.explained(error, pickle: span)
    }
    guard let object = GraphModuleObject(root) else { throw TorchArchives.refusal(of: root) }
    self.object = object
    guard object.body["_in_spec"] == nil else { throw .pytreeCode }
    var storage = TensorStorage(archive, in: file, prefix: prefix)
    tree = try ModuleTree(object.body, storage: &storage, work: work)
    (code, text) = try Self.code(of: object, tree)
    for inner in tree.nested { try Self.checkNested(inner.object, tree, path: inner.path) }
    let copied = tree.tensors.values.reduce(0) { sum, tensor in
      let bytes = tensor.parameter.tensor.bytes
      return sum + (file.span.base <= bytes.base && bytes.base < file.span.end ? 0 : bytes.count)
    }
    // A node, with what it holds, for every two bytes of a pickle; calls of some 300 bytes for lines of 60.
    heldBytes = copied + 60 * pickle.count + 6 * text.count
  }

  private static func code(
    of object: GraphModuleObject, _ tree: ModuleTree
  ) throws(Failure) -> (GraphModuleCode, TensorBytes) {
    guard let text = object.code?.string, let block = object.imports.string else {
      throw Failure(
        .modelMalformed,
        "the GraphModule has no code; it was written by a PyTorch before 1.8 or is damaged: load it and"
          + " save it again with a newer one")
    }
    let imports = TensorBytes(copying: Array(block.utf8))
    let bytes = TensorBytes(copying: Array(text.utf8))
    let code = try withExtendedLifetime(imports) { () throws(Failure) in
      try GraphModuleCode(
        ByteSpan(base: bytes.base, count: bytes.count),
        imports: CodeImports(ByteSpan(base: imports.base, count: imports.count)), modules: tree)
    }
    return (code, bytes)
  }

  /// The code of a GraphModule within another is run as well; it is read for that alone.
  private static func checkNested(
    _ object: GraphModuleObject, _ tree: ModuleTree, path: String
  ) throws(Failure) {
    _ = try code(of: object, tree.below(path))
  }
}
