/// What a network costs: multiply-adds from shapes, parameters from stored tensors.
///
/// Multiply-adds (MACs; FLOPs are twice as many) are those of matrix products in the widest sense: convolutions,
/// products of matrices (of two activations too, as in attention), Einsum, recurrent layers. Element-wise operators,
/// normalisations, poolings, resampling, biases and activation functions count 0, as is usual.
///
/// Parameters are the elements of stored tensors of rank 1 or more that hold weights: real numbers, and 8-bit integers
/// of quantised networks. Scalars and int64, int32 and bool tensors are settings and indices. The running mean and
/// variance of a normalisation count, since a file does not tell them from trained numbers.
package enum CostModel {
  // MARK: Multiply-adds

  /// The multiply-adds of `node`; 0 where a shape they depend on is unknown. Saturates at `Int.max`.
  package static func macs(of node: Node, in graph: Graph, shapes: (ValueID) -> [Int]?) -> Int {
    guard let rule = rules[node.qualifiedOperator] else { return 0 }
    let known = NodeShapes(
      node: node, inputs: node.inputs.map { $0.flatMap(shapes) }, output: node.output(0).flatMap(shapes))
    return rule(known) ?? 0
  }

  /// The multiply-adds of all nodes.
  package static func macs(of graph: Graph, shapes: (ValueID) -> [Int]?) -> Int {
    graph.nodes.reduce(0) { total, node in
      let (sum, overflow) = total.addingReportingOverflow(macs(of: node, in: graph, shapes: shapes))
      return overflow ? Int.max : sum
    }
  }

  private struct NodeShapes {
    let node: Node
    let inputs: [[Int]?]
    let output: [Int]?

    func input(_ position: Int) -> [Int]? { position < inputs.count ? inputs[position] : nil }
  }

  private typealias Rule = @Sendable (NodeShapes) -> Int?

  private static let rules: [String: Rule] = [
    "Conv": convolution(weight: 1), "ConvInteger": convolution(weight: 1), "DeformConv": convolution(weight: 1),
    "QLinearConv": convolution(weight: 3), "com.microsoft.FusedConv": convolution(weight: 1),
    "ConvTranspose": { shapes in
      // Every input element is spread by the filters (O/group, kernel...) of its channel.
      guard let x = shapes.input(0), let w = shapes.input(1) else { return nil }
      return product(x + w.dropFirst())
    },
    "Gemm": gemm, "com.microsoft.FusedGemm": gemm,
    "MatMul": matmul(left: 0), "MatMulInteger": matmul(left: 0), "QLinearMatMul": matmul(left: 0),
    "com.microsoft.FusedMatMul": matmul(left: 0), "com.microsoft.QGemm": gemm,
    "com.microsoft.DynamicQuantizeMatMul": matmul(left: 0), "com.microsoft.MatMulIntegerToFloat": matmul(left: 0),
    "Einsum": { shapes in
      guard let equation = shapes.node.string("equation").flatMap(EinsumEquation.init) else { return nil }
      let operands = shapes.inputs.compactMap(\.self)
      // One operand alone is only moved and summed.
      guard operands.count > 1, let (letters, ellipsis) = equation.lengths(operands) else { return nil }
      return product(letters.values + ellipsis)
    },
    "RNN": recurrent, "GRU": recurrent, "LSTM": recurrent, "Attention": attention,
    "com.microsoft.Attention": { shapes in
      // The projections, and the product with scores and values over what they make.
      guard let x = shapes.input(0), let w = shapes.input(1), let y = shapes.output, x.count == 3, w.count == 2
      else { return nil }
      guard y.count == 3 else { return nil }
      let (sum, overflow) = product(x + [w[1]])
        .addingReportingOverflow(product([x[0], x[1], x[1], (w[1] - y[2]) / 2 + y[2]]))
      return overflow ? Int.max : sum
    },
    "com.microsoft.MultiHeadAttention": packedAttention, "com.microsoft.GroupQueryAttention": packedAttention,
  ]

  /// Every output element is a sum over one filter (C/group, kernel...).
  private static func convolution(weight: Int) -> Rule {
    { shapes in
      guard let w = shapes.input(weight), let y = shapes.output else { return nil }
      return product(y + w.dropFirst())
    }
  }

  private static let gemm: Rule = { shapes in
    guard let a = shapes.input(0), let y = shapes.output, a.count == 2 else { return nil }
    return product(y + [shapes.node.int("transA", default: 0) == 0 ? a[1] : a[0]])
  }

  private static func matmul(left: Int) -> Rule {
    { shapes in
      guard let a = shapes.input(left), let k = a.last, let y = shapes.output else { return nil }
      let transposed = shapes.node.int("transA", default: 0) != 0 && a.count > 1
      return product(y + [transposed ? a[a.count - 2] : k])
    }
  }

  /// Per step, batch entry and direction: each gate multiplies the input and the state. W is (D, gates * H, I), R is
  /// (D, gates * H, H).
  private static let recurrent: Rule = { shapes in
    guard let x = shapes.input(0), let w = shapes.input(1), let r = shapes.input(2), x.count == 3, w.count == 3,
      r.count == 3
    else { return nil }
    return product([x[0], x[1], w[0], w[1], w[2] + r[2]])
  }

  /// Scores and their product with the values: each query meets each key (past ones too) over the head's width twice.
  private static let attention: Rule = { shapes in
    guard
      let heads = AttentionHeads(
        node: shapes.node, query: shapes.input(0), key: shapes.input(1), value: shapes.input(2))
    else { return nil }
    let past = shapes.input(4).map { $0.count == 4 ? $0[2] : 0 } ?? 0
    return product([
      heads.batch, heads.queryHeads, heads.queries, heads.keys + past, heads.width + heads.valueWidth,
    ])
  }

  /// Every query meets every key over the widths of all heads, once for the scores and once for the values. A cache
  /// of unknown length does not count.
  private static let packedAttention: Rule = { shapes in
    guard let query = shapes.input(0), query.count == 3, let key = shapes.input(1), key.count == 3 || key.count == 4,
      let y = shapes.output
    else { return nil }
    return product([query[0], query[1], key.count == 4 ? key[2] : key[1], query[2] + (y.last ?? 0)])
  }

  private static func product(_ factors: [Int]) -> Int {
    if factors.contains(0) { return 0 }
    var result = 1
    for factor in factors {
      let (next, overflow) = result.multipliedReportingOverflow(by: factor)
      if overflow { return Int.max }
      result = next
    }
    return result
  }

  // MARK: Parameters

  /// The number of parameters of a stored tensor; 0 if it holds none.
  package static func parameters(of tensor: Tensor) -> Int {
    guard !tensor.shape.isEmpty, tensor.dtype.isFloat || tensor.dtype == .int8 || tensor.dtype == .uint8 else {
      return 0
    }
    return tensor.elementCount
  }

  /// The same of a value; 0 too where the file has its numbers elsewhere than among its weights.
  package static func parameters(of value: Value) -> Int {
    value.isImplied ? 0 : value.tensor.map(parameters(of:)) ?? 0
  }

  /// The parameters of the whole graph: every stored tensor that something reads, once however often it is shared.
  /// What steers a resampling is no parameter.
  package static func parameters(of graph: Graph) -> Int {
    let outputs = Set(graph.outputs)
    var total = 0
    for (index, value) in graph.values.enumerated() {
      let count = parameters(of: value)
      guard count > 0 else { continue }
      let id = ValueID(index)
      let isRead = graph.uses(of: id).contains { !isSetting($0, graph) } || outputs.contains(id)
      if isRead { total += count }
    }
    return total
  }

  /// The parameters that `node` reads, directly or through nodes that only convert or move a stored tensor (Identity,
  /// Cast, QuantizeLinear, DequantizeLinear, Transpose, Reshape, Squeeze, Unsqueeze). A tensor shared by several nodes
  /// counts for each of them, so that the sum over nodes may exceed the graph's parameters.
  package static func parameters(of node: NodeID, in graph: Graph) -> Int {
    var sources: Set<ValueID> = []
    var total = 0
    for (position, input) in graph[node].inputs.enumerated() {
      guard let input, !isSetting(Use(node: node, input: position), graph) else { continue }
      let source = source(of: input, in: graph)
      if sources.insert(source).inserted { total += parameters(of: graph[source]) }
    }
    return total
  }

  /// The value that `id` is a converted or moved form of; `id` itself where it is computed otherwise.
  package static func source(of id: ValueID, in graph: Graph) -> ValueID {
    var id = id
    // Longer chains than this hold no weight that an exporter wrote.
    for _ in 0..<16 {
      guard graph[id].tensor == nil, let producer = graph[id].producer, movers.contains(graph[producer].op),
        graph[producer].domain.isEmpty, let moved = graph[producer].input(0)
      else { return id }
      id = moved
    }
    return id
  }

  private static let movers: Set = [
    "Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape", "Squeeze", "Unsqueeze",
  ]

  private static func isSetting(_ use: Use, _ graph: Graph) -> Bool {
    let op = graph[use.node].op
    return use.input > 0 && (op == "Resize" || op == "Upsample")
  }
}
