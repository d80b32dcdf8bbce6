import ModelGraph
import Numerics

/// A plan's new numbers at their places in the original, whole tensors: what a compressed network with other weights is
/// compared with.
extension Graph {
  /// - Precondition: the plan fits this graph.
  func withContents(of plan: CompressionPlan) -> Graph {
    let slices = Dictionary(plan.slices.map { ($0.value, $0) }) { first, _ in first }
    var tensors: [ValueID: Tensor] = [:]
    for new in plan.contents {
      guard let tensor = self[new.value].tensor else { continue }
      tensors[new.value] = tensor.holding(new.tensor, at: slices[new.value])
    }
    return storing(tensors)
  }
}

extension Tensor {
  /// The tensor with `new` where `slice` keeps something; all of it without a slice.
  func holding(_ new: Tensor, at slice: TensorSlice?) -> Tensor {
    guard let slice, let width = dtype.byteWidth,
      let gather = try? Gather(shape: shape, elementBytes: width, axes: slice.axes.map(Gather.Axis.init)),
      gather.outputBytes == new.bytes.count
    else { return new }
    return Tensor(
      dtype: dtype, shape: shape,
      bytes: TensorBytes(count: bytes.count) { target in
        target.copyMemory(from: bytes.buffer)
        var position = 0
        for row in 0..<gather.rowCount {
          gather.forEachRun(ofRow: row) { offset, count in
            target[offset..<offset + count].copyBytes(from: new.bytes.buffer[position..<position + count])
            position += count
          }
        }
      })
  }
}
