/// The one in-memory form of a network, whatever file it came from: nodes whose operators have ONNX semantics, values
/// in single assignment, tensors as views on mapped or owned bytes.
///
/// A graph is immutable once built, and so are its nodes and values, so that any number of requests may read it at
/// once; they are objects, since analyses hand them around far more often than anything makes one. Names are the file's
/// own; ids are positions in `values` and `nodes`.
package final class Graph: Sendable {
  /// Each names the node that computes it here, whatever it named before.
  package let values: [Value]
  /// In topological order; nodes of one file keep their order where it already was one.
  package let nodes: [Node]
  /// Fed by the caller. Initializers that the file also lists as inputs are not among them.
  package let inputs: [ValueID]
  package let outputs: [ValueID]
  /// Per value, the places that read it, in node order.
  package let uses: [[Use]]
  package let definitions: OperatorDefinitions
  package let constraints: FormatConstraints

  package init(
    values: [Value], nodes: [Node], inputs: [ValueID], outputs: [ValueID],
    definitions: OperatorDefinitions = OperatorDefinitions(), constraints: FormatConstraints = FormatConstraints()
  ) {
    var values = values
    var uses = [[Use]](repeating: [], count: values.count)
    var producers = [NodeID?](repeating: nil, count: values.count)
    for (index, node) in nodes.enumerated() {
      for (position, input) in node.inputs.enumerated() {
        if let input { uses[input.index].append(Use(node: NodeID(index), input: position)) }
      }
      for case let output? in node.outputs { producers[output.index] = NodeID(index) }
    }
    for (index, producer) in producers.enumerated() where values[index].producer != producer {
      values[index] = values[index].produced(by: producer)
    }
    (self.values, self.nodes, self.inputs, self.outputs, self.uses) = (values, nodes, inputs, outputs, uses)
    (self.definitions, self.constraints) = (definitions, constraints)
  }

  package subscript(id: ValueID) -> Value { values[id.index] }
  package subscript(id: NodeID) -> Node { nodes[id.index] }
  package func uses(of id: ValueID) -> [Use] { uses[id.index] }
  package var valueIDs: some Sequence<ValueID> { values.indices.lazy.map(ValueID.init) }
  package var nodeIDs: some Sequence<NodeID> { nodes.indices.lazy.map(NodeID.init) }
}

/// What gives the operators of a graph their meaning, beyond what a node itself says.
package struct OperatorDefinitions: Sendable {
  /// Versions by domain, also of operator sets that only subgraphs and functions use.
  package var opsets: [String: Int]
  /// Operators that the model defines itself and nodes apply, as encoded FunctionProtos.
  package var functions: [TensorBytes]
  /// The version of ONNX's file format whose rules hold; nil for models of other formats.
  package var irVersion: Int?
  /// What subgraphs call their own values, which new ones of the graph must not be called.
  package var innerNames: Set<String>

  package init(
    opsets: [String: Int] = [:], functions: [TensorBytes] = [], irVersion: Int? = nil, innerNames: Set<String> = []
  ) {
    (self.opsets, self.functions, self.irVersion) = (opsets, functions, irVersion)
    self.innerNames = innerNames
  }
}

/// What the file that a graph comes from cannot say, so that no plan may need it.
package struct FormatConstraints: Sendable {
  /// Values whose lengths stay, each with the reason as a sentence for people.
  package var fixed: [ValueID: String]
  /// Single axes of values whose lengths stay.
  package var fixedAxes: [FixedAxis: String]
  /// Whether a stored vector that several nodes read stays one vector: true where modules own what they read.
  package var tiesVectors: Bool
  /// Weights whose layers stay one layer each, with the reason as a sentence for people.
  package var undivided: [ValueID: String]
  /// The stored tensors for whose numbers the file has a place, so that they can become others; nil if all have.
  package var writable: Set<ValueID>?
  /// Whether the file has what takes a matrix product's place as linear layers, whose weights are `[outputs, inputs]`
  /// however the product reads its own.
  package var hasLinearFactors: Bool
  /// Axes that lose the same indices, though nothing computes the one from the other.
  package var tiedAxes: [TiedAxes]
  /// Axes that lose the same indices wherever one is along the others: widths of heads, of which one number is stated.
  package var evenAxes: [FixedAxis]
  /// Numbers that the file cannot state, since whoever runs it works them out from a length.
  package var derivedRoots: [ValueID: DerivedRoot]

  package init(
    fixed: [ValueID: String] = [:], fixedAxes: [FixedAxis: String] = [:], tiesVectors: Bool = false,
    undivided: [ValueID: String] = [:], writable: Set<ValueID>? = nil, hasLinearFactors: Bool = false,
    tiedAxes: [TiedAxes] = [], evenAxes: [FixedAxis] = [], derivedRoots: [ValueID: DerivedRoot] = [:]
  ) {
    (self.fixed, self.fixedAxes, self.tiesVectors) = (fixed, fixedAxes, tiesVectors)
    (self.undivided, self.writable, self.hasLinearFactors) = (undivided, writable, hasLinearFactors)
    (self.tiedAxes, self.evenAxes, self.derivedRoots) = (tiedAxes, evenAxes, derivedRoots)
  }

  package struct FixedAxis: Hashable, Comparable, Sendable {
    package let value: ValueID
    package let axis: Int
    package init(value: ValueID, axis: Int) { (self.value, self.axis) = (value, axis) }
    package static func < (a: Self, b: Self) -> Bool { (a.value, a.axis) < (b.value, b.axis) }
  }

  /// Axes of two values, of equal length: one number in the file stands for both.
  package struct TiedAxes: Sendable {
    package let first: ValueID
    package let second: ValueID
    /// In the order of the first value's axes.
    package let axes: [(first: Int, second: Int)]

    package init(_ first: ValueID, _ second: ValueID, axes: [(first: Int, second: Int)]) {
      (self.first, self.second, self.axes) = (first, second, axes)
    }
  }

  /// The square root of a length, which divides a product. Where it is to stay while the length changes, stored tensors
  /// make up for it: one operand of the product is the sum of what each of them gives to it.
  package struct DerivedRoot: Sendable {
    package let length: FixedAxis
    package let carriers: [ValueID]

    package init(of length: FixedAxis, carriers: [ValueID]) { (self.length, self.carriers) = (length, carriers) }
  }
}

package struct ValueID: Hashable, Comparable, Sendable {
  package let index: Int
  package init(_ index: Int) { self.index = index }
  package static func < (a: ValueID, b: ValueID) -> Bool { a.index < b.index }
}

package struct NodeID: Hashable, Comparable, Sendable {
  package let index: Int
  package init(_ index: Int) { self.index = index }
  package static func < (a: NodeID, b: NodeID) -> Bool { a.index < b.index }
}

/// A place that reads a value: input number `input` of `node`.
package struct Use: Hashable, Sendable {
  package let node: NodeID
  package let input: Int
  package init(node: NodeID, input: Int) { (self.node, self.input) = (node, input) }
}

/// A named edge of the graph: a graph input, a stored tensor (initializer or output of a Constant node), or what a
/// node computes.
package final class Value: Sendable {
  package let name: String
  /// Declared by the file, where it declares one.
  package let dtype: DType?
  package let declaredShape: [Dimension]?
  /// The node that computes it; nil for graph inputs and initializers.
  package let producer: NodeID?
  /// The stored bytes of an initializer or of a Constant node's output.
  package let tensor: Tensor?
  /// How the file has a stored tensor's axes; nil where it has them as they are here.
  package let storedAxes: StoredAxes?
  /// Whether the file has the tensor's numbers elsewhere than among its weights, in a setting or by a rule: it is
  /// stored here and no parameter there.
  package let isImplied: Bool

  package init(
    name: String, dtype: DType? = nil, declaredShape: [Dimension]? = nil, producer: NodeID? = nil,
    tensor: Tensor? = nil, storedAxes: StoredAxes? = nil, isImplied: Bool = false
  ) {
    (self.name, self.dtype, self.declaredShape, self.producer, self.tensor) =
      (name, dtype ?? tensor?.dtype, declaredShape, producer, tensor)
    (self.storedAxes, self.isImplied) = (storedAxes, isImplied)
  }

  package var isStored: Bool { tensor != nil }

  fileprivate func produced(by node: NodeID?) -> Value {
    Value(
      name: name, dtype: dtype, declaredShape: declaredShape, producer: node, tensor: tensor, storedAxes: storedAxes,
      isImplied: isImplied)
  }
}

/// How a file has the axes of a tensor that the graph has in another order, or several of them as one. What people are
/// told and what they say of stored tensors is in the file's terms.
package struct StoredAxes: Sendable, Equatable {
  /// By axis of the graph's tensor: the axes in the file that it runs over, the last one fastest; none for an axis of
  /// length 1 that the file does not have.
  package let axes: [[Int]]
  /// In the file.
  package let shape: [Int]
  /// As `axes`, of a kernel of one filter per channel that takes this one's place: (h, w, channels, 1) where this one
  /// is (h, w, in, out). Nil where it lies as this one.
  package let depthwise: [[Int]]?

  package init(axes: [[Int]], shape: [Int], depthwise: [[Int]]? = nil) {
    (self.axes, self.shape, self.depthwise) = (axes, shape, depthwise)
  }
}

/// One axis of a declared shape.
package enum Dimension: Hashable, Sendable {
  case fixed(Int)
  /// A named length ("batch"), equal wherever the name recurs.
  case symbol(String)
  case unknown
}

/// One operator application.
package final class Node: Sendable {
  package let name: String
  /// "Conv", "MatMul", ...
  package let op: String
  /// Empty for the standard operators (the file's "" or "ai.onnx").
  package let domain: String
  /// The version of `domain`'s operator set that the file imports.
  package let opset: Int
  /// nil where an optional input is left out. Trailing absent inputs may be missing altogether.
  package let inputs: [ValueID?]
  package let outputs: [ValueID?]
  package let attributes: [String: Attribute]
  /// Values of this graph that subgraphs of the node (If, Loop, Scan) read by name.
  package let captures: [ValueID]

  package init(
    name: String, op: String, domain: String = "", opset: Int, inputs: [ValueID?], outputs: [ValueID?],
    attributes: [String: Attribute] = [:], captures: [ValueID] = []
  ) {
    (self.name, self.op, self.domain, self.opset) = (name, op, domain, opset)
    (self.inputs, self.outputs, self.attributes, self.captures) = (inputs, outputs, attributes, captures)
  }

  /// Of operators that stand for what has no form in ONNX; a graph with such nodes is never run.
  package static let opaqueDomain = "espalier.opaque"

  /// The operator's name in tables: bare for standard operators, "com.microsoft.FusedConv" for others.
  package var qualifiedOperator: String { domain.isEmpty ? op : "\(domain).\(op)" }

  /// Input `position`, nil if absent.
  package func input(_ position: Int) -> ValueID? { position < inputs.count ? inputs[position] : nil }
  package func output(_ position: Int) -> ValueID? { position < outputs.count ? outputs[position] : nil }
}

package enum Attribute: Sendable {
  case int(Int)
  case ints([Int])
  case float(Float)
  case floats([Float])
  case string(String)
  case strings([String])
  case tensor(Tensor)
  /// A subgraph (If, Loop, Scan), as an encoded AttributeProto, and as a graph where it could be read as one.
  case graph(TensorBytes, GraphBody?)
  /// A kind that no operator we know uses (sparse tensors, types), as an encoded AttributeProto.
  case other(TensorBytes)
}

extension Node {
  package func int(_ name: String) -> Int? {
    if case .int(let value) = attributes[name] { value } else { nil }
  }
  package func int(_ name: String, default fallback: Int) -> Int { int(name) ?? fallback }
  package func ints(_ name: String) -> [Int]? {
    if case .ints(let value) = attributes[name] { value } else { nil }
  }
  package func float(_ name: String) -> Float? {
    if case .float(let value) = attributes[name] { value } else { nil }
  }
  package func string(_ name: String) -> String? {
    if case .string(let value) = attributes[name] { value } else { nil }
  }
}
