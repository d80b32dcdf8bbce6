/// JSON text with the places of its values, for files that are read in parts and written back with a few places
/// changed.
///
/// A tree of values would forget how numbers, spaces and escapes were written, and takes ten times the memory and time
/// of this: one pass over the bytes notes where every value begins and ends (16 bytes each); strings and numbers are
/// made from the text when they are asked for. Only complete, unambiguous JSON has a `JSONText`: what the pass refuses
/// is what jansson refuses for messages (tests compare them), so duplicate names, invalid UTF-8, lone surrogates and
/// NUL among it.
///
/// Invariant: every place lies inside the text, elements of a container follow it directly, and `next` leads past them.
package final class JSONText: @unchecked Sendable {
  /// What a text may not exceed.
  package struct Limits: Sendable {
    package var depth = 128
    /// Values and names. 4 million take 64 MB; the model of a network of 10,000 operators has a million.
    package var count = 1 << 22
    package init() {}
  }

  struct Entry {
    var start: UInt32
    var end: UInt32
    /// The number of the entry after this value and all it holds.
    var next: UInt32
    var kind: JSONElement.Kind
    /// For strings: whether they hold escapes.
    var isEscaped: Bool
  }

  private let bytes: UnsafeRawBufferPointer
  private let owner: AnyObject
  private let entries: UnsafeMutableBufferPointer<Entry>

  /// - Parameter owner: keeps `bytes` alive and unchanged.
  /// - Throws: `JSONDecodingError` with reason and position.
  package init(
    _ bytes: UnsafeRawBufferPointer, owner: AnyObject, limits: Limits = Limits()
  ) throws(JSONDecodingError) {
    (self.bytes, self.owner) = (bytes, owner)
    var parser = try JSONTextParser(bytes, limits: limits)
    do throws(JSONDecodingError) {
      try parser.parse()
    } catch {
      parser.entries.deallocate()
      throw error
    }
    entries = parser.entries
  }

  deinit { entries.deallocate() }

  /// The whole text as one value. It is used only while this object lives.
  package var root: JSONElement {
    // Neither is nil: a text has at least one byte and one value.
    guard let base = bytes.baseAddress, let entries = entries.baseAddress else { preconditionFailure("no text") }
    return JSONElement(base: base, entries: UnsafePointer(entries), position: 0)
  }

  package var byteCount: Int { bytes.count }
  /// Memory of the index.
  package var heldBytes: Int { entries.count * MemoryLayout<Entry>.stride }
}
