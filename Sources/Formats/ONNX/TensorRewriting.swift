import Compression
import ModelGraph
import Numerics

/// What a plan makes of a stored tensor.
struct TensorCut {
  let axes: [AxisSlice]
  /// Of the elements that are stored, or of all of the new ones.
  let gather: Gather
  /// New elements, where they are not the stored ones.
  var contents: Tensor?

  func elements(of stored: Tensor) -> Tensor { contents ?? stored }
}

extension TensorMessage {
  /// The tensor's elements after `cut`, as raw bytes.
  static func rawPiece(_ tensor: Tensor, _ cut: TensorCut?) -> WireMessage.Piece {
    if let cut {
      WireMessage.Piece(content: .gathered(cut.gather, cut.elements(of: tensor).bytes), count: cut.gather.outputBytes)
    } else {
      WireMessage.Piece(content: .tensor(tensor.bytes), count: tensor.bytes.count)
    }
  }

  /// The TensorProto again, stored in the way it was (raw, typed or external), with fewer elements or in another
  /// external place; nil if neither changes anything.
  /// - Parameters:
  ///   - tensor: the elements as they are now.
  ///   - placement: where an external tensor's bytes are from now on.
  func rewritten(
    _ tensor: Tensor, _ cut: TensorCut?, placement: ExternalPlacement?
  ) throws(Failure) -> WireMessage? {
    typealias Field = ONNXSchema.Tensor
    guard let cut else {
      if let placement { return try relocated(to: placement) }
      return nil
    }
    var result = WireMessage()
    var seen: Set<Int> = []
    var reader = WireReader(span, "TensorProto")
    while let field = try reader.next() {
      let isFirst = seen.insert(field.number).inserted
      switch field.number {
      case Field.dims:
        guard isFirst else { continue }
        if field.kind == .bytes {
          result.packed(Field.dims, cut.gather.outputShape)
        } else {
          cut.gather.outputShape.forEach { result.int(Field.dims, $0) }
        }
      case Field.rawData:
        if isFirst, case .raw = storage { result.payload(Field.rawData, Self.rawPiece(tensor, cut)) }
      case Field.floatData, Field.int32Data, Field.int64Data, Field.doubleData, Field.uint64Data:
        if isFirst { result.payload(field.number, typedPiece(field.number, tensor, cut)) }
      case Field.externalData:
        if isFirst { try placement?.appendEntries(of: span, to: &result) }
      default: result.copy(field)
      }
    }
    return result
  }

  private func typedPiece(_ field: Int, _ tensor: Tensor, _ cut: TensorCut) -> WireMessage.Piece {
    typealias Field = ONNXSchema.Tensor
    // Packed floats and doubles are raw bytes.
    if field == Field.floatData || field == Field.doubleData { return Self.rawPiece(tensor, cut) }
    let elements = TypedElements(dtype: dtype, expectedBytes: byteCount)
    let bytes = cut.elements(of: tensor).bytes
    let count = elements.encode(cut.gather, bytes).count
    return WireMessage.Piece(content: .gatheredEntries(cut.gather, bytes, elements), count: count)
  }

  /// The TensorProto with its bytes elsewhere, nil if they stay where the file says they are.
  func relocated(to placement: ExternalPlacement) throws(Failure) -> WireMessage? {
    guard case .external(let reference) = storage, !placement.equals(reference) else { return nil }
    var result = WireMessage()
    var isInserted = false
    var reader = WireReader(span, "TensorProto")
    while let field = try reader.next() {
      if field.number != ONNXSchema.Tensor.externalData {
        result.copy(field)
      } else if !isInserted {
        isInserted = true
        try placement.appendEntries(of: span, to: &result)
      }
    }
    return result
  }

  /// A new tensor, stored raw.
  static func encode(_ tensor: Tensor, name: String?) -> WireMessage {
    typealias Field = ONNXSchema.Tensor
    var message = WireMessage()
    for length in tensor.shape { message.int(Field.dims, length) }
    message.int(Field.dataType, tensor.dtype.rawValue)
    if let name { message.string(Field.name, name) }
    message.payload(Field.rawData, rawPiece(tensor, nil))
    return message
  }

  /// A new tensor whose bytes are in another file.
  static func encode(_ tensor: Tensor, name: String, at placement: ExternalPlacement) -> WireMessage {
    typealias Field = ONNXSchema.Tensor
    var message = WireMessage()
    for length in tensor.shape { message.int(Field.dims, length) }
    message.int(Field.dataType, tensor.dtype.rawValue)
    message.string(Field.name, name)
    ExternalPlacement.append("location", placement.location, to: &message)
    ExternalPlacement.append("offset", String(placement.offset), to: &message)
    ExternalPlacement.append("length", String(placement.length), to: &message)
    message.int(Field.dataLocation, 1)
    return message
  }

  /// Strings under a name of their own, their contents as they were read.
  static func encode(strings tensor: Tensor, name: String) throws(Failure) -> WireMessage {
    typealias Field = ONNXSchema.Tensor
    var message = WireMessage()
    for length in tensor.shape { message.int(Field.dims, length) }
    message.int(Field.dataType, tensor.dtype.rawValue)
    message.string(Field.name, name)
    var reader = WireReader(ByteSpan(base: tensor.bytes.base, count: tensor.bytes.count), "TensorProto")
    while let field = try reader.next() {
      if field.number == Field.stringData { message.copyBytes(of: field) }
    }
    return message
  }
}

/// Where an external tensor's bytes are in the files that are being written.
struct ExternalPlacement: Equatable {
  var location: String
  var offset: Int
  var length: Int
  /// Whether the data file as a whole is a copy of the old one, so that what the model says of it (checksum) still
  /// holds.
  var isCopy: Bool

  func equals(_ reference: ExternalReference) -> Bool {
    isCopy && location == reference.location && offset == reference.offset
      && length == reference.length ?? length
  }

  /// Appends the external_data entries of the TensorProto `span` as they are from now on.
  func appendEntries(of span: ByteSpan, to message: inout WireMessage) throws(Failure) {
    func append(_ key: String, _ value: String) { Self.append(key, value, to: &message) }
    var hasOffset = false
    var reader = WireReader(span, "TensorProto")
    while let field = try reader.next() {
      guard field.number == ONNXSchema.Tensor.externalData else { continue }
      let (key, value) = try ExternalReference.keyAndValue(field.bytes())
      switch key {
      case "location": append(key, location)
      case "offset":
        hasOffset = true
        append(key, String(offset))
      case "length" where Int(value) != 0: append(key, String(length))
      case "checksum" where !isCopy: break
      default: message.copy(field)
      }
    }
    if !hasOffset, offset != 0 { append("offset", String(offset)) }
  }

  /// Appends one external_data entry.
  static func append(_ key: String, _ value: String, to message: inout WireMessage) {
    var entry = WireMessage()
    entry.string(ONNXSchema.Entry.key, key)
    entry.string(ONNXSchema.Entry.value, value)
    message.message(ONNXSchema.Tensor.externalData, entry)
  }
}
