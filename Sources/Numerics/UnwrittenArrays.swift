extension Array where Element: BitwiseCopyable {
  /// Elements that are to be written before they are read: to write zeros first would take as long again.
  package init(unwritten count: Int) {
    self.init(unsafeUninitializedCapacity: count) { _, written in written = count }
  }
}
