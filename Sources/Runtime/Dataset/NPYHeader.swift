import ModelGraph

/// What the header of a NumPy array file says (numpy.lib.format, versions 1.0 to 3.0).
///
/// The header is a Python literal, read here by a grammar that knows nothing but it: a dictionary of three keys. Any
/// bytes give a header or a `Problem`; nothing is evaluated, and no claim costs memory.
struct NPYHeader: Sendable, Equatable {
  let dtype: DType
  let shape: [Int]
  /// Where the elements start, from the start of the file.
  let dataOffset: Int
  /// Bytes of all elements.
  let dataBytes: Int

  enum Problem: Error, Equatable {
    /// Not what NumPy writes.
    case malformed(String)
    /// What NumPy writes and we do not take; with what to do instead.
    case unsupported(String)
  }

  /// The longest header that is read. NumPy refuses more than 10000 characters; ours, of plain arrays, have 128 bytes.
  static let limit = 1 << 16
  /// Magic, version and the length of the longer versions.
  static let prefixBytes = 12
  private static let maximumRank = 64

  /// Bytes of the whole header, from its first `prefixBytes`.
  static func headerBytes(prefix: [UInt8]) throws(Problem) -> Int {
    guard prefix.count >= prefixBytes, prefix.starts(with: [0x93] + Array("NUMPY".utf8)) else {
      throw .malformed("it does not start like a NumPy array")
    }
    let count: Int
    switch prefix[6] {
    case 1: count = 10 + (Int(prefix[8]) | Int(prefix[9]) << 8)
    case 2, 3: count = 12 + (8..<12).reversed().reduce(0) { $0 << 8 | Int(prefix[$1]) }
    default: throw .malformed("it is of version \(prefix[6]) of NumPy's format; 1 to 3 are known")
    }
    guard (prefixBytes...limit).contains(count) else { throw .malformed("its header claims \(count) bytes") }
    return count
  }

  /// - Parameter header: the whole header, `headerBytes` bytes.
  init(_ header: [UInt8]) throws(Problem) {
    let start = header.count > 6 && header[6] == 1 ? 10 : 12
    guard header.count >= start else { throw .malformed("its header is cut") }
    var literal = PythonLiteral(header[start...])
    var descriptor: String?
    var isFortran: Bool?
    var shape: [Int]?
    try literal.expect("{")
    while !literal.take("}") {
      let key = try literal.string()
      try literal.expect(":")
      switch key {
      case "descr" where descriptor == nil:
        if literal.peeks("[") { throw .unsupported("it holds records; save each field as an array of its own") }
        descriptor = try literal.string()
      case "fortran_order" where isFortran == nil: isFortran = try literal.boolean()
      case "shape" where shape == nil: shape = try literal.integers(atMost: Self.maximumRank)
      default: throw .malformed("its header has an unexpected '\(key)'")
      }
      if !literal.take(",") {
        try literal.expect("}")
        break
      }
    }
    try literal.end()
    guard let descriptor, let isFortran, let shape else { throw .malformed("its header is incomplete") }
    dtype = try Self.dtype(descriptor)
    if isFortran, shape.count > 1 {
      throw .unsupported("it is in Fortran order; save numpy.ascontiguousarray of it")
    }
    guard let bytes = byteCount(shape, dtype) else {
      throw .malformed("its shape \(shapeText(shape)) is beyond counting")
    }
    (self.shape, dataOffset, dataBytes) = (shape, header.count, bytes)
  }

  private static func dtype(_ descriptor: String) throws(Problem) -> DType {
    let order = descriptor.first
    let type = String(descriptor.dropFirst())
    let types: [String: DType] = [
      "b1": .bool, "i1": .int8, "u1": .uint8, "i2": .int16, "u2": .uint16, "i4": .int32, "u4": .uint32, "i8": .int64,
      "u8": .uint64, "f2": .float16, "f4": .float32, "f8": .float64, "c8": .complex64, "c16": .complex128,
    ]
    guard order == "<" || order == "|" || order == ">", let dtype = types[type] else {
      if type.first == "O" {
        throw .unsupported("it holds Python objects, which are never loaded; save an array of numbers")
      }
      throw .unsupported("its elements are '\(descriptor)'; save an array of numbers")
    }
    let isSingleByte = dtype.byteWidth == 1
    guard order != ">" || isSingleByte else {
      throw .unsupported("its numbers ('\(descriptor)') are big-endian; save them as '<\(type)'")
    }
    guard order != "|" || isSingleByte else { throw .malformed("its element type '\(descriptor)' has no byte order") }
    return dtype
  }
}

/// As much of Python's literals as the header uses.
private struct PythonLiteral {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

  private mutating func skipSpace() {
    rest = rest.drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\t") }
  }

  mutating func peeks(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    return rest.first == UInt8(ascii: character)
  }

  mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard peeks(character) else { return false }
    rest.removeFirst()
    return true
  }

  mutating func expect(_ character: Unicode.Scalar) throws(NPYHeader.Problem) {
    guard take(character) else { throw .malformed("its header lacks a '\(character)'") }
  }

  mutating func end() throws(NPYHeader.Problem) {
    skipSpace()
    guard rest.isEmpty else { throw .malformed("its header goes on after its end") }
  }

  /// In either quotes; escapes, which no header has, are refused.
  mutating func string() throws(NPYHeader.Problem) -> String {
    skipSpace()
    guard let quote = rest.popFirst(), quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\""),
      let end = rest.firstIndex(of: quote), !rest[..<end].contains(UInt8(ascii: "\\"))
    else { throw .malformed("its header lacks a string") }
    defer { rest = rest[(end + 1)...] }
    return String(decoding: rest[..<end], as: UTF8.self)
  }

  mutating func boolean() throws(NPYHeader.Problem) -> Bool {
    skipSpace()
    for (word, value) in [("True", true), ("False", false)] where rest.starts(with: word.utf8) {
      rest.removeFirst(word.utf8.count)
      return value
    }
    throw .malformed("its header lacks True or False")
  }

  /// A tuple of integers from 0 up.
  mutating func integers(atMost limit: Int) throws(NPYHeader.Problem) -> [Int] {
    var numbers: [Int] = []
    try expect("(")
    while !take(")") {
      skipSpace()
      let digits = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
      guard let number = Int(String(decoding: digits, as: UTF8.self)), numbers.count < limit else {
        throw .malformed("its header has no valid shape")
      }
      numbers.append(number)
      rest = rest[digits.endIndex...]
      // Python 2 marked long integers.
      _ = take("L")
      if !take(",") {
        try expect(")")
        break
      }
    }
    return numbers
  }
}
