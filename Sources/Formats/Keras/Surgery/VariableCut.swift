import Compression
import ModelGraph
import Numerics

/// What a variable keeps, told along its own axes rather than along those of the graph's tensor.
struct VariableCut {
  enum Form {
    case gather(Gather)
    /// In Keras's order of axes: where no gather along the variable's axes says it.
    case contents(Tensor)
  }

  let form: Form
  let shape: [Int]

  /// - Parameters:
  ///   - slice: of `value`, the variable as the graph has it.
  /// - Throws: `certificateFailed` where the slice does not fit, `modelUnsupportedOperator` where what is kept of axes
  ///   that the graph has as one is no grid.
  init(
    _ slice: TensorSlice, _ value: Value, _ variable: KerasVariable, _ view: VariableView
  ) throws(Failure) {
    guard let width = variable.tensor.dtype.byteWidth, let seen = value.tensor else {
      throw Failure(.certificateFailed, "the plan cuts '\(variable.path)', which has no elements to choose from")
    }
    if let axes = try Self.axes(slice, variable, view) {
      let gather = try Self.gather(variable.tensor.shape, width, axes, variable)
      (form, shape) = (.gather(gather), gather.outputShape)
    } else {
      let gather = try Self.gather(seen.shape, width, slice.axes.map(Gather.Axis.init), variable)
      let tensor = try view.variable(
        of: Tensor(dtype: seen.dtype, shape: gather.outputShape, bytes: gather.bytes(of: seen)),
        like: variable.tensor.shape)
      (form, shape) = (.contents(tensor), tensor.shape)
    }
  }

  /// What is left of the variable.
  func tensor(of variable: KerasVariable) -> Tensor {
    switch form {
    case .contents(let tensor): tensor
    case .gather(let gather):
      Tensor(
        dtype: variable.tensor.dtype, shape: gather.outputShape,
        bytes: gather.bytes(of: variable.tensor))
    }
  }

  /// The same choice along the variable's axes; nil where it is another for every block of an axis further in.
  private static func axes(
    _ slice: TensorSlice, _ variable: KerasVariable, _ view: VariableView
  ) throws(Failure) -> [Gather.Axis]? {
    var kept: [Int: Gather.Axis.Kept] = [:]
    for part in slice.axes {
      let own = view.axes[part.axis]
      switch part.kept {
      case .indices(let indices):
        let lengths = own.map { variable.tensor.shape[$0] }
        guard let grid = IndexGrid.lists(indices, lengths) else {
          throw .unsayable(variable.path, "not all heads would keep the same")
        }
        for (axis, list) in zip(own, grid) where list.count < variable.tensor.shape[axis] {
          kept[axis] = .indices(list)
        }
      case .perBlock(let blockAxis, let blocks):
        guard own.count == 1, view.axes[blockAxis].count == 1, view.axes[blockAxis][0] < own[0] else { return nil }
        kept[own[0]] = .perBlock(blockAxis: view.axes[blockAxis][0], blocks)
      }
    }
    return kept.sorted { $0.key < $1.key }.map { Gather.Axis(axis: $0.key, kept: $0.value) }
  }

  private static func gather(
    _ shape: [Int], _ width: Int, _ axes: [Gather.Axis], _ variable: KerasVariable
  ) throws(Failure) -> Gather {
    do throws(Gather.Misfit) {
      return try Gather(shape: shape, elementBytes: width, axes: axes)
    } catch {
      throw Failure(.certificateFailed, "the plan does not fit '\(variable.path)': \(error.reason)")
    }
  }
}

extension Gather {
  fileprivate func bytes(of tensor: Tensor) -> TensorBytes {
    TensorBytes(count: outputBytes) { target in
      if let base = target.baseAddress { copyRows(0..<rowCount, from: tensor.bytes.base, to: base) }
    }
  }
}

extension VariableView {
  /// A tensor that has the graph's order of axes, in the variable's.
  /// - Parameter shape: the variable's, whose lengths count where several of its axes are one in the graph.
  func variable(of tensor: Tensor, like shape: [Int]) throws(Failure) -> Tensor {
    guard let width = tensor.dtype.byteWidth, tensor.shape.count == axes.count else {
      throw Failure(.certificateFailed, "the plan has no contents for '\(path)' that fit")
    }
    var lengths: [Int] = []
    for (length, own) in zip(tensor.shape, axes) {
      let inner = own.dropFirst().map { shape[$0] }
      let rest = inner.reduce(1, *)
      guard rest > 0, length % rest == 0, !own.isEmpty || length == 1 else {
        throw .unsayable(path, "not all heads would keep the same")
      }
      if !own.isEmpty { lengths += [length / rest] + inner }
    }
    // Which of the axes in the graph's order each of the variable's is.
    let present = axes.flatMap { $0 }
    let order = present.indices.sorted { present[$0] < present[$1] }
    let permutation = AxisPermutation(shape: lengths, order: order, elementBytes: width)
    let bytes =
      permutation.isIdentity
      ? tensor.bytes
      : TensorBytes(count: permutation.byteCount) { target in
        if let base = target.baseAddress { permutation.copy(from: tensor.bytes.base, to: base) }
      }
    return Tensor(dtype: tensor.dtype, shape: order.map { lengths[$0] }, bytes: bytes)
  }
}
