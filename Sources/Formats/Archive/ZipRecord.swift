import ModelGraph

/// What the records of a zip archive are made of, in reading and in writing: signatures, field identifiers, and
/// little-endian numbers.
///
/// Invariant of reading: a record that was cut out of a span has all its fixed bytes, so that its fields can be read by
/// their offset without another look at the bounds. Specification: PKWARE APPNOTE.TXT 6.3.10, section 4.3.
enum ZipRecord {
  /// A record's signature and the bytes that it always has.
  struct Kind {
    let signature: UInt32
    let fixedCount: Int
    let name: StaticString
  }

  static let localHeader = Kind(signature: 0x0403_4b50, fixedCount: 30, name: "local header")
  static let centralHeader = Kind(signature: 0x0201_4b50, fixedCount: 46, name: "directory entry")
  static let end = Kind(signature: 0x0605_4b50, fixedCount: 22, name: "end of directory")
  static let zip64End = Kind(signature: 0x0606_4b50, fixedCount: 56, name: "zip64 end of directory")
  static let zip64Locator = Kind(signature: 0x0706_4b50, fixedCount: 20, name: "zip64 locator")

  /// The extra field with numbers that find no room in 32 bits.
  static let zip64Field: UInt16 = 0x0001
  /// PyTorch's extra field that only takes room.
  static let paddingField: UInt16 = 0x4246

  enum Flag {
    static let encrypted: UInt16 = 1 << 0
    /// Checksum and sizes follow the data; the local header has zeros.
    static let descriptor: UInt16 = 1 << 3
    static let patched: UInt16 = 1 << 5
    static let strongEncryption: UInt16 = 1 << 6
    static let utf8: UInt16 = 1 << 11
    /// The directory is encrypted and local headers are masked.
    static let masked: UInt16 = 1 << 13
  }

  /// Stands in a 16 or 32-bit field for a number that the zip64 field or record has.
  static let elsewhere16: UInt16 = 0xffff
  static let elsewhere32: UInt32 = 0xffff_ffff
}

extension ByteSpan {
  /// The fixed bytes of the record at `offset`, which must have the signature of `kind`.
  func record(_ kind: ZipRecord.Kind, at offset: Int) throws(Failure) -> ByteSpan {
    guard offset >= 0, offset <= count - kind.fixedCount else {
      throw .malformed("a zip \(kind.name) lies outside the file", at: self.offset + max(0, offset))
    }
    let record = self[offset..<(offset + kind.fixedCount)]
    guard record.u32(0) == kind.signature else {
      throw .malformed("there is no zip \(kind.name) where one has to be", at: record.offset)
    }
    return record
  }

  /// - Precondition for these: the number lies inside the span.
  func u16(_ offset: Int) -> UInt16 { number(offset) }
  func u32(_ offset: Int) -> UInt32 { number(offset) }
  func u64(_ offset: Int) -> UInt64 { number(offset) }

  private func number<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int) -> T {
    precondition(offset >= 0 && offset <= count - MemoryLayout<T>.size)
    return T(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: T.self))
  }
}

extension [UInt8] {
  mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }
}
