import Compression
import ModelGraph
import Numerics

/// What becomes of a stored tensor.
enum TensorRewrite {
  /// Only what the gather keeps.
  case slice(TensorSlice, Gather)
  case contents(Tensor)

  var shape: [Int] {
    switch self {
    case .slice(_, let gather): gather.outputShape
    case .contents(let tensor): tensor.shape
    }
  }
}

extension TensorMessage {
  /// The tensor's elements after `rewrite`, as raw bytes.
  static func rawPiece(_ tensor: Tensor, _ rewrite: TensorRewrite?) -> WireMessage.Piece {
    switch rewrite {
    case nil: WireMessage.Piece(content: .tensor(tensor.bytes), count: tensor.bytes.count)
    case .slice(_, let gather)?:
      WireMessage.Piece(content: .gathered(gather, tensor.bytes), count: gather.outputBytes)
    case .contents(let new)?: WireMessage.Piece(content: .tensor(new.bytes), count: new.bytes.count)
    }
  }

  /// The TensorProto again, stored in the way it was (raw, typed or external), with other elements or in another
  /// external place; nil if neither changes anything.
  /// - Parameters:
  ///   - tensor: the elements as they are now.
  ///   - placement: where an external tensor's bytes are from now on.
  func rewritten(
    _ tensor: Tensor, _ rewrite: TensorRewrite?, placement: ExternalPlacement?
  ) throws(Failure) -> WireMessage? {
    typealias Field = ONNXSchema.Tensor
    guard let rewrite else {
      if let placement { return try relocated(to: placement) }
      return nil
    }
    if case .contents(let new) = rewrite, new.dtype != dtype {
      throw Failure(.certificateFailed, "new contents of type \(new.dtype) for a tensor of type \(dtype)")
    }
    var result = WireMessage()
    var seen: Set<Int> = []
    if shape.isEmpty { rewrite.shape.forEach { result.int(Field.dims, $0) } }
    var reader = WireReader(span, "TensorProto")
    while let field = try reader.next() {
      let isFirst = seen.insert(field.number).inserted
      switch field.number {
      case Field.dims:
        guard isFirst else { continue }
        if field.kind == .bytes {
          result.packed(Field.dims, rewrite.shape)
        } else {
          rewrite.shape.forEach { result.int(Field.dims, $0) }
        }
      case Field.rawData:
        if case .raw = storage { result.payload(Field.rawData, Self.rawPiece(tensor, rewrite)) }
      case Field.floatData, Field.int32Data, Field.int64Data, Field.doubleData, Field.uint64Data:
        if isFirst { result.payload(field.number, typedPiece(field.number, tensor, rewrite)) }
      case Field.externalData:
        if isFirst { try placement?.appendEntries(of: span, to: &result) }
      default: result.copy(field)
      }
    }
    return result
  }

  private func typedPiece(_ field: Int, _ tensor: Tensor, _ rewrite: TensorRewrite) -> WireMessage.Piece {
    typealias Field = ONNXSchema.Tensor
    // Packed floats and doubles are raw bytes.
    if field == Field.floatData || field == Field.doubleData { return Self.rawPiece(tensor, rewrite) }
    let elements = TypedElements(dtype: dtype, expectedBytes: byteCount)
    switch rewrite {
    case .slice(_, let gather):
      let count = elements.encode(gather, tensor.bytes).count
      return WireMessage.Piece(content: .gatheredEntries(gather, tensor.bytes, elements), count: count)
    case .contents(let new):
      var list: [UInt8] = []
      elements.forEachEntry(of: new.bytes.buffer) { WireMessage.appendVarint($0, to: &list) }
      return WireMessage.Piece(content: .bytes(list), count: list.count)
    }
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
}

/// Where an external tensor's bytes are in the files that are being written.
struct ExternalPlacement: Equatable {
  var location: String
  var offset: Int
  var length: Int
  /// Whether the data file as a whole is a copy of the old one, so that what the model says of it (checksum) still holds.
  var isCopy: Bool

  func equals(_ reference: ExternalReference) -> Bool {
    isCopy && location == reference.location && offset == reference.offset
      && length == reference.length ?? length
  }

  /// Appends the external_data entries of the TensorProto `span` as they are from now on.
  func appendEntries(of span: ByteSpan, to message: inout WireMessage) throws(Failure) {
    typealias Entry = ONNXSchema.Entry
    func append(_ key: String, _ value: String) {
      var entry = WireMessage()
      entry.string(Entry.key, key)
      entry.string(Entry.value, value)
      message.message(ONNXSchema.Tensor.externalData, entry)
    }
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
}
