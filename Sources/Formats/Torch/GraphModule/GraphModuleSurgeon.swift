import ModelGraph

/// Makes edits to a GraphModule's file: the pickle, the code in it, and the storages beside it.
///
/// Invariant: an entry of the archive that no edit concerns is copied byte for byte with its checksum, in its place; of
/// the pickle, everything but the edited objects is what it was, ties included. Storages that nothing refers to any
/// more are left out.
struct GraphModuleSurgeon {
  private let document: GraphModuleDocument
  private var code: CodeEdits
  private var modules: ModuleEdits
  private var storage: StorageEdits

  /// The most that an entry may take that is packed in the file and has to be unpacked.
  private static let unpackedLimit = 1 << 28

  init(_ document: GraphModuleDocument) {
    self.document = document
    code = CodeEdits(document.code, document.program)
    modules = ModuleEdits(document)
    storage = StorageEdits(document)
  }

  /// The new archive.
  /// - Throws: `Failure` of kind certificateFailed for edits that do not fit the model, modelUnsupportedOperator for
  ///   those that its language cannot say, modelMalformed, resourceLimit or cancelled.
  mutating func operate(_ edits: [TorchEdit], work: Work) throws(Failure) -> ZipWriter {
    for edit in edits { try make(edit) }
    try storage.place(in: document.root, work: work)
    var nodeEdits = storage.edits
    for (id, edits) in modules.edits {
      nodeEdits[id] = { node in edits.reduce(node) { $1($0) } }
    }
    if !code.isEmpty, let text = document.object.code {
      let new = PickleNode.string(try code.applied())
      nodeEdits[text.id] = { _ in new }
    }
    return try archive(with: document.root.edited(nodeEdits), isEdited: !nodeEdits.isEmpty, work: work)
  }

  private mutating func make(_ edit: TorchEdit) throws(Failure) {
    switch edit {
    case .setInteger(let place, let value): try code.set(place, to: value)
    case .setKeyword(let call, let name, let value): try code.setKeyword(call: call, name: name, to: value)
    case .setArgument(let call, let index, let value): try code.setArgument(call: call, index: index, to: value)
    case .setFunction(let call, let name): try code.setFunction(call: call, name: name)
    case .adjustInteger(let place, let multiplier, let divisor, let offset):
      try code.adjust(place, multiplier: multiplier, divisor: divisor, offset: offset)
    case .setAttribute(let module, let name, let value): try modules.set(module, name, value)
    case .cut(let parameter, let gather): try storage.cut(parameter, gather)
    case .setParameter(let name, let tensor): try storage.set(name, tensor)
    case .replace(let replacement): try replace(replacement)
    }
  }

  private mutating func replace(_ replacement: TorchReplacement) throws(Failure) {
    guard document.program.calls.indices.contains(replacement.call) else {
      throw Failure(.certificateFailed, "the edits replace call \(replacement.call), which the model does not have")
    }
    switch document.program.calls[replacement.call].target {
    case .function:
      try LayerStatements(document, replacement).apply(code: &code, modules: &modules, storage: &storage)
    case .module(let called):
      guard let storage = document.tree.tensors[replacement.weight]?.parameter.storage,
        let module = called.owner(ofWeight: storage, in: document.tree)
      else { throw unreplaceable(called, "its weight is not what it applies to its input") }
      // What is one object under several paths is replaced under all of them.
      let paths = document.tree.paths(ofSameModuleAs: module.path)
      guard document.program.readers(of: storage, except: paths) == 0 else {
        throw unreplaceable(module, "its weight is read elsewhere as well")
      }
      try modules.replace(module.path, by: replacement, storage: &self.storage)
    }
  }

  private func unreplaceable(_ module: TorchModule, _ why: String) -> Failure {
    Failure(
      .modelUnsupportedOperator,
      "the module '\(module.path)' cannot be replaced by a row of layers: \(why); exclude it, or compress the model as"
        + " ONNX", details: ["module": .string(module.path)])
  }

  // MARK: The archive

  private func archive(with root: PickleNode, isEdited: Bool, work: Work) throws(Failure) -> ZipWriter {
    var writer = ZipWriter(alignment: ZipWriter.torchAlignment)
    // Cut where they are, tensors keep their storages.
    let mayDrop = modules.dropsTensors || !storage.added.isEmpty
    let before = mayDrop ? try StorageUsers(document.root, work: work).keys : []
    let after = mayDrop ? try StorageUsers(root, work: work).keys : []
    let storagePrefix = document.prefix + "data/"
    let lastStorage = document.archive.entries.lastIndex { $0.name.hasPrefix(storagePrefix) }
    for (index, entry) in document.archive.entries.enumerated() {
      let key = entry.name.hasPrefix(storagePrefix) ? String(entry.name.dropFirst(storagePrefix.count)) : nil
      if let key, before.contains(key), !after.contains(key) {
        // Nothing refers to it any more.
      } else if let key, let contents = storage.replaced[key] {
        writer.add(entry.name, contents.bytes, gather: contents.gather)
      } else if isEdited, entry.name == document.prefix + "data.pkl" {
        writer.add(entry.name, PickleWriter.write(root))
      } else if !entry.isDirectory {
        try writer.copy(entry, of: document.archive, limit: Self.unpackedLimit, work: work)
      }
      if index == lastStorage ?? document.archive.entries.count - 1 {
        for (key, contents) in storage.added {
          writer.add(storagePrefix + key, contents.bytes, gather: contents.gather)
        }
      }
    }
    return writer
  }
}
