/// One file in a zip archive, as the archive's directory describes it.
///
/// Invariant: made by `ZipArchive` alone, so `range` lies inside the archive's bytes, overlaps no other entry, and holds
/// exactly `count` bytes if the entry is stored.
package struct ZipEntry: Sendable {
  package enum Method: UInt16, Sendable {
    case stored = 0
    case deflated = 8
  }

  /// Relative, with `/` between components, none of which is `..`.
  package let name: String
  package let method: Method
  /// Bytes of the contents, unpacked.
  package let count: Int
  /// Of the contents, as the directory has it. Zero also where the writer computed none, as PyTorch's can be told to.
  package let crc32: UInt32
  /// Where the entry's bytes are in the archive.
  package let range: Range<Int>
  /// Where the entry's local header is in the archive.
  let headerOffset: Int

  /// The last component of its name; empty for a directory.
  var fileName: Substring {
    guard let slash = name.utf8.lastIndex(of: UInt8(ascii: "/")) else { return name[...] }
    return name[name.utf8.index(after: slash)...]
  }

  package var isDirectory: Bool { name.utf8.last == UInt8(ascii: "/") }
}
