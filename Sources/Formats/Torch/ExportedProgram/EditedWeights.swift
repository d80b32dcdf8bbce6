import JSON
import ModelGraph
import Numerics

/// What becomes of an archive's tensors: cut, exchanged, added or dropped; and the files and tables that say so.
///
/// Invariant: a file that an unchanged tensor is a view of keeps its bytes and its name. Names that were one tensor stay
/// one.
struct EditedWeights {
  /// Contents that a tensor gets, in the order of its memory.
  private struct Contents {
    let bytes: TensorBytes
    let gather: Gather?
    let dtypeCode: Int
    let layout: TensorLayout
    var file: String
  }

  private struct New {
    let name: String
    /// The tensor that it takes its description from, but for what `contents` says otherwise.
    let pattern: ExportedWeights.Entry
    /// nil if it is the pattern's tensor under another name.
    let contents: Contents?
  }

  private let archive: ExportedArchive
  private let weights: ExportedWeights
  /// The names of each tensor, in the order of the tables, and how many names are in each storage.
  private let aliases: [TorchParameter.StorageView: [String]]
  private let namesInStorage: [String: Int]
  /// By state-dict name.
  private var edited: [String: Contents] = [:]
  /// What comes after a tensor, by its name, or takes its place where it is dropped.
  private var added: [String: [New]] = [:]
  private var dropped: Set<String> = []
  private var names: UniqueNames
  private var nextNumber = 0

  init(_ archive: ExportedArchive, _ weights: ExportedWeights) {
    (self.archive, self.weights) = (archive, weights)
    names = UniqueNames(taken: Set(weights.entries.keys))
    var aliases: [TorchParameter.StorageView: [String]] = [:]
    var namesInStorage: [String: Int] = [:]
    for name in weights.names {
      guard let storage = weights.entries[name]?.parameter.storage else { continue }
      aliases[storage, default: []].append(name)
      namesInStorage[storage.key, default: 0] += 1
    }
    (self.aliases, self.namesInStorage) = (aliases, namesInStorage)
  }

  // MARK: Edits

  /// - Throws: `Failure(.certificateFailed)` if there is no such tensor, or it is edited twice.
  mutating func cut(_ name: String, _ gather: Gather) throws(Failure) {
    let entry = try require(name)
    let tensor = entry.parameter.tensor
    let isOrdered = entry.parameter.storage.isRowMajor
    let layout = Self.layout(gather.outputShape, like: entry.parameter.storage)
    if isOrdered {
      try edit(
        name,
        Contents(
          bytes: tensor.bytes, gather: gather, dtypeCode: entry.dtypeCode, layout: layout, file: ""))
    } else {
      let bytes = TensorBytes(count: gather.outputBytes) { target in
        if let base = target.baseAddress { gather.copyRows(0..<gather.rowCount, from: tensor.bytes.base, to: base) }
      }
      let cut = Tensor(dtype: tensor.dtype, shape: gather.outputShape, bytes: bytes)
      try edit(
        name,
        Contents(
          bytes: Self.inOrder(of: layout, cut), gather: nil, dtypeCode: entry.dtypeCode, layout: layout, file: ""))
    }
  }

  /// - Parameter tensor: of the shape that is left of the tensor, where it is cut first.
  mutating func set(_ name: String, _ tensor: Tensor) throws(Failure) {
    let entry = try require(name)
    if let cut = edited[name], cut.layout.sizes == tensor.shape.map(SizeExpression.number) {
      for alias in aliases[entry.parameter.storage] ?? [] { edited[alias] = nil }
    }
    try edit(name, try contents(tensor, like: entry))
  }

  private func contents(_ tensor: Tensor, like entry: ExportedWeights.Entry) throws(Failure) -> Contents {
    guard let type = ScalarType.allCases.first(where: { $0.dtype == tensor.dtype }) else {
      throw Failure(.certificateFailed, "PyTorch has no tensors of type \(tensor.dtype)")
    }
    let layout = Self.layout(tensor.shape, like: entry.parameter.storage)
    return Contents(
      bytes: Self.inOrder(of: layout, tensor), gather: nil, dtypeCode: type.rawValue, layout: layout, file: "")
  }

  /// All names of one tensor are edited as one.
  private mutating func edit(_ name: String, _ contents: Contents) throws(Failure) {
    let entry = try require(name)
    let storage = entry.parameter.storage
    let aliases = aliases[storage] ?? []
    guard aliases.allSatisfy({ edited[$0] == nil }) else {
      throw Failure(.certificateFailed, "the tensor '\(name)' is edited twice", details: ["parameter": .string(name)])
    }
    let isAlone = namesInStorage[storage.key] == aliases.count
    var contents = contents
    contents.file = isAlone ? entry.file : makeFile(like: entry)
    for alias in aliases { edited[alias] = contents }
  }

  /// A new tensor behind `old` in its table, described like `pattern`.
  /// - Parameter tensor: nil for the tensor of `pattern` itself.
  /// - Returns: its state-dict name: `wanted`, with a number where that is taken.
  mutating func add(
    _ wanted: String, _ tensor: Tensor?, behind old: String, like pattern: String
  ) throws(Failure) -> String {
    let name = names.make(wanted)
    let entry = try require(pattern)
    var contents: Contents?
    if let tensor {
      contents = try self.contents(tensor, like: entry)
      contents?.file = makeFile(like: entry)
    } else {
      contents = edited[pattern]
    }
    added[old, default: []].append(New(name: name, pattern: entry, contents: contents))
    return name
  }

  mutating func drop(_ name: String) { dropped.insert(name) }

  private mutating func makeFile(like entry: ExportedWeights.Entry) -> String {
    let prefix = entry.table == .weights ? "weight_" : "tensor_"
    let folder = archive.root + entry.table.folder
    while true {
      let name = prefix + String(nextNumber)
      nextNumber += 1
      if archive.zip.entry(named: folder + name) == nil { return name }
    }
  }

  private func require(_ name: String) throws(Failure) -> ExportedWeights.Entry {
    guard let entry = weights.entries[name] else {
      throw Failure(
        .certificateFailed, "the program has no tensor '\(name)'", details: ["parameter": .string(name)])
    }
    return entry
  }

  // MARK: Layouts

  /// The layout of a tensor as the edits leave it; nil if they do not concern it.
  func layout(of name: String) -> TensorLayout? { edited[name]?.layout }

  func dtypeCode(of name: String) -> Int? { edited[name]?.dtypeCode }

  func isDropped(_ name: String) -> Bool { dropped.contains(name) }

  /// The new tensors behind `name`, with their layouts and types.
  func additions(behind name: String) -> [(name: String, layout: TensorLayout, dtypeCode: Int)] {
    (added[name] ?? []).map { new in
      if let contents = new.contents { return (new.name, contents.layout, contents.dtypeCode) }
      let view = new.pattern.parameter.storage
      let layout = TensorLayout(
        sizes: view.shape.map(SizeExpression.number), strides: view.strides.map(SizeExpression.number),
        offset: .number(view.offset))
      return (new.name, layout, new.pattern.dtypeCode)
    }
  }

  /// Dense, with axes in the order in which `old` has them in memory, so that channels that are stored last stay last.
  private static func layout(_ shape: [Int], like old: TorchParameter.StorageView) -> TensorLayout {
    let strides =
      shape.count == old.strides.count && !old.isRowMajor
      ? old.strides : TorchParameter.StorageView.rowMajorStrides(shape)
    let order = TensorLayout(
      sizes: old.shape.map(SizeExpression.number), strides: strides.map(SizeExpression.number))
    return TensorLayout.dense(shape.map(SizeExpression.number), orderedAs: order, [:])
  }

  /// The elements of a row-major tensor in the order in which `layout`, which is dense, has them.
  private static func inOrder(of layout: TensorLayout, _ tensor: Tensor) -> TensorBytes {
    let strides = layout.strides.map { $0.value([:]) ?? 0 }
    let view = TorchParameter.StorageView(key: "", offset: 0, shape: tensor.shape, strides: strides)
    guard !view.isRowMajor, let width = tensor.dtype.byteWidth else { return tensor.bytes }
    // Axes of the memory, outermost first, and where each steps in the row-major tensor.
    let axes = tensor.shape.indices.sorted { (strides[$0], $1) > (strides[$1], $0) }
    let rowMajor = TorchParameter.StorageView.rowMajorStrides(tensor.shape)
    let transposed = TorchParameter.StorageView(
      key: "", offset: 0, shape: axes.map { tensor.shape[$0] }, strides: axes.map { rowMajor[$0] })
    return transposed.ordered(tensor.bytes, width: width)
  }

  // MARK: Output

  /// The table's text, nil if it stays as it is.
  func text(of table: ExportedWeights.Table) throws(Failure) -> [UInt8]? {
    let text = archive.text(of: table)
    var changes = JSONTextChanges()
    guard let config = text.root["config"] else { return nil }
    let members = Array(config.members)
    let places = members.map { $0.name.range.lowerBound..<$0.value.range.upperBound }
    var removed: Set<Int> = []
    for (index, member) in members.enumerated() {
      let name = member.name.string ?? ""
      var new: [String] = []
      for addition in added[name] ?? [] {
        new.append("\(JSONEscapes.encoded(addition.name)): \(try Self.description(addition, in: text))")
      }
      if !dropped.contains(name) {
        if let contents = edited[name] { try Self.describe(contents, over: member.value, in: text, to: &changes) }
        for addition in new { changes.insert(", " + addition, at: places[index].upperBound) }
      } else if new.isEmpty {
        removed.insert(index)
      } else {
        changes.replace(places[index], with: new.joined(separator: ", "))
      }
    }
    changes.remove(removed, of: places)
    return changes.isEmpty ? nil : changes.applied(to: text.bytes.buffer)
  }

  private static func description(_ new: New, in text: ExportedText) throws(Failure) -> String {
    guard let contents = new.contents else { return new.pattern.element.source }
    var changes = JSONTextChanges()
    try describe(contents, over: new.pattern.element, in: text, to: &changes)
    let bytes = changes.applied(to: text.bytes.buffer, within: new.pattern.element.range)
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func describe(
    _ contents: Contents, over element: JSONElement, in text: ExportedText, to changes: inout JSONTextChanges
  ) throws(Failure) {
    changes.replace(try text.member("path_name", of: element), with: JSONEscapes.encoded(contents.file))
    let meta = try text.member("tensor_meta", of: element)
    let old = try TensorLayout(meta, SizeExpressions(text))
    contents.layout.write(over: meta, old: old, [:], to: &changes)
    changes.replace(try text.member("dtype", of: meta), with: String(contents.dtypeCode))
  }

  /// The files that get new contents, by entry name; nil for those that nothing refers to any longer.
  func files() -> [(entry: String, contents: (bytes: TensorBytes, gather: Gather?)?)] {
    var kept: Set<String> = []
    var written: [String: Contents] = [:]
    var order: [String] = []
    func keep(_ entry: ExportedWeights.Entry, _ contents: Contents?) {
      let name = archive.root + entry.table.folder + (contents?.file ?? entry.file)
      kept.insert(name)
      if let contents, written.updateValue(contents, forKey: name) == nil { order.append(name) }
    }
    for name in weights.names {
      guard let entry = weights.entries[name] else { continue }
      for new in added[name] ?? [] { keep(new.pattern, new.contents) }
      if !dropped.contains(name) { keep(entry, edited[name]) }
    }
    var files: [(String, (TensorBytes, Gather?)?)] = order.compactMap { name in
      written[name].map { (name, ($0.bytes, $0.gather)) }
    }
    for name in weights.names {
      guard let entry = weights.entries[name] else { continue }
      let file = archive.root + entry.table.folder + entry.file
      if kept.insert(file).inserted { files.append((file, nil)) }
    }
    return files
  }
}
