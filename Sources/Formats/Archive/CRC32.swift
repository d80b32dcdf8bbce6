import CDeflate

/// The checksum of zip archives, of bytes that come piece by piece. By libdeflate, which works it out as fast as memory
/// is read; zlib takes as long for it as the disk for the bytes.
struct CRC32 {
  private(set) var value: UInt32 = 0

  mutating func add(_ bytes: UnsafeRawBufferPointer) {
    // libdeflate starts anew where it is given no address.
    guard let base = bytes.baseAddress else { return }
    value = libdeflate_crc32(value, base, bytes.count)
  }

  static func of(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var checksum = CRC32()
    checksum.add(bytes)
    return checksum.value
  }
}
