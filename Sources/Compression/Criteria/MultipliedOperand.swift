import ModelGraph
import Numerics

/// What a product of activations multiplies, as far as a run of the model shows it: a value, or what a fused operator
/// makes of one before it multiplies.
struct MultipliedOperand {
  /// What has to be shown.
  let value: ValueID
  /// The operand as the analysis sees it.
  let labelled: LabelledValue
  /// Along its last axis, these columns of a stored matrix `[entries, columns]` make it of the value.
  private let projection: (weight: Tensor, columns: Range<Int>)?
  /// What is added along its last axis.
  private let bias: [Float]?

  /// - Returns: nil where an operand is stored, or is not to be had from what a run shows: what the operator rotates,
  ///   or keys that it has kept from earlier.
  static func both(of product: Facts.Product, _ coupling: ChannelCoupling) -> [MultipliedOperand]? {
    let node = coupling.graph[product.node]
    switch node.qualifiedOperator {
    case "Attention" where node.input(4) != nil: return nil
    case "com.microsoft.GroupQueryAttention"
    where node.input(3) != nil || node.int("do_rotary", default: 0) != 0:
      return nil
    case "com.microsoft.MultiHeadAttention": return multiHead(node, coupling)
    case "com.microsoft.Attention": return packed(node, at: product.node, coupling)
    default: return operands(of: node, biases: [nil, nil], coupling)
    }
  }

  private static func operands(
    of node: Node, biases: [[Float]?], _ coupling: ChannelCoupling
  ) -> [MultipliedOperand]? {
    let found = zip(0..<2, biases).compactMap { k, bias -> MultipliedOperand? in
      guard let input = node.input(k), !coupling.graph[input].isStored,
        let labelled = coupling.analysis.values[input.index]
      else { return nil }
      return MultipliedOperand(value: input, labelled: labelled, projection: nil, bias: bias)
    }
    return found.count == 2 ? found : nil
  }

  /// One bias for queries, keys and values, in this order.
  private static func multiHead(_ node: Node, _ coupling: ChannelCoupling) -> [MultipliedOperand]? {
    guard node.input(6) == nil else { return nil }
    guard let bias = node.input(3) else { return operands(of: node, biases: [nil, nil], coupling) }
    guard let queries = node.input(0).flatMap({ coupling.analysis.shapes[$0]?.last }),
      let keys = node.input(1).flatMap({ coupling.analysis.shapes[$0] }), keys.count == 3, let width = keys.last,
      let numbers = numbers(bias, coupling), queries + width <= numbers.count
    else { return nil }
    return operands(
      of: node, biases: [Array(numbers[..<queries]), Array(numbers[queries..<queries + width])], coupling)
  }

  /// One weight, and one bias, for queries, keys and values of one input.
  private static func packed(
    _ node: Node, at id: NodeID, _ coupling: ChannelCoupling
  ) -> [MultipliedOperand]? {
    guard let input = node.input(0), !coupling.graph[input].isStored, let weight = node.input(1),
      let tensor = coupling.graph[weight].tensor, tensor.shape.count == 2, tensor.dtype.floatFormat != nil,
      let matrix = coupling.analysis.values[weight.index], matrix.axes.count == 2
    else { return nil }
    var bias: [Float]?
    if let stored = node.input(2) {
      bias = numbers(stored, coupling)
      guard bias?.count == tensor.shape[1] else { return nil }
    }
    let widths = node.ints("qkv_hidden_sizes") ?? Array(repeating: tensor.shape[1] / 3, count: 3)
    guard widths.count == 3, widths.allSatisfy({ $0 > 0 }), widths.reduce(0, +) == tensor.shape[1] else { return nil }
    var facts = coupling.facts
    return [0..<widths[0], widths[0]..<widths[0] + widths[1]].map { columns in
      var part = matrix
      part.take(axis: 1, .run(columns), at: id, &facts)
      let axis = part.axes[1]
      return MultipliedOperand(
        value: input,
        // Of batch and length nothing is known here, and nothing is asked.
        labelled: LabelledValue(axes: [[], [], axis], sets: part.sets.filter { $0.factors.allSatisfy(axis.contains) }),
        projection: (tensor, columns), bias: bias.map { Array($0[columns]) })
    }
  }

  private static func numbers(_ stored: ValueID, _ coupling: ChannelCoupling) -> [Float]? {
    coupling.graph[stored].tensor?.realNumbers?.map(Float.init)
  }

  /// The operand's shape where the value has the map's.
  func shape(from map: FeatureMap) -> [Int] {
    projection.map { map.shape.dropLast() + [$0.columns.count] } ?? map.shape
  }

  /// The operand's elements; nil where the map's are these.
  func elements(
    from map: FeatureMap, _ coupling: ChannelCoupling, _ algebra: LinearAlgebra
  ) throws(Failure) -> [Float]? {
    var result: [Float]
    if let (weight, columns) = projection {
      let (depth, total) = (weight.shape[0], weight.shape[1])
      guard let matrix = weight.realNumbers, map.shape.last == depth, let x = map.elements.baseAddress else {
        throw coupling.misfit(map)
      }
      let taken = (0..<depth).flatMap { row in columns.map { Float(matrix[row * total + $0]) } }
      let rows = map.elements.count / depth
      result = [Float](repeating: 0, count: rows * columns.count)
      result.withUnsafeMutableBufferPointer { result in
        taken.withUnsafeBufferPointer { taken in
          guard let w = taken.baseAddress, let y = result.baseAddress else { return }
          algebra.multiply(x, .asIs, w, .asIs, rows: rows, columns: columns.count, depth: depth, to: y)
        }
      }
    } else if bias != nil {
      result = Array(map.elements)
    } else {
      return nil
    }
    if let bias { for k in result.indices { result[k] += bias[k % bias.count] } }
    return result
  }
}
