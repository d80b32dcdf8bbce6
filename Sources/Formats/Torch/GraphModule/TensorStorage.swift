import ModelGraph

/// The tensors of a PyTorch archive: what the pickle claims of each (storage, offset, shape, strides), compared with
/// the bytes that are there.
///
/// Invariant: a storage's entry has exactly the bytes that the pickle says, and a tensor none outside its storage
/// (`StoredViews`). One object of the pickle is one tensor, whatever names it has.
struct TensorStorage {
  private let archive: ZipArchive
  private let owner: MappedFile
  private let prefix: String
  private var views: StoredViews
  private var made: [ObjectIdentifier: StoredTensor] = [:]
  private var storages: [String: TensorBytes] = [:]

  /// - Parameters:
  ///   - owner: the file that holds the archive.
  ///   - prefix: the archive's root with its slash.
  init(_ archive: ZipArchive, in owner: MappedFile, prefix: String) {
    (self.archive, self.owner, self.prefix) = (archive, owner, prefix)
    views = StoredViews(fileBytes: owner.span.count)
  }

  static func isTensor(_ node: PickleNode) -> Bool { node.rebuilder?.hasPrefix("_rebuild_") ?? false }

  /// - Parameters:
  ///   - node: what the pickle calls to make it.
  ///   - name: for messages.
  mutating func tensor(_ node: PickleNode, name: String, isBuffer: Bool) throws(Failure) -> StoredTensor {
    if let known = made[node.id] { return known }
    let rebuilt = try RebuiltTensor(node, name: name)
    let tensor = try views.tensor(
      rebuilt.view, of: try bytes(of: rebuilt.storage, name: name), dtype: rebuilt.dtype, name: name)
    let stored = StoredTensor(
      node: node, rebuild: rebuilt.node,
      parameter: TorchParameter(tensor: tensor, storage: rebuilt.view, isBuffer: isBuffer))
    made[node.id] = stored
    return stored
  }

  private mutating func bytes(of storage: StorageReference, name: String) throws(Failure) -> TensorBytes {
    let entryName = prefix + "data/" + storage.key
    guard let entry = archive.entry(named: entryName) else {
      throw .tensorMalformed(name, "is in storage '\(storage.key)', which the archive does not have")
    }
    let (expected, overflow) = storage.count.multipliedReportingOverflow(by: storage.dtype?.byteWidth ?? 1)
    guard !overflow, expected == entry.count else {
      throw .tensorMalformed(
        name, "is in a storage of \(storage.count) elements, for which entry '\(entryName)' has \(entry.count) bytes")
    }
    if let known = storages[storage.key] { return known }
    let span = try archive.bytes(of: entry)
    let bytes = TensorBytes(base: span.base, count: span.count, owner: owner)
    storages[storage.key] = bytes
    return bytes
  }
}

/// A tensor of the model, and where the pickle says what it is.
struct StoredTensor {
  /// `_rebuild_parameter(...)`, or `rebuild` for what is no parameter.
  let node: PickleNode
  /// `_rebuild_tensor_v2(...)` or `_rebuild_tensor_v3(...)`.
  let rebuild: PickleNode
  let parameter: TorchParameter
}

/// What a call of PyTorch's rebuild functions says of a tensor.
struct RebuiltTensor {
  let node: PickleNode
  let storage: StorageReference
  let view: TorchParameter.StorageView
  let dtype: DType

  init(_ node: PickleNode, name: String) throws(Failure) {
    var node = node
    if let callee = node.rebuilder, callee.hasPrefix("_rebuild_parameter") {
      guard let arguments = node.callArguments, arguments.count >= 3 else {
        throw .tensorMalformed(name, "is no parameter that PyTorch writes")
      }
      node = arguments[0]
    }
    self.node = node
    let isThird = node.rebuilder == "_rebuild_tensor_v3"
    guard isThird || node.rebuilder == "_rebuild_tensor_v2" else {
      throw Failure(
        .modelUnsupportedOperator,
        "the tensor '\(name)' is made by \(node.calleeName ?? "nothing"); dense tensors of plain numbers are read, no"
          + " quantized, sparse or subclassed ones", details: ["tensor": .string(name)])
    }
    guard let arguments = node.callArguments, arguments.count >= (isThird ? 7 : 6), let offset = arguments[1].int,
      let shape = arguments[2].ints, let strides = arguments[3].ints, shape.count == strides.count
    else { throw .tensorMalformed(name, "has an offset, shape or strides that cannot be") }
    if let metadata = arguments.dropFirst(isThird ? 7 : 6).first, metadata.dictionaryEntries?.isEmpty != true {
      throw Failure(
        .modelUnsupportedOperator,
        "the tensor '\(name)' is a conjugated or negated view; save it as it is (tensor.resolve_conj().resolve_neg())",
        details: ["tensor": .string(name)])
    }
    storage = try StorageReference(arguments[0], name: name)
    guard let dtype = isThird ? TorchElements.dtype(arguments[6]) : storage.dtype else {
      throw Failure(
        .modelUnsupportedOperator, "the tensor '\(name)' has an element type that is not read",
        details: ["tensor": .string(name)])
    }
    self.dtype = dtype
    view = TorchParameter.StorageView(key: storage.key, offset: offset, shape: shape, strides: strides)
  }
}

extension PickleNode {
  /// Which function of `torch._utils` is called.
  fileprivate var rebuilder: String? {
    guard case .call(let call) = kind, case .global("torch._utils", let name) = call.callee.kind else { return nil }
    return name
  }
}

/// `('storage', class, key, location, count)`: what stands outside the pickle.
struct StorageReference {
  let key: String
  /// nil for storages of bytes.
  let dtype: DType?
  /// In elements; in bytes where there is no type.
  let count: Int

  init(_ node: PickleNode, name: String) throws(Failure) {
    guard let parts = node.persistent?.tuple, parts.count == 5, parts[0].string == "storage",
      case .global(_, let className) = parts[1].kind, let key = parts[2].string, let count = parts[4].int, count >= 0
    else { throw .tensorMalformed(name, "has no storage that PyTorch writes") }
    guard className == "UntypedStorage" || TorchElements.storages[className] != nil else {
      throw Failure(
        .modelUnsupportedOperator,
        "the tensor '\(name)' is in a \(className), which is not read (quantized models are"
          + " none that can be compressed)", details: ["tensor": .string(name)])
    }
    (self.key, dtype, self.count) = (key, TorchElements.storages[className], count)
  }
}

/// PyTorch's names of element types.
enum TorchElements {
  static let storages: [String: DType] = [
    "FloatStorage": .float32, "DoubleStorage": .float64, "HalfStorage": .float16, "BFloat16Storage": .bfloat16,
    "LongStorage": .int64, "IntStorage": .int32, "ShortStorage": .int16, "CharStorage": .int8, "ByteStorage": .uint8,
    "BoolStorage": .bool, "ComplexFloatStorage": .complex64, "ComplexDoubleStorage": .complex128,
  ]

  /// The class of storages of a type.
  static func storageName(_ dtype: DType) -> String? { storages.first { $0.value == dtype }?.key }

  private static let names: [String: DType] = [
    "float32": .float32, "float64": .float64, "float16": .float16, "bfloat16": .bfloat16, "int64": .int64,
    "int32": .int32, "int16": .int16, "int8": .int8, "uint8": .uint8, "uint16": .uint16, "uint32": .uint32,
    "uint64": .uint64, "bool": .bool, "complex64": .complex64, "complex128": .complex128,
    "float8_e4m3fn": .float8e4m3fn, "float8_e4m3fnuz": .float8e4m3fnuz, "float8_e5m2": .float8e5m2,
    "float8_e5m2fnuz": .float8e5m2fnuz, "float8_e8m0fnu": .float8e8m0,
  ]

  /// The type that `torch.float32` and the like stand for.
  static func dtype(_ node: PickleNode) -> DType? {
    if case .global("torch", let name) = node.kind { names[name] } else { nil }
  }
}

extension Failure {
  static func tensorMalformed(_ name: String, _ what: String) -> Failure {
    Failure(
      .modelMalformed, "the tensor '\(name)' \(what); the file is damaged or was not written by PyTorch",
      details: ["tensor": .string(name)])
  }
}
