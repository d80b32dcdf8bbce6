import Glibc
import ModelGraph

/// A TensorProto: what it declares, and where its elements are.
///
/// Invariant: `shape` has a product, with every zero taken as one, that fits in an integer with room for the widest
/// element; whoever multiplies lengths of a stored tensor, in any order, cannot overflow.
struct TensorMessage {
  let name: ByteSpan?
  let dtype: DType
  let shape: [Int]
  let storage: Storage
  /// The whole message.
  let span: ByteSpan

  enum Storage {
    case raw(ByteSpan)
    /// Elements in the field of this number (float_data, int32_data, ...).
    case typed(field: Int)
    case external(ExternalReference)
    case empty
  }

  /// - Parameter description: what the tensor is, for messages, where it has no name of its own.
  init(_ span: ByteSpan, _ description: @autoclosure () -> String = "a tensor") throws(Failure) {
    typealias Field = ONNXSchema.Tensor
    var name: ByteSpan?
    var code = 0
    var shape: [Int] = []
    var raw: ByteSpan?
    var typed: Int?
    var isExternal = false
    var entries: [ByteSpan] = []
    var reader = WireReader(span, "TensorProto")
    while let field = try reader.next() {
      switch field.number {
      case Field.dims:
        try field.forEachInt { length throws(Failure) in
          guard shape.count < ONNXLimits.rank else {
            throw .malformed("a tensor has more than \(ONNXLimits.rank) axes", at: field.whole.offset)
          }
          shape.append(length)
        }
      case Field.dataType: code = try field.int()
      case Field.name: name = try field.bytes()
      case Field.rawData: raw = try field.bytes()
      case Field.floatData, Field.int32Data, Field.stringData, Field.int64Data, Field.doubleData, Field.uint64Data:
        guard typed == nil || typed == field.number else {
          throw .malformed("a tensor has elements in two typed fields", at: field.whole.offset)
        }
        typed = field.number
      case Field.externalData: entries.append(try field.bytes())
      case Field.dataLocation: isExternal = try field.int() == 1
      case Field.segment: throw .malformed("a tensor is stored in segments, which no exporter writes", at: span.offset)
      default: break
      }
    }
    let what = name.map { "tensor '\($0.displayText)'" } ?? description()
    guard let dtype = DType(rawValue: code) else {
      throw .malformed("\(what) has element type \(code), which is none of ONNX's", at: span.offset)
    }
    guard Self.isSound(shape) else {
      throw .malformed("\(what) has the impossible shape \(shape)", at: span.offset)
    }
    guard raw == nil || typed == nil || raw?.isEmpty == true else {
      throw .malformed("\(what) has both raw and typed elements", at: span.offset)
    }
    (self.name, self.dtype, self.shape, self.span) = (name, dtype, shape, span)
    if isExternal {
      storage = .external(try ExternalReference(entries, what: what, at: span.offset))
    } else if let typed {
      storage = .typed(field: typed)
    } else if let raw {
      storage = .raw(raw)
    } else {
      storage = .empty
    }
    if case .typed(let field) = storage, field != dtype.typedField {
      throw .malformed("\(what) is of type \(dtype) but has its elements in field \(field)", at: span.offset)
    }
  }

  var elementCount: Int { shape.reduce(1, *) }

  /// Whether every length is 0 or more and their product cannot overflow, in bytes and in any order.
  static func isSound(_ shape: [Int]) -> Bool {
    var product = 16
    for length in shape {
      guard length >= 0 else { return false }
      let (next, overflow) = product.multipliedReportingOverflow(by: max(length, 1))
      guard !overflow else { return false }
      product = next
    }
    return true
  }

  /// The tensor, its bytes shared with the file where they are stored as they are used.
  /// - Parameter owner: keeps the message's bytes alive.
  func tensor(owner: AnyObject, external: ExternalFiles) throws(Failure) -> Tensor {
    let bytes: TensorBytes
    switch storage {
    case .raw(let span):
      guard dtype != .string else { throw malformed("holds strings as raw bytes") }
      bytes = TensorBytes(base: span.base, count: span.count, owner: owner)
    case .external(let reference):
      guard dtype != .string else { throw malformed("holds strings in an external file") }
      bytes = try external.bytes(reference, expected: byteCount, what: what)
    case .typed(let field): bytes = try typedBytes(field, owner: owner)
    case .empty: bytes = TensorBytes(base: span.end, count: 0, owner: owner)
    }
    guard dtype == .string || bytes.count == byteCount else {
      throw malformed("has \(bytes.count) bytes where its shape \(shape) of \(dtype) needs \(byteCount)")
    }
    return Tensor(dtype: dtype, shape: shape, bytes: bytes)
  }

  /// Bytes that the elements take as raw data.
  var byteCount: Int { dtype.byteWidth.map { elementCount * $0 } ?? (elementCount * dtype.subByteBits + 7) / 8 }

  private func typedBytes(_ number: Int, owner: AnyObject) throws(Failure) -> TensorBytes {
    typealias Field = ONNXSchema.Tensor
    switch number {
    case Field.stringData:
      return TensorBytes(base: span.base, count: span.count, owner: owner)
    case Field.floatData, Field.doubleData:
      return try fixedBytes(number, width: number == Field.floatData ? 4 : 8, owner: owner)
    default:
      return try TypedElements(dtype: dtype, expectedBytes: byteCount).decode(span, field: number, what: what)
    }
  }

  /// Floats and doubles are stored as they are used: one packed list is a view, several are joined.
  private func fixedBytes(_ number: Int, width: Int, owner: AnyObject) throws(Failure) -> TensorBytes {
    var single: ByteSpan?
    var parts = 0
    var total = 0
    var reader = WireReader(span, "TensorProto")
    while let field = try reader.next() {
      guard field.number == number else { continue }
      let elements = try field.fixedElements(width: width)
      single = elements
      parts += 1
      total += elements.count
    }
    if parts == 1, let single { return TensorBytes(base: single.base, count: single.count, owner: owner) }
    guard total == byteCount else {
      throw malformed("has \(total) bytes where its shape \(shape) of \(dtype) needs \(byteCount)")
    }
    var joined: [UInt8] = []
    joined.reserveCapacity(total)
    reader = WireReader(span, "TensorProto")
    while let field = try reader.next() {
      if field.number == number { joined.append(contentsOf: try field.fixedElements(width: width).buffer) }
    }
    return TensorBytes(copying: joined)
  }

  private var what: String { name.map { "tensor '\($0.displayText)'" } ?? "a tensor" }

  private func malformed(_ reason: String) -> Failure { .malformed("\(what) \(reason)", at: span.offset) }
}

extension DType {
  /// The field of TensorProto that holds elements of this type when they are not raw.
  var typedField: Int {
    typealias Field = ONNXSchema.Tensor
    return switch self {
    case .float32, .complex64: Field.floatData
    case .float64, .complex128: Field.doubleData
    case .int64: Field.int64Data
    case .uint32, .uint64: Field.uint64Data
    case .string: Field.stringData
    default: Field.int32Data
    }
  }

  /// Bits of one element of the packed types; 0 for the others.
  var subByteBits: Int {
    switch self {
    case .uint2, .int2: 2
    case .uint4, .int4, .float4e2m1: 4
    case .float6e2m3, .float6e3m2: 6
    default: 0
    }
  }
}
