import ModelGraph
import Numerics

/// The filters of one stored weight: the slices along an axis, each with the cell of a group that it belongs to.
///
/// Filter `q * shape[axis] + j` is slice j of run q, where the axes before `axis` are `blocks` equal runs of rows: one
/// for all weights but those of grouped convolutions, of which a group has filters of its own.
package struct WeightFilters {
  package let weight: Tensor
  let format: FloatFormat
  package let blocks: Int
  /// Per run and filter, rows of `inner` elements.
  let outer: Int
  /// Filters per run.
  let width: Int
  let inner: Int
  /// Per filter its cell, or -1 if its score is of no interest.
  package private(set) var cells: [Int]
  /// Per filter, what its elements are multiplied by (a normalization that follows), finite; nil = 1.
  package let scales: [Double]?

  package var count: Int { blocks * width }
  /// Elements of a filter.
  var length: Int { outer * inner }

  /// - Parameters:
  ///   - axis: of the filters: 0 for Conv, 1 for MatMul's `[in, out]` and ConvTranspose's `[in, out / groups, ...]`.
  ///   - cells: nil = each filter its own.
  /// - Returns: nil if the weight does not hold real numbers (f16, bf16, f32, f64).
  package init?(_ weight: Tensor, axis: Int, blocks: Int = 1, cells: [Int]? = nil, scales: [Double]? = nil) {
    precondition(weight.shape.indices.contains(axis), "the filter axis is an axis of the weight")
    guard let format = weight.dtype.floatFormat else { return nil }
    let rows = weight.shape[..<axis].reduce(1, *)
    precondition(blocks >= 1 && rows % blocks == 0, "blocks divide the rows before the filter axis")
    (self.weight, self.format, self.blocks, self.scales) = (weight, format, blocks, scales)
    (outer, width) = (rows / blocks, weight.shape[axis])
    inner = weight.shape[(axis + 1)...].reduce(1, *)
    self.cells = cells ?? Array(0..<blocks * width)
    precondition(self.cells.count == blocks * width, "one cell per filter")
    precondition(scales.map { $0.count == blocks * width } ?? true, "one scale per filter")
  }

  /// The same filters in other cells.
  func with(cells: [Int]) -> WeightFilters {
    var copy = self
    copy.cells = cells
    return copy
  }

  /// Where an element of a filter lies: `element` of its row `row`.
  func address(filter: Int, row: Int, element: Int = 0) -> UnsafeRawPointer {
    let position = ((filter / width * outer + row) * width + filter % width) * inner + element
    return weight.bytes.base + position * format.width
  }
}

extension DType {
  /// nil for types that are not real numbers.
  var floatFormat: FloatFormat? {
    switch self {
    case .float16: .float16
    case .bfloat16: .bfloat16
    case .float32: .float32
    case .float64: .float64
    default: nil
    }
  }
}

extension Tensor {
  /// The elements of a tensor of real numbers, nil for others.
  var realNumbers: [Double]? {
    guard let format = dtype.floatFormat else { return nil }
    return [Double](unsafeUninitializedCapacity: elementCount) { buffer, count in
      Widening.copy(format, at: bytes.base, to: UnsafeMutableBufferPointer(rebasing: buffer[..<elementCount]))
      count = elementCount
    }
  }
}
