import ModelGraph

/// Most bytes of inputs that are in memory at a time. A header can claim what it likes; photographs in batches of 32
/// need a tenth of this.
let batchByteLimit = 1 << 30

/// Bytes of a tensor; nil if they cannot be counted.
func byteCount(_ shape: [Int], _ dtype: DType) -> Int? {
  guard var count = dtype.byteWidth else { return nil }
  for length in shape {
    let (product, overflow) = count.multipliedReportingOverflow(by: length)
    guard length >= 0, !overflow else { return nil }
    count = product
  }
  return count
}
