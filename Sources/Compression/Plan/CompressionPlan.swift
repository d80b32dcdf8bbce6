import ModelGraph
import Numerics

/// What every method ends in: the edits that turn a model into the smaller one, as data.
///
/// A plan names values and nodes of the graph it was made for and holds no weights but those it introduces;
/// recommending, previewing, explaining, verifying and saving need no model format, and applying it (a format's
/// surgeon) needs no method.
package struct CompressionPlan: Sendable {
  /// At most one per stored tensor, in order of the tensors.
  package var slices: [TensorSlice]
  /// In node order.
  package var edits: [NodeEdit]
  /// The lengths of computed values that change, for whatever a file declares about them.
  package var lengths: [(value: ValueID, axis: Int, length: Int)]
  /// In node order, of nodes that no edit concerns.
  package var replacements: [NodeReplacement]
  /// What replacements read besides, and `readConstant`; names are new to the model.
  package var constants: [(name: String, tensor: Tensor)]
  /// What stored tensors hold instead of their own numbers; at most one each, in order of the tensors.
  package var contents: [TensorContents]

  package init(
    slices: [TensorSlice] = [], edits: [NodeEdit] = [], lengths: [(value: ValueID, axis: Int, length: Int)] = [],
    replacements: [NodeReplacement] = [], constants: [(name: String, tensor: Tensor)] = [],
    contents: [TensorContents] = []
  ) {
    (self.slices, self.edits, self.lengths) = (slices, edits, lengths)
    (self.replacements, self.constants, self.contents) = (replacements, constants, contents)
  }
}

/// New numbers of a stored tensor, of its own type and of the shape that the plan's slices leave it.
package struct TensorContents: Sendable {
  package let value: ValueID
  package let tensor: Tensor
  package init(value: ValueID, tensor: Tensor) { (self.value, self.tensor) = (value, tensor) }
}

/// The indices that a stored tensor keeps, along one or more of its axes.
package struct TensorSlice: Sendable, Equatable {
  package let value: ValueID
  /// By ascending axis; axes that are not listed stay whole.
  package let axes: [AxisSlice]
  package init(value: ValueID, axes: [AxisSlice]) { (self.value, self.axes) = (value, axes) }
}

package struct AxisSlice: Sendable, Equatable {
  package let axis: Int
  package let kept: Kept

  package enum Kept: Sendable, Equatable {
    /// Ascending indices, the same for the whole tensor.
    case indices([Int])
    /// Another list for every block of another axis: axis `blockAxis` (original length) is divided into
    /// `blocks.count` equal runs, and slices of run b keep `blocks[b]`, all of the same length. A block none of whose
    /// rows survive along `blockAxis` has an empty list. (Weights of group convolutions: axis 1 in blocks of axis 0.)
    case perBlock(blockAxis: Int, [[Int]])
  }

  package init(axis: Int, kept: Kept) { (self.axis, self.kept) = (axis, kept) }
}

extension Gather.Axis {
  package init(_ slice: AxisSlice) {
    switch slice.kept {
    case .indices(let indices): self.init(axis: slice.axis, kept: .indices(indices))
    case .perBlock(let axis, let blocks): self.init(axis: slice.axis, kept: .perBlock(blockAxis: axis, blocks))
    }
  }
}

/// One change to a node. The node keeps its name and its outputs' names.
package enum NodeEdit: Sendable {
  case setAttribute(node: NodeID, name: String, value: Attribute)
  case removeAttribute(node: NodeID, name: String)
  /// Input `input` becomes a new private constant (an appended input if it was absent).
  case setInput(node: NodeID, input: Int, tensor: Tensor)
  /// Input `input` becomes one of the plan's `constants`.
  case readConstant(node: NodeID, input: Int, constant: Int)
  /// Input `input`, a dynamic integer tensor, becomes `old * multiplier / divisor + offset`, element by element;
  /// the division is exact where multiplier is not 0.
  case adjustInput(node: NodeID, input: Int, multiplier: Tensor, divisor: Tensor, offset: Tensor)
  /// The node becomes `Gather(input 0, indices, axis)`: a Slice whose kept positions are no longer regular.
  case becomeGather(node: NodeID, axis: Int, indices: [Int])
  /// The node reads `Gather(input, indices, axis)` in place of input `input`: the same on one of several axes.
  case gatherInput(node: NodeID, input: Int, axis: Int, indices: [Int])

  package var node: NodeID {
    switch self {
    case .setAttribute(let node, _, _), .removeAttribute(let node, _), .setInput(let node, _, _),
      .readConstant(let node, _, _),
      .adjustInput(let node, _, _, _, _),
      .becomeGather(let node, _, _),
      .gatherInput(let node, _, _, _):
      node
    }
  }
}

/// A node whose place a row of others takes: each but the first reads what the one before it computes, and the last
/// computes the node's own output.
package struct NodeReplacement: Sendable {
  package let node: NodeID
  /// In execution order, at least one.
  package let stages: [Stage]

  package init(node: NodeID, stages: [Stage]) { (self.node, self.stages) = (node, stages) }

  package struct Stage: Sendable {
    /// New to the model, and so is the name of what all stages but the last compute.
    package let name: String
    package let outputName: String
    package let op: String
    package let domain: String
    package let inputs: [Operand]
    package let attributes: [String: Attribute]

    package init(
      name: String, outputName: String, op: String, domain: String, inputs: [Operand], attributes: [String: Attribute]
    ) {
      (self.name, self.outputName, self.op, self.domain) = (name, outputName, op, domain)
      (self.inputs, self.attributes) = (inputs, attributes)
    }

    /// Whether it is a convolution of one filter per channel such as layers for these take: over one or two axes, with
    /// one stride and no dilation besides.
    package func isDepthwise(_ weight: [Int]) -> Bool {
      let rank = weight.count - 2
      guard op == "Conv", case .int(let groups)? = attributes["group"], groups > 1, weight[0] == groups,
        weight[1] == 1, rank <= 2
      else { return false }
      func differ(from one: Int, _ name: String) -> Bool {
        if case .ints(let values)? = attributes[name] { values.contains { $0 != one } } else { false }
      }
      guard case .ints(let strides)? = attributes["strides"], let stride = strides.first else { return true }
      return !differ(from: stride, "strides") && (stride == 1 || !differ(from: 1, "dilations"))
    }
  }

  package enum Operand: Sendable, Equatable {
    /// What the stage before computes.
    case previous
    /// What the replaced node reads as this input.
    case original(Int)
    /// Of the plan's `constants`.
    case constant(Int)
  }

  /// Inputs of the replaced node that some stage goes on reading.
  package var keptInputs: Set<Int> {
    Set(
      stages.flatMap(\.inputs).compactMap { operand in
        if case .original(let input) = operand { input } else { nil }
      })
  }
}
