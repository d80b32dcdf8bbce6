/// What inference accepts from a file, so that no claim in it makes arithmetic overflow or memory run out.
enum ShapeLimits {
  /// Most axes of one value. NumPy and ONNX Runtime stop at 64 and below.
  static let rank = 64
  /// Most elements of one value, lengths of 0 counted as 1. Nothing of that size is ever allocated: the limit only
  /// leaves room for products of lengths in `Int`.
  static let elements = 1 << 60

  /// Whether `shape` is within the limits and has no negative length.
  static func allow(_ shape: [Int]) -> Bool {
    guard shape.count <= rank else { return false }
    var count = 1
    for length in shape {
      guard length >= 0 else { return false }
      let (product, overflow) = count.multipliedReportingOverflow(by: max(length, 1))
      guard !overflow, product <= elements else { return false }
      count = product
    }
    return true
  }
}
