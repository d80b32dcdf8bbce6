import Compression
import ModelGraph

/// The data files that go with a model that is being written, and where in them each external tensor will be.
///
/// Invariant: one new file for each old one, tensors in the old order, aligned as they were; a file none of whose
/// tensors change is copied whole. No file the model was read from is ever a target.
struct ExternalLayout {
  struct DataFile {
    let path: String
    let message: WireMessage
  }

  private(set) var files: [DataFile] = []
  private var placements: [ExternalReference: ExternalPlacement] = [:]
  private var cutPlacements: [ValueID: ExternalPlacement] = [:]
  private var newPlacements: [String: ExternalPlacement] = [:]

  /// Alignments above this (the allocation granularity of Windows, which ONNX Runtime's writer uses) are accidents.
  private static let largestAlignment = 1 << 16
  /// What a tensor without a gap before it may have had on purpose: the widest element.
  private static let elementAlignment = 16
  /// Where new tensors start, as ONNX's own writer has them.
  private static let newAlignment = 4096
  /// New tensors that are no larger stay in the model file.
  private static let inlineLimit = 1024

  /// - Parameters:
  ///   - modelPath: of the model file to be written.
  ///   - cuts: by value.
  ///   - dropped: values that will no longer be in the model.
  ///   - added: tensors that are new to it; large ones go to the last file.
  init(
    _ document: ONNXDocument, modelPath: String, cuts: [ValueID: TensorCut], dropped: Set<ValueID>,
    added: [(name: String, tensor: Tensor)]
  ) throws(Failure) {
    let tensors = document.imported.externalTensors.filter { $0.value.map { !dropped.contains($0) } ?? true }
    let byLocation = Dictionary(grouping: tensors, by: \.reference.location)
    let locations = document.external.files.filter { byLocation[$0.location] != nil }
    var taken: Set<String> = []
    for (location, file) in locations {
      let name = Self.name(
        for: location, of: document, modelPath: modelPath, isOnly: locations.count == 1, taken: taken)
      taken.insert(name)
      let path = splitPath(modelPath).directory + "/" + name
      let tensors = byLocation[location] ?? []
      let message: WireMessage
      if tensors.contains(where: { $0.value.map { cuts[$0] != nil } ?? false }) {
        message = layOut(tensors, in: file, as: name, document.graph, cuts)
      } else {
        message = copyWhole(tensors, in: file, as: name)
      }
      files.append(DataFile(path: path, message: message))
    }
    let large = added.filter { $0.tensor.bytes.count > Self.inlineLimit }
    guard !large.isEmpty else { return }
    var last = files.popLast()
    if last == nil {
      // Every tensor that was in a file of its own has been replaced.
      let location = document.external.files.first?.location ?? ""
      let name = Self.name(for: location, of: document, modelPath: modelPath, isOnly: true, taken: [])
      last = DataFile(path: splitPath(modelPath).directory + "/" + name, message: WireMessage())
    }
    guard let last else { return }
    files.append(DataFile(path: last.path, message: append(large, to: last.message, splitPath(last.path).name)))
  }

  private mutating func append(
    _ tensors: [(name: String, tensor: Tensor)], to message: WireMessage, _ location: String
  ) -> WireMessage {
    var message = message
    for (name, tensor) in tensors {
      message.pad(to: Self.newAlignment)
      newPlacements[name] = ExternalPlacement(
        location: location, offset: message.count, length: tensor.bytes.count, isCopy: false)
      message.append(TensorMessage.rawPiece(tensor, nil))
    }
    return message
  }

  /// Where a new tensor will be; nil if the model itself holds it.
  func placement(ofNew name: String) -> ExternalPlacement? { newPlacements[name] }

  /// Where the tensor will be: `value`'s own place if it changes, else the place of the bytes it shares.
  func placement(of reference: ExternalReference, value: ValueID?) -> ExternalPlacement? {
    value.flatMap { cutPlacements[$0] } ?? placements[reference]
  }

  private mutating func copyWhole(_ tensors: [ExternalTensor], in file: MappedFile, as name: String) -> WireMessage {
    for tensor in tensors {
      placements[tensor.reference] = ExternalPlacement(
        location: name, offset: tensor.reference.offset, length: tensor.byteCount, isCopy: true)
    }
    var message = WireMessage()
    message.append(file.span)
    return message
  }

  private mutating func layOut(
    _ tensors: [ExternalTensor], in file: MappedFile, as name: String, _ graph: Graph,
    _ cuts: [ValueID: TensorCut]
  ) -> WireMessage {
    var message = WireMessage()
    var previousEnd = 0
    // Tensors that share their bytes go on sharing them, as long as they keep the same of them.
    var atReference: [ExternalReference: [(axes: [AxisSlice]?, placement: ExternalPlacement)]] = [:]
    for tensor in tensors.inFileOrder {
      let cut = tensor.value.flatMap { cuts[$0] }
      let reference = tensor.reference
      let isNew = cut?.contents != nil
      var placement = isNew ? nil : atReference[reference]?.first { $0.axes == cut?.axes }?.placement
      if placement == nil {
        let isAfterGap = reference.offset > previousEnd
        let alignment = Self.alignment(
          of: reference.offset, limit: isAfterGap ? Self.largestAlignment : Self.elementAlignment)
        message.pad(to: alignment)
        let piece: WireMessage.Piece
        if let value = tensor.value, let stored = graph[value].tensor {
          piece = TensorMessage.rawPiece(stored, cut)
        } else {
          let bytes = file.span[reference.offset..<(reference.offset + tensor.byteCount)]
          piece = WireMessage.Piece(content: .span(bytes), count: bytes.count)
        }
        let new = ExternalPlacement(location: name, offset: message.count, length: piece.count, isCopy: false)
        if !isNew { atReference[reference, default: []].append((cut?.axes, new)) }
        placement = new
        message.append(piece)
        previousEnd = max(previousEnd, reference.offset + tensor.byteCount)
      }
      if let value = tensor.value, cut != nil {
        cutPlacements[value] = placement
      } else {
        placements[reference] = placement
      }
    }
    return message
  }

  /// The largest power of two that divides `offset`, up to `limit`.
  private static func alignment(of offset: Int, limit: Int) -> Int {
    offset == 0 ? limit : min(limit, 1 << offset.trailingZeroBitCount)
  }

  /// The new file's name: the old one's with the model's new name in place of the old, where it began with that
  /// (`net.onnx.data`, `net.onnx_data`), else after the new model.
  private static func name(
    for location: String, of document: ONNXDocument, modelPath: String, isOnly: Bool, taken: Set<String>
  ) -> String {
    let old = splitPath(document.storage.file.identity.path).name
    let (directory, new) = splitPath(modelPath)
    let base = splitPath(location).name
    var wanted = new + ".data"
    if base.hasPrefix(old), base != old {
      wanted = new + base.dropFirst(old.count)
    } else if !isOnly {
      wanted = new + "." + base
    }
    func isFree(_ name: String) -> Bool {
      guard !taken.contains(name), name != new else { return false }
      guard let found = FileIdentity(at: directory + "/" + name) else { return true }
      return !document.files.contains { $0.device == found.device && $0.inode == found.inode }
    }
    if isFree(wanted) { return wanted }
    var number = 2
    while !isFree("\(wanted).\(number)") { number += 1 }
    return "\(wanted).\(number)"
  }
}

extension [ExternalTensor] {
  /// By position in their file; those that begin together, in the order of the model.
  fileprivate var inFileOrder: [ExternalTensor] {
    enumerated().sorted { ($0.element.reference.offset, $0.offset) < ($1.element.reference.offset, $1.offset) }
      .map(\.element)
  }
}
