import ModelGraph
import Numerics

extension Graph {
  /// The smaller network itself, weights and all: what `plan` makes of this one.
  /// - Throws: `certificateFailed` if the plan does not fit.
  package func applying(_ plan: CompressionPlan, work: Work) throws(Failure) -> Graph {
    let rewritten = try RewrittenGraph(self, applying: plan) { tensor, slice throws(Failure) in
      try work.checkCancellation()
      return try tensor.cut(slice)
    }.graph
    var lengths: [ValueID: [Int: Int]] = [:]
    for (value, axis, length) in plan.lengths { lengths[value, default: [:]][axis] = length }
    let values = rewritten.values.enumerated().map { index, value in
      guard let changed = lengths[ValueID(index)], var shape = value.declaredShape else { return value }
      for (axis, length) in changed where axis < shape.count { shape[axis] = .fixed(length) }
      return Value(
        name: value.name, dtype: value.dtype, declaredShape: shape, tensor: value.tensor)
    }
    return Graph(
      values: values, nodes: rewritten.nodes, inputs: rewritten.inputs, outputs: rewritten.outputs,
      definitions: rewritten.definitions, constraints: rewritten.constraints
    ).withoutUnread(listedIn: UnreadParts(self, plan))
  }

  /// The graph without stored tensors that nothing reads any more.
  private func withoutUnread(listedIn unread: UnreadParts) -> Graph {
    let values = values.enumerated().map { index, value in
      unread.values.contains(ValueID(index)) && value.producer == nil
        ? Value(name: value.name, dtype: value.dtype) : value
    }
    return Graph(
      values: values, nodes: nodes, inputs: inputs, outputs: outputs, definitions: definitions,
      constraints: constraints)
  }
}

extension Tensor {
  /// What `slice` keeps.
  func cut(_ slice: TensorSlice) throws(Failure) -> Tensor {
    guard let width = dtype.byteWidth else {
      throw Failure(.certificateFailed, "the plan cuts a tensor of \(dtype), which has no whole bytes")
    }
    let gather: Gather
    do throws(Gather.Misfit) {
      gather = try Gather(shape: shape, elementBytes: width, axes: slice.axes.map(Gather.Axis.init))
    } catch {
      throw Failure(.certificateFailed, "the plan does not fit a stored tensor: \(error.reason)")
    }
    let source = bytes
    return Tensor(
      dtype: dtype, shape: gather.outputShape,
      bytes: TensorBytes(count: gather.outputBytes) { target in
        guard let base = target.baseAddress, gather.outputBytes > 0 else { return }
        gather.copyRows(0..<gather.rowCount, from: source.base, to: base)
      })
  }
}
