import JSON
import ModelGraph

/// What an exported program says of a tensor: element type, sizes, strides (`TensorMeta` of torch/_export/serde/schema.py).
struct TensorMeta {
  let element: JSONElement
  let dtypeCode: Int
  /// Elements of `sizes` and `strides`: unions of an integer and an expression.
  let sizes: JSONElement
  let strides: JSONElement

  init(_ element: JSONElement, in text: ExportedText) throws(Failure) {
    self.element = element
    dtypeCode = try text.int(text.member("dtype", of: element))
    sizes = try text.array("sizes", of: element)
    strides = try text.array("strides", of: element)
    guard try text.int(text.member("layout", of: element)) == Self.strided else {
      throw Failure(
        .modelUnsupportedFormat, "the program has sparse or packed tensors, which cannot be compressed",
        details: ["entry": .string(text.name), "offset": .int(element.range.lowerBound)])
    }
  }

  /// PyTorch's own limit.
  fileprivate static let axisLimit = 64

  /// The layout of dense tensors.
  static let strided = 7

  var dtype: DType? { ScalarType(rawValue: dtypeCode)?.dtype }

  var isKnownType: Bool { ScalarType(rawValue: dtypeCode) != nil }

  /// The lengths, symbolic ones as the graph names them.
  func shape(_ expressions: SizeExpressions) throws(Failure) -> [Dimension] {
    try sizes.map(in: expressions.text) { size throws(Failure) in try expressions.dimension(size) }
  }

  /// The view that a stored tensor is, whose sizes are all plain numbers.
  func view(of storage: String, in text: ExportedText) throws(Failure) -> TorchParameter.StorageView {
    func plain(_ element: JSONElement) throws(Failure) -> Int {
      guard let value = element["as_int"]?.int else {
        throw text.malformed("a stored tensor has no fixed size", element)
      }
      return value
    }
    return TorchParameter.StorageView(
      key: storage, offset: try plain(text.member("storage_offset", of: element)),
      shape: try sizes.map(in: text, plain), strides: try strides.map(in: text, plain))
  }
}

extension JSONElement {
  /// The elements of a list, which is no longer than tensors have axes.
  fileprivate func map<T>(
    in text: ExportedText, _ body: (JSONElement) throws(Failure) -> T
  ) throws(Failure) -> [T] {
    var result: [T] = []
    for element in elements {
      guard result.count < TensorMeta.axisLimit else { throw text.malformed("a tensor has too many axes", self) }
      result.append(try body(element))
    }
    return result
  }
}

/// PyTorch's element types by the codes of exported programs.
enum ScalarType: Int, CaseIterable {
  case uint8 = 1
  case int8 = 2
  case int16 = 3
  case int32 = 4
  case int64 = 5
  case float16 = 6
  case float32 = 7
  case float64 = 8
  case complex32 = 9
  case complex64 = 10
  case complex128 = 11
  case bool = 12
  case bfloat16 = 13
  case uint16 = 28
  case float8e4m3fn = 29
  case float8e5m2 = 30
  case float8e4m3fnuz = 31
  case float8e5m2fnuz = 32
  case float8e8m0fnu = 33
  case uint32 = 34
  case uint64 = 35

  var dtype: DType? {
    switch self {
    case .uint8: .uint8
    case .int8: .int8
    case .int16: .int16
    case .int32: .int32
    case .int64: .int64
    case .float16: .float16
    case .float32: .float32
    case .float64: .float64
    case .complex32: nil
    case .complex64: .complex64
    case .complex128: .complex128
    case .bool: .bool
    case .bfloat16: .bfloat16
    case .uint16: .uint16
    case .float8e4m3fn: .float8e4m3fn
    case .float8e5m2: .float8e5m2
    case .float8e4m3fnuz: .float8e4m3fnuz
    case .float8e5m2fnuz: .float8e5m2fnuz
    case .float8e8m0fnu: .float8e8m0
    case .uint32: .uint32
    case .uint64: .uint64
    }
  }

  /// "torch.float32": PyTorch's own name.
  var symbol: String {
    switch self {
    case .float8e4m3fn: "torch.float8_e4m3fn"
    case .float8e5m2: "torch.float8_e5m2"
    case .float8e4m3fnuz: "torch.float8_e4m3fnuz"
    case .float8e5m2fnuz: "torch.float8_e5m2fnuz"
    case .float8e8m0fnu: "torch.float8_e8m0fnu"
    default: "torch.\(self)"
    }
  }
}
