import JSON
import ModelGraph

/// The tables that say which bytes of the archive are which parameter, buffer or constant.
///
/// Invariant: a name is in one table only, and every entry that is not refused lies inside its storage.
struct ExportedWeights: Sendable {
  struct Entry: Sendable {
    let table: Table
    /// The entry's value in its table.
    let element: JSONElement
    let dtypeCode: Int
    /// The name of the storage's file.
    let file: String
    let parameter: TorchParameter
  }

  enum Table: Sendable, CaseIterable {
    case weights, constants

    var folder: String {
      switch self {
      case .weights: ExportedArchive.weightsFolder
      case .constants: ExportedArchive.constantsFolder
      }
    }
  }

  /// By state-dict name.
  private(set) var entries: [String: Entry] = [:]
  /// In the order of the tables.
  private(set) var names: [String] = []

  init(_ archive: ExportedArchive, work: Work) throws(Failure) {
    var views = StoredViews(fileBytes: archive.zip.span.count)
    var storages: [String: TensorBytes] = [:]
    for table in Table.allCases {
      let text = archive.text(of: table)
      for (index, member) in try text.object("config", of: text.root).members.enumerated() {
        if index % 256 == 0 { try work.checkCancellation() }
        let name = member.name.string ?? ""
        let entry = member.value
        guard entries[name] == nil else { throw text.malformed("'\(name)' is in two tables", member.name) }
        guard try text.member("use_pickle", of: entry).bool == false else {
          throw Failure(
            .modelUnsafe,
            "'\(name)' is stored as a pickle, which PyTorch would execute; export a model of plain tensors, without "
              + "custom objects and tensor subclasses (quantized ones among them)", details: ["tensor": .string(name)])
        }
        let file = try text.string("path_name", of: entry)
        let meta = try TensorMeta(text.member("tensor_meta", of: entry), in: text)
        guard let dtype = meta.dtype else {
          throw Failure(
            .modelUnsupportedFormat, "'\(name)' has elements of a type that is not read (code \(meta.dtypeCode))",
            details: ["tensor": .string(name)])
        }
        let key = table.folder + file
        let storage: TensorBytes
        if let known = storages[key] {
          storage = known
        } else {
          storage = try archive.storage(file, folder: table.folder)
          storages[key] = storage
        }
        let view = try meta.view(of: key, in: text)
        let parameter = TorchParameter(
          tensor: try views.tensor(view, of: storage, dtype: dtype, name: name), storage: view,
          isBuffer: try text.member("is_param", of: entry).bool != true)
        entries[name] = Entry(
          table: table, element: entry, dtypeCode: meta.dtypeCode, file: file, parameter: parameter)
        names.append(name)
      }
    }
  }
}

extension ExportedArchive {
  func text(of table: ExportedWeights.Table) -> ExportedText {
    switch table {
    case .weights: weights
    case .constants: constants
    }
  }
}
