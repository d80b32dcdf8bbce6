import ModelGraph

/// Telling PyTorch's files apart: what else than a GraphModule a zip archive, or a file of an older kind, holds, and
/// what to do about it.
enum TorchArchives {
  /// The lines that make files which are taken.
  static let remedy =
    "make a file that holds the network itself: `torch.save(torch.fx.symbolic_trace(model.eval()), \"model.pt\")`, or"
    + " `torch.export.save(torch.export.export(model.eval(), (example_input,)), \"model.pt2\")`"

  /// The directory that all entries of PyTorch's archives are in, with its slash.
  static func prefix(of archive: ZipArchive) throws(Failure) -> String {
    guard let first = archive.entries.first, let slash = first.name.utf8.firstIndex(of: UInt8(ascii: "/")) else {
      throw .noTorchModel
    }
    let prefix = String(first.name[...slash])
    guard archive.entries.allSatisfy({ $0.name.hasPrefix(prefix) }) else { throw .noTorchModel }
    let isScript = archive.entries.contains {
      $0.name == prefix + "constants.pkl" || $0.name.hasPrefix(prefix + "code/")
    }
    if isScript {
      throw unsupported(
        "a TorchScript program, whose code is in a language of its own; from the Python model, " + remedy)
    }
    if archive.entries.contains(where: { $0.name.hasPrefix(prefix + "models/") || $0.name == prefix + "archive_format" }
    ) {
      throw unsupported("an exported program (.pt2), and was to be read as a GraphModule; give format torch.export")
    }
    return prefix
  }

  static func checkByteOrder(_ archive: ZipArchive, prefix: String, work: Work) throws(Failure) {
    guard archive.entry(named: prefix + "version") != nil else {
      throw Failure(.modelMalformed, "the archive has no 'version', without which PyTorch does not read it")
    }
    guard let entry = archive.entry(named: prefix + "byteorder") else { return }
    let order = try archive.contents(of: entry, limit: 64, work: work)
    guard ByteSpan(base: order.base, count: order.count).equals("little") else {
      throw unsupported(
        "a model whose numbers are big-endian; load it in PyTorch and save it on a little-endian machine")
    }
  }

  /// What a file that is no archive holds, if it is one of PyTorch's before 1.6 or another pickle.
  static func refusal(ofOldFile span: ByteSpan) -> Failure? {
    let head = span.buffer.prefix(legacyMagic.count)
    if head.elementsEqual(legacyMagic) {
      return unsupported(
        "a model in PyTorch's format before 1.6, or saved with _use_new_zipfile_serialization=False; load it and "
          + remedy)
    }
    guard head.count > 2, head[0] == PickleOpcode.proto.rawValue, (2...5).contains(head[1]) else { return nil }
    return unsupported("a bare pickle, no model of PyTorch's; load it where it is trusted and " + remedy)
  }

  /// A pickle of the number 0x1950a86a20f9469cfc6c.
  private static let legacyMagic: [UInt8] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
  ]

  /// What the pickle of an archive holds that is no GraphModule.
  static func refusal(of root: PickleNode) -> Failure {
    if root.dictionaryEntries != nil {
      return unsupported(
        "a state dict or checkpoint: weights without the network that uses them. Load it into the model and " + remedy)
    }
    if let call = root.call, case .newObject = call.kind {
      return unsupported(
        "a pickled module (\(root.calleeName ?? "unknown")): its class, not the network it computes. Load it and "
          + remedy)
    }
    if TensorStorage.isTensor(root) { return unsupported("a tensor, no model") }
    return unsupported("no model. " + remedy)
  }

  /// The failure of a pickle that names what no GraphModule does, said of what the file is where that is plain.
  static func explained(_ failure: Failure, pickle: ByteSpan) -> Failure {
    guard failure.kind == .modelUnsafe, case .string(let global)? = failure.details["global"] else { return failure }
    if global.hasPrefix("torch.nn.utils.") || global.hasPrefix("torch.ao.") {
      return Failure(
        .modelUnsupportedOperator,
        "the model has \(global) in it, which changes weights whenever a module runs; make it permanent first"
          + " (torch.nn.utils.prune.remove, torch.nn.utils.remove_weight_norm, remove_spectral_norm,"
          + " parametrize.remove_parametrizations), then trace and save the model again",
        details: failure.details)
    }
    // A GraphModule begins with the function that makes it.
    let head = pickle[0..<min(pickle.count, 128)].displayText
    guard !head.contains("reduce_graph_module") else { return failure }
    let isDictionary = pickle.count > 2 && pickle.base.load(fromByteOffset: 2, as: UInt8.self) == UInt8(ascii: "}")
    return Failure(
      .modelUnsafe,
      failure.message + "; the file holds "
        + (isDictionary ? "a checkpoint rather than a network" : "a pickled object of a class of its own")
        + ": load it where"
        + " it is trusted and " + remedy,
      details: failure.details)
  }

  private static func unsupported(_ what: String) -> Failure {
    Failure(.modelUnsupportedFormat, "the file holds \(what)")
  }
}

extension Failure {
  static var noTorchModel: Failure {
    Failure(
      .modelUnsupportedFormat,
      "the zip archive is none that torch.save or torch.export.save writes; " + TorchArchives.remedy)
  }

  /// Code that PyTorch itself cannot load again.
  static var pytreeCode: Failure {
    Failure(
      .modelUnsupportedFormat,
      "the GraphModule takes nested inputs (concrete_args with containers); PyTorch itself does not load such a file"
        + " again. Trace the model with plain tensors as inputs, or save it with torch.export as .pt2")
  }
}
