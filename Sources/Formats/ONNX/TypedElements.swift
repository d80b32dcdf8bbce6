import ModelGraph

/// Elements stored as lists of variable-length integers (int32_data, int64_data, uint64_data): from and to the raw
/// little-endian bytes that the rest of the program knows.
///
/// Invariant: one entry is one element, except that entries of the 4- and 2-bit types are bytes of packed elements and
/// entries of the 6-bit types are elements that raw data packs (onnx-ml.proto, TensorProto.int32_data).
struct TypedElements {
  let dtype: DType
  /// Raw bytes of all elements, as the shape demands.
  let expectedBytes: Int

  /// Bits of the raw form that one entry fills.
  private var entryBits: Int {
    switch dtype.subByteBits {
    case 0: (dtype.byteWidth ?? 0) * 8
    case 6: 6
    default: 8
    }
  }

  /// Every occurrence of `field` in the TensorProto `span`, as raw bytes. Memory is claimed for entries that exist, not
  /// for what the shape says.
  func decode(_ span: ByteSpan, field number: Int, what: @autoclosure () -> String) throws(Failure) -> TensorBytes {
    var bytes: [UInt8] = []
    // An entry takes at least one byte of the file, and at most the width of its type in memory.
    bytes.reserveCapacity(min(expectedBytes, span.count * max(1, entryBits / 8)))
    var pending: UInt64 = 0
    var pendingBits = 0
    var reader = WireReader(span, "TensorProto")
    while let field = try reader.next() {
      guard field.number == number else { continue }
      try field.forEachInt { value throws(Failure) in
        guard bytes.count < expectedBytes else {
          throw .malformed("\(what()) has more elements than its shape", at: field.whole.offset)
        }
        if entryBits == 6 {
          pending |= UInt64(truncatingIfNeeded: value & 0x3f) << pendingBits
          pendingBits += 6
          if pendingBits >= 8 {
            bytes.append(UInt8(truncatingIfNeeded: pending))
            pending >>= 8
            pendingBits -= 8
          }
        } else {
          withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0.prefix(entryBits / 8)) }
        }
      }
    }
    if pendingBits > 0, bytes.count < expectedBytes { bytes.append(UInt8(truncatingIfNeeded: pending)) }
    return TensorBytes(copying: bytes)
  }

  /// The entries of `bytes`, as the writers of the typed form spell them: signed types with their sign, all others as
  /// unsigned bit patterns.
  ///
  /// - Precondition: `dtype` has a byte width of at most 8.
  func forEachEntry(of bytes: UnsafeRawBufferPointer, _ body: (UInt64) -> Void) {
    func each<T: FixedWidthInteger>(_ type: T.Type) {
      for offset in stride(from: 0, to: bytes.count, by: MemoryLayout<T>.size) {
        let element = T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
        body(UInt64(bitPattern: Int64(truncatingIfNeeded: element)))
      }
    }
    switch (dtype.byteWidth ?? 1, dtype) {
    case (1, .int8): each(Int8.self)
    case (1, _): each(UInt8.self)
    case (2, .int16): each(Int16.self)
    case (2, _): each(UInt16.self)
    case (4, .int32): each(Int32.self)
    case (4, _): each(UInt32.self)
    default: each(UInt64.self)
    }
  }
}
