import Glibc

/// A run of bytes of a model document: part of a mapped file or of a buffer the document made.
///
/// Invariant: the document that handed it out keeps the bytes alive and nobody writes to them. The struct owns nothing,
/// so that tens of thousands of them cost no reference counting; what outlives the document's reading (tensors) holds
/// its owner instead (`TensorBytes`).
package struct ByteSpan: @unchecked Sendable {
  package let base: UnsafeRawPointer
  package let count: Int
  /// Position of `base` in the file, for error messages.
  package let offset: Int

  package init(base: UnsafeRawPointer, count: Int, offset: Int = 0) {
    (self.base, self.count, self.offset) = (base, count, offset)
  }

  package var end: UnsafeRawPointer { base + count }
  package var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }
  package var isEmpty: Bool { count == 0 }

  /// - Precondition: `range` lies inside the span.
  package subscript(range: Range<Int>) -> ByteSpan {
    ByteSpan(base: base + range.lowerBound, count: range.count, offset: offset + range.lowerBound)
  }

  /// The text, or nil where the bytes are not UTF-8.
  package var text: String? { String(validating: buffer, as: UTF8.self) }

  /// The text of bytes that were checked to be UTF-8 before, or need not be.
  package var displayName: String { String(decoding: buffer, as: UTF8.self) }

  /// The same for a message to people, shortened.
  package var displayText: String { String(decoding: buffer.prefix(200), as: UTF8.self) }

  package func equals(_ text: StaticString) -> Bool {
    count == text.utf8CodeUnitCount && memcmp(base, text.utf8Start, count) == 0
  }
}

/// Spans are names: equal when their bytes are.
extension ByteSpan: Hashable {
  package static func == (a: ByteSpan, b: ByteSpan) -> Bool {
    a.count == b.count && (a.base == b.base || memcmp(a.base, b.base, a.count) == 0)
  }

  package func hash(into hasher: inout Hasher) { hasher.combine(bytes: buffer) }
}
