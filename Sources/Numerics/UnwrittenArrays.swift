import Glibc

extension Array where Element: BitwiseCopyable {
  /// Elements that are to be written before they are read: to write zeros first would take as long again.
  package init(unwritten count: Int) {
    self.init(unsafeUninitializedCapacity: count) { memory, written in
      LargePages.advise(UnsafeMutableRawBufferPointer(memory))
      written = count
    }
  }
}

/// Large matrices are written once and dropped: met in pages of the usual size, each page a fault, that takes as long as
/// a product with a small one.
private enum LargePages {
  /// Of x86-64, and of ARM with the usual pages.
  private static let bytes = 2 << 20

  /// Asks the system for large pages where memory not yet written has room for them. It may give none.
  static func advise(_ memory: UnsafeMutableRawBufferPointer) {
    guard memory.count >= 2 * bytes, let base = memory.baseAddress else { return }
    let first = base.alignedUp(toMultipleOf: bytes)
    let end = (base + memory.count).alignedDown(toMultipleOf: bytes)
    if first < end { madvise(first, end - first, MADV_HUGEPAGE) }
  }
}
