import ModelGraph

/// A tree as `espalier-hdf5` says it (its commands.h), back into values.
///
/// Invariant: the stream is as little trusted as the file it was made of. Every length, offset and count in it is
/// checked against what there is, and no dataset that comes out reaches beyond the file or the product.
struct HDF5TreeReader {
  /// Held as long as it is read.
  private let stream: TensorBytes
  private let file: TensorBytes
  private let product: TensorBytes
  private var position = 0
  private let work: Work

  /// The worker has the same bounds.
  private static let deepest = 64

  /// - Parameters:
  ///   - stream: a node, from its first byte to its last.
  ///   - file: the bytes that datasets lie in.
  ///   - product: what the worker unpacked.
  static func root(
    of stream: TensorBytes, file: TensorBytes, product: TensorBytes, work: Work
  ) throws(Failure) -> HDF5Group {
    var reader = HDF5TreeReader(stream: stream, file: file, product: product, work: work)
    guard case .group(let root) = try reader.node(depth: 0, path: ""), reader.position == stream.count else {
      throw reader.damaged
    }
    return root
  }

  private init(stream: TensorBytes, file: TensorBytes, product: TensorBytes, work: Work) {
    (self.stream, self.file, self.product, self.work) = (stream, file, product, work)
  }

  private var damaged: Failure {
    Failure(.modelMalformed, "what HDF5's library says of the file is no whole answer; the file is damaged")
  }

  // MARK: Numbers and texts

  private mutating func take(_ count: Int) throws(Failure) -> UnsafeRawBufferPointer {
    guard count <= stream.count - position else { throw damaged }
    defer { position += count }
    return UnsafeRawBufferPointer(rebasing: stream.buffer[position..<(position + count)])
  }

  private mutating func number<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type) throws(Failure) -> T {
    T(littleEndian: try take(MemoryLayout<T>.size).loadUnaligned(as: type))
  }

  private mutating func length() throws(Failure) -> Int {
    guard let value = Int(exactly: try number(UInt64.self)) else { throw damaged }
    return value
  }

  private mutating func bytes() throws(Failure) -> UnsafeRawBufferPointer {
    try take(Int(try number(UInt32.self)))
  }

  /// - Parameter what: what the text is, for a sentence.
  private mutating func text(_ what: String) throws(Failure) -> String {
    let bytes = try bytes()
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw Failure(.modelMalformed, "\(what) of the HDF5 file is not UTF-8")
    }
    return text
  }

  // MARK: Nodes

  private mutating func node(depth: Int, path: String) throws(Failure) -> HDF5Node {
    guard depth <= Self.deepest else { throw damaged }
    switch try number(UInt8.self) {
    case HDF5Stream.group: return .group(try group(depth: depth, path: path))
    case HDF5Stream.dataset: return .dataset(try dataset(path: path))
    default: throw damaged
    }
  }

  private mutating func group(depth: Int, path: String) throws(Failure) -> HDF5Group {
    let orders = try number(UInt8.self)
    var group = HDF5Group(
      attributes: try attributes(orders: orders, path: path), keepsOrder: orders & HDF5Stream.ordersLinks != 0)
    for _ in 0..<(try number(UInt32.self)) {
      try work.checkCancellation()
      let name = try text("the name of a member of '\(path)'")
      let path = "\(path)/\(name)"
      guard group.member(name) == nil else {
        throw Failure(
          .modelMalformed, "the HDF5 file has two objects '\(path)'", details: ["dataset": .string(path)])
      }
      group.setMember(name, try node(depth: depth + 1, path: path))
    }
    return group
  }

  private mutating func dataset(path: String) throws(Failure) -> HDF5Dataset {
    let orders = try number(UInt8.self)
    let type = try type()
    guard let shape = try shape(), let size = byteCount(shape, type) else { throw damaged }
    let bytes = try contents(count: size)
    let attributes = try attributes(orders: orders, path: path)
    guard let dtype = type.dtype ?? Self.namedType(type, attributes) else {
      throw Failure(
        .modelUnsupportedFormat,
        "dataset '\(path)' holds elements of \(type.size) bytes of which the HDF5 file does not say what they are; weights "
          + "are read as floating-point numbers, integers and booleans", details: ["dataset": .string(path)])
    }
    return HDF5Dataset(type: type, dtype: dtype, shape: shape, bytes: bytes, attributes: attributes)
  }

  /// h5py has no bfloat16: Keras stores its two bytes as they are, and says so.
  private static func namedType(_ type: HDF5Type, _ attributes: HDF5Attributes) -> DType? {
    guard type.kind == .opaque, type.size == 2 else { return nil }
    return attributes[HDF5Dataset.dtypeAttribute]?.string == "bfloat16" ? .bfloat16 : nil
  }

  private mutating func contents(count: Int) throws(Failure) -> TensorBytes {
    let place = try number(UInt8.self)
    let offset = try length()
    guard try length() == count else { throw damaged }
    switch place {
    case HDF5Stream.Place.nowhere where count == 0: return TensorBytes(copying: [UInt8]())
    case HDF5Stream.Place.file: return try view(of: file, offset, count)
    case HDF5Stream.Place.product: return try view(of: product, offset, count)
    default: throw damaged
    }
  }

  private func view(of whole: TensorBytes, _ offset: Int, _ count: Int) throws(Failure) -> TensorBytes {
    guard offset <= whole.count, count <= whole.count - offset else { throw damaged }
    return whole.part(offset..<(offset + count))
  }

  // MARK: Types, shapes, attributes

  private mutating func type() throws(Failure) -> HDF5Type {
    guard let kind = HDF5Type.Kind(rawValue: try number(UInt8.self)) else { throw damaged }
    let size = Int(try number(UInt32.self))
    let isSigned = try number(UInt8.self) != 0
    guard let padding = HDF5Type.Padding(rawValue: try number(UInt8.self)) else { throw damaged }
    let isUTF8 = try number(UInt8.self) != 0
    let tag = try text("the tag of an opaque type")
    guard (size == 0) == (kind == .variableString) else { throw damaged }
    return HDF5Type(kind, size: size, isSigned: isSigned, padding: padding, isUTF8: isUTF8, tag: tag)
  }

  private mutating func shape() throws(Failure) -> [Int]? {
    let rank = try number(UInt8.self)
    guard rank != HDF5Stream.nullSpace else { return nil }
    var shape: [Int] = []
    for _ in 0..<rank { shape.append(try length()) }
    return shape
  }

  /// nil if that is no number.
  private func byteCount(_ shape: [Int], _ type: HDF5Type) -> Int? {
    if shape.contains(0) { return 0 }
    var count = max(1, type.size)
    for length in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: length)
      if overflow { return nil }
      count = product
    }
    return count
  }

  private mutating func attributes(orders: UInt8, path: String) throws(Failure) -> HDF5Attributes {
    var attributes = HDF5Attributes(keepsOrder: orders & HDF5Stream.ordersAttributes != 0)
    var names: Set<String> = []
    for _ in 0..<(try number(UInt32.self)) {
      let name = try text("the name of an attribute of '\(path)'")
      guard names.insert(name).inserted else {
        throw Failure(.modelMalformed, "'\(path)' in the HDF5 file has two attributes '\(name)'")
      }
      let type = try type()
      let shape = try shape()
      attributes.append(
        HDF5Attribute(
          name: name, type: type, shape: shape,
          value: try value(type, shape, what: "attribute '\(name)' of '\(path)'")))
    }
    return attributes
  }

  private mutating func value(
    _ type: HDF5Type, _ shape: [Int]?, what: String
  ) throws(Failure) -> HDF5Attribute.Value {
    guard let count = shape.map({ byteCount($0, type) }) ?? 0 else { throw damaged }
    let end = Int(try number(UInt32.self)) + position
    guard end <= stream.count else { throw damaged }
    if type.kind == .variableString {
      var texts: [String] = []
      for _ in 0..<count { texts.append(try text(what)) }
      guard position == end else { throw damaged }
      return .texts(texts)
    }
    guard end - position == count else { throw damaged }
    return .bytes([UInt8](try take(count)))
  }
}

extension TensorBytes {
  /// A view of some of the bytes.
  /// - Precondition: `range` lies inside.
  func part(_ range: Range<Int>) -> TensorBytes {
    final class Whole: Sendable {
      let bytes: TensorBytes
      init(_ bytes: TensorBytes) { self.bytes = bytes }
    }
    return TensorBytes(base: base + range.lowerBound, count: range.count, owner: Whole(self))
  }
}
